"""The page's timeline, drawn in a real browser: what is seen is what was read."""

import json
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import pytest

from tests.chromium import Browser, Page, needs_chromium
from tests.conftest import LiveServer

pytestmark = needs_chromium

LABELS = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
END_MS = 100_000

# A canvas of 640 x 240 at the left top, and a timeline whose clock stands where `setNow` puts it. `put` adds readings
# of a winner with a score, the rest being the others'. `colours` are those in a part of the picture, of full dots only.
HELPERS = """(async () => {
    const {Timeline} = await import("/page/timeline.js");
    window.plotjs = await import("/page/plot.js");
    window.palette = await import("/page/palette.js");
    document.body.innerHTML = "<canvas></canvas>";
    Object.assign(document.body.style, {margin: 0, padding: 0, maxWidth: "none"});
    window.canvas = document.querySelector("canvas");
    Object.assign(canvas.style, {display: "block", width: "640px", height: "240px"});
    window.context = canvas.getContext("2d", {willReadFrequently: true});
    let now = END_MS;
    window.setNow = (ms) => (now = ms);
    window.labels = LABELS;
    window.timeline = new Timeline(canvas, {now: () => now});
    timeline.setLabels(labels);
    window.readings = (fromS, toS, word, score, about = {}) => Array.from({length: (toS - fromS) * 10 + 1}, (_, i) => {
        const rest = (1 - score) / (labels.length - 1);
        const smoothed = Object.fromEntries(labels.map((label) => [label, label === word ? score : rest]));
        return {atMs: fromS * 1000 + i * 100, faceId: 0, smoothed, emotion: word, uncertain: false, ...about};
    });
    window.put = (...reading) => readings(...reading).forEach((each) => timeline.add(each));
    window.plot = () => {
        context.font = `12px ${getComputedStyle(canvas).fontFamily}`;
        const labelWidth = Math.ceil(Math.max(...labels.map((label) => context.measureText(label).width)));
        return new plotjs.Plot({width: 640, height: 240, spanMs: 30_000, labelWidth});
    };
    window.colours = (x, y, width, height) => {
        const ratio = canvas.width / 640;
        const {data} = context.getImageData(...[x, y, width, height].map((side) => Math.round(side * ratio)));
        const seen = new Set();
        for (let i = 0; i < data.length; i += 4) {
            const hex = [...data.subarray(i, i + 3)].map((part) => part.toString(16).padStart(2, "0")).join("");
            if (data[i + 3] === 255) seen.add(`#${hex}`);
        }
        return [...seen];
    };
    // Colours of lines and strip between two times, axes and words left out.
    window.between = (fromS, toS) => {
        const {left, right, top, axis} = plot(), x = (s) => plot().x(s * 1000, now);
        const ours = ["light", "dark"].flatMap((ground) => labels.map((label) => palette.colourOf(label, ground)));
        const from = Math.max(left, x(fromS)), to = Math.min(right, x(toS));
        return [...new Set(colours(from, top, to - from, axis - top).filter((each) => ours.includes(each)))];
    };
    const frame = () => new Promise((done) => requestAnimationFrame(done));
    window.shown = () => frame().then(frame);
})()""".replace("END_MS", str(END_MS)).replace("LABELS", json.dumps(LABELS))


@contextmanager
def opened(browser: Browser, url: str, **screen: Any) -> Iterator[Page]:
    """A tab with a timeline alone."""
    with browser.page(url + "/") as page:
        page.emulate(width=640, height=480, **screen)
        page.run(HELPERS)
        yield page


@pytest.fixture(scope="module")
def page(browser: Browser, live_server: LiveServer) -> Iterator[Page]:
    """One tab for all that do not change it."""
    with opened(browser, live_server.url) as page:
        yield page


@pytest.fixture
def timeline(page: Page) -> Page:
    """The tab, its timeline empty."""
    page.run(f"timeline.clear(), timeline.stop(), timeline.follow(null), setNow({END_MS})")
    return page


