"""What is measured: a network, and what it is sent. No I/O."""

from dataclasses import dataclass
from typing import Literal

from loadtest.clips import encoded, face_alone, moving_face, there_and_back
from loadtest.errors import BadLoad

Picture = Literal["whole96", "320x240", "640x480"]
FULL_FRAME: Picture = "640x480"
"""What the paper's pipeline is measured with."""

CLIP_FRAMES = 60
_SIZES: dict[Picture, tuple[int, int]] = {"320x240": (320, 240), "640x480": (640, 480)}


@dataclass(frozen=True, slots=True)
class Case:
    """A network of the model store, and what it is sent: ``whole96`` is a face alone, the others frames with one."""

    network: str
    picture: Picture

    @property
    def name(self) -> str:
        """As in ``mini-xception/whole96``."""
        return f"{self.network}/{self.picture}"

    @property
    def model(self) -> str:
        """Its network's name in the model store."""
        return f"timeconv-{self.network}"

    @property
    def region(self) -> Literal["detect", "whole"]:
        """As in the protocol."""
        return "whole" if self.picture == "whole96" else "detect"

    def clip(self) -> list[bytes]:
        """What is sent."""
        return clip_of(self.picture)


def clip_of(picture: Picture) -> list[bytes]:
    """JPEGs that follow each other, the first following the last."""
    frames = face_alone(CLIP_FRAMES) if picture == "whole96" else moving_face(CLIP_FRAMES, _SIZES[picture])
    return there_and_back(encoded(frames))


CASES = (
    Case("mini-xception", "whole96"),
    Case("mini-xception", "320x240"),
    Case("mini-xception", "640x480"),
    Case("resnet20", "whole96"),
    Case("resnet20", "640x480"),
)


def choose(names: str) -> tuple[Case, ...]:
    """The cases of a list with commas, in our order.

    Raises:
        BadLoad: one that there is not.
    """
    chosen = set(names.split(","))
    if unknown := chosen - {case.name for case in CASES}:
        raise BadLoad(f"No such case: {', '.join(sorted(unknown))}; there are {', '.join(case.name for case in CASES)}")
    return tuple(case for case in CASES if case.name in chosen)
