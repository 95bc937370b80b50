"""What was sent and what came back, put into rows in the order sent. No I/O."""

from collections import Counter
from dataclasses import dataclass
from typing import assert_never

from service.streaming.rows import UNANSWERED, Row
from service.streaming.summary import NOT_SURE
from timeconv_client import FaceResult, FrameOutcome, FramesOutcome, Prediction


@dataclass(frozen=True, slots=True)
class _Sent:
    time_us: int
    sent_s: float


class Recorder:
    """Settles each frame sent with its one outcome.

    Counters and times are of the whole run: 16 bytes for each prediction.
    """

    def __init__(self) -> None:
        """Nothing was sent."""
        self.sent = 0
        self.outcomes: Counter[str] = Counter()
        self.emotions: Counter[str] = Counter()
        self.total_ms: list[float] = []
        self.round_trip_ms: list[float] = []
        self.unexpected = 0
        self._open: dict[int, _Sent] = {}
        self._settled: dict[int, Row] = {}

    @property
    def unanswered(self) -> int:
        """Frames sent without an outcome."""
        return len(self._open)

    def frame_sent(self, seq: int, time_us: int, now_s: float) -> None:
        """A frame of the clip's time ``time_us`` is on its way."""
        self.sent += 1
        self._open[seq] = _Sent(time_us, now_s)

    def answered(self, answer: Prediction | FrameOutcome | FramesOutcome, now_s: float) -> list[Row]:
        """Outcomes came; returns the rows that can now be written, in the order sent.

        Outcomes of frames that are not waiting for one are counted as ``unexpected``.
        """
        seqs = [seq for seq in self._open if seq in answer.seqs]
        self.unexpected += answer.seqs.stop - answer.seqs.start - len(seqs)
        for seq in seqs:
            sent = self._open.pop(seq)
            self._settled[seq] = self._row(seq, sent, answer)
            self.outcomes[str(answer.outcome)] += 1
            if isinstance(answer, Prediction):
                self.round_trip_ms.append((now_s - sent.sent_s) * 1000)
        return self._rows_before(min(self._open, default=None))

    def broken_off(self) -> list[Row]:
        """No more outcomes will come; returns the rows not yet written, those without an outcome among them."""
        for seq, sent in self._open.items():
            self._settled[seq] = Row(seq, sent.time_us, UNANSWERED)
        return self._rows_before(None)

    def _row(self, seq: int, sent: _Sent, answer: Prediction | FrameOutcome | FramesOutcome) -> Row:
        match answer:
            case FrameOutcome() | FramesOutcome():
                return Row(seq, sent.time_us, str(answer.outcome))
            case Prediction():
                face = _main_face(answer)
                self.total_ms.append(answer.timing_ms.total)
                if face is not None and face.emotion is not None:
                    self.emotions[NOT_SURE if face.uncertain else face.emotion] += 1
                return Row(seq, sent.time_us, str(answer.outcome), face, answer.timing_ms.total)
            case _:
                assert_never(answer)

    def _rows_before(self, seq: int | None) -> list[Row]:
        ready = sorted(settled for settled in self._settled if seq is None or settled < seq)
        return [self._settled.pop(each) for each in ready]


def _main_face(prediction: Prediction) -> FaceResult | None:
    """The face a frame's one row is about: the first whose window is full."""
    return next((face for face in prediction.faces if face.state == "ready"), None)
