"""What the page saves is what ``timeconv stream --csv`` writes of the same answers."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from service import protocol
from service.protocol import FrameOutcome, FramesOutcome, Outcome, Prediction
from service.streaming.frame import ClipFrame
from service.streaming.results import UNANSWERED, FrameResult, result_of
from service.streaming.tables import CsvTable
from tests.chromium import Browser, Page, needs_chromium
from tests.client.fake_server import LABELS, frame, prediction
from tests.conftest import LiveServer
from timeconv_client import parse_message

pytestmark = needs_chromium

FRAME_US = 40_000
Message = Prediction | FrameOutcome | FramesOutcome

# `write` gives the text of a record's table; `frame` is the n-th of a stream, sent 40 ms after the one before.
HELPERS = """(async () => {
    const {Record} = await import("/page/record.js");
    window.Rows = Record;
    window.labels = LABELS;
    window.session = (labels, session = "s-1") => ({session, model: "m", version: "1", labels});
    window.frame = (id, {session = "s-1", after = 0} = {}) =>
        ({id, seq: id, session, capturedUs: 1.7e15 + (id + after) * 40_000, sentMs: (id + after) * 40, data: {}});
    window.write = (record) => record.toCsv().text();
    window.happy = (score) => ({faces: [{id: 0, state: "ready", box: [1, 2, 3, 4], score: 0.9, emotion: "happy",
        uncertain: false, smoothed: {happy: score}}]});
})()""".replace("LABELS", json.dumps(LABELS))


@pytest.fixture(scope="module")
def page(browser: Browser, live_server: LiveServer) -> Iterator[Page]:
    """A tab with the module."""
    with browser.page(live_server.url + "/") as page:
        page.run(HELPERS)
        yield page


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def answers() -> list[tuple[str, Message | None]]:
    """One of each kind that a client hears: outcome and message; of a lost frame there is none."""
    random = np.random.default_rng(1)
    ready, box = prediction(1).faces[0], [92.5, 126.0, 125.24, 125.7]

    def looks(*, uncertain: bool) -> protocol.FaceResult:
        scores = dict(zip(LABELS, np.round(random.dirichlet(np.ones(7)), 6).tolist(), strict=True))
        box = tuple(np.round(random.uniform(-20, 600, 4), 2).tolist())
        score = round(random.uniform(0.5, 1), 6)
        emotion = max(scores, key=scores.__getitem__)
        seen = {"box": box, "score": score, "smoothed": scores, "emotion": emotion, "uncertain": uncertain}
        return msgspec.structs.replace(ready, **seen)

    said = dict.fromkeys(("emotion", "probabilities", "smoothed", "raw_emotion", "uncertain"), msgspec.UNSET)
    filling = msgspec.structs.replace(ready, id=2, state="filling", frames_needed=3, **said)
    two = msgspec.structs.replace(prediction(3), faces=(looks(uncertain=False), filling))
    messages: list[Message] = [
        frame(0, Outcome.NO_FACE),
        msgspec.structs.replace(frame(1, Outcome.WINDOW_FILLING), detail={"frames_needed": 1, "box": box}),
        msgspec.structs.replace(prediction(2), faces=(looks(uncertain=False),)),
        two,
        FramesOutcome(first=4, last=4, outcome=Outcome.SUPERSEDED),
        msgspec.structs.replace(prediction(6), faces=(looks(uncertain=True), looks(uncertain=False))),
        msgspec.structs.replace(frame(7, Outcome.BAD_IMAGE), detail={"reason": "corrupt"}),
    ]
    told = [("prediction" if isinstance(each, Prediction) else each.outcome.value, each) for each in messages]
    return [*told, ("lost", None)]


def written_by_the_command(path: Path) -> str:
    """The table of these answers as ``timeconv stream`` writes it."""
    table = CsvTable(path, LABELS, timing=False)
    for index, (_, message) in enumerate(answers()):
        sent = ClipFrame(index, index * FRAME_US, b"")
        if message is None:
            table.write([FrameResult(sent, UNANSWERED)])
            continue
        heard = parse_message(protocol.encode(message).decode())
        assert not isinstance(heard, str)
        table.write([result_of(sent, heard, 5.0)])  # type: ignore[arg-type] # an answer, as it was before
    table.close()
    return path.read_text()


def told_to(page: Page) -> str:
    """The table of a record that heard of these answers, predictions last, as they may come."""
    heard = [
        (index, outcome, None if message is None else json.loads(protocol.encode(message)))
        for index, (outcome, message) in enumerate(answers())
    ]
    heard.sort(key=lambda each: each[1] == "prediction")
    return page.run(
        f"""(() => {{
            const record = new Rows();
            record.setSession(session(labels));
            for (const [id, outcome, message] of {json.dumps(heard)}) record.add(outcome, message, frame(id));
            return write(record);
        }})()"""
    )


def test_the_table_is_that_of_the_command(page: Page, tmp_path: Path) -> None:
    """The same answers, in whatever order they came, give the same text: columns, order, digits, what is left empty."""
    assert told_to(page) == written_by_the_command(tmp_path / "frames.csv")


def test_frames_on_their_way_keep_their_number(page: Page) -> None:
    """A frame without an outcome yet has no row, those behind it keep their numbers; `clear` begins anew."""
    first, then, cleared = page.run(
        """(async () => {
            const record = new Rows();
            record.setSession(session(labels));
            for (const id of [0, 1, 3]) record.add("no_face", null, frame(id));
            const first = await write(record);
            record.add("prediction", happy(1), frame(2));
            const then = await write(record);
            record.clear();
            for (const id of [4, 5]) record.add("no_face", null, frame(id));
            return [first, then, await write(record)];
        })()"""
    )
    assert [row["frame"] for row in rows(first)] == ["0", "1", "3"]
    assert [(row["frame"], row["outcome"]) for row in rows(then)][2:] == [("2", "prediction"), ("3", "no_face")]
    assert [(row["frame"], row["t_s"]) for row in rows(cleared)] == [("0", "0.000000"), ("1", "0.040000")]


def test_sessions_follow_each_other(page: Page) -> None:
    """Numbers and times go on over sessions and streams; a last column says which is which, a resumed one as before."""
    text = page.run(
        """(() => {
            const record = new Rows();
            record.setSession(session(labels));
            for (const id of [0, 1]) record.add("no_face", null, frame(id));
            record.setSession(session(labels));
            record.add("lost", null, frame(2));
            record.add("prediction", happy(0.5), frame(3));
            // Another stream counts from 0 again; an answer of the first comes late.
            record.setSession(session(labels, "s-2"));
            record.add("no_face", null, frame(0, {session: "s-2", after: 5}));
            record.add("no_face", null, frame(4));
            return write(record);
        })()"""
    )
    table = rows(text)
    assert [row["frame"] for row in table] == ["0", "1", "2", "3", "4", "5"]
    assert [row["session"] for row in table] == ["1"] * 5 + ["2"]
    assert [row["t_s"] for row in table] == [f"{0.04 * index:.6f}" for index in range(6)]


def test_other_labels_are_more_columns(page: Page) -> None:
    """Each score stands under its label, whichever network it is of; what a network does not know is empty."""
    text = page.run(
        """(() => {
            const record = new Rows();
            const face = (smoothed) => ({faces: [{id: 0, state: "ready", box: [1, 2, 3, 4], score: 0.5,
                emotion: "happy", uncertain: false, smoothed}]});
            record.setSession(session(["happy", "sad"]));
            record.add("prediction", face({happy: 0.6, sad: 0.4}), frame(0));
            record.setSession(session(["calm", "happy"]));
            record.add("prediction", face({happy: 0.7, calm: 0.3}), frame(1));
            return write(record);
        })()"""
    )
    scores = [[row[name] for name in ("happy", "sad", "calm", "x", "score")] for row in rows(text)]
    assert scores == [["0.6000", "0.4000", "", "1.00", "0.5000"], ["0.7000", "", "0.3000", "1.00", "0.5000"]]


def test_cells_are_escaped(page: Page) -> None:
    """Labels of whatever signs come back from the table as they were."""
    label = 'so-so, "fine"\nor not'
    text = page.run(
        f"""(() => {{
            const record = new Rows(), label = {json.dumps(label)};
            record.setSession(session([label]));
            record.add("prediction", {{faces: [{{id: 0, state: "ready", box: [1, 2, 3, 4], score: 1, emotion: label,
                uncertain: true, smoothed: {{[label]: 1}}}}]}}, frame(0));
            return write(record);
        }})()"""
    )
    (row,) = rows(text)
    assert (row["emotion"], row[label], row["probability"]) == (label, "1.0000", "1.0000")


def test_the_oldest_rows_are_dropped_and_counted(page: Page) -> None:
    """It keeps its bound; the file's name says what is missing, and what is left has its numbers and times."""
    full, dropped, name, text, rest = page.run(
        """(async () => {
            const record = new Rows({mostRows: 3_000});
            record.setSession(session(labels));
            for (let id = 0; id < 3_000; id += 1) record.add("no_face", null, frame(id));
            const full = [record.rows, record.dropped, record.fileName.includes("without")];
            // Another stream, which counts from 0 again.
            const other = {session: "s-2", after: 3_000};
            for (let id = 0; id < 5_000; id += 1) record.add("no_face", null, frame(id, other));
            const told = [full, record.dropped, record.fileName, await write(record)];
            record.clear();
            return [...told, [record.rows, record.dropped, await write(record)]];
        })()"""
    )
    table = rows(text)
    assert full == [3_000, 0, False]
    assert dropped == 5_000
    assert name.endswith("-without-the-first-5000-rows.csv")
    assert [int(row["frame"]) for row in table] == list(range(5_000, 8_000))
    assert table[0]["t_s"] == "200.000000"
    assert (rest[0], rest[1], rows(rest[2])) == (0, 0, [])
