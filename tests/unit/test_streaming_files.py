"""What ``timeconv stream`` reads and writes: times, pipes, tables, annotated videos, timelines."""

import json
import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from loadtest.clips import encoded, face_alone, moving_face, write_clip
from service.streaming import StreamError, StreamRequest
from service.streaming.clip import open_clip
from service.streaming.frame import Clip, ClipFrame
from service.streaming.outputs import open_outputs
from service.streaming.overlay import Overlay
from service.streaming.palette import GREY, colour_of
from service.streaming.pipe import JpegPipe, picture_end
from service.streaming.results import READY, Delays, Face, FrameResult, result_of
from service.streaming.tables import CsvTable, JsonLines, ParquetTable
from service.streaming.timeline import Timeline
from service.streaming.times import FrameTimes
from service.streaming.video import CODECS, AnnotatedVideo
from tests.client.fake_server import LABELS
from timeconv_client import FrameOutcome

HAPPY = {label: 0.94 if label == "happy" else 0.01 for label in LABELS}
FACE = Face(
    state=READY, box=(60.0, 40.0, 80.0, 80.0), id=3, score=0.9, emotion="happy", uncertain=False, smoothed=HAPPY
)


def frames_of(clip: Clip) -> list[ClipFrame]:
    """All frames of a clip, which is then closed."""
    frames = list(iter(clip.read, None))
    clip.close()
    return frames


def result(index: int, outcome: str = "prediction", faces: Sequence[Face] = (), fps: float = 25) -> FrameResult:
    """A frame of a gray picture and what became of it."""
    jpeg = encoded([np.full((240, 320, 3), 128, np.uint8)])[0]
    return FrameResult(ClipFrame(index, round(index * 1e6 / fps), jpeg), outcome, tuple(faces))


# Times


@pytest.mark.parametrize(
    ("stamps_ms", "times_ms"),
    [
        ([0, 40, 80, 200, 240], [0, 40, 80, 200, 240]),
        ([500, 540, 700], [0, 40, 200]),
        ([0, 0, 0, 0], [0, 40, 80, 120]),
        ([float("nan")] * 3, [0, 40, 80]),
        ([0, 40, 0, 40], [0, 40, 80, 120]),
        ([0, 40, 0, 100], [0, 40, 80, 180]),
        ([0, 40, 9e9, 9e9 + 40], [0, 40, 80, 120]),
    ],
    ids=["varying", "from-the-first-on", "none", "nonsense", "go-back", "go-on", "leap"],
)
def test_times(stamps_ms: list[float], times_ms: list[float]) -> None:
    """Time goes by the container's stamps, and by the rate where these repeat, go back or leap."""
    times = FrameTimes(25)
    assert [times.after(stamp) for stamp in stamps_ms] == [time * 1000 for time in times_ms]


def write_varying_clip(path: Path, stamps_ms: Sequence[int]) -> None:
    """The moving face as a video whose pictures come when these stamps say."""
    raw = [cv2.VIDEOWRITER_PROP_RAW_VIDEO, 1]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 1000, (320, 240), raw)
    for stamp_ms, jpeg in zip(stamps_ms, encoded(moving_face(len(stamps_ms))), strict=True):
        writer.set(cv2.VIDEOWRITER_PROP_KEY_INTERVAL, 1)
        writer.set(cv2.VIDEOWRITER_PROP_PTS, stamp_ms)
        writer.write(np.frombuffer(jpeg, np.uint8).reshape(1, -1))
    writer.release()


def test_a_clip_of_varying_rate(tmp_path: Path) -> None:
    """Frames of a clip of varying rate have the container's times."""
    stamps_ms = [0, 40, 80, 200, 240, 300, 1000]
    write_varying_clip(tmp_path / "phone.mkv", stamps_ms)
    frames = frames_of(open_clip(str(tmp_path / "phone.mkv"), 90))
    assert [frame.time_us for frame in frames] == [stamp * 1000 for stamp in stamps_ms]


