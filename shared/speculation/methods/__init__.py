"""Methods: one file per way of drafting, all with the interface of `base`."""
