"""Print how fast frames are rendered: `python -m training.rendering.speed --mesh mesh.npz` (set OMP_NUM_THREADS=1)."""

from argparse import ArgumentParser
from pathlib import Path
from time import perf_counter

import numpy as np

from training.rendering.camera import random_camera
from training.rendering.mesh import load
from training.rendering.person import random_person
from training.rendering.scene import SIDE, Renderer, random_scene
from training.rendering.sequences import CLIP_FRAMES, perform, render_clip


def main() -> None:
    """Time the drawing alone (shading and z-buffer), with the camera, and whole clips with a person each."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--mesh", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=20)
    args = parser.parse_args()
    renderer = Renderer(load(args.mesh))
    drawn = shot = 0.0
    for clip in range(args.clips):
        chance = np.random.default_rng(clip)
        person, acted = random_person(renderer.mesh, chance), perform(renderer.mesh, "happy", chance)
        scene, camera = random_scene(len(acted.weights), chance), random_camera(SIDE, chance)
        start = perf_counter()
        offsets = np.tensordot(acted.weights, renderer.mesh.expressions, axes=1)
        pictures = [renderer.draw(person, offset, scene, at) for at, offset in enumerate(offsets)]
        drawn += (perf_counter() - start) / len(pictures)
        start = perf_counter()
        for picture in pictures:
            camera.shoot(picture, chance)
        shot += (perf_counter() - start) / len(pictures)
    start = perf_counter()
    for clip in range(args.clips):
        render_clip(renderer, "train", 0, clip)
    whole = (perf_counter() - start) / args.clips / CLIP_FRAMES
    print(f"{len(renderer.mesh.triangles)} triangles, {SIDE} x {SIDE} pixels, {args.clips} clips, one process")
    print(f"drawing           {args.clips / drawn:6.0f} frames/s")
    print(f"with camera, crop {args.clips / (drawn + shot):6.0f} frames/s")
    print(f"whole clips       {1 / whole:6.0f} frames/s (a twin's second half is free)")


if __name__ == "__main__":
    main()
