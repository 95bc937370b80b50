"""BigFaceX from small trees in the layout of the three data sets, whose videos and pictures are made here."""

import json
import zipfile
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from pathlib import Path
from xml.sax.saxutils import escape

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from service.vision.boxes import Box
from service.vision.crop import crop_face
from service.vision.detect.face import Face
from service.vision.detect.haar import Haar
from training.datasets import windowset
from training.datasets.bigfacex import baum1, ck_plus, enterface, parts
from training.datasets.bigfacex.__main__ import main
from training.datasets.bigfacex.build import build
from training.datasets.bigfacex.cropping import CARRY, GEOMETRY, Crops, crop_recording
from training.datasets.bigfacex.recording import DatasetError, Pictures, Survey, Video, in_number_order
from training.datasets.bigfacex.report import TABLE_1
from training.datasets.bigfacex.spreadsheet import read_rows
from training.datasets.fer2013 import LABELS

pytestmark = pytest.mark.training

ANGRY, FEAR, HAPPY, SAD, NEUTRAL = (LABELS.index(name) for name in ("angry", "fear", "happy", "sad", "neutral"))


def face(shift: int = 0) -> NDArray[np.uint8]:
    """The astronaut's face, RGB [200, 240, 3], moved to the left by a few pixels."""
    return np.ascontiguousarray(data.astronaut()[0:200, 100 + shift : 340 + shift])


def blank() -> NDArray[np.uint8]:
    return np.full((200, 240, 3), 127, np.uint8)


