"""Servicers and stores, one by one, on real ports with small fakes."""