class TestWhatIsDrawn:
    def test_a_score_is_at_its_height(self, timeline: Page) -> None:
        """A line runs at the height of its score, in its colour."""
        seen = timeline.run(
            """put(70, 100, "happy", 0.75), timeline.draw(),
            [0.75, 0.6, 0.9].map((share) => colours(plot().x(85_000, 100_000), plot().y(share) - 0.5, 4, 1))"""
        )
        assert seen == [["#b87f00"], [], []]
        corners = timeline.run(
            """(() => {
                const place = plot(), {left, right, top, bottom} = place;
                return {left, right, top, bottom, x: [70_000, 100_000].map((ms) => place.x(ms, 100_000)),
                    y: [0, 1].map((share) => place.y(share))};
            })()"""
        )
        assert corners["x"] == pytest.approx([corners["left"], corners["right"]])
        assert corners["y"] == [corners["bottom"], corners["top"]]

    def test_the_strip_has_the_winner(self, timeline: Page) -> None:
        """Under the lines the colour is that of the winner of the moment."""
        seen = timeline.run(
            """put(72, 80, "sad", 0.8), put(80.1, 99, "angry", 0.8), timeline.draw(),
            [74, 79.5, 80.5, 98].map((s) => colours(plot().x(s * 1000, 100_000), plot().strip + 1, 1, 2))"""
        )
        assert seen == [["#0072b2"], ["#0072b2"], ["#d55e00"], ["#d55e00"]]

    def test_nothing_is_drawn_over_a_gap(self, timeline: Page) -> None:
        """Neither where breaks were told, nor where nothing came for over a second."""
        seen = timeline.run(
            """put(75, 80, "happy", 0.9), timeline.breakAt(80_100), timeline.breakAt(82_000), timeline.breakAt(83_900),
            put(84, 88, "happy", 0.9), put(90, 92, "happy", 0.9), timeline.draw(),
            [[72, 74], [80.3, 83], [85, 87], [88.3, 89], [92.3, 99]].map((when) => between(...when).length > 0)"""
        )
        assert seen == [False, False, True, False, False]

    def test_a_break_that_overtook_a_reading_stays(self, timeline: Page) -> None:
        """Answers to other frames may come before a prediction; their times count, not their order."""
        seen = timeline.run(
            """put(90, 91, "sad", 0.9), timeline.breakAt(91_200), timeline.breakAt(91_400), timeline.breakAt(91_600),
            put(91.3, 91.3, "sad", 0.9), put(91.8, 93, "sad", 0.9), timeline.draw(), between(91.43, 91.73)"""
        )
        assert seen == []

    def test_no_line_leads_from_one_face_to_another(self, timeline: Page) -> None:
        """Of each picture the first face counts; where another leads its lines begin anew. One can be followed."""
        runs = timeline.run(
            """(() => {
                const at = (atMs, faceId, leads = true) => ({atMs, faceId, leads, scores: [1], uncertain: false});
                const both = (atMs, one, other) => [at(atMs, one), at(atMs, other, false)];
                const readings = [...both(0, 1, 2), ...both(100, 1, 2), ...both(200, 2, 1)];
                return [null, 1, 2, 3].map((id) => plotjs.runsOf(readings, id).map((run) =>
                    run.map(({atMs, faceId}) => [atMs, faceId])));
            })()"""
        )
        largest, first, second, nobody = runs
        assert largest == [[[0, 1], [100, 1]], [[200, 2]]]
        assert first == [[[0, 1], [100, 1], [200, 1]]]
        assert second == [[[0, 2], [100, 2], [200, 2]]]
        assert nobody == []

    def test_the_face_that_is_followed_is_drawn(self, timeline: Page) -> None:
        """Its lines alone, whoever is largest."""
        seen = timeline.run(
            """readings(90, 99, "happy", 0.9).forEach((each) => {
                timeline.add({...each, faceId: 7});
                timeline.add({...each, faceId: 8, smoothed: {sad: 1}, emotion: "sad"});
            }),
            [null, 8].map((id) => (timeline.follow(id), timeline.draw(),
                colours(plot().x(95_000, 100_000), plot().strip + 1, 1, 2)))"""
        )
        assert seen == [["#b87f00"], ["#0072b2"]]

    def test_what_is_not_sure_is_paler(self, timeline: Page) -> None:
        """Thinner and paler lines, and stripes for a colour in the strip."""
        seen = timeline.run(
            """put(72, 80, "happy", 0.75), put(80.1, 99, "happy", 0.75, {uncertain: true}), timeline.draw(),
            [75, 85].map((s) => {
                const x = plot().x(s * 1000, 100_000);
                const {data} = context.getImageData(x, plot().y(0.75) - 2, 1, 4);
                return [Math.max(...data.filter((_, i) => i % 4 === 3)), colours(x, plot().strip + 1, 4, 2).length];
            })"""
        )
        (sure, in_colour), (not_sure, striped) = seen
        assert sure == 255
        assert 60 < not_sure < 130
        assert (in_colour, striped) == (1, 0)

    def test_lines_differ_without_colour(self, page: Page) -> None:
        """Each label has dashes of its own."""
        dashes = [json.dumps(page.run(f"palette.dashOf('{label}')")) for label in LABELS]
        assert len({*dashes}) == len(LABELS)

    @pytest.mark.parametrize(("scheme", "colour"), [("light", "#b87f00"), ("dark", "#e69f00")])
    def test_colours_go_with_the_ground(
        self, browser: Browser, live_server: LiveServer, scheme: Any, colour: str
    ) -> None:
        """They are darker on a light ground."""
        with opened(browser, live_server.url, colour_scheme=scheme) as page:
            seen = page.run("put(70, 100, 'happy', 0.75), timeline.draw(), between(80, 90)")
        assert colour in seen

    def test_only_the_right_edge_changes(self, timeline: Page) -> None:
        """When time goes on, lines, dashes, strip and stripes move by whole dots and stay what they are."""
        same = timeline.run(
            """(() => {
                const at = (ms) => labels.map((_, i) => Math.exp(2 * Math.sin(ms * (0.0003 + 0.0001 * i) + i)));
                const add = (from, to) => {
                    for (let atMs = from; atMs < to; atMs += 40) {
                        const raw = at(atMs), sum = raw.reduce((a, b) => a + b), top = raw.indexOf(Math.max(...raw));
                        const smoothed = Object.fromEntries(labels.map((label, i) => [label, raw[i] / sum]));
                        const uncertain = raw[top] / sum < 0.4;
                        timeline.add({atMs, faceId: 0, smoothed, emotion: labels[top], uncertain});
                    }
                };
                const {left, right, top, strip, bottom, msPerPixel} = plot();
                const looks = () => context.getImageData(left, top, right - left, bottom - top - 2);
                add(60_000, 100_000);
                timeline.start();
                timeline.draw();
                const before = looks();
                // So far that what was at the left edge is forgotten.
                const steps = 80, nextMs = (Math.floor(100_000 / msPerPixel) + steps + 0.5) * msPerPixel;
                for (let ms = 100_000; ms < nextMs; ms += 500) {
                    add(ms, Math.min(ms + 500, nextMs));
                    setNow(ms);
                    timeline.draw();
                }
                setNow(nextMs);
                timeline.draw();
                const after = looks();
                let differ = 0, inked = 0;
                for (let y = 0; y < before.height; y += 1) {
                    for (let x = 30; x < before.width - steps - 10; x += 1) {
                        const a = before.data[4 * (y * before.width + x + steps) + 3];
                        const b = after.data[4 * (y * before.width + x) + 3];
                        inked += a > 0;
                        differ += Math.abs(a - b) > 60;
                    }
                }
                return {differ, inked};
            })()"""
        )
        assert same["inked"] > 5_000
        assert same["differ"] < same["inked"] / 200


