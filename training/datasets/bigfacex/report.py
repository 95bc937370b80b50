"""What came out of a build, beside what the paper's Table I says."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from training.datasets.fer2013 import LABELS

TABLE_1 = dict(zip(LABELS, (8951, 8823, 6069, 12832, 13870, 6197, 11621), strict=True))
NAMED = 10


@dataclass
class SourceCount:
    """The counts of one data set; ``frames`` is how many were looked at, the next two those without a face."""

    windows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LABELS, 0))
    clips: int = 0
    clips_without_window: int = 0
    frames: int = 0
    frames_with_last_box: int = 0
    frames_dropped: int = 0
    missing: tuple[str, ...] = ()
    set_aside: tuple[str, ...] = ()


def save(path: Path, sources: Mapping[str, SourceCount]) -> None:
    """Write the counts as JSON, with the paper's."""
    counts = {name: asdict(count) for name, count in sources.items()}
    path.write_text(json.dumps({"sources": counts, "windows": totals(sources), "paper": TABLE_1}, indent=2) + "\n")


def totals(sources: Mapping[str, SourceCount]) -> dict[str, int]:
    """Count the windows of each emotion in all sources."""
    return {label: sum(count.windows[label] for count in sources.values()) for label in LABELS}


def table(sources: Mapping[str, SourceCount]) -> str:
    """Draw the counts for a terminal."""
    built = totals(sources)
    rows = [["windows", *sources, "all", "paper"]]
    for label in LABELS:
        rows.append([label, *(f"{count.windows[label]:,}" for count in sources.values())])
        rows[-1] += [f"{built[label]:,}", f"{TABLE_1[label]:,}"]
    rows.append(["total", *(f"{sum(count.windows.values()):,}" for count in sources.values())])
    rows[-1] += [f"{sum(built.values()):,}", f"{sum(TABLE_1.values()):,}"]
    width = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.rjust(w) for cell, w in zip(row, width, strict=True)) for row in rows]
    for name, count in sources.items():
        lines.append(
            f"{name}: {count.clips} clips, {count.clips_without_window} of them without a window; {count.frames:,} "
            f"frames, {count.frames_with_last_box:,} without a face cropped at the last one's box, "
            f"{count.frames_dropped:,} dropped"
        )
        lines += [f"{name}: missing: {text}" for text in first_few(count.missing)]
        lines += [f"{name}: set aside: {text}" for text in first_few(count.set_aside)]
    return "\n".join(lines)


def first_few(texts: Sequence[str]) -> list[str]:
    """Keep ten lines for a terminal, and say how many more there are."""
    more = [f"and {len(texts) - NAMED} more"] if len(texts) > NAMED else []
    return [*texts[:NAMED], *more]
