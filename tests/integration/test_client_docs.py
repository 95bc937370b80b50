"""Every example of the client's documents is run, and prints what is said."""

import contextlib
import doctest
import io
import re
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.conftest import LiveServer

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
EXAMPLES = [
    pytest.param(block[2], block[3], id=f"{document}:{text[: block.start()].count(chr(10)) + 1}")
    for document in ("docs/client.md", "client/README.md", "README.md")
    for text in [(ROOT / document).read_text()]
    for block in BLOCK.finditer(text)
    if block[1] == "python"
]


class ClipCapture:
    """A camera that shows a clip, again and again, at 100 frames/s."""

    def __init__(self, clip: list[bytes]) -> None:
        self.clip = clip
        self.shown = 0
        self.pace = threading.Event()

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return True

    def grab(self) -> bool:
        self.pace.wait(0.01)
        self.shown += 1
        return True

    def retrieve(self) -> tuple[bool, Any]:
        jpeg = self.clip[self.shown % len(self.clip)]
        return True, cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)

    def release(self) -> None:
        pass


@pytest.fixture
def folder(tmp_path: Path, face_clip: list[bytes], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the examples read; the first camera shows the clip."""
    (tmp_path / "frames").mkdir()
    pictures = [cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) for jpeg in face_clip]
    for index, jpeg in enumerate(face_clip):
        (tmp_path / "frames" / f"{index:03}.jpg").write_bytes(jpeg)
        (tmp_path / f"{index + 1}.jpg").write_bytes(jpeg)
    height, width = pictures[0].shape[:2]
    writer = cv2.VideoWriter(str(tmp_path / "talk.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, (width, height))
    for picture in pictures:
        writer.write(picture)
    writer.release()
    real = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: ClipCapture(face_clip) if source == 0 else real(source))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_are_examples() -> None:
    """They are found, and those of docs/client.md all say what they print."""
    assert len(EXAMPLES) >= 9
    text = (ROOT / "docs/client.md").read_text()
    assert all(block[3] for block in BLOCK.finditer(text))
    assert {block[1] for block in BLOCK.finditer(text)} == {"python"}


@pytest.mark.parametrize(("code", "printed"), EXAMPLES)
@pytest.mark.usefixtures("folder")
def test_an_example(code: str, printed: str | None, live_server: LiveServer) -> None:
    """It runs as it stands, but for the service's address, and prints what the block after it says."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(code.replace("http://127.0.0.1:8000", live_server.url), {"__name__": "__main__"})  # noqa: S102 - ours
    if printed is not None:
        checker = doctest.OutputChecker()
        assert checker.check_output(printed, output.getvalue(), doctest.ELLIPSIS), output.getvalue()
    assert [thread for thread in threading.enumerate() if thread.name.startswith("timeconv-client")] == []
