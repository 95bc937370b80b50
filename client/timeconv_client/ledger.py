"""Which frames of a session wait for their outcome. No I/O."""

from timeconv_client.messages import Answer


class Ledger:
    """Seqs of the frames sent and not answered: at most ``max_in_flight`` of them, which the service may change.

    Credit is always computed from the frames that are open, never passed around, so it cannot be lost or doubled.
    """

    def __init__(self, next_seq: int, max_in_flight: int) -> None:
        """No frame is open."""
        self.next_seq = next_seq
        self.max_in_flight = max_in_flight
        self._open: set[int] = set()

    @property
    def credit(self) -> int:
        """Frames that may be sent now."""
        return max(0, self.max_in_flight - len(self._open))

    @property
    def unanswered(self) -> frozenset[int]:
        """Seqs of the frames sent whose outcome has not come."""
        return frozenset(self._open)

    def sent(self) -> int:
        """A frame is on its way: its seq."""
        assert self.credit > 0
        seq = self.next_seq
        self.next_seq += 1
        self._open.add(seq)
        return seq

    def answered(self, answer: Answer) -> None:
        """Outcomes came. What is not open is passed over, so neither a repeated answer nor a vast range does harm."""
        seqs = answer.seqs
        self._open -= {seq for seq in self._open if seq in seqs}