def write_video(path: Path, frames: Iterable[NDArray[np.uint8]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (240, 200))
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()


def write_sequence(root: Path, subject: str, number: str, frames: int, code: int | None) -> None:
    """One sequence of CK+, with its label unless ``code`` is None."""
    folder = root / "cohn-kanade-images" / subject / number
    folder.mkdir(parents=True)
    for index in range(1, frames + 1):
        picture = cv2.cvtColor(face(index), cv2.COLOR_RGB2GRAY)
        cv2.imwrite(str(folder / f"{subject}_{number}_{index:08}.png"), picture)
    if code is not None:
        label = root / "Emotion" / subject / number
        label.mkdir(parents=True)
        (label / f"{subject}_{number}_{frames:08}_emotion.txt").write_text(f"   {code:.7e}\n")


def write_xlsx(path: Path, rows: Sequence[Sequence[str | int]]) -> None:
    """The least that Excel would open, with shared strings; an empty cell is left out as Excel does."""
    texts = sorted({cell for row in rows for cell in row if isinstance(cell, str)})
    lines = []
    for number, row in enumerate(rows, start=1):
        cells = ""
        for letter, cell in zip("ABCDEFGH", row, strict=False):
            if isinstance(cell, int):
                cells += f'<c r="{letter}{number}"><v>{cell}</v></c>'
            elif cell:
                cells += f'<c r="{letter}{number}" t="s"><v>{texts.index(cell)}</v></c>'
        lines.append(f'<row r="{number}">{cells}</row>')
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    strings = "".join(f"<si><t>{escape(text)}</t></si>" for text in texts)
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("xl/sharedStrings.xml", f"<sst {space}>{strings}</sst>")
        book.writestr(
            "xl/worksheets/sheet1.xml", f"<worksheet {space}><sheetData>{''.join(lines)}</sheetData></worksheet>"
        )


BAUM_ROWS: list[list[str | int]] = [
    ["No", "Subject", "Gender", "Clip Name", "Emotion", "Emotion Code"],
    [1, 1, "F", "S001_002", "Happiness", 8],
    [2, 1, "F", "S001_010", "Neutral", 9],
    [3, 2, "", "S002_001", "Boredom", 2],
    [4, 2, "M", "S002_003", "Sadness", 10],
    [5, 2, "M", "S002_004", "Happiness", 9],
]


@pytest.fixture(scope="session")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three data sets, ``ck``, ``baum`` and ``enterface``, small; no test changes them."""
    root = tmp_path_factory.mktemp("sets")
    write_sequence(root / "ck", "S005", "001", 7, 1)
    write_sequence(root / "ck", "S010", "002", 6, 2)
    write_sequence(root / "ck", "S010", "004", 5, 6)
    write_sequence(root / "ck", "S011", "001", 5, None)
    baum = root / "baum"
    clips = baum / "BAUM1s_MP4 - All"
    for subject, clip in (("s001", "S001_002"), ("s001", "S001_010"), ("s002", "S002_001"), ("s002", "S002_003")):
        write_video(clips / subject / f"{clip}.avi", [face(index) for index in range(17)])
    write_video(baum / "BAUM1a_MP4_all" / "s001" / "S001_002.avi", [blank()])
    write_xlsx(baum / "Annotations_BAUM1s.xlsx", BAUM_ROWS)
    place = root / "enterface"
    write_video(place / "subject 2" / "fear" / "sentence 1" / "s2_fe_1.avi", [face(index) for index in range(19)])
    # Uncut, and named after nobody, as in the real set.
    write_video(place / "subject 6" / "fear" / "s6_fe.avi", [face(index) for index in range(15)])
    write_video(
        place / "subject 11" / "happiness" / "sentence 2" / "s12_ha_2.AVI", [face(index) for index in range(12)]
    )
    return root


def surveys(trees: Path) -> list[Survey]:
    return [
        ck_plus.survey(trees / "ck"),
        baum1.survey(trees / "baum"),
        enterface.survey(trees / "enterface"),
    ]


def everything(folder: Path) -> dict[str, bytes]:
    """The bytes of all files."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="session")
def unbroken(trees: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All three built in one go by one process."""
    out = tmp_path_factory.mktemp("unbroken")
    build(surveys(trees), out, workers=1, partial=True, finished=lambda: None)
    return out


def test_windows_carry_emotion_subject_clip_and_source(unbroken: Path) -> None:
    """CK+ gives all frames, the others every second after the fifth; each window knows where it is from."""
    built = windowset.load(unbroken)
    clips = [built.names["clips"][index] for index in built.clip]
    windows = {name: clips.count(name) for name in built.names["clips"]}
    assert windows == {
        "ck+/S005/001": 3,
        "ck+/S010/004": 1,
        "baum-1s/s001/S001_002": 2,
        "baum-1s/s001/S001_010": 2,
        "baum-1s/s002/S002_003": 2,
        "enterface05/subject 2/fear/sentence 1/s2_fe_1": 3,
    }
    assert built.label.tolist() == [ANGRY] * 3 + [SAD] + [HAPPY] * 2 + [NEUTRAL] * 2 + [SAD] * 2 + [FEAR] * 3
    assert built.names["labels"] == list(LABELS)
    assert built.names["sources"] == ["ck+", "baum-1s", "enterface05"]
    assert built.names["subjects"][-1] == "enterface05/subject 2"


def test_a_crop_is_the_haar_box_and_a_tenth_on_each_side(trees: Path, unbroken: Path) -> None:
    """The first frame is the square around the detector's box with 1.2 times its side, gray, 48x48."""
    picture = cv2.imread(str(trees / "ck/cohn-kanade-images/S005/001/S005_001_00000001.png"), cv2.IMREAD_GRAYSCALE)
    gray = np.asarray(picture, np.uint8)
    box = Haar().detect(gray)[0].box
    grown = GEOMETRY.region(box)
    assert grown == pytest.approx((box.x - 0.1 * box.w, box.y - 0.1 * box.h, 1.2 * box.w, 1.2 * box.h))
    np.testing.assert_array_equal(windowset.load(unbroken).windows(np.array([0]))[0, 0], crop_face(gray, box, GEOMETRY))


class Stop(Exception):
    """Stands for a kill."""


def stop_after(clips: int) -> Callable[[], None]:
    done = count(1)

    def finished() -> None:
        if next(done) == clips:
            raise Stop

    return finished


def test_a_stopped_build_goes_on_and_equals_an_unbroken_one(trees: Path, unbroken: Path, tmp_path: Path) -> None:
    """Stopped after two clips, one of them half written, and taken up by two processes: the same bytes everywhere."""
    with pytest.raises(Stop):
        build(surveys(trees), tmp_path, workers=1, partial=True, finished=stop_after(2))
    assert not (tmp_path / "names.json").exists()
    written = sorted((tmp_path / "parts").rglob("*.npz"))
    assert len(written) >= 2
    kept, damaged = written[0], written[1]
    before = kept.stat().st_mtime_ns
    damaged.write_bytes(damaged.read_bytes()[:1000])
    damaged.with_name(f"{damaged.name}.partial").write_bytes(b"PK")

    build(surveys(trees), tmp_path, workers=2, partial=True, finished=lambda: None)
    assert kept.stat().st_mtime_ns == before
    assert everything(tmp_path) == everything(unbroken)


def test_two_processes_give_the_bytes_of_one(trees: Path, unbroken: Path, tmp_path: Path) -> None:
    """The number of processes changes nothing."""
    build(surveys(trees), tmp_path, workers=2, partial=True, finished=lambda: None)
    assert everything(tmp_path) == everything(unbroken)


def test_the_report_stands_beside_table_1(unbroken: Path) -> None:
    """Windows a class and source, the paper's counts, and the frames looked at."""
    report = json.loads((unbroken / "report.json").read_text())
    assert report["windows"]["sad"] == 3
    assert sum(report["windows"].values()) == 13
    assert report["paper"] == TABLE_1
    assert sum(TABLE_1.values()) == 68_363
    ck = report["sources"]["ck+"]
    assert (ck["clips"], ck["frames"], ck["frames_dropped"], ck["windows"]["angry"]) == (2, 12, 0, 3)
    assert report["sources"]["baum-1s"]["set_aside"] == ["s002_004: its emotion is not clear"]
    # Twelve frames leave four after every second from the sixth: too few for a window.
    assert report["sources"]["enterface05"]["clips_without_window"] == 1


def test_frames_without_a_face_take_the_last_box_then_break_the_windows() -> None:
    """Up to four in a row are cropped at the last box; a longer gap, or one before any face, parts the runs."""

    class Detector:
        name = "scripted"

        def detect(self, gray: NDArray[np.uint8]) -> list[Face]:
            return [Face(Box(10, 10, 40, 40), 0.9)] if gray[0, 0] else []

    script = [0] + [1] * 3 + [0] * CARRY + [1] + [0] * (CARRY + 2) + [1] * 6 + [0] * (CARRY + 1) + [1] * 4
    frames = [np.full((80, 80), value, np.uint8) for value in script]
    crops = crop_recording(frames, Detector())
    # The last run, of four frames, is too short for a window.
    assert crops.lengths.tolist() == [3 + CARRY + 1 + CARRY, 6 + CARRY]
    assert (crops.seen, crops.carried, crops.dropped) == (len(script), 3 * CARRY, 1 + 2 + 1)
    assert [run.shape for run in crops.runs()] == [(12, 48, 48), (10, 48, 48)]


def test_no_window_reaches_over_a_gap(tmp_path: Path) -> None:
    """A clip whose face is gone for long gives the windows of both its halves, under one name."""
    frames = [face()] * 6 + [blank()] * 8 + [face(4)] * 6
    write_video(
        tmp_path / "set/subject 1/anger/sentence 1/s1_an_1.avi", (f for frame in frames for f in (frame, frame))
    )
    counts = build(
        [enterface.survey(tmp_path / "set")], tmp_path / "out", workers=1, partial=True, finished=lambda: None
    )
    built = windowset.load(tmp_path / "out")
    assert built.names["clips"] == ["enterface05/subject 1/anger/sentence 1/s1_an_1"]
    starts = built.first.tolist()
    lengths = counts["enterface05"]
    assert lengths.frames_dropped == 4
    assert lengths.frames_with_last_box == CARRY
    assert len(built) == (lengths.frames - lengths.frames_dropped) - 2 * 4
    assert len(set(np.diff(starts))) == 2


def test_strides_are_the_papers(trees: Path, tmp_path: Path) -> None:
    """CK+ takes every picture; videos give the frames 5, 7, 9 and so on."""
    survey = surveys(trees)
    assert all(isinstance(recording.frames, Pictures) for recording in survey[0].recordings)
    assert {
        (r.frames.skip, r.frames.step) for s in survey[1:] for r in s.recordings if isinstance(r.frames, Video)
    } == {(5, 2)}
    write_video(tmp_path / "steps.avi", (np.full((200, 240, 3), 10 * index, np.uint8) for index in range(12)))
    seen = [round(gray.mean() / 10) for gray in Video(tmp_path / "steps.avi", 5, 2).gray()]
    assert seen == [5, 7, 9, 11]


def test_contempt_and_unlabelled_sequences_are_left_out(trees: Path) -> None:
    """Of CK+ only labelled sequences count, and not those of contempt."""
    assert [recording.name for recording in ck_plus.survey(trees / "ck").recordings] == ["ck+/S005/001", "ck+/S010/004"]


@pytest.mark.parametrize("code", range(8))
def test_ck_plus_codes(code: int, tmp_path: Path) -> None:
    """The numbers of CK+ are these emotions, in this order."""
    write_sequence(tmp_path, "S001", "001", 1, code)
    expected = [(), (ANGRY,), (), (1,), (FEAR,), (HAPPY,), (SAD,), (5,)][code] if code else (NEUTRAL,)
    assert tuple(recording.emotion for recording in ck_plus.survey(tmp_path).recordings) == expected


def test_the_uncut_sessions_are_taken_only_when_asked_for(trees: Path) -> None:
    """Subject 6 of eNTERFACE'05 is set aside by default, and its videos need no sentence folder."""
    plain = enterface.survey(trees / "enterface")
    uncut = enterface.survey(trees / "enterface", uncut=True)
    assert plain.set_aside == ("subject 6: uncut sessions",)
    assert {r.name for r in uncut.recordings} - {r.name for r in plain.recordings} == {
        "enterface05/subject 6/fear/s6_fe"
    }


def test_the_subject_is_the_folders_not_the_file_names(trees: Path) -> None:
    """Subject 11's files begin with s12; they are subject 11's."""
    subjects = [recording.subject for recording in enterface.survey(trees / "enterface").recordings]
    assert subjects == ["enterface05/subject 2", "enterface05/subject 11"]


def test_annotations_may_be_csv(tmp_path: Path) -> None:
    """A sheet saved as csv reads like the spreadsheet, with commas or semicolons; numbers are text."""
    write_xlsx(tmp_path / "a.xlsx", BAUM_ROWS)
    expected = [[str(cell) for cell in row] for row in BAUM_ROWS]
    assert read_rows(tmp_path / "a.xlsx") == expected
    for separator in ",;":
        (tmp_path / "a.csv").write_text("\n".join(separator.join(row) for row in expected))
        assert read_rows(tmp_path / "a.csv") == expected


def test_numbers_sort_as_people_count() -> None:
    """Subject 2 comes before subject 10."""
    assert in_number_order([Path("subject 10"), Path("subject 2")]) == [Path("subject 2"), Path("subject 10")]


def test_a_part_counts_only_for_what_it_was_made_from(tmp_path: Path) -> None:
    """A damaged, empty or foreign part is made again."""
    crops = Crops(np.zeros((5, 48, 48), np.uint8), np.array([5]), 7, 1, 2)
    path = tmp_path / "a" / "b.npz"
    parts.save(path, crops, "this")
    again = parts.load(path, "this")
    assert again is not None
    assert (again.seen, again.carried, again.dropped) == (7, 1, 2)
    assert parts.load(path, "that") is None
    for broken in (b"", b"PK\x03\x04", b"no archive", path.read_bytes()[:-100]):
        path.write_bytes(broken)
        assert parts.load(path, "this") is None


def test_the_command_builds_any_subset(trees: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One data set alone will do; the table is printed."""
    out = str(tmp_path / "out")
    assert main(["--ck", str(trees / "ck"), "--out", out, "--workers", "1", "--partial"]) == 0
    printed = capsys.readouterr().out
    assert "68,363" in printed
    assert "ck+: 2 clips" in printed
    assert "missing: 324 of the 327 files" in printed


@pytest.mark.parametrize(
    ("made", "option", "named"),
    [
        ((), "--ck", "there is no folder"),
        (("other/",), "--ck", "holds no folder cohn-kanade-images"),
        (("cohn-kanade-images/",), "--ck", "holds no folder Emotion"),
        (("cohn-kanade-images/", "Emotion/"), "--ck", "Emotion holds no S*/NNN/*_emotion.txt"),
        (("cohn-kanade-images/", "Emotion/S1/001/S1_001_00000009_emotion.txt"), "--ck", "'' is no number from 0 to 7"),
        (("s001/S001_001.mp4",), "--baum", "holds no Annotations_BAUM1s.xlsx"),
        (("Annotations_BAUM1s.xlsx",), "--baum", "cannot be read as a spreadsheet"),
        (("Annotations_BAUM1s.csv",), "--baum", "names no clip such as S001_015"),
        (("other/",), "--enterface", "holds no folder 'subject 1'"),
    ],
)
def test_a_wrong_folder_is_refused_by_name(
    made: tuple[str, ...], option: str, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 2, one message that says which option and what is missing, and nothing is written."""
    for name in made:
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(parents=True) if name.endswith("/") else path.touch()
    assert main([option, str(tmp_path / "set"), "--out", str(tmp_path / "out"), "--partial"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"bigfacex: {option}: ")
    assert named in error
    assert not (tmp_path / "out").exists()


def test_what_is_missing_of_each_set_is_named(trees: Path) -> None:
    """Half-unpacked sets: labels without pictures, annotated clips without a file, subjects and sentences that lack."""
    assert ck_plus.survey(trees / "ck").missing[0].startswith("324 of the 327 files")
    missing = enterface.survey(trees / "enterface").missing
    assert str(trees / "enterface" / "subject 1") in missing
    assert f"4 of 5 videos in {trees / 'enterface' / 'subject 2' / 'fear'}" in missing
    assert not any(text.endswith("subject 6") for text in missing)


def test_a_sequence_without_its_last_frame_is_missing(tmp_path: Path) -> None:
    """CK+ labels are named after the peak, so a sequence that was cut short shows."""
    write_sequence(tmp_path, "S001", "001", 5, 1)
    (tmp_path / "cohn-kanade-images/S001/001/S001_001_00000005.png").unlink()
    assert ck_plus.survey(tmp_path).missing[1].endswith("S001_001_00000005.png")


def test_an_annotated_clip_without_its_file_is_missing(tmp_path: Path) -> None:
    """Clips of the acted half do not stand in for the spontaneous ones."""
    write_xlsx(tmp_path / "Annotations_BAUM1s.xlsx", BAUM_ROWS[:2])
    write_video(tmp_path / "BAUM1a_MP4_all/s001/S001_002.avi", [blank()])
    assert baum1.survey(tmp_path).missing == (f"s001/S001_002.mp4 in {tmp_path}",)


def test_missing_parts_stop_the_build_before_any_work(
    trees: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --partial an incomplete set is an error that names the first ten and counts the rest."""
    assert main(["--enterface", str(trees / "enterface"), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "missing (--partial goes on without)" in error
    assert "and 43 more" in error
    assert not (tmp_path / "out").exists()


def test_a_damaged_video_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The others are done first; with --partial it is set aside."""
    write_xlsx(tmp_path / "Annotations_BAUM1s.xlsx", [BAUM_ROWS[1], BAUM_ROWS[2]])
    write_video(tmp_path / "s001/S001_002.avi", [face()] * 14)
    (tmp_path / "s001/S001_010.avi").write_bytes(b"no video")
    command = ["--baum", str(tmp_path), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main(command) == 2
    assert "S001_010.avi cannot be decoded" in capfd.readouterr().err
    assert main([*command, "--partial"]) == 0
    assert "baum-1s: set aside:" in capfd.readouterr().out


def test_the_command_needs_a_data_set(capsys: pytest.CaptureFixture[str]) -> None:
    """Without any of the three it says which options there are."""
    with pytest.raises(SystemExit) as exit_status:
        main(["--out", "nowhere"])
    assert exit_status.value.code == 2
    assert "--ck, --baum and --enterface" in capsys.readouterr().err


def test_nothing_to_build_is_an_error(tmp_path: Path) -> None:
    """A set whose frames show no face makes no empty arrays."""
    write_video(tmp_path / "set/subject 1/anger/s1_an_1.avi", [blank()] * 20)
    with pytest.raises(DatasetError, match="no recording gives a window"):
        build([enterface.survey(tmp_path / "set")], tmp_path / "out", workers=1, partial=True, finished=lambda: None)
