"""Load on the service, and figures of what it costs."""