def test_a_rotated_clip_is_upright(tmp_path: Path) -> None:
    """A phone's video, which says that it is to be turned, is turned."""
    path = tmp_path / "phone.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (320, 240))
    picture = np.zeros((240, 320, 3), np.uint8)
    picture[:, :160] = 255
    writer.write(picture)
    writer.release()
    content = bytearray(path.read_bytes())
    # The matrix in the track's header (ISO 14496-12, 8.3.2): a quarter turn clockwise.
    matrix = content.index(b"tkhd") + 44
    content[matrix : matrix + 36] = np.array([0, 1, 0, -1, 0, 0, 240, 0, 16384], ">i4").__mul__(1 << 16).tobytes()
    path.write_bytes(content)

    (frame,) = frames_of(open_clip(str(path), 90))

    upright = cv2.imdecode(np.frombuffer(frame.jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert upright.shape == (320, 240)
    assert upright[:140].min() > 200
    assert upright[180:].max() < 50


def test_pictures_larger_than_the_service_takes(tmp_path: Path) -> None:
    """They are sent smaller, and boxes are told in pixels of the clip."""
    write_clip(tmp_path / "large.avi", 2, (640, 480))
    clip = open_clip(str(tmp_path / "large.avi"), 90)
    clip.fit(320 * 240)
    first, _ = frames_of(clip)
    assert cv2.imdecode(np.frombuffer(first.jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (240, 320, 3)
    answer = FrameOutcome(seq=0, outcome="window_filling", age_ms=1, detail={"frames_needed": 4, "box": [1, 2, 30, 40]})
    (face,) = result_of(first, answer, 1.0).faces
    assert (face.box, face.frames_needed, face.emotion) == ((2, 4, 60, 80), 4, None)


def test_an_absurd_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures that would take gigabytes are refused before one is decoded."""
    write_clip(tmp_path / "large.avi", 2)
    monkeypatch.setattr("service.streaming.clip.MOST_PIXELS", 320 * 240 - 1)
    with pytest.raises(StreamError, match="are 320x240; more than") as failed:
        open_clip(str(tmp_path / "large.avi"), 90)
    assert failed.value.exit_code == 2


def test_a_clip_damaged_halfway(tmp_path: Path) -> None:
    """What can be read of it is read, and the clip says how many frames it should have."""
    path = tmp_path / "cut.avi"
    write_clip(path, 20)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    clip = open_clip(str(path), 90)
    assert clip.total == 20
    assert 5 <= len(frames_of(clip)) <= 11


def test_a_clip_without_frames(tmp_path: Path) -> None:
    """A video of no frame is none."""
    write_clip(tmp_path / "none.avi", 0)
    with pytest.raises(StreamError, match="OpenCV can read no video"):
        open_clip(str(tmp_path / "none.avi"), 90)


# Pipes


@pytest.fixture
def pipe() -> Iterator[tuple[JpegPipe, int]]:
    """A pipe of pictures, and the end to write to."""
    reading, writing = os.pipe()
    opened = JpegPipe(f"/dev/fd/{reading}", 50.0, is_live=False)
    os.close(reading)
    yield opened, writing
    opened.close()


def test_jpegs_from_a_pipe(pipe: tuple[JpegPipe, int]) -> None:
    """Pictures one after the other are passed on byte for byte, timed by the rate; what is between them is not."""
    clip, writing = pipe
    pictures = encoded(face_alone(3))
    os.write(writing, pictures[0] + b"--part\r\nContent-Type: image/jpeg\r\n\r\n" + pictures[1] + pictures[2])
    os.close(writing)
    frames = frames_of(clip)
    assert [frame.jpeg for frame in frames] == pictures
    assert [frame.time_us for frame in frames] == [0, 20_000, 40_000]


def test_a_picture_that_is_cut_off(pipe: tuple[JpegPipe, int]) -> None:
    """The last picture of a pipe that broke is passed on as far as it came: the service says what is wrong."""
    clip, writing = pipe
    picture = encoded(face_alone(1))[0]
    os.write(writing, picture + picture[:500])
    os.close(writing)
    assert [frame.jpeg for frame in frames_of(clip)] == [picture, picture[:500]]


@pytest.mark.parametrize("content", [b"", b"RIFF\0\0\0\0AVI LIST" * 40])
def test_a_pipe_without_pictures(pipe: tuple[JpegPipe, int], content: bytes) -> None:
    """What is no Motion JPEG is refused, with the command that makes it."""
    clip, writing = pipe
    os.write(writing, content)
    os.close(writing)
    with pytest.raises(StreamError, match=r"(?s)no Motion JPEG.*ffmpeg -i CLIP"):
        clip.read()


def test_no_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it was closed, its descriptor is not read, which may be of another file."""
    monkeypatch.setattr("sys.__stdin__", None)
    with pytest.raises(StreamError, match="no standard input"):
        open_clip("-", 90)


def test_a_fifo(tmp_path: Path) -> None:
    """A named pipe is read as standard input is, and opened without waiting for who writes."""
    path = tmp_path / "camera.mjpeg"
    os.mkfifo(path)
    clip = open_clip(str(path), 90)
    picture = encoded(face_alone(1))[0]
    with path.open("wb") as writing:
        writing.write(picture)
    assert [frame.jpeg for frame in frames_of(clip)] == [picture]


def test_a_silent_pipe_can_be_closed(pipe: tuple[JpegPipe, int]) -> None:
    """Reading from a pipe that says nothing ends when the clip is closed."""
    clip, writing = pipe
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(clip.read)
        try:
            clip.close()
            assert reading.result(10) is None
        finally:
            os.close(writing)


def test_the_end_of_a_picture_is_not_its_thumbnail_s() -> None:
    """A segment with a JPEG of its own in it does not end the picture."""
    whole = encoded(face_alone(1))[0]
    segment = b"\xff\xe1" + (2 + len(whole)).to_bytes(2, "big") + whole
    assert picture_end(whole[:2] + segment + whole[2:]) == 2 * len(whole) + 4
    assert all(picture_end(whole[:length]) is None for length in range(2, len(whole)))


# Tables


def test_a_row_for_each_face(tmp_path: Path) -> None:
    """Faces of a frame have a row each; one that is filling has a box and no scores, a frame without a face one row."""
    filling = replace(FACE, id=4, state="filling", emotion=None, uncertain=None, smoothed={})
    table = CsvTable(tmp_path / "t.csv", LABELS, timing=False)
    table.write([result(0, faces=[FACE, filling]), result(1, "no_face")])
    table.close()
    scores = "0.0100,0.0100,0.0100,0.9400,0.0100,0.0100,0.0100"
    assert (tmp_path / "t.csv").read_text().splitlines()[1:] == [
        f"0,0.000000,prediction,3,ready,happy,0.9400,0,{scores},60.00,40.00,80.00,80.00,0.9000",
        "0,0.000000,prediction,4,filling,,,,,,,,,,,60.00,40.00,80.00,80.00,0.9000",
        "1,0.040000,no_face,,,,,,,,,,,,,,,,,",
    ]


def test_times_are_written_only_if_asked_for(tmp_path: Path) -> None:
    """How long frames took is in the tables with ``timing`` alone: the rest is the same in each run."""
    timed = replace(result(0, faces=[FACE]), delays=Delays(12.0, 3.5, 4.25, 8))
    for timing in (False, True):
        table, lines = (
            CsvTable(tmp_path / "t.csv", LABELS, timing=timing),
            JsonLines(tmp_path / "t.jsonl", timing=timing),
        )
        for file in (table, lines):
            file.write([timed])
            file.close()
        (row,) = (tmp_path / "t.csv").read_text().splitlines()[1:]
        assert row.endswith(",12.000,3.500,4.250,8") == timing
        assert ("delays" in json.loads((tmp_path / "t.jsonl").read_text())) == timing


def test_a_frame_without_a_prediction_took_no_time(tmp_path: Path) -> None:
    """With ``timing`` the cells of a frame without a prediction are empty."""
    table = CsvTable(tmp_path / "t.csv", LABELS, timing=True)
    table.write([result(0, "no_face")])
    table.close()
    header, row = (tmp_path / "t.csv").read_text().splitlines()
    assert row == "0,0.000000,no_face" + "," * (header.count(",") - 2)


def test_parquet_says_what_csv_says(tmp_path: Path) -> None:
    """The Parquet file has the rows of the CSV file, typed, however they came."""
    pq = pytest.importorskip("pyarrow.parquet")
    results = [result(index, faces=[FACE]) for index in range(5)] + [result(5, "no_face")]
    files = [tmp_path / "one.parquet", tmp_path / "many.parquet"]
    for path, parts in zip(files, ([results], [[each] for each in results]), strict=True):
        table = ParquetTable(path, LABELS, timing=False)
        for part in parts:
            table.write(part)
        table.close()
    assert files[0].read_bytes() == files[1].read_bytes()
    rows = pq.read_table(files[0]).to_pylist()
    assert (len(rows), rows[0]["frame"], rows[0]["happy"], rows[0]["uncertain"]) == (6, 0, 0.94, False)
    assert rows[5] == {**dict.fromkeys(rows[0]), "frame": 5, "t_s": 0.2, "outcome": "no_face"}


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pyarrow is missing, one line says how to get it, before anything is streamed."""
    monkeypatch.setattr("service.streaming.tables.find_spec", lambda _name: None)
    with pytest.raises(StreamError, match=r"^Parquet needs pyarrow: pip install 'pyarrow>=17'$"):
        StreamRequest(clip="0", parquet=tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"video": "v.gif"}, r"--video takes a file named \*\.mp4"),
        ({"timeline": "t.pdf"}, r"--timeline takes a file named \*\.svg"),
        ({"csv": "same", "jsonl": "same"}, "cannot go to the same file"),
        ({"video": "clip.avi"}, "is the clip itself"),
    ],
)
def test_files_that_cannot_be(tmp_path: Path, files: dict[str, str], words: str) -> None:
    """A file of an unknown kind, one for two results, and the clip itself are refused."""
    named = {option: tmp_path / name for option, name in files.items()}
    with pytest.raises(StreamError, match=words) as failed:
        StreamRequest(clip=str(tmp_path / "clip.avi"), **named)
    assert failed.value.exit_code == 2


# Annotated video


def drawn(*results: FrameResult, ground: int = 128) -> list[NDArray[np.uint8]]:
    """Gray pictures [240, 320, 3] with these results drawn in, one after the other."""
    overlay, pictures = Overlay(), []
    for each in results:
        picture = np.full((240, 320, 3), ground, np.uint8)
        overlay.draw(picture, each)
        pictures.append(picture)
    return pictures


def has_colour(picture: NDArray[np.uint8], emotion: str) -> bool:
    """Whether an emotion's colour is in the picture."""
    return bool((np.abs(picture.astype(int) - colour_of(emotion)[::-1]).max(axis=2) < 12).any())


@pytest.mark.parametrize("ground", [0, 128, 255])
def test_a_face_is_drawn(ground: int) -> None:
    """Box and panel of a sure face have its emotion's colour, on light and dark ground; the words are light on dark."""
    (picture,) = drawn(result(0, faces=[FACE]), ground=ground)
    assert has_colour(picture, "happy")
    title = picture[41:56, 150:200]
    assert title.max() > 200
    assert np.median(title) < 70


def test_not_sure_has_no_colour_of_an_emotion_in_its_box() -> None:
    """An uncertain face's box is white."""
    (picture,) = drawn(result(0, faces=[replace(FACE, uncertain=True)]), ground=0)
    assert picture[40, 100].tolist() == [255, 255, 255]


@pytest.mark.parametrize("outcome", ["skipped", "superseded", "not_sent", "unanswered"])
def test_an_old_emotion_is_marked(outcome: str) -> None:
    """A frame without an answer shows the last faces in grey, without a colour, and after a second none."""
    shown = drawn(result(0, faces=[FACE]), result(1, outcome), result(30, outcome))
    assert [has_colour(picture, "happy") for picture in shown] == [True, False, False]
    assert shown[1][40, 100].tolist() == list(GREY[::-1])
    assert shown[2][40, 100].tolist() == [128, 128, 128]


def test_no_face_clears_the_last() -> None:
    """Where the service saw no face none is drawn, nor after it."""
    for picture in drawn(result(0, faces=[FACE]), result(1, "no_face"), result(2, "skipped"))[1:]:
        assert (picture[:200] == 128).all()


def test_a_filling_face_has_no_emotion() -> None:
    """A face whose window is filling has a grey box and no bars."""
    filling = Face(state="filling", box=FACE.box, frames_needed=2)
    _, picture = drawn(result(0, faces=[FACE]), result(1, "window_filling", [filling]))
    assert not has_colour(picture, "happy")
    assert picture[40, 100].tolist() == list(GREY[::-1])


@pytest.mark.parametrize("box", [(-50.0, -40.0, 90.0, 90.0), (300.0, 220.0, 90.0, 90.0), (0.0, 0.0, 320.0, 240.0)])
def test_a_face_at_the_edge(box: tuple[float, float, float, float]) -> None:
    """Boxes that leave the picture, or fill it, are drawn as far as there is room."""
    assert (drawn(result(0, faces=[replace(FACE, box=box)]))[0] != 128).any()


def frames_in(path: Path) -> int:
    """How many pictures a video has."""
    capture, count = cv2.VideoCapture(str(path)), 0
    while capture.grab():
        count += 1
    return count


@pytest.mark.parametrize("suffix", CODECS)
def test_an_annotated_video(tmp_path: Path, suffix: str) -> None:
    """The video has the clip's length, rate and size, in each format."""
    path = tmp_path / f"video{suffix}"
    video = AnnotatedVideo(path, 25)
    video.write(result(index, faces=[FACE]) for index in range(6))
    video.close()
    capture = cv2.VideoCapture(str(path))
    assert (frames_in(path), capture.get(cv2.CAP_PROP_FPS)) == (6, 25)
    found, picture = capture.read()
    assert found
    assert picture.shape == (240, 320, 3)


@pytest.mark.parametrize("suffix", CODECS)
def test_a_video_that_was_not_written_whole(tmp_path: Path, suffix: str) -> None:
    """A video of which a part is lost, as on a full disk, is an error, though OpenCV says nothing."""
    path = tmp_path / f"video{suffix}"
    video = AnnotatedVideo(path, 25)
    video.write(result(index, faces=[FACE]) for index in range(30))
    assert video._writer is not None
    video._writer.release()
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(StreamError, match="not written whole"):
        video.close()


def test_a_varying_rate_keeps_its_length(tmp_path: Path) -> None:
    """A picture stays until the next one's time; small shifts neither repeat nor lose one."""
    path = tmp_path / "video.avi"
    video = AnnotatedVideo(path, 25)
    for index, time_ms in enumerate([0, 41, 79, 121, 400]):
        picture = result(index)
        video.write([replace(picture, frame=replace(picture.frame, time_us=time_ms * 1000))])
    video.close()
    assert frames_in(path) == 11


def test_pictures_faster_than_the_rate(tmp_path: Path) -> None:
    """Some are left out, so that the video is no longer than the clip."""
    path = tmp_path / "video.avi"
    video = AnnotatedVideo(path, 25)
    video.write(result(index, fps=100) for index in range(40))
    video.close()
    assert 10 <= frames_in(path) <= 12


def test_a_damaged_picture_is_black(tmp_path: Path) -> None:
    """A frame whose JPEG is damaged is black in the video, which goes on."""
    path = tmp_path / "video.avi"
    video = AnnotatedVideo(path, 25)
    whole = result(0)
    video.write([whole, replace(whole, frame=ClipFrame(1, 40_000, b"damaged"), outcome="bad_image"), result(2)])
    video.close()
    assert frames_in(path) == 3


def first_blue(path: Path) -> tuple[int, int]:
    """Where a video's last picture begins to be bluer than red: the left top corner of what is drawn in blue."""
    capture, last = cv2.VideoCapture(str(path)), np.zeros((1, 1, 3), np.uint8)
    while (found := capture.read())[0]:
        last = np.asarray(found[1], np.uint8)
    rows, columns = np.nonzero(last[:, :, 0].astype(int) - last[:, :, 2] > 60)
    return int(columns.min()), int(rows.min())


def test_a_clip_whose_size_changes(tmp_path: Path) -> None:
    """Boxes are drawn in the picture's own pixels, whatever the size of the video."""
    path = tmp_path / "video.avi"
    video = AnnotatedVideo(path, 25)
    sad = replace(FACE, emotion="sad", smoothed={})
    twice = encoded([np.full((480, 640, 3), 128, np.uint8)])[0]
    video.write([result(0), FrameResult(ClipFrame(1, 40_000, twice), "prediction", (sad,))])
    video.close()
    assert np.abs(np.subtract(first_blue(path), (30, 20))).max() <= 2


def test_a_picture_that_lies_on_its_side(tmp_path: Path) -> None:
    """Pictures of a pipe are drawn upright, as the service sees them."""
    path = tmp_path / "video.avi"
    video = AnnotatedVideo(path, 25)
    tiff = b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00" + bytes(4)
    exif = b"Exif\x00\x00" + tiff
    jpeg = result(0).frame.jpeg
    turned = jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]
    video.write([replace(result(0), frame=ClipFrame(0, 0, turned))])
    video.close()
    capture = cv2.VideoCapture(str(path))
    assert (capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)) == (240, 320)


@pytest.mark.parametrize("suffix", CODECS)
def test_a_video_with_a_colon_in_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    """A time in a name is no protocol to be opened."""
    monkeypatch.chdir(tmp_path)
    path = Path(f"2026-11-24T01:41:58{suffix}")
    video = AnnotatedVideo(path, 25)
    video.write([result(0)])
    video.close()
    assert len(frames_of(open_clip(str(path), 90))) == 1


# Timeline


def drawn_timeline(path: Path, results: Sequence[FrameResult]) -> str:
    """A timeline's file, as text."""
    timeline = Timeline(path, "a <clip> & more", LABELS, 25)
    timeline.write(results)
    timeline.close()
    return path.read_text(errors="replace")


def test_a_timeline(tmp_path: Path) -> None:
    """A row for each emotion, what was said, a gap where there was no face; the title is no mark-up."""
    results = [
        *(result(index, faces=[FACE]) for index in range(50)),
        *(result(index, "no_face") for index in range(50, 75)),
        *(result(index, faces=[replace(FACE, id=5, uncertain=True)]) for index in range(75, 100)),
    ]
    svg = ET.fromstring(drawn_timeline(tmp_path / "t.svg", results))  # noqa: S314 - our own
    words = [element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert {"a <clip> & more", "face 3, 5", "happy", "not sure", "no face", *LABELS} <= set(words)
    assert len(list(svg.iter("{http://www.w3.org/2000/svg}polygon"))) == 2 * len(LABELS)


def test_a_timeline_of_a_clip_with_an_odd_name(tmp_path: Path) -> None:
    """What no XML file may have in it is spelled out."""
    (tmp_path / "out.svg").touch()
    clip = os.fsdecode(b"a\x01\xff<b>.avi")
    with open_outputs(StreamRequest(clip=clip, timeline=tmp_path / "out.svg"), LABELS, 25) as write:
        write([result(0)])
    texts = [text.text for text in ET.parse(tmp_path / "out.svg").iter() if text.tag.endswith("text")]  # noqa: S314 - our own
    assert texts[0] == "a\\x01\\udcff<b>.avi"


def test_a_short_gap_is_a_gap(tmp_path: Path) -> None:
    """Where there was no face the curves stop, also if the same face comes back at once."""
    results = [result(index, *(("no_face", []) if index == 5 else ("prediction", [FACE]))) for index in range(10)]
    assert drawn_timeline(tmp_path / "t.svg", results).count("<polygon") == 2 * len(LABELS)


def test_a_pause_is_a_gap(tmp_path: Path) -> None:
    """Nothing is drawn across a second without an answer, also where nobody said that there was no face."""
    lines = [
        drawn_timeline(tmp_path / f"{last}.svg", [result(index, faces=[FACE]) for index in (0, 1, last, last + 1)])
        for last in (20, 40)
    ]
    assert [drawn.count("<polygon") for drawn in lines] == [len(LABELS), 2 * len(LABELS)]


def test_faces_side_by_side_have_a_block_each(tmp_path: Path) -> None:
    """Faces that were there together are drawn in blocks of their own."""
    svg = drawn_timeline(tmp_path / "t.svg", [result(0, faces=[FACE, replace(FACE, id=9)])])
    assert ">face 3<" in svg
    assert ">face 9<" in svg
    assert svg.count(">surprise<") == 2


def test_a_long_timeline_is_no_larger(tmp_path: Path) -> None:
    """Of a long clip the picture has as many points as it is wide."""
    line = ClipFrame(0, 0, b"")
    results = [FrameResult(replace(line, index=i, time_us=i * 40_000), "prediction", (FACE,)) for i in range(20_000)]
    assert len(drawn_timeline(tmp_path / "t.svg", results)) < 300_000


@pytest.mark.parametrize("results", [[], [result(0, "no_face")], [result(0, faces=[FACE])]], ids=["0", "no face", "1"])
@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_a_timeline_of_little(tmp_path: Path, results: list[FrameResult], suffix: str) -> None:
    """Of no frame, of one, and of no face there is a picture as well."""
    path = tmp_path / f"t{suffix}"
    drawn_timeline(path, results)
    if suffix == ".png":
        assert cv2.imread(str(path)).shape[1] == 1920
