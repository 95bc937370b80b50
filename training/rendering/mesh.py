"""A morphable face: one topology, a neutral shape, named expression shapes and identity components.

The file is an npz in the form of ``training.rendering.pack``: ``neutral`` float32 [v, 3] (x right in the picture, y up,
z towards the viewer), ``tri`` int32 [t, 3], ``expr`` [e, v, 3] and ``ident`` [k, v, 3] (differences from the neutral
shape), ``expr_names`` [e]; and where they are known ``landmarks`` int [68] (vertices, in the order of iBUG's 68 points)
and ``regions`` uint8 [v]. Where these two are missing, the kit's ``vertex_indices.json`` beside the file and the
numbering of its vertices stand in.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.rendering.geometry import Floats, Ints, Region
from training.rendering.thinning import open_sky, thin

# Where each part of ICT-FaceKit light begins, from the kit's README (Li et al., "Learning Formation of Physically-Based
# Face Attributes", CVPR 2020).
ICT_VERTICES = 26719
ICT_PARTS = (
    (0, Region.FACE),
    (9409, Region.HEAD),
    (11248, Region.MOUTH),
    (13294, Region.SOCKET),
    (14062, Region.GUMS),
    (17039, Region.TEETH),
    (21451, Region.HIDDEN),
    (22221, Region.EYE),
    (23021, Region.HIDDEN),
    (23791, Region.EYE),
    (24591, Region.HIDDEN),
)


@dataclass(frozen=True)
class Mesh:
    """Arrays as the module says, all float32 and int64; ``expressions`` [e, v, 3] in the order of ``names``.

    ``sky`` [v] is from how much of what is before the face a vertex is seen, 0..1.
    """

    neutral: Floats
    triangles: Ints
    expressions: Floats
    names: tuple[str, ...]
    identity: Floats
    landmarks: Ints
    regions: NDArray[np.uint8]
    sky: Floats

    def weights(self, by_name: dict[str, float]) -> Floats:
        """Shape weights as a row float32 [e]; a name that the mesh lacks moves nothing."""
        return np.array([by_name.get(name, 0.0) for name in self.names], np.float32)


def ict_landmarks(indices: Path) -> Ints:
    """The vertices of the 68 landmarks, int64 [68], from the kit's ``vertex_indices.json``."""
    return np.array(json.loads(indices.read_text())["idx_to_landmark_verts"], np.int64)


def ict_regions() -> NDArray[np.uint8]:
    """The region of each of ICT-FaceKit's vertices, uint8 [26719]."""
    starts = [start for start, _ in ICT_PARTS]
    part = np.searchsorted(starts, np.arange(ICT_VERTICES), side="right") - 1
    return np.array([region for _, region in ICT_PARTS], np.uint8)[part]


def load(path: Path) -> Mesh:
    """Read a packed mesh and thin it to what a picture of 96 pixels can show.

    Raises:
        ValueError: the file has no landmarks and regions, and no others are known for its vertices.
    """
    with np.load(path) as stored:
        data = dict(stored)
    if "neutral" not in data:
        raise ValueError(f"{path} is no packed mesh")
    if not {"landmarks", "regions"} <= data.keys():
        indices = path.with_name("vertex_indices.json")
        if len(data["neutral"]) != ICT_VERTICES or not indices.exists():
            raise ValueError(f"{path} names no landmarks and regions, and is no ICT-FaceKit beside its {indices.name}")
        data |= {"landmarks": ict_landmarks(indices), "regions": ict_regions()}
    if absent := {"tri", "expr", "expr_names", "ident"} - data.keys():
        raise ValueError(f"{path} is no packed mesh: it lacks {', '.join(sorted(absent))}")
    names = tuple(str(name) for name in data["expr_names"])
    open_jaw = data["expr"][names.index("jawOpen")] if "jawOpen" in names else 0
    kept, triangles = thin(data["neutral"] + open_jaw, data["tri"], data["landmarks"], data["regions"])
    place = np.full(len(data["neutral"]), -1)
    place[kept] = np.arange(len(kept))
    neutral, marks = data["neutral"][kept].astype(np.float32), place[data["landmarks"]]
    eyes = float(np.linalg.norm(neutral[marks[36:42]].mean(0) - neutral[marks[42:48]].mean(0)))
    return Mesh(
        neutral=neutral,
        triangles=triangles,
        expressions=data["expr"][:, kept].astype(np.float32),
        names=names,
        identity=data["ident"][:, kept].astype(np.float32),
        landmarks=marks,
        regions=data["regions"][kept],
        sky=open_sky(neutral, triangles, eyes),
    )
