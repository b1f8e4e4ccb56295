"""All services started as a user starts them, on a CPU, with a tiny random model."""
