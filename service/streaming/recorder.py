"""What was sent and what came back, put in the order of the clip. No I/O."""

from collections import Counter
from dataclasses import dataclass, replace

from service.streaming.frame import ClipFrame
from service.streaming.results import NOT_SENT, UNANSWERED, FrameResult, result_of
from timeconv_client import FrameOutcome, FramesOutcome, Prediction


@dataclass(frozen=True, slots=True)
class _Sent:
    frame: ClipFrame
    sent_s: float


class Recorder:
    """Settles each frame sent with its one outcome.

    Counters and times are of the whole run: two numbers for each prediction.
    """

    def __init__(self, *, keep_pictures: bool = False) -> None:
        """Nothing was sent. ``keep_pictures``: the results are to have their frames' JPEGs."""
        self.sent = 0
        self.outcomes: Counter[str] = Counter()
        self.emotions: Counter[str] = Counter()
        self.frames_with_face = 0
        self.total_ms: list[float] = []
        self.round_trip_ms: list[float] = []
        self.unexpected = 0
        self.last_us = 0
        self._keep_pictures = keep_pictures
        self._open: dict[int, _Sent] = {}
        self._settled: dict[int, FrameResult] = {}

    @property
    def unanswered(self) -> int:
        """Frames sent without an outcome."""
        return len(self._open)

    def frame_sent(self, seq: int, frame: ClipFrame, now_s: float) -> None:
        """A frame is on its way."""
        self.sent += 1
        self._open[seq] = _Sent(self._kept(frame), now_s)

    def frame_not_sent(self, frame: ClipFrame) -> list[FrameResult]:
        """A frame found no credit; returns what can now be written, in the order of the clip."""
        self._settle(FrameResult(self._kept(frame), NOT_SENT))
        return self._ready()

    def answered(self, answer: Prediction | FrameOutcome | FramesOutcome, now_s: float) -> list[FrameResult]:
        """Outcomes came; returns what can now be written, in the order of the clip.

        Outcomes of frames that are not waiting for one are counted as ``unexpected``.
        """
        seqs = [seq for seq in self._open if seq in answer.seqs]
        self.unexpected += answer.seqs.stop - answer.seqs.start - len(seqs)
        for seq in seqs:
            sent = self._open.pop(seq)
            result = result_of(sent.frame, answer, (now_s - sent.sent_s) * 1000)
            self.outcomes[result.outcome] += 1
            self._count(result)
            self._settle(result)
        return self._ready()

    def broken_off(self) -> list[FrameResult]:
        """No more outcomes will come; returns the results not yet written, those without an outcome among them.

        What was sent stays ``unanswered``.
        """
        for sent in self._open.values():
            self._settle(FrameResult(sent.frame, UNANSWERED))
        ready = [self._settled[index] for index in sorted(self._settled)]
        self._settled.clear()
        return ready

    def _kept(self, frame: ClipFrame) -> ClipFrame:
        self.last_us = frame.time_us
        return frame if self._keep_pictures else replace(frame, jpeg=b"")

    def _count(self, result: FrameResult) -> None:
        self.frames_with_face += bool(result.faces)
        self.emotions.update(face.said for face in result.faces if face.said is not None)
        if result.delays is not None:
            self.total_ms.append(result.delays.total_ms)
            self.round_trip_ms.append(result.delays.round_trip_ms)

    def _settle(self, result: FrameResult) -> None:
        self._settled[result.frame.index] = result

    def _ready(self) -> list[FrameResult]:
        # Frames are sent in the clip's order, so the first one open is the one sent first.
        first = next(iter(self._open.values()), None)
        ready = sorted(index for index in self._settled if first is None or index < first.frame.index)
        return [self._settled.pop(index) for index in ready]
