"""Fails if a test was skipped that must run in CI: all must but those that need a GPU, or clips that are not there."""

import sys
import xml.etree.ElementTree as ET
from pathlib import Path

SHARED_MEDIA = Path("../shared/data/media")


def main(report: str) -> int:
    """The exit status for a JUnit report."""
    skipped = [
        (case.get("classname"), case.get("name"), skip.get("message") or "")
        for case in ET.parse(report).iter("testcase")  # noqa: S314 - our own pytest wrote it
        for skip in case.iter("skipped")
    ]
    wrong = [
        f"{module}::{name}: {why}"
        for module, name, why in skipped
        if not ("no CUDA here" in why or ("shared clips" in why and not SHARED_MEDIA.is_dir()))
    ]
    print(f"{len(skipped)} skipped, {len(wrong)} of them must not be")
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
