"""TimeConv: a streaming inference microservice for facial expression."""

import os

__version__ = "0.1.0"

# ONNX Runtime's builds of late report events to their maker, and keep a device's number under the home folder. It looks
# at this when it is imported, which only parts of this package do.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
