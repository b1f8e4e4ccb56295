"""The verify worker: owns sessions, KV pool and scheduling; runs the full stack."""
