"""One message of each type, as the documents of the interface show it."""

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from service.errors import BadOption, IdleTimeout
from service.protocol import (
    CropInfo,
    ErrorMessage,
    FaceResult,
    FrameOutcome,
    FramesOutcome,
    GoAway,
    Limits,
    Options,
    Outcome,
    Prediction,
    Quality,
    SessionClose,
    SessionClosed,
    SessionStarted,
    SessionUpdate,
    SessionUpdated,
    Timing,
    Totals,
    error_message,
)

_PROBABILITIES = {
    "angry": 0.002279,
    "disgust": 0.000384,
    "fear": 0.00183,
    "happy": 0.971118,
    "sad": 0.022316,
    "surprise": 0.001967,
    "neutral": 0.000106,
}
_READY = FaceResult(
    id=0,
    box=(91.86, 125.67, 126.73, 127.21),
    crop_box=(83.68, 102.56, 143.1, 143.1),
    score=0.91219,
    state="ready",
    emotion="happy",
    probabilities=_PROBABILITIES,
    smoothed=_PROBABILITIES,
    raw_emotion="happy",
    uncertain=False,
    quality=Quality(size=143.1, brightness=0.523, sharpness=0.511),
)
_FILLING = FaceResult(
    id=1,
    box=(209.9, 190.1, 90.4, 91.7),
    crop_box=(202.5, 172.5, 102.6, 102.6),
    score=0.93108,
    state="filling",
    frames_needed=4,
    quality=Quality(size=102.6, brightness=0.512, sharpness=0.41),
)
_PREDICTION = Prediction(
    seq=5,
    age_ms=8.349,
    captured_us=200_000,
    faces=(_READY,),
    timing_ms=Timing(wait=0.168, decode=0.384, detect=1.793, crop=0.191, queue=3.318, infer=2.036, total=8.297),
    batch_size=1,
)
_OPTIONS = Options(model="timeconv-resnet20@1", timestamps=True)

EVERY: Mapping[type[Struct], Mapping[str, Struct]] = {
    SessionStarted: {
        "started": SessionStarted(
            session="u6zMd8WXJwusRhdC",
            model="timeconv-resnet20",
            version="1",
            labels=tuple(_PROBABILITIES),
            window=5,
            crop=CropInfo(size=48, detector="blazeface", scale=1.127, dx=0.0, dy=-0.106),
            limits=Limits(max_frame_bytes=2_000_000, max_frame_pixels=4_200_000, gap_reset_ms=1000),
            options=_OPTIONS,
            max_in_flight=2,
            resume_token="a-secret-of-43-characters",  # noqa: S106 - of nobody
        )
    },
    Prediction: {
        "one face": _PREDICTION,
        "one of two is filling": msgspec.structs.replace(_PREDICTION, faces=(_READY, _FILLING)),
    },
    FrameOutcome: {
        "filling": FrameOutcome(
            seq=0, outcome=Outcome.WINDOW_FILLING, age_ms=3.525, detail={"frames_needed": 4, "box": _READY.box}
        ),
        "no face": FrameOutcome(seq=7, outcome=Outcome.NO_FACE, age_ms=2.1),
    },
    FramesOutcome: {"superseded": FramesOutcome(first=8, last=11, outcome=Outcome.SUPERSEDED)},
    SessionUpdated: {
        "smoother": SessionUpdated(
            options=msgspec.structs.replace(_OPTIONS, smoothing_ms=500), from_seq=12, max_in_flight=2
        )
    },
    ErrorMessage: {
        "refused": error_message(BadOption("stride: expected `int` <= 5"), closing=False),
        "the end": error_message(IdleTimeout("Nothing was said for 60 s"), closing=True),
    },
    GoAway: {"stopping": GoAway(time_left_ms=10_000)},
    SessionClosed: {
        "closed": SessionClosed(totals=Totals(received=6, outcomes={Outcome.WINDOW_FILLING: 4, Outcome.PREDICTION: 2}))
    },
    SessionUpdate: {"smoother": SessionUpdate(options={"smoothing_ms": 500})},
    SessionClose: {"close": SessionClose()},
}
"""By type and by what each shows."""

STILL = msgspec.structs.replace(_PREDICTION, seq=0, captured_us=msgspec.UNSET, repeated=True)
"""Over REST, of one picture."""
FACELESS = FrameOutcome(seq=2, outcome=Outcome.NO_FACE, age_ms=4.2, detail={"index": 2})
"""Over REST, of five."""
