"""``make ops-test``: what the person on call would see, tried with a real Prometheus and real faults."""
