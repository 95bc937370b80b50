"""TimeConv: a streaming inference microservice for facial expression."""

__version__ = "0.1.0"
