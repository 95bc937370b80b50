"""Fails if a test was skipped that must run in CI: all must but those that need another machine, or clips."""

import sys
import xml.etree.ElementTree as ET
from pathlib import Path

NOT_ON_EVERY_MACHINE = ("no CUDA here", "no TensorRT here", "this CPU does not know bf16")
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
        if not any(reason in why for reason in NOT_ON_EVERY_MACHINE)
        if not ("shared clips" in why and not SHARED_MEDIA.is_dir())
    ]
    print(f"{len(skipped)} skipped, {len(wrong)} of them must not be")
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
