"""``timeconv stream``: a clip or a camera through the service, each frame's outcome on the screen and in a CSV file.

clip (a thread decodes and encodes ahead) ──> sender ──> service ──> recorder (rows in order) ──> lines, CSV, summary
"""

from service.streaming.errors import StreamError
from service.streaming.request import StreamRequest
from service.streaming.run import stream, stream_clip
from service.streaming.summary import Spread, Summary

__all__ = ["Spread", "StreamError", "StreamRequest", "Summary", "stream", "stream_clip"]
