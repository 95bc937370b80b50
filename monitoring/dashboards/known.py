"""What panels know of the service beforehand: its targets and limits, and values of labels, each of which has a colour.

Tests hold the values to the service. One that is missing here is drawn all the same, in a shade of one colour.
"""

FRESH_S = 0.1
"""Age from which an answer is stale."""
SWIFT_S = 0.015
"""Aim for the time that the service takes for a frame."""
BUDGET = 0.01
"""Share of frames that may be stale, and that may go unserved."""
PAGED_AT, PAGED_SHARE = 14.4, 0.144
"""How many times too fast the budget may be used up before somebody is called, and the share of frames that does so."""
BUSY, TOO_BUSY = 0.8, 0.9
LATE_S = 0.05
"""Lag of the event loop."""
LONG_CALL_S = 0.4
"""Age of a call of a worker."""
DRIFT = 0.2

OUTCOMES = (
    "prediction",
    "superseded",
    "no_face",
    "window_filling",
    "overloaded",
    "failed",
    "expired",
    "skipped",
    "rate_limited",
    "bad_image",
    "abandoned",
)
STAGES = ("wait", "decode", "detect", "crop", "queue", "infer", "encode", "send")
"""Those that follow on each other; ``total`` is that of the first six."""
EMOTIONS = ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear")
BATCH_REASONS = ("idle", "full", "held")
WORK = ("frames", "batch")
ENDS = (
    "closed",
    "disconnected",
    "shutdown",
    "internal",
    "slow_reader",
    "idle_timeout",
    "going_away",
    "session_too_long",
    "resumed_elsewhere",
    "bad_message",
    "unknown_model",
)
REFUSALS = (
    "at_capacity",
    "too_many_sessions",
    "too_many_connections",
    "rate_limited",
    "overloaded",
    "unauthorized",
    "origin_refused",
    "timeout",
    "failed",
    "internal",
    "bad_request",
    "bad_option",
    "bad_image",
    "bad_body",
    "not_found",
    "going_away",
    "unknown_model",
)
NETWORKS = (
    "timeconv-resnet20",
    "timeconv-mobilenetv2",
    "timeconv-mini-xception",
    "mini-xception-2d",
    "resnet20-2plus1d",
    "resnet20-3d",
)
OF_NETWORKS = tuple(f"/^{name}@/" for name in NETWORKS)
"""Series of any version of each."""

OUR_FAULT = 'code=~"failed|internal|timeout|model_damaged|device_unavailable"'
INTERNAL = 'reason="internal"'
NO_ROOM = 'code=~"at_capacity|overloaded"'
BROKEN = 'reason!~"closed|going_away|shutdown|session_too_long"'
