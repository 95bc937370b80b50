"""Build BigFaceX: ``python -m training.datasets.bigfacex --ck DIR --baum DIR --enterface DIR --out DIR``.

Any of the three will do. Stopped and started again, it goes on where it was. Exit status 2 says that a folder is not
what it should be, and names what is missing.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

from tqdm import tqdm

from training.datasets.bigfacex import baum1, ck_plus, enterface, report
from training.datasets.bigfacex.build import build
from training.datasets.bigfacex.recording import DatasetError, Survey


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    readers: dict[str, Callable[[Path], Survey]] = {
        "ck": ck_plus.survey,
        "baum": baum1.survey,
        "enterface": partial(enterface.survey, uncut=options.uncut),
    }
    given = {name: folder for name in readers if (folder := getattr(options, name)) is not None}
    if not given:
        parser.error("give at least one of --ck, --baum and --enterface")
    try:
        surveys = [_survey(readers[name], f"--{name}", folder) for name, folder in given.items()]
        recordings = sum(len(survey.recordings) for survey in surveys)
        # A terminal sees the bar; a log file is spared it.
        with tqdm(total=recordings, desc="recordings", unit="clip", disable=None) as bar:
            counts = build(surveys, options.out, workers=options.workers, partial=options.partial, finished=bar.update)
    except DatasetError as error:
        print(f"bigfacex: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"bigfacex: {error}; build again to go on", file=sys.stderr)
        return 1
    except BrokenProcessPool:
        print("bigfacex: a process was killed, perhaps for want of memory; build again to go on", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bigfacex: stopped; build again to go on", file=sys.stderr)
        return 130
    print(report.table(counts))
    return 0


def _survey(reader: Callable[[Path], Survey], option: str, folder: Path) -> Survey:
    if not folder.is_dir():
        raise DatasetError(f"{option}: there is no folder {folder}")
    try:
        return reader(folder)
    except DatasetError as error:
        raise DatasetError(f"{option}: {error}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.datasets.bigfacex", description=__doc__)
    parser.add_argument("--ck", type=Path, help="CK+: the folder with cohn-kanade-images and Emotion")
    parser.add_argument("--baum", type=Path, help="BAUM-1: the folder with Annotations_BAUM1s.xlsx and the clips")
    parser.add_argument("--enterface", type=Path, help="eNTERFACE'05: the folder with subject 1, subject 2, ...")
    parser.add_argument("--out", type=Path, required=True, help="where the windows go, and the parts while it builds")
    parser.add_argument("--workers", type=_count, default=2, help="processes (2)")
    parser.add_argument("--partial", action="store_true", help="go on without what is missing or cannot be decoded")
    parser.add_argument("--uncut", action="store_true", help="take the uncut sessions of eNTERFACE's subject 6 too")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of processes")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
