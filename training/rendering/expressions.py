"""Which shapes of the mesh an emotion moves: prototypes in action units, and action units in the kit's shapes.

Action units (AU) are those of Ekman & Friesen, "Facial Action Coding System" (1978; 2nd edition with Hager 2002). The
prototypes are EMFACS's (Friesen & Ekman 1983; Ekman, Friesen & Hager 2002, table 10-1), the first of each emotion being
the full one and the others its common variants.
"""

from types import MappingProxyType

import numpy as np

# AU to (shape, weight); a trailing underscore stands for the pair `_L` and `_R`. The kit has no shape for AU 16's chin
# or AU 23's narrowed lips: what comes nearest stands in.
ACTION_UNITS = MappingProxyType(
    {
        1: (("browInnerUp_", 1.0),),
        2: (("browOuterUp_", 1.0),),
        4: (("browDown_", 1.0),),
        5: (("eyeWide_", 1.0),),
        6: (("cheekRaiser_", 0.7), ("cheekSquint_", 0.5)),
        7: (("eyeSquint_", 1.0),),
        9: (("noseSneer_", 1.0),),
        10: (("mouthUpperUp_", 1.0),),
        12: (("mouthSmile_", 1.0),),
        15: (("mouthFrown_", 1.0),),
        16: (("mouthLowerDown_", 1.0),),
        17: (("mouthShrugLower", 0.6),),
        20: (("mouthStretch_", 1.0),),
        23: (("mouthPress_", 1.0), ("mouthRollLower", 0.25), ("mouthRollUpper", 0.25)),
        25: (("mouthLowerDown_", 0.5), ("mouthUpperUp_", 0.3)),
        26: (("jawOpen", 0.5),),
    }
)

# Unit to strength, 1 being the kit's shape in full. Anger has a negative AU 1 because the kit's lowered brow falls in
# its middle and hardly at its inner end, so that AU 4 alone looks worried.
Units = dict[int, float]
PROTOTYPES: MappingProxyType[str, tuple[Units, ...]] = MappingProxyType(
    {
        "angry": (
            {1: -0.9, 4: 1.5, 5: 0.6, 7: 0.9, 23: 1.3},
            {1: -0.9, 4: 1.5, 5: 0.6, 7: 0.8, 10: 0.9, 23: 0.3, 25: 0.6, 26: 0.25},
            {1: -1.0, 4: 1.6, 7: 1.0, 17: 0.8, 23: 1.0},
        ),
        "disgust": (
            {9: 1.2, 15: 0.8, 16: 0.6, 4: 0.4},
            {9: 1.2, 10: 1.0, 15: 0.5, 17: 0.5, 7: 0.4},
            {9: 1.1, 10: 0.9, 16: 0.8, 25: 0.5, 26: 0.2},
        ),
        "fear": (
            {1: 1.3, 2: 0.5, 4: 0.6, 5: 1.4, 7: 0.2, 20: 1.1, 26: 0.6},
            {1: 1.4, 2: 0.4, 4: 0.7, 5: 1.3, 20: 1.2, 25: 1.0},
        ),
        "happy": (
            {6: 1.0, 12: 1.0},
            {6: 1.0, 12: 1.0, 25: 1.0},
            {6: 1.0, 12: 0.9, 25: 0.8, 26: 0.5},
        ),
        "sad": (
            {1: 1.4, 4: 0.5, 15: 1.2},
            {1: 1.3, 4: 0.6, 15: 1.1, 17: 0.6},
            {1: 1.3, 4: 0.3, 7: 0.4, 15: 1.3, 17: 0.3},
        ),
        "surprise": (
            {1: 1.2, 2: 1.2, 5: 0.9, 26: 1.3},
            {1: 1.3, 2: 1.3, 5: 1.1, 26: 0.8},
        ),
        "neutral": ({},),
    }
)

Shapes = dict[str, float]


def shapes_of(units: Units, left: float = 1.0, right: float = 1.0) -> Shapes:
    """Shape weights of action units at their strengths; ``left`` and ``right`` scale the paired shapes' sides."""
    total: Shapes = {}
    for unit, strength in units.items():
        for shape, weight in ACTION_UNITS[unit]:
            sides = ((f"{shape}L", left), (f"{shape}R", right)) if shape.endswith("_") else ((shape, 1.0),)
            for name, side in sides:
                total[name] = total.get(name, 0.0) + weight * strength * side
    return total


def needed_shapes() -> set[str]:
    """Names of all shapes that the six emotions are made of."""
    return {
        name
        for parts in ACTION_UNITS.values()
        for shape, _ in parts
        for name in ((f"{shape}L", f"{shape}R") if shape.endswith("_") else (shape,))
    }


def random_shapes(emotion: str, chance: np.random.Generator) -> Shapes:
    """One way to show ``emotion`` at full strength: a variant, each unit at 85 to 115 %, one side up to 20 % less."""
    variants = PROTOTYPES[emotion]
    chosen = variants[chance.integers(len(variants))]
    units = {unit: strength * chance.uniform(0.85, 1.15) for unit, strength in chosen.items()}
    weaker = 1 - chance.uniform(0, 0.2)
    left, right = (weaker, 1.0) if chance.random() < 0.5 else (1.0, weaker)
    return shapes_of(units, left, right)


def blend(first: Shapes, second: Shapes, share: float) -> Shapes:
    """``1 - share`` of the first expression and ``share`` of the second."""
    names = sorted(first.keys() | second.keys())
    return {name: (1 - share) * first.get(name, 0.0) + share * second.get(name, 0.0) for name in names}
