"""A scene in front of the camera: pose, light and background of each frame, and a frame's drawing."""

from dataclasses import dataclass
from math import radians

import cv2
import numpy as np

from training.rendering.geometry import Floats
from training.rendering.mesh import Mesh
from training.rendering.person import Person, random_person
from training.rendering.rasterize import rasterize
from training.rendering.timeline import drift

SIDE = 96  # drawn at twice the crop's side: the mean of 2 x 2 pixels is all the anti-aliasing there is


@dataclass(frozen=True)
class Scene:
    """What changes from frame to frame, and what does not.

    ``turn`` float32 [n, 3]: yaw, pitch and roll in radians. ``place`` float32 [n, 3]: shift right and down in parts of
    the side, and log zoom. ``light`` float32 [3]: towards the light, in the camera's axes. ``ambient`` and ``key``
    weigh light from everywhere and from there; ``distance`` is the camera's in sides; ``background`` float32 [96, 96],
    0..255.
    """

    turn: Floats
    place: Floats
    light: Floats
    ambient: float
    key: float
    gain: float
    distance: float
    background: Floats


def random_scene(frames: int, chance: np.random.Generator) -> Scene:
    """Draw a scene: a head that looks about and drifts, one light, a face box that shakes as a detector's does."""
    spread = np.radians([11.0, 6.0, 5.0])
    moved = np.radians([4.0, 3.0, 2.0])
    limit = np.array([radians(28), radians(16), radians(14)])
    turn = np.clip(chance.normal(size=3) * spread + drift(frames, chance, 3) * moved, -limit, limit)
    spans = np.array([0.012, 0.012, 0.02])
    place = (chance.normal(size=3) + 0.6 * drift(frames, chance, 3) + 0.25 * chance.normal(size=(frames, 3))) * spans
    azimuth, height = chance.uniform(-1.1, 1.1), chance.uniform(-0.1, 1.0)
    light = [np.sin(azimuth) * np.cos(height), np.sin(height), np.cos(azimuth) * np.cos(height)]
    ambient = chance.uniform(0.2, 0.55)
    return Scene(
        turn=turn.astype(np.float32),
        place=place.astype(np.float32),
        light=np.array(light, np.float32),
        ambient=ambient,
        key=1 - ambient,
        gain=chance.uniform(0.8, 1.25),
        distance=chance.uniform(2.5, 6.0),
        background=random_background(chance),
    )


def plain_scene(frames: int) -> Scene:
    """A head that faces the camera and keeps still, lit from above left, before gray: for pictures and measurement."""
    still, light = np.zeros((frames, 3), np.float32), np.array([-0.45, 0.55, 0.7], np.float32)
    return Scene(still, still, light, 0.3, 0.7, 1.1, 4.0, np.full((SIDE, SIDE), 90, np.float32))


def random_background(chance: np.random.Generator) -> Floats:
    """Blots of gray, float32 [96, 96] in 0..255."""
    cells = int(chance.integers(2, 9))
    coarse = chance.uniform(0, 255) + chance.uniform(0, 60) * chance.normal(size=(cells, cells))
    smooth = cv2.resize(coarse.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth, 0, 255).astype(np.float32)


def rotation(yaw: float, pitch: float, roll: float) -> Floats:
    """The matrix float32 [3, 3] that turns about y, then x, then z (radians)."""
    (cy, cp, cr), (sy, sp, sr) = np.cos([yaw, pitch, roll]), np.sin([yaw, pitch, roll])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    matrix: Floats = (about_z @ about_x @ about_y).astype(np.float32)
    return matrix


class Renderer:
    """Draws one mesh."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self._corners = mesh.triangles.ravel()
        self._last: tuple[tuple[int, int], Person] | None = None

    def person(self, seed: int, number: int) -> Person:
        """A person by number. The last one is kept: painting takes as long as four frames, and persons come in turn."""
        if self._last is None or self._last[0] != (seed, number):
            self._last = (seed, number), random_person(self.mesh, np.random.default_rng([seed, number]))
        return self._last[1]

    def normals(self, points: Floats) -> Floats:
        """Unit normals of vertices, float32 [v, 3]: their triangles' normals, by area."""
        (ax, bx, cx), (ay, by, cy), (az, bz, cz) = (points[:, axis][self.mesh.triangles.T] for axis in range(3))
        ux, uy, uz, vx, vy, vz = bx - ax, by - ay, bz - az, cx - ax, cy - ay, cz - az
        faces = (uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx)
        total = np.stack([np.bincount(self._corners, np.repeat(each, 3), len(points)) for each in faces], axis=1)
        length = np.sqrt(np.einsum("vx,vx->v", total, total))
        normals: Floats = (total / np.maximum(length, 1e-12)[:, None]).astype(np.float32)
        return normals

    def draw(self, person: Person, offsets: Floats, scene: Scene, frame: int) -> Floats:
        """Draw ``person`` moved by ``offsets`` float32 [v, 3]; returns float32 [96, 96] in 0..255."""
        centered = (person.shape + offsets - person.center) / np.float32(person.side)
        points: Floats = (centered @ rotation(*scene.turn[frame]).T).astype(np.float32)
        normals = self.normals(points)
        light = scene.ambient * (0.75 + 0.25 * normals[:, 1]) + scene.key * np.maximum(normals @ scene.light, 0)
        # Linear light to a picture's gray levels: gamma 2.2, as sRGB has within a few levels.
        gray = 255 * np.clip(scene.gain * person.albedo * light, 0, 1) ** np.float32(1 / 2.2)
        shift_x, shift_y, log_zoom = scene.place[frame]
        scale = np.exp(log_zoom) * scene.distance / (scene.distance - points[:, 2])
        x, y = 0.5 + shift_x + points[:, 0] * scale, 0.5 + shift_y - points[:, 1] * scale
        on_screen: Floats = np.stack([SIDE * x, SIDE * y, points[:, 2]], axis=1).astype(np.float32)
        picture, covered = rasterize(on_screen, self.mesh.triangles, gray.astype(np.float32), SIDE)
        return np.where(covered, picture, scene.background)
