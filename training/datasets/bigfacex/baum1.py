"""BAUM-1s, the spontaneous half of BAUM-1 (Zhalehpour et al. 2017): 31 subjects, 1184 clips, thirteen states.

As public readers of the set use it: ``Annotations_BAUM1s.xlsx`` (some keep it as ``.csv``) with the clip's name such as
``S001_015`` in column D, its emotion in column E and the emotion's number in column F, and the clips as
``BAUM1s_MP4 - All/s001/S001_015.mp4``. The columns' headings could not be found, so rows are read by what their cells
look like. The acted half, BAUM-1a, has clips of the same names: a folder of that name is never looked into. How the
sheet spells boredom, bothered, concentrating, contempt, thinking and unsure is not known either: an emotion is taken by
its first three letters, and all but the seven are left out. The reader was never run on the set itself.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from training.datasets.bigfacex.recording import DatasetError, Recording, Survey, Video, in_number_order
from training.datasets.bigfacex.spreadsheet import read_rows
from training.datasets.fer2013 import LABELS

SOURCE = "baum-1s"
SKIP, STEP = 5, 2
CLIP = re.compile(r"s\d{3}_\d{3}", re.IGNORECASE)
# The number of each emotion in column F, under the first letters of its name; the others are outside the seven.
SEVEN = {"ang": (1, "angry"), "dis": (6, "disgust"), "fea": (7, "fear"), "hap": (8, "happy"), "neu": (9, "neutral")}
SEVEN |= {"sad": (10, "sad"), "sur": (11, "surprise")}
OUTSIDE = {2, 3, 4, 5, 12, 13}
VIDEOS = {".mp4", ".avi", ".mov"}


def survey(folder: Path) -> Survey:
    """List the annotated clips of ``folder``, which holds the spreadsheet and the clips.

    A row whose name and number contradict each other, as that of S015_007 is said to, is set aside.

    Raises:
        DatasetError: the spreadsheet is not there, cannot be read or names no clip of the seven emotions.
    """
    sheet = _spreadsheet(folder)
    videos = _videos(folder)
    recordings, missing, aside = [], [], []
    for clip, emotion in _annotations(read_rows(sheet)).items():
        subject = clip.split("_")[0]
        if emotion is None:
            aside.append(f"{clip}: its emotion is not clear")
        elif emotion and clip not in videos:
            missing.append(f"{subject}/{clip.upper()}.mp4 in {folder}")
        elif emotion:
            name, video = f"{SOURCE}/{subject}/{clip.upper()}", Video(videos[clip], SKIP, STEP)
            recordings.append(Recording(name, f"{SOURCE}/{subject}", SOURCE, LABELS.index(emotion), video))
    if not recordings and not missing:
        raise DatasetError(f"{sheet} names no clip such as S001_015 with one of the seven emotions")
    return Survey(SOURCE, tuple(recordings), tuple(missing), tuple(aside))


def _spreadsheet(folder: Path) -> Path:
    sheets = [path for path in folder.rglob("*") if re.match(r"annotation.*baum-?1s", path.name, re.IGNORECASE)]
    usable = in_number_order(path for path in sheets if path.suffix.lower() in {".xlsx", ".csv"})
    if not usable:
        raise DatasetError(f"{folder} holds no Annotations_BAUM1s.xlsx (or .csv)")
    return usable[0]


def _videos(folder: Path) -> dict[str, Path]:
    """Find the clips by their name in lower case."""
    found: dict[str, Path] = {}
    for path in in_number_order(folder.rglob("*")):
        acted = any("baum1a" in part.lower() for part in path.relative_to(folder).parts)
        if CLIP.fullmatch(path.stem) and path.suffix.lower() in VIDEOS and not acted:
            found.setdefault(path.stem.lower(), path)
    return found


def _annotations(rows: Sequence[Sequence[str]]) -> dict[str, str | None]:
    """Find each clip's emotion: empty for one outside the seven, None where it is not clear."""
    found: dict[str, str | None] = {}
    for row in rows:
        for column, cell in enumerate(row):
            if CLIP.fullmatch(cell.strip()):
                emotion = _emotion([text.strip() for text in row[column + 1 : column + 3]])
                clip = cell.strip().lower()
                found[clip] = emotion if found.get(clip, emotion) == emotion else None
                break
    return dict(sorted(found.items()))


def _emotion(cells: Sequence[str]) -> str | None:
    """Read the name and, where there is one, the number beside it."""
    text, code = (*cells, "", "")[:2]
    number = int(float(code)) if re.fullmatch(r"\d+(\.0*)?", code) else None
    if not text.isalpha():
        return None
    known, name = SEVEN.get(text[:3].lower(), (None, ""))
    if number is None or number == known or (known is None and number in OUTSIDE):
        return name
    return None
