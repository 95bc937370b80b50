"""Pack a checkout of ICT-FaceKit into one file: `python -m training.rendering.pack ICT-FaceKit --out mesh.npz`.

The kit (https://github.com/ICT-VGL/ICT-FaceKit, MIT licence; Li et al., CVPR 2020) keeps each shape as a Wavefront OBJ
file in ``FaceXModel``: ``generic_neutral_mesh.obj``, ``identity000.obj`` and so on, and one file named after each
expression shape. The npz is described in ``training.rendering.mesh``.
"""

import re
from argparse import ArgumentParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training import cli
from training.rendering.geometry import Region
from training.rendering.mesh import ICT_VERTICES, ict_landmarks, ict_regions

NEUTRAL = "generic_neutral_mesh"
IDENTITY = re.compile(r"identity\d+")


Array = NDArray[Any]


class NotAKitError(ValueError):
    """The folder is not a whole checkout of the kit; the message names what is missing or does not fit."""


def read_obj(path: Path) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Vertices float32 [v, 3] and triangles int32 [t, 3] of an OBJ file; a polygon is cut into a fan of triangles.

    Corners may be written ``7``, ``7/3``, ``7//2`` or ``7/3/2`` and count from 1 or, if negative, from the last vertex.
    Everything but vertices and faces is passed over.
    """
    vertices: list[list[float]] = []
    triangles: list[tuple[int, int, int]] = []
    with path.open() as lines:
        for line in lines:
            kind, *rest = line.split() or [""]
            if kind == "v":
                vertices.append([float(part) for part in rest[:3]])
            elif kind == "f":
                numbers = [int(corner.partition("/")[0]) for corner in rest]
                corners = [n - 1 if n > 0 else len(vertices) + n for n in numbers]
                triangles += [(corners[0], *pair) for pair in pairwise(corners[1:])]
    return np.array(vertices, np.float32).reshape(-1, 3), np.array(triangles, np.int32).reshape(-1, 3)


def pack(checkout: Path, vertices: int = ICT_VERTICES) -> dict[str, Array]:
    """Read a checkout into the arrays of the npz.

    Raises:
        NotAKitError: a part is missing, or a shape has other vertices than the neutral one.
    """
    folder, indices = checkout / "FaceXModel", checkout / "FaceXModel" / "vertex_indices.json"
    shapes = {path.stem: path for path in sorted(folder.glob("*.obj"))}
    if NEUTRAL not in shapes or not indices.exists():
        raise NotAKitError(f"{folder} lacks {NEUTRAL}.obj or {indices.name}")
    neutral, triangles = read_obj(shapes.pop(NEUTRAL))
    if len(neutral) != vertices:
        raise NotAKitError(f"{NEUTRAL}.obj has {len(neutral)} vertices; {vertices} were expected")
    identities = [name for name in shapes if IDENTITY.fullmatch(name)]
    expressions = [name for name in shapes if name not in identities]

    def differences(names: list[str]) -> NDArray[np.float16]:
        rows = np.empty((len(names), *neutral.shape), np.float16)
        for row, name in zip(rows, tqdm(names, unit="shape", disable=None), strict=True):
            moved, _ = read_obj(shapes[name])
            if moved.shape != neutral.shape:
                raise NotAKitError(f"{name}.obj has {len(moved)} vertices, the neutral shape {len(neutral)}")
            row[:] = moved - neutral
        return rows

    landmarks, regions = ict_landmarks(indices), ict_regions()[:vertices]
    check_numbering(neutral, landmarks, regions)
    return {
        "neutral": neutral,
        "tri": triangles,
        "expr": differences(expressions),
        "expr_names": np.array(expressions),
        "ident": differences(identities),
        "landmarks": landmarks,
        "regions": regions,
    }


def check_numbering(neutral: Array, landmarks: Array, regions: Array) -> None:
    """Make sure that the eyeballs are where the lids' landmarks are: early versions of the kit numbered otherwise.

    Raises:
        NotAKitError: they are not.
    """
    lids = (landmarks[36:42], landmarks[42:48])
    left, right = (neutral[each].mean(axis=0) for each in lids)
    balls = neutral[regions == Region.EYE]
    if len(balls) and np.linalg.norm(balls.mean(axis=0) - (left + right) / 2) > np.linalg.norm(left - right) / 2:
        raise NotAKitError("the kit's vertices are numbered otherwise than in its light model; update the checkout")


def write(path: Path, arrays: dict[str, Array]) -> None:
    """Write the npz."""
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def main() -> None:
    """Read the command line and pack."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path, help="folder of the kit, which has FaceXModel in it")
    parser.add_argument("--out", type=Path, default=Path("mesh.npz"))
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write(args.out, pack(args.checkout))
    print(f"{args.out}: {args.out.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    cli.run(main)
