"""CK+, the extended Cohn-Kanade set (Lucey et al. 2010): posed, from neutral to the peak.

As its own ReadMe (28 September 2010) describes it: ``cohn-kanade-images/S005/001/S005_001_00000011.png`` and, for 327
of its 593 sequences, ``Emotion/S005/001/S005_001_00000011_emotion.txt`` with one number such as ``3.0000000e+00``: 0
neutral, 1 anger, 2 contempt, 3 disgust, 4 fear, 5 happy, 6 sadness, 7 surprise. The file is named after the last
frame, the peak. Sequences without one have no emotion. Contempt is left out and every frame taken, as in the paper.
The reader was never run on the set itself.
"""

from pathlib import Path

from training.datasets.bigfacex.recording import (
    DatasetError,
    Pictures,
    Recording,
    Survey,
    in_number_order,
    subfolder,
)
from training.datasets.fer2013 import LABELS

SOURCE = "ck+"
LABELLED = 327
NAMES = ("neutral", "angry", "contempt", "disgust", "fear", "happy", "sad", "surprise")


def survey(folder: Path) -> Survey:
    """List the labelled sequences of ``folder``, which holds (or whose subfolders hold) both trees.

    Raises:
        DatasetError: one of the trees is not there, or a label is no number from 0 to 7.
    """
    images, labels = subfolder(folder, "cohn-kanade-images"), subfolder(folder, "Emotion")
    files = in_number_order(labels.glob("S*/*/[!.]*_emotion.txt"))
    if not files:
        raise DatasetError(f"{labels} holds no S*/NNN/*_emotion.txt")
    recordings, missing = [], []
    if len(files) < LABELLED:
        missing.append(f"{LABELLED - len(files)} of the {LABELLED} files S*/NNN/*_emotion.txt in {labels}")
    for file in files:
        emotion = _emotion(file)
        sequence = Path(file.parts[-3], file.parts[-2])
        frames = in_number_order((images / sequence).glob("[!.]*.png"))
        peak = file.name.replace("_emotion.txt", ".png")
        # Without its last frame the sequence was not fully unpacked.
        if not frames or _number(frames[-1]) < _number(Path(peak)):
            missing.append(str(images / sequence / peak))
        elif emotion in LABELS:
            subject = f"{SOURCE}/{sequence.parent}"
            name = f"{SOURCE}/{sequence.as_posix()}"
            recordings.append(Recording(name, subject, SOURCE, LABELS.index(emotion), Pictures(tuple(frames))))
    return Survey(SOURCE, tuple(recordings), tuple(missing))


def _number(frame: Path) -> int:
    digits = frame.stem.rpartition("_")[2]
    return int(digits) if digits.isdecimal() else 0


def _emotion(file: Path) -> str:
    text = file.read_text(encoding="ascii", errors="replace").strip()
    try:
        return {float(code): name for code, name in enumerate(NAMES)}[float(text)]
    except (ValueError, KeyError):
        raise DatasetError(f"{file}: {text!r} is no number from 0 to {len(NAMES) - 1}") from None
