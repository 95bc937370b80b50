"""The offline half: train, calibrate, export and score the networks that the service runs (needs torch)."""
