"""What operations see: metrics, logs and traces."""