class TestLabels:
    def test_labels_do_not_overlap(self, page: Page) -> None:
        """They lie a line apart within the picture, in the order of the lines; at them, where there is room."""
        random = np.random.default_rng(1)
        wanted = [
            sorted(random.uniform(0, 200, 7) ** power / 200 ** (power - 1)) for power in (1, 3, 9) for _ in range(50)
        ]
        places = page.run(f"{json.dumps(wanted)}.map((each) => plotjs.spread(each, 14, 0, 200))")
        for lines, labels in zip(wanted, places, strict=True):
            assert np.diff(labels).min() >= 14 - 1e-9
            assert labels[0] >= 0
            assert labels[-1] <= 200 + 1e-9
            if np.diff(lines).min() > 14:
                assert labels == pytest.approx(lines)
        assert page.run("plotjs.spread([50, 50, 150], 14, 0, 200)") == [43, 57, 150]
        assert page.run("plotjs.spread([1, 2, 3], 14, 0, 20)") == [0, 10, 20]

    def test_labels_do_not_dance(self, page: Page) -> None:
        """Two change places only once one is more probable by a margin."""
        orders = page.run(
            """[[0.5, 0.47, 0.03], [0.47, 0.5, 0.03], [0.4, 0.55, 0.05], [0.05, 0.06, 0.89]].map(([a, b, c]) =>
                plotjs.ordered(["a", "b", "c"], {a, b, c}).join(""))"""
        )
        assert orders == ["abc", "abc", "bac", "cab"]


