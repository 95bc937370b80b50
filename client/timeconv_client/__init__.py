"""Typed async client of TimeConv: JPEG frames out, one outcome for each of them back.

Start at `connect`; the package's README has an example.
"""

from timeconv_client.errors import (
    BadAddress,
    CannotConnect,
    ConnectionLost,
    ProtocolMismatch,
    ServerRefused,
    ServiceStopping,
    SessionEnded,
    SessionError,
    TimeConvClientError,
    UpdateRefused,
)
from timeconv_client.messages import (
    CropInfo,
    ErrorMessage,
    Event,
    FaceResult,
    FrameOutcome,
    FramesOutcome,
    GoAway,
    Limits,
    Options,
    Outcome,
    Prediction,
    Quality,
    ServerMessage,
    SessionClosed,
    SessionStarted,
    SessionUpdated,
    Timing,
    Totals,
    UnknownMessage,
    parse_message,
)
from timeconv_client.opening import SessionOptions, connect
from timeconv_client.session import OptionChanges, Session

__version__ = "0.1.0"

__all__ = [
    "BadAddress",
    "CannotConnect",
    "ConnectionLost",
    "CropInfo",
    "ErrorMessage",
    "Event",
    "FaceResult",
    "FrameOutcome",
    "FramesOutcome",
    "GoAway",
    "Limits",
    "OptionChanges",
    "Options",
    "Outcome",
    "Prediction",
    "ProtocolMismatch",
    "Quality",
    "ServerMessage",
    "ServerRefused",
    "ServiceStopping",
    "Session",
    "SessionClosed",
    "SessionEnded",
    "SessionError",
    "SessionOptions",
    "SessionStarted",
    "SessionUpdated",
    "TimeConvClientError",
    "Timing",
    "Totals",
    "UnknownMessage",
    "UpdateRefused",
    "__version__",
    "connect",
    "parse_message",
]
