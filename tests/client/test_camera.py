"""Cameras and videos: every frame of a file, and of a camera only new ones."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from timeconv_client import Frame
from timeconv_client.camera import Camera, CannotRead, Picture, Video, camera, encode, video

FRAMES = 12


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """Whatever a test does, it leaves no thread."""
    before = threading.enumerate()
    yield
    for thread in threading.enumerate():
        if thread not in before:
            thread.join(10)
    assert [thread for thread in threading.enumerate() if thread not in before] == []


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A video at 25 frames/s whose pictures get brighter."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for index in range(FRAMES):
        writer.write(np.full((48, 64, 3), index * 20, np.uint8))
    writer.release()
    return path


def brightness(frame: Frame) -> int:
    """Of a frame, 0..255."""
    return round(float(np.mean(cv2.imdecode(np.frombuffer(frame.jpeg, np.uint8), cv2.IMREAD_GRAYSCALE))))


class FakeCapture:
    """A camera that takes a picture whenever it is told to, or one after the other; brighter by one each time."""

    def __init__(self, most: int = 200, *, runs: bool = False) -> None:
        self.most = most
        self.runs = runs
        self.taken = 0
        self.decoded: list[int] = []
        self.released = False
        self._shots = threading.Semaphore(0)

    def shoot(self, count: int = 1) -> None:
        self._shots.release(count)

    def grab(self) -> bool:
        assert self.runs or self._shots.acquire(timeout=10)
        self.taken += 1
        return self.runs or self.taken <= self.most

    def retrieve(self) -> tuple[bool, Any]:
        self.decoded.append(self.taken)
        return True, np.full((48, 64, 3), len(self.decoded) if self.runs else self.taken, np.uint8)

    def get(self, _property_id: int, /) -> float:
        return 30.0

    def release(self) -> None:
        self.released = True


def camera_of(capture: FakeCapture) -> Camera:
    """A camera with these pictures."""
    return Camera(capture, quality=95, longest_side=1280)


def wanted(source: Camera) -> None:
    """Wait until a frame is asked for."""
    while not source._wanted:
        pass


def test_a_camera_gives_new_frames_only() -> None:
    """Pictures taken while nobody asks are gone, and not even decoded; their times are those of the clock."""
    capture = FakeCapture()
    with camera_of(capture) as source:
        capture.shoot(5)
        while capture.taken < 5:
            pass
        asking = threading.Thread(target=lambda: frames.append(source.read()))
        frames: list[Frame | None] = []
        asking.start()
        wanted(source)
        capture.shoot()
        asking.join()
        capture.shoot()
    assert frames[0] is not None
    assert brightness(frames[0]) == 6
    assert capture.decoded == [6]
    assert capture.released


def test_a_picture_of_a_camera_that_cannot_be_decoded() -> None:
    """It is none: the one after it is the answer."""
    capture = FakeCapture()
    whole = capture.retrieve
    capture.retrieve = lambda: whole() if capture.taken > 1 else (False, None)  # type: ignore[method-assign]
    with camera_of(capture) as source:
        asking = threading.Thread(target=lambda: frames.append(source.read()))
        frames: list[Frame | None] = []
        asking.start()
        wanted(source)
        capture.shoot(2)
        asking.join(10)
        capture.shoot()
    asking.join()
    assert frames[0] is not None
    assert brightness(frames[0]) == 2


def test_a_camera_that_ends() -> None:
    """After the last picture the iteration ends, and so does that of who asks later."""
    capture = FakeCapture(most=3)
    with camera_of(capture) as source:
        capture.shoot(100)
        assert len(list(source)) <= 3
        assert source.read() is None


def test_a_camera_that_fails() -> None:
    """What the driver raises is raised to who reads, and the camera is given back."""
    capture = FakeCapture(runs=True)
    capture.retrieve = lambda: 1 // 0  # type: ignore[method-assign,assignment,return-value]
    with camera_of(capture) as source, pytest.raises(ZeroDivisionError):
        source.read()
    assert capture.released


def test_a_camera_in_a_loop() -> None:
    """Asynchronously the same; leaving early, and cancelling while it waits, give the camera back."""
    capture = FakeCapture(runs=True)

    async def take() -> list[int]:
        seen = []
        async with camera_of(capture) as source:
            async for frame in source:
                seen.append(brightness(frame))
                if len(seen) == 3:
                    break
        return seen

    async def be_cancelled() -> None:
        dark = FakeCapture()
        source = camera_of(dark)

        async def read() -> None:
            async with source:
                await anext(source)

        reading = asyncio.create_task(read())
        await asyncio.to_thread(wanted, source)
        for _ in range(2):  # Once in the reading, once more in the closing.
            reading.cancel()
            for _ in range(5):
                await asyncio.sleep(0)
        assert not reading.done()
        dark.shoot()
        await asyncio.wait([reading])
        assert reading.cancelled()
        assert dark.released

    seen = asyncio.run(take())
    assert seen == [1, 2, 3]
    assert capture.released
    asyncio.run(be_cancelled())


def test_every_frame_of_a_video(clip: Path) -> None:
    """All of them, with their times in the video, again and again the same."""
    with video(clip) as source:
        frames = list(source)
        assert source.read() is None
    assert [frame.captured_us for frame in frames] == [index * 40_000 for index in range(FRAMES)]
    assert [brightness(frame) for frame in frames] == pytest.approx([index * 20 for index in range(FRAMES)], abs=3)
    with video(clip) as again:
        assert list(again) == frames

    async def take() -> list[Frame]:
        async with video(clip) as source:
            return [frame async for frame in source]

    assert asyncio.run(take()) == frames


def test_a_video_in_real_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each frame at its time; those whose time is over when they are asked for are left out."""
    capture = FakeCapture(most=10)
    capture.shoot(100)
    now = [100.0]
    waits: list[float] = []
    source = Video(capture, quality=90, longest_side=100, realtime=True)
    monkeypatch.setattr("timeconv_client.camera.time.monotonic", lambda: now[0])

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        now[0] += seconds
        return False

    monkeypatch.setattr(source._closed, "wait", wait)
    times = [(source.read() or Frame(b"", -1)).captured_us for _ in range(2)]
    now[0] += 0.15
    times += [frame.captured_us for frame in source]
    assert times == [0, 33_333, 166_667, 200_000, 233_333, 266_667, 300_000]
    assert sum(waits) == pytest.approx(0.15)
    source.close()