class TestWhen:
    def test_it_is_drawn_only_where_it_is_seen(self, browser: Browser, live_server: LiveServer) -> None:
        """Out of sight time and readings change nothing; back in sight it is drawn."""
        with opened(browser, live_server.url) as page:
            drawn = page.run(
                """(async () => {
                    let count = 0;
                    const clear = context.clearRect;
                    context.clearRect = (...rectangle) => { count += 1; clear.apply(context, rectangle); };
                    const seen = (at) => new Promise((done) => {
                        const look = () => (count > at ? done() : requestAnimationFrame(look));
                        look();
                    });
                    const moved = (top) => new Promise((done) => {
                        canvas.style.marginTop = top;
                        const look = ([{isIntersecting}]) => isIntersecting || shown().then(done);
                        new IntersectionObserver(look).observe(canvas);
                    });
                    timeline.start();
                    await seen(0);
                    // As far down as nobody has scrolled.
                    await moved("5000px");
                    const before = count;
                    for (let i = 0; i < 5; i += 1) {
                        setNow(110_000 + 1_000 * i);
                        put(110 + i, 110 + i, "happy", 0.9);
                        await shown();
                    }
                    const hidden = count - before;
                    canvas.style.marginTop = "0";
                    await seen(before);
                    return hidden;
                })()"""
            )
        assert drawn == 0

    def test_it_does_not_scroll_where_people_want_less_motion(self, browser: Browser, live_server: LiveServer) -> None:
        """Then it is drawn once a second."""
        with opened(browser, live_server.url, reduced_motion=True) as page:
            waits = page.run(
                """(async () => {
                    const waits = [];
                    window.setTimeout = (act, ms) => { waits.push(ms); Promise.resolve().then(act); };
                    await shown();
                    timeline.start();
                    await shown();
                    await shown();
                    return waits;
                })()"""
            )
        assert {*waits} == {1000}

    def test_old_readings_are_forgotten(self, timeline: Page) -> None:
        """What lies over a span and a little before the newest, and what is over the bound in number."""
        seen = timeline.run(
            """(() => {
                put(60, 66, "happy", 0.9);
                put(99, 99, "sad", 0.9);
                // Not even a clock that went back would bring them back.
                setNow(70_000);
                timeline.start();
                timeline.draw();
                const first = between(40, 70);
                timeline.clear();
                put(60, 60.5, "happy", 0.9);
                for (let i = 0; i < 20_000; i += 1) put(61, 61, "sad", 0.9);
                timeline.draw();
                return [first, between(59.9, 60.45)];
            })()"""
        )
        assert seen == [[], []]

    def test_it_has_the_dots_of_the_screen(self, browser: Browser, live_server: LiveServer) -> None:
        """As many as the screen has for it, also when it becomes narrower."""
        with opened(browser, live_server.url, scale=2) as page:
            sizes = page.run(
                """(async () => {
                    const sized = async (width) => {
                        while (canvas.width !== width) await shown();
                        return [canvas.width, canvas.height];
                    };
                    const first = await sized(1280);
                    canvas.style.width = "300px";
                    return [first, await sized(600)];
                })()"""
            )
        assert sizes == [[1280, 480], [600, 480]]


class TestInWords:
    def test_the_last_seconds_are_told(self, timeline: Page) -> None:
        """Shares of the time since the first reading, times without one included, and the last reading."""
        told = timeline.run(
            """put(80, 89.9, "happy", 0.9), timeline.breakAt(90_000), put(95, 99.9, "sad", 0.8, {uncertain: true}),
            timeline.description()"""
        )
        assert told == "The last 20 seconds: happy 50 %, not sure 25 %, no reading 25 % of the time. Last: not sure."

    def test_nothing_is_told_as_nothing(self, timeline: Page) -> None:
        """Without a reading it says so."""
        assert timeline.run("timeline.description()") == "No reading in the last 30 seconds."


def test_the_saved_picture_is_light(browser: Browser, live_server: LiveServer) -> None:
    """At twice the size, on white also where the page is dark, with the lines in it."""
    with opened(browser, live_server.url, colour_scheme="dark") as page:
        url = page.run(
            """put(75, 100, "happy", 0.75), timeline.toPng().then((blob) => new Promise((done) => {
                const reader = Object.assign(new FileReader(), {onload: () => done(reader.result)});
                reader.readAsDataURL(blob);
            }))"""
        )
    kind, data = url.split(",")
    picture = cv2.imdecode(np.frombuffer(b64decode(data), np.uint8), cv2.IMREAD_UNCHANGED)
    assert kind == "data:image/png;base64"
    assert picture is not None
    assert picture.shape[:2] == (880, 1920)
    red_green_blue = picture[:, :, 2::-1]
    assert (red_green_blue[[0, 0, -1, -1], [0, -1, 0, -1]] == 255).all()
    happy = (red_green_blue == (0xB8, 0x7F, 0x00)).all(axis=2)
    assert happy[:, :1600].any(axis=0).mean() > 0.7
    # Title, times and notes.
    assert (red_green_blue[:110].min(axis=2) < 128).sum() > 1_000
    assert (red_green_blue[-80:].min(axis=2) < 128).sum() > 1_000
