"""From surveyed folders to a set of windows: crop every recording, in several processes, then put the parts together.

The result does not depend on the number of processes, nor on how often the build was stopped and taken up again.
"""

import functools
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import connection, get_context, parent_process
from pathlib import Path

import cv2
import numpy as np

from service.vision.detect.haar import Haar
from training.datasets import FRAMES, windowset
from training.datasets.bigfacex import parts, report
from training.datasets.bigfacex.cropping import Crops, crop_recording
from training.datasets.bigfacex.recording import DatasetError, Recording, Survey
from training.datasets.fer2013 import LABELS


def build(
    surveys: Sequence[Survey], out: Path, *, workers: int, partial: bool = False, finished: Callable[[], object]
) -> dict[str, report.SourceCount]:
    """Write the windows of all recordings to ``out``, with ``report.json``; ``finished`` is called after each.

    Recordings that are done stay in ``out/parts`` and are not done again. ``partial`` goes on without what is missing
    or cannot be decoded, and names it in the report.

    Raises:
        DatasetError: something is missing, before any work; or cannot be decoded, and all the others are done.
    """
    if not partial:
        _refuse([text for survey in surveys for text in survey.missing], "missing")
    recordings = [recording for survey in surveys for recording in survey.recordings]
    broken = crop_all(recordings, out / "parts", workers=workers, finished=finished)
    if not partial:
        _refuse([broken[recording.name] for recording in recordings if recording.name in broken], "cannot be used")
    whole = [recording for recording in recordings if recording.name not in broken]
    counts = {survey.source: report.SourceCount(missing=survey.missing) for survey in surveys}
    for survey in surveys:
        mine = tuple(broken[recording.name] for recording in survey.recordings if recording.name in broken)
        counts[survey.source].set_aside = survey.set_aside + mine
    frame_count = 0
    for recording in whole:
        crops = _part(out, recording)
        _count(counts[recording.source], recording, crops)
        frame_count += len(crops.frames)
    if not frame_count:
        raise DatasetError("no recording gives a window of five frames with a face")
    windowset.write(out, _clips(whole, out), LABELS, frame_count)
    report.save(out / "report.json", counts)
    return counts


def crop_all(
    recordings: Sequence[Recording], folder: Path, *, workers: int, finished: Callable[[], object]
) -> dict[str, str]:
    """Make the parts that ``folder`` lacks; returns what was wrong with those that cannot be decoded, by name."""
    broken: dict[str, str] = {}
    # A fresh interpreter each: a fork would copy the threads' locks of this one.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start_worker)
    try:
        waiting = {pool.submit(_crop, recording, folder): recording.name for recording in recordings}
        for future in as_completed(waiting):
            if error := future.result():
                broken[waiting[future]] = error
            finished()
    finally:
        pool.shutdown(cancel_futures=True)
    return broken


def _start_worker() -> None:
    """Work on one core, leave Ctrl-C to the parent, and end with it even if it was killed."""
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@functools.cache
def _detector() -> Haar:
    return Haar()


def _crop(recording: Recording, folder: Path) -> str:
    """Make one part unless it is there; returns what is wrong with the recording, or nothing."""
    path = parts.place(folder, recording)
    try:
        made_from = parts.origin(recording)
        if parts.load(path, made_from) is None:
            parts.save(path, crop_recording(recording.frames.gray(), _detector()), made_from)
    except DatasetError as error:
        return str(error)
    return ""


def _part(out: Path, recording: Recording) -> Crops:
    crops = parts.load(parts.place(out / "parts", recording), parts.origin(recording))
    if crops is None:
        raise DatasetError(f"the part of {recording.name} is gone; build again")
    return crops


def _count(count: report.SourceCount, recording: Recording, crops: Crops) -> None:
    windows = int((crops.lengths - FRAMES + 1).sum())
    count.windows[LABELS[recording.emotion]] += windows
    count.clips += 1
    count.clips_without_window += windows == 0
    count.frames += crops.seen
    count.frames_with_last_box += crops.carried
    count.frames_dropped += crops.dropped


def _clips(recordings: Sequence[Recording], out: Path) -> Iterator[windowset.Clip]:
    """Give each run without a gap as a clip of the recording's name, so that no window reaches over a gap."""
    for recording in recordings:
        for run in _part(out, recording).runs():
            labels = np.full(len(run) - FRAMES + 1, recording.emotion, np.uint8)
            yield windowset.Clip(recording.name, recording.subject, recording.source, run, labels)


def _refuse(reasons: Sequence[str], what: str) -> None:
    if reasons:
        lines = "\n  ".join(report.first_few(reasons))
        raise DatasetError(f"{what} (--partial goes on without):\n  {lines}")