def test_closing_a_video_that_waits() -> None:
    """Who waits for a frame's time gets none once it is closed, and closing does not wait for that time."""
    capture = FakeCapture(runs=True)
    capture.get = lambda _property_id, /: 0.01  # type: ignore[method-assign]
    source = Video(capture, quality=90, longest_side=100, realtime=True)
    assert source.read() is not None
    frames: list[Frame | None] = []
    reading = threading.Thread(target=lambda: frames.append(source.read()))
    reading.start()
    while not source._lock.locked():
        pass
    closing = threading.Thread(target=source.close, daemon=True)
    closing.start()
    closing.join(10)
    assert not closing.is_alive()
    reading.join()
    assert frames == [None]


def test_a_picture_of_a_video_that_cannot_be_decoded() -> None:
    """It is left out; those after it come, with their times."""
    capture = FakeCapture(most=4)
    capture.shoot(5)
    whole = capture.retrieve
    capture.retrieve = lambda: whole() if capture.taken != 2 else (False, None)  # type: ignore[method-assign]
    with Video(capture, quality=90, longest_side=100, realtime=False) as source:
        assert [frame.captured_us for frame in source] == [0, 66_667, 100_000]


def test_a_source_that_was_opened_without_async() -> None:
    """Read by `async for` within a plain ``with``, it leaves no thread after that either."""

    async def take() -> None:
        with camera_of(FakeCapture(runs=True)) as source:
            async for _ in source:
                break
            sources.append(source)

    sources: list[Camera] = []
    before = threading.enumerate()
    asyncio.run(take())
    for thread in threading.enumerate():
        if thread not in before:
            thread.join(10)
    assert threading.enumerate() == before


def test_large_pictures_are_scaled_down() -> None:
    """To the longest side, whichever it is; smaller ones stay."""

    def size(picture: Picture) -> tuple[int, ...]:
        return cv2.imdecode(np.frombuffer(encode(picture, 90, 100), np.uint8), cv2.IMREAD_COLOR).shape[:2]

    assert size(np.zeros((50, 200, 3), np.uint8)) == (25, 100)
    assert size(np.zeros((200, 50), np.uint8)) == (100, 25)
    assert size(np.zeros((30, 40, 3), np.uint8)) == (30, 40)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    """No file, no video, no camera and no such quality are said in one line."""
    (tmp_path / "no.mp4").write_bytes(b"no video")
    with pytest.raises(CannotRead, match="No such file"):
        video(tmp_path / "none.mp4")
    with pytest.raises(CannotRead, match="gives no picture"):
        video(tmp_path / "no.mp4")
    with pytest.raises(CannotRead, match="Camera 97 gives no picture"):
        camera(97)
    with pytest.raises(ValueError, match="quality"):
        camera(0, quality=0)
    with pytest.raises(ValueError, match="longest_side"):
        camera(0, longest_side=0)
    with pytest.raises(ValueError, match="longest_side"):
        video(tmp_path / "no.mp4", longest_side=-1)


def test_the_package_needs_no_opencv() -> None:
    """Importing the client, also the synchronous one, imports neither OpenCV nor NumPy."""
    code = "import sys, timeconv_client, timeconv_client.sync; print({'cv2', 'numpy'} & set(sys.modules))"
    environment = {"PYTHONPATH": str(Path(__file__).parents[2] / "client")}
    said = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert said.stdout == "set()\n"
