"""Render a set of windows: `python -m training.rendering --mesh mesh.npz --out DIR --sequences N --seed S`."""

import json
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import get_args

from tqdm import tqdm

from training import cli
from training.datasets.fer2013 import LABELS
from training.datasets.windowset import Clip, load, write
from training.rendering.expressions import needed_shapes
from training.rendering.mesh import load as load_mesh
from training.rendering.sequences import CLIP_FRAMES, CLIPS_PER_PERSON, SHARES, THRESHOLD, Order, Split


def arguments(given: list[str] | None = None) -> Namespace:
    """Read the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--mesh", type=Path, required=True, help="what training.rendering.pack writes")
    parser.add_argument("--out", type=Path, required=True, help="folder of the set")
    parser.add_argument("--sequences", type=cli.positive, required=True, help=f"clips of {CLIP_FRAMES} frames")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", choices=get_args(Split), default="train", help="no person is in two splits")
    parser.add_argument(
        "--workers", type=cli.positive, default=1, help="processes; their number does not change the result"
    )
    return parser.parse_args(given)


def render(order: Order, sequences: int, workers: int) -> Iterator[Clip]:
    """Render clips 0 to ``sequences`` - 1, in order."""
    indices = range(sequences)
    if workers == 1:
        yield from map(order, indices)
        return
    with get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(order, indices, chunksize=CLIPS_PER_PERSON)


def report(folder: Path, order: Order, kinds: Counter[str]) -> dict[str, object]:
    """What was rendered: by which rule, how many windows of each label, how many clips of each kind."""
    made = load(folder)
    windows = Counter(LABELS[label] for label in made.label)
    return {
        "mesh": order.mesh.name,
        "seed": order.seed,
        "split": order.split,
        "persons": len(made.names["subjects"]),
        "windows": len(made),
        "windows_by_label": {label: windows[label] for label in LABELS},
        "label_threshold": THRESHOLD,
        "clips_by_kind": {kind: kinds[kind] for kind in SHARES},
        "shares_aimed_at": SHARES,
    }


def main(given: list[str] | None = None) -> None:
    """Render, write the set and its ``report.json``, and print the report."""
    args = arguments(given)
    if (args.out / "names.json").exists():
        raise ValueError(f"{args.out} holds a finished set; remove it, or name another folder")
    if missing := needed_shapes() - set(load_mesh(args.mesh).names):
        raise ValueError(f"{args.mesh} lacks shapes that expressions are made of: {', '.join(sorted(missing))}")
    order = Order(args.mesh, args.split, args.seed)
    kinds: Counter[str] = Counter()

    def counted(clips: Iterable[Clip]) -> Iterator[Clip]:
        for clip in clips:
            kinds[clip.name.rpartition("-")[2]] += 1
            yield clip

    clips = tqdm(render(order, args.sequences, args.workers), total=args.sequences, unit="clip")
    write(args.out, counted(clips), LABELS, args.sequences * CLIP_FRAMES)
    text = json.dumps(report(args.out, order, kinds), indent=2)
    (args.out / "report.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    cli.run(main)
