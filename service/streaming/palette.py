"""Colours that people tell apart whatever they see of colours (Okabe and Ito 2008), as red, green, blue."""

Colour = tuple[int, int, int]

WHITE: Colour = (255, 255, 255)
BLACK: Colour = (0, 0, 0)
INK: Colour = (27, 31, 36)
SOFT: Colour = (89, 99, 110)
LINE: Colour = (214, 219, 224)
GAP: Colour = (233, 236, 239)
GREY: Colour = (160, 165, 170)

_EMOTIONS: dict[str, Colour] = {
    "angry": (213, 94, 0),
    "disgust": (0, 158, 115),
    "fear": (204, 121, 167),
    "happy": (230, 159, 0),
    "sad": (0, 114, 178),
    "surprise": (86, 180, 233),
    "neutral": (120, 120, 120),
}


def colour_of(emotion: str | None) -> Colour:
    """The colour of an emotion; grey for others."""
    return _EMOTIONS.get(emotion or "", GREY)
