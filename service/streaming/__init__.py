"""``timeconv stream``: clips or a camera through the service, each frame's outcome on the screen and in files.

clip (a thread decodes and encodes ahead) ──> sender ──> service ──> recorder (results in order) ──> files, lines

Files: tables (CSV, JSON lines, Parquet), an annotated video (overlay), a timeline (canvas). `folder` does many clips.
"""

from service.streaming.errors import StreamError
from service.streaming.folder import NAMES, FolderRequest, Sweep, stream_all, stream_folder
from service.streaming.request import StreamRequest
from service.streaming.run import stream, stream_clip
from service.streaming.summary import Spread, Summary
from service.streaming.tables import has_parquet

__all__ = [
    "NAMES",
    "FolderRequest",
    "Spread",
    "StreamError",
    "StreamRequest",
    "Summary",
    "Sweep",
    "has_parquet",
    "stream",
    "stream_all",
    "stream_clip",
    "stream_folder",
]
