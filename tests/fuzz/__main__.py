"""``make fuzz``: many inputs for every parser that strangers reach.

By mutation of the corpus; with --atheris guided by coverage, where atheris is installed, which may add to the corpus.
The first input that breaks a promise is written to build/fuzz and ends the run with exit status 1.
"""

import argparse
import itertools
import sys
import time
from pathlib import Path
from random import Random

from tests.fuzz.mutate import CORPUS, mutated, seeds

NAMES = ("header", "decoder", "message", "query", "frame", "body")
_FOUND = Path("build/fuzz")


def main() -> int:
    """Fuzz; the exit status."""
    parser = argparse.ArgumentParser("fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", default=NAMES, help=f"of {', '.join(NAMES)}; all unless said")
    parser.add_argument("--inputs", type=int, default=240_000, help="in all (240,000)")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations (0)")
    parser.add_argument("--atheris", action="store_true", help="guided by coverage; one target")
    arguments = parser.parse_args()
    if arguments.atheris:
        if len(arguments.targets) != 1:
            parser.error("--atheris takes one target")
        return _guided(arguments.targets[0], arguments.inputs)
    each = -(-arguments.inputs // len(arguments.targets))
    tried = 0
    for target in arguments.targets:
        start_s = time.monotonic()
        if not _fuzz(target, each, arguments.seed):
            return 1
        tried += each
        print(f"{target:8} {each:>9,} inputs, {time.monotonic() - start_s:.0f} s", flush=True)
    print(f"{tried:,} inputs tried, no promise broken")
    return 0


def _fuzz(target: str, inputs: int, seed: int) -> bool:
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - atheris wants to see it imported

    corpus = seeds(target)
    for content in itertools.islice(itertools.chain(corpus, mutated(corpus, Random(f"{target} {seed}"))), inputs):
        try:
            TARGETS[target](content)
        except Exception:
            _FOUND.mkdir(parents=True, exist_ok=True)
            (_FOUND / target).write_bytes(content)
            print(f"{target}: a promise is broken by the input in {_FOUND / target}", file=sys.stderr)
            raise
    return True


def _guided(target: str, inputs: int) -> int:
    import atheris  # noqa: PLC0415 - is there only where somebody has installed it

    with atheris.instrument_imports(include=["service", "starlette", "python_multipart"]):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - atheris wants to see it imported
    _FOUND.mkdir(parents=True, exist_ok=True)
    atheris.Setup(
        ["fuzz", f"-runs={inputs}", f"-artifact_prefix={_FOUND}/{target}-", str(CORPUS / target)], TARGETS[target]
    )
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
