"""How long a connection waits for the other side. No I/O."""

from dataclasses import astuple, dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeouts:
    """Seconds; `math.inf` is none.

    Attributes:
        open_s: connecting and the first message together. A network nobody has asked for yet is loaded first.
        ping_interval_s: between two pings.
        ping_s: a ping that is not answered within this means that the connection is dead. A service that is busy, or
            reads an ``every`` session later because of its rate, answers late.
        close_s: the closing handshake; then the connection is cut.
        end_s: the end in order: the answers to the frames in flight, and the totals.
    """

    open_s: float = 30.0
    ping_interval_s: float = 20.0
    ping_s: float = 60.0
    close_s: float = 5.0
    end_s: float = 60.0

    def __post_init__(self) -> None:
        """Check them.

        Raises:
            ValueError: one is not positive.
        """
        if not all(seconds > 0 for seconds in astuple(self)):
            raise ValueError(f"Timeouts must be more than 0 s: {self}")
