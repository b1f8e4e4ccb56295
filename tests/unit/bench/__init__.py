"""Synthetic models and the measurement of decoding, without a stack."""
