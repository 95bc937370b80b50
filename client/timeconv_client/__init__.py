"""Typed client of TimeConv: JPEG frames out, one outcome for each of them back.

Start at `connect`, or at `stay_connected` for a session that outlives its connections. `timeconv_client.sync` has both
without asyncio, `timeconv_client.camera` cameras and video files. docs/client.md shows how.
"""

from timeconv_client.errors import (
    BadAddress,
    CannotConnect,
    ConnectionLost,
    Forbidden,
    ProtocolMismatch,
    ServerRefused,
    ServiceStopping,
    SessionEnded,
    SessionError,
    TimeConvClientError,
    TimedOut,
    TooMany,
    Unauthorized,
    Unavailable,
    UpdateRefused,
)
from timeconv_client.feeding import Frame
from timeconv_client.lasting import (
    Closed,
    Disconnected,
    LastingEvent,
    LastingSession,
    LastingTotals,
    Reconnected,
    Reconnecting,
    stay_connected,
)
from timeconv_client.listening import listen
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
from timeconv_client.retry import Retry
from timeconv_client.session import OptionChanges, Session
from timeconv_client.timeouts import Timeouts

__version__ = "0.1.0"

__all__ = [
    "BadAddress",
    "CannotConnect",
    "Closed",
    "ConnectionLost",
    "CropInfo",
    "Disconnected",
    "ErrorMessage",
    "Event",
    "FaceResult",
    "Forbidden",
    "Frame",
    "FrameOutcome",
    "FramesOutcome",
    "GoAway",
    "LastingEvent",
    "LastingSession",
    "LastingTotals",
    "Limits",
    "OptionChanges",
    "Options",
    "Outcome",
    "Prediction",
    "ProtocolMismatch",
    "Quality",
    "Reconnected",
    "Reconnecting",
    "Retry",
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
    "TimedOut",
    "Timeouts",
    "Timing",
    "TooMany",
    "Totals",
    "Unauthorized",
    "Unavailable",
    "UnknownMessage",
    "UpdateRefused",
    "__version__",
    "connect",
    "listen",
    "parse_message",
    "stay_connected",
]
