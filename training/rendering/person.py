"""A person: a random shape of head, and the gray of each vertex, painted by region and landmark.

The mesh has no texture. Brows, lips, lash lines, irises, hair and stubble are painted relative to the 68 landmarks, in
units of the distance between the eyes' centres, so any mesh with landmarks can be painted.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from training.rendering.geometry import Floats, Ints, Region
from training.rendering.mesh import Mesh

# iBUG's 68 landmarks, from 0.
BROWS = (range(17, 22), range(22, 27))
EYES = (range(36, 42), range(42, 48))
MOUTH_OUTLINE = range(48, 60)
# The line where the lips meet: corners and the inner middles.
MOUTH_LINE = (60, 62, 64, 66)
# In parts of the distance between the eyes: 11.7 mm across against 63 mm, and a little more for a few pixels' sake.
IRIS_RADIUS, PUPIL_RADIUS = 0.1, 0.045


@dataclass(frozen=True)
class Person:
    """``shape`` float32 [v, 3] without expression, ``albedo`` float32 [v] in 0..1, and the frame of the face.

    ``center`` float32 [3] stands in a picture's middle and ``side`` is a picture's side, in the mesh's units.
    """

    shape: Floats
    albedo: Floats
    center: Floats
    side: float


def random_person(mesh: Mesh, chance: np.random.Generator) -> Person:
    """Draw a person: identity weights from N(0, 0.8) within ±1.8, then the paint."""
    weights = np.clip(0.8 * chance.normal(size=len(mesh.identity)), -1.8, 1.8).astype(np.float32)
    shape = mesh.neutral + np.tensordot(weights, mesh.identity, axes=1).astype(np.float32)
    center, side = picture_frame(shape[mesh.landmarks])
    # A thinned row of teeth is not as round as it was: moved back, it stays behind the lips.
    shape[mesh.regions == Region.TEETH, 2] -= 0.02 * side
    return Person(shape, paint(mesh, shape, chance), center, side)


# Where FER2013's pictures have the face: eyes' distance, eye line and mouth line, in parts of the side.
EYE_DISTANCE, EYE_LINE, MOUTH_LINE_AT = 0.366, 0.39, 0.77


def picture_frame(marks: Floats) -> tuple[Floats, float]:
    """The middle and the side of the picture that shows a face as FER2013 does; ``marks`` float32 [68, 3]."""
    left, right = marks[EYES[0]].mean(0), marks[EYES[1]].mean(0)
    eyes, mouth = (left + right) / 2, marks[list(MOUTH_LINE)].mean(0)
    height = abs(float(eyes[1] - mouth[1])) / (MOUTH_LINE_AT - EYE_LINE)
    side = (float(np.linalg.norm(left - right)) / EYE_DISTANCE + height) / 2
    center = eyes + (mouth - eyes) * ((0.5 - EYE_LINE) / (MOUTH_LINE_AT - EYE_LINE))
    return center.astype(np.float32), side


def paint(mesh: Mesh, shape: Floats, chance: np.random.Generator) -> Floats:
    """Gray of each vertex, float32 [v] in 0..1, of linear light."""
    marks = shape[mesh.landmarks]
    eyes = [marks[each].mean(0) for each in EYES]
    unit = float(np.linalg.norm(eyes[0] - eyes[1]))
    x, y, _ = ((shape - (eyes[0] + eyes[1]) / 2) / unit).T
    regions = mesh.regions
    skin = chance.uniform(0.22, 0.75)
    waves = chance.normal(size=(6, 3)) * 2.5
    albedo = skin * (1 + 0.025 * np.cos(shape / unit @ waves.T + chance.uniform(0, 6.28, 6)).sum(1))
    if chance.random() < 0.25:  # stubble or beard
        jaw = np.clip((-y - 0.75) * 3, 0, 1) * (regions <= Region.HEAD)
        albedo *= 1 - chance.uniform(0.15, 0.5) * jaw
    hair = skin * chance.uniform(0.1, 0.6)
    if chance.random() < 0.9:
        line = chance.uniform(0.85, 1.2) - chance.uniform(0.15, 0.4) * x * x
        depth = np.clip((y - line) * 6, 0, 1)
        albedo = albedo * (1 - depth) + hair * depth
        albedo[(regions == Region.HEAD) & (y > chance.uniform(-0.9, 0.0))] = hair
    face = regions == Region.FACE
    albedo = np.where(face, albedo * np.clip(0.2 + 1.1 * mesh.sky, 0, 1), albedo)
    brow = min(hair, skin * chance.uniform(0.1, 0.3))
    thick = chance.uniform(0.045, 0.075)
    for marked in BROWS:
        near = np.exp(-((_distance(shape, marks[marked], closed=False) / unit / thick) ** 2)) * face
        albedo = albedo * (1 - near) + brow * near
    for marked in EYES:
        near = 0.75 * np.exp(-((_distance(shape, marks[marked], closed=True) / unit / 0.03) ** 2)) * face
        albedo = albedo * (1 - near) + 0.05 * near
    lips = _lips(shape, marks, unit) * face
    albedo = albedo * (1 - lips * chance.uniform(0.2, 0.5))
    white = min(0.8, 0.35 + 0.5 * skin)
    inside = {Region.MOUTH: 0.008, Region.GUMS: 0.03, Region.TEETH: 0.7 * white, Region.SOCKET: 0.45 * skin}
    for region, gray in inside.items():
        albedo[regions == region] = gray
    albedo[regions == Region.TEETH] *= np.exp(-((x[regions == Region.TEETH] / 0.2) ** 2))  # molars lie in the dark
    _paint_eyes(albedo, mesh, shape, unit, white, chance.uniform(0.04, 0.2))
    painted: Floats = albedo.astype(np.float32)
    return painted


def _distance(points: Floats, line: Floats, *, closed: bool) -> Floats:
    """Distance of ``points`` [v, 3] from the chain of segments through ``line`` [k, 3], float [v]."""
    ends = np.roll(line, -1, axis=0) if closed else line[1:]
    starts = line[: len(ends)]
    way = ends - starts
    part = np.einsum("vsx,sx->vs", points[:, None] - starts, way) / (way * way).sum(1)
    nearest = starts + np.clip(part, 0, 1)[..., None] * way
    distance: Floats = np.linalg.norm(points[:, None] - nearest, axis=2).min(1)
    return distance


def _lips(shape: Floats, marks: Floats, unit: float) -> Floats:
    """How much each vertex is lip, float [v] in 0..1: 1 inside the mouth's outline, with a soft edge."""
    outline = np.ascontiguousarray(marks[MOUTH_OUTLINE][:, :2])
    depth = np.full(len(shape), -1.0, np.float32)
    near: Ints = np.flatnonzero(np.linalg.norm(shape - marks[MOUTH_OUTLINE].mean(0), axis=1) < 0.7 * unit)
    for vertex in near:
        at = (float(shape[vertex, 0]), float(shape[vertex, 1]))
        depth[vertex] = cv2.pointPolygonTest(outline, at, measureDist=True) / unit
    lips: Floats = np.clip(0.5 + depth / 0.04, 0, 1)
    return lips


def _paint_eyes(albedo: Floats, mesh: Mesh, shape: Floats, unit: float, white: float, iris: float) -> None:
    """Paint whites, irises and pupils in place; an eye's axis runs through its ball's middle, towards the viewer."""
    for right_half in (False, True):
        ball = np.flatnonzero((mesh.regions == Region.EYE) & ((mesh.neutral[:, 0] > 0) == right_half))
        if not len(ball):
            continue
        middle = (shape[ball].min(0) + shape[ball].max(0)) / 2
        radius = np.linalg.norm(shape[ball, :2] - middle[:2], axis=1) / unit
        edges = [PUPIL_RADIUS, PUPIL_RADIUS * 1.3, IRIS_RADIUS, IRIS_RADIUS * 1.25]
        albedo[ball] = np.interp(radius, edges, [0.01, iris, iris * 0.8, white])
        albedo[ball[shape[ball, 2] < middle[2]]] = white
