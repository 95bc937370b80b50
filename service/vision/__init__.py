"""Pictures in, crops and windows out: no I/O, no threads, no web."""
