"""eNTERFACE'05 (Martin et al. 2006): five acted reactions to a story for each of six emotions, no neutral.

As public readers of the set describe it: ``subject 1/anger/sentence 1/s1_an_1.avi``, 44 subjects, 1293 videos. File
names cannot be trusted (those of subject 11 begin with s12, s16_su_3avi.avi is another), folder names can, so every
``.avi`` below an emotion's folder counts, wherever it lies. Subject 23 lacks three recordings. Subject 6 is one uncut
session of about a minute an emotion, pauses included: it is left out unless it is asked for. The publication counts 42
subjects, so neither of the two may be among them; which Lee & Wong took is not known. The reader was never run on the
set itself.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from training.datasets.bigfacex.recording import DatasetError, Recording, Survey, Video, in_number_order
from training.datasets.fer2013 import LABELS

SOURCE = "enterface05"
SUBJECTS = range(1, 45)
UNCUT, INCOMPLETE = 6, 23
SENTENCES = 5
SKIP, STEP = 5, 2
NAMES = {"anger": "angry", "disgust": "disgust", "fear": "fear", "happiness": "happy", "sadness": "sad"}
NAMES["surprise"] = "surprise"


def survey(folder: Path, *, uncut: bool = False) -> Survey:
    """List the videos of ``folder``, which holds (or one of whose subfolders holds) ``subject 1`` and the others.

    ``uncut`` takes subject 6 too.

    Raises:
        DatasetError: there is no subject's folder.
    """
    subjects = _subjects(folder)
    wanted = [number for number in SUBJECTS if uncut or number != UNCUT]
    recordings: list[Recording] = []
    place = next(iter(subjects.values())).parent
    missing = [str(place / f"subject {number}") for number in wanted if number not in subjects]
    for number in sorted(subjects.keys() & set(wanted)):
        for emotion in NAMES:
            videos = list(_videos(subjects[number], emotion))
            least = SENTENCES if number not in {UNCUT, INCOMPLETE} else 1
            if len(videos) < least:
                missing.append(f"{least - len(videos)} of {least} videos in {subjects[number] / emotion}")
            recordings += [_recording(number, emotion, video, subjects[number]) for video in videos]
    aside = () if uncut or UNCUT not in subjects else (f"subject {UNCUT}: uncut sessions",)
    return Survey(SOURCE, tuple(recordings), tuple(missing), aside)


def _subjects(folder: Path) -> dict[int, Path]:
    for pattern in ("*", "*/*"):
        named = ((re.fullmatch(r"subject[ _-]*(\d+)", path.name, re.IGNORECASE), path) for path in folder.glob(pattern))
        found = {int(match[1]): path for match, path in named if match and path.is_dir()}
        if found:
            return found
    raise DatasetError(f"{folder} holds no folder 'subject 1'")


def _videos(subject: Path, emotion: str) -> Iterator[Path]:
    for place in in_number_order(subject.iterdir()):
        if place.name.lower() == emotion and place.is_dir():
            files = (path for path in place.rglob("*") if path.suffix.lower() == ".avi")
            yield from in_number_order(path for path in files if not path.name.startswith("."))


def _recording(number: int, emotion: str, video: Path, folder: Path) -> Recording:
    subject = f"{SOURCE}/subject {number}"
    name = f"{subject}/{video.relative_to(folder).with_suffix('').as_posix()}"
    return Recording(name, subject, SOURCE, LABELS.index(NAMES[emotion]), Video(video, SKIP, STEP))
