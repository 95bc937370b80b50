"""The page: what is served, and what it does in a real browser with a fake camera."""

import json
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from csv import DictReader
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import SecretStr
from websockets.sync.client import connect

from loadtest.clips import encoded, write_clip
from service import protocol
from service.protocol import TIMESTAMP_BYTES
from service.settings import Settings
from tests.chromium import DEADLINE_S, SILENT_SOCKET, Browser, Page, needs_chromium
from tests.client.fake_server import started
from tests.conftest import LiveServer, serving
from tests.cutting_proxy import cutting_proxy

WEB = Path(str(files("service"))) / "web"
DOCS = Path(__file__).parents[2] / "docs"
PARTS = sorted(WEB.iterdir())
TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".ts": "text/plain",
}

# Waits until the video has shown so many new frames.
AFTER_FRAMES = """(left) => new Promise(done => {
    const next = () => left-- ? document.querySelector("video").requestVideoFrameCallback(next) : done();
    next();
})"""

# What camera and screen show from now on: `people` at these places, 960x540 in all, each a little unsteady, and near
# enough to be found in every frame. The second is mirrored, so that they are not alike.
SCENE = """(async (picture) => {
    const bytes = Uint8Array.from(atob(picture), (char) => char.charCodeAt(0));
    const image = await createImageBitmap(new Blob([bytes]));
    const canvas = Object.assign(document.createElement("canvas"), {width: 960, height: 540});
    const context = canvas.getContext("2d");
    window.people = [{x: 5, y: 15, size: 450}, {x: 500, y: 60, size: 390, mirrored: true}];
    let time = 0;
    const draw = () => {
        context.fillStyle = "#567";
        context.fillRect(0, 0, 960, 540);
        for (const {x, y, size, mirrored} of people) {
            context.save();
            context.translate(x + 3 * Math.sin(time / 8) + (mirrored ? size : 0), y + 3 * Math.cos(time / 6));
            context.scale(mirrored ? -1 : 1, 1);
            context.drawImage(image, 128, 15, 205, 230, 0, 0, size, (size * 230) / 205);
            context.restore();
        }
        time += 1;
    };
    draw();
    setInterval(draw, 40);
    const shown = async () => canvas.captureStream(25);
    Object.assign(navigator.mediaDevices, {getUserMedia: shown, getDisplayMedia: shown});
})"""

# A server that answers each frame as it comes with two people, while `answers`; a test opens the session.
ANSWERED = f"""{SILENT_SOCKET}; void (() => {{
    const quality = {{size: 200, brightness: 0.5, sharpness: 0.5}};
    const sad = {{state: "ready", emotion: "sad", uncertain: false, probabilities: {{sad: 1}}, smoothed: {{sad: 1}}}};
    const faces = [0, 1].map((id) => ({{id, box: [300 * id, 150, 200, 200], score: 0.9, quality, ...sad}}));
    window.answers = true;
    window.answer = (seq) => socket.say({{type: "prediction", seq, faces, timing_ms: {{total: 1}}}});
    WebSocket.prototype.send = function (message) {{
        const seq = this.sent.push(message) - 1;
        if (answers) setTimeout(answer, 0, seq);
    }};
}})()"""


def get(url: str) -> httpx.Response:
    return httpx.get(url, trust_env=False)


# Without a browser


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_a_part_is_served_as_it_is_with_its_type_and_a_policy(live_server: LiveServer, part: Path) -> None:
    """Every file of the page is there under /page, of the type browsers insist on, with nothing inline allowed."""
    reply = get(f"{live_server.url}/page/{part.name}")
    assert reply.status_code == 200
    assert reply.content == part.read_bytes()
    assert reply.headers["content-type"].split(";")[0] == TYPES[part.suffix]
    assert reply.headers["x-content-type-options"] == "nosniff"
    policy = reply.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "camera=(self)" in reply.headers["permissions-policy"]


def test_the_page_is_at_the_root(live_server: LiveServer) -> None:
    """The root answers with the page, as HTML."""
    reply = get(live_server.url + "/")
    assert reply.headers["content-type"].startswith("text/html")
    assert reply.content == (WEB / "index.html").read_bytes()


def test_an_unknown_part_is_not_found(live_server: LiveServer) -> None:
    """A name that is no file of the page gets 404."""
    assert get(live_server.url + "/page/nothing.js").status_code == 404


def test_every_part_that_is_named_exists() -> None:
    """What the page links and its scripts import is among the files served."""
    named = set(re.findall(r'(?:src|href)="page/([^"]+)"', (WEB / "index.html").read_text()))
    for script in WEB.glob("*.js"):
        named |= set(re.findall(r'(?:from|import\()\s*"\./([^"]+)"', script.read_text()))
    assert {"app.js", "style.css", "timeconv.js"} <= named
    assert named <= {part.name for part in PARTS}


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_no_outside_host_is_named(part: Path) -> None:
    """No file of the page names a host; the name space of SVG is no address."""
    text = part.read_text().replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.findall(r"""(?:https?|wss?)://.*|["'(]//.*""", text)


def test_the_page_has_nothing_inline() -> None:
    """No script, style or handler stands in the HTML, where the policy would stop it."""
    html = (WEB / "index.html").read_text()
    assert not re.findall(r"<style|<script(?![^>]*\ssrc=)|\sstyle=|\son\w+=", html)


# With a browser


@pytest.fixture(scope="module")
def webm(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Two seconds of a smiling face, as browsers can play it."""
    clip = tmp_path_factory.mktemp("clip") / "talk.webm"
    write_clip(clip)
    return clip.read_bytes()


@pytest.fixture(scope="module")
def script(browser: Browser, live_server: LiveServer) -> Iterator[Page]:
    """A tab from which parts of the page can be imported, one by one."""
    with browser.page(live_server.url + "/page/steady.js") as page:
        yield page


def accounted(counts: dict[str, Any]) -> int:
    return sum(counts["outcomes"].values()) + counts["inFlight"] + counts["lost"]


def choose(page: Page, kind: str) -> None:
    page.run(f"document.querySelector('[name=source][value={kind}]').click()")


def put(page: Page, **settings: Any) -> None:
    """Set settings as a user does, one after the other."""
    for name, value in settings.items():
        page.run(
            f"""(() => {{
                const field = document.getElementById("settings").elements.{name};
                if (field.type === "checkbox") field.checked = {json.dumps(value)};
                else field.value = {json.dumps(value)};
                field.dispatchEvent(new Event("change", {{bubbles: true}}));
            }})()"""
        )


def type_key(page: Page, key: str, on: str = "document.activeElement") -> None:
    about = f"{{key: {json.dumps(key)}, bubbles: true, cancelable: true}}"
    page.run(f"void {on}.dispatchEvent(new KeyboardEvent('keydown', {about}))")


def until(page: Page, condition: str) -> None:
    """Wait for what the page does by itself."""
    page.run(f"new Promise(met => (function look() {{ {condition} ? met() : requestAnimationFrame(look); }})())")


def drop(page: Page, content: bytes, name: str) -> None:
    page.run(
        f"""void (() => {{
            const bytes = Uint8Array.from(atob("{b64encode(content).decode()}"), (char) => char.charCodeAt(0));
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([bytes], "{name}", {{type: "video/webm"}}));
            dispatchEvent(new DragEvent("drop", {{dataTransfer, cancelable: true}}));
        }})()"""
    )


class TestInABrowser:
    pytestmark = needs_chromium

    @pytest.fixture
    def fresh(self, browser: Browser, live_server: LiveServer) -> Iterator[Page]:
        """The page, nothing done, nothing kept."""
        with browser.page(live_server.url + "/") as page:
            yield page
            page.run("localStorage.clear()")

    @pytest.fixture
    def scene(self, fresh: Page, astronaut: NDArray[np.uint8]) -> Page:
        """The page, with two people before the camera, or on the screen."""
        fresh.run(f"({SCENE})('{b64encode(encoded([astronaut])[0]).decode()}')")
        return fresh

    def test_predictions_appear_and_outcomes_add_up(self, browser: Browser, live_server: LiveServer) -> None:
        """With a camera word and bars come, every frame is accounted for, and the console stays empty."""
        with browser.page(live_server.url + "/") as page:
            page.press("toggle")
            seen = page.when("s.outcomes.prediction >= 20")
            assert seen["sent"] == accounted(seen)
            assert seen["outcomes"]["window_filling"] >= 4
            probabilities = seen["prediction"]["faces"][0]["probabilities"]
            assert sum(probabilities.values()) == pytest.approx(1, abs=1e-4)
            assert page.text("word") in {*probabilities, "not sure"}
            assert page.text("status") == "Reading the face."
            meters = page.run("[...document.querySelectorAll('[role=meter]')].map(m => Number(m.ariaValueNow))")
            assert len(meters) == 7
            assert sum(meters) == pytest.approx(100, abs=4)

            page.press("toggle")
            done = page.when("s.link === 'closed' && s.inFlight === 0 && s.totals")
            assert done["lost"] == 0
            assert done["totals"] == {"received": done["sent"], "outcomes": done["outcomes"]}
            assert page.complaints() == []

    def test_no_frame_is_sent_without_credit(self, browser: Browser, live_server: LiveServer) -> None:
        """While nothing is answered only as many frames leave as the server takes, each a time stamp and a JPEG."""
        with browser.page(live_server.url + "/") as page:
            page.run(SILENT_SOCKET)
            page.press("toggle")
            page.run("opened(1)")
            page.run(f"socket.say({protocol.encode(started(max_in_flight=3)).decode()})")
            page.when("s.sent === 3")
            assert page.run(f"({AFTER_FRAMES})(10).then(() => socket.sent.length)") == 3
            page.run("socket.say({type: 'frames', from: 0, to: 1, outcome: 'superseded'})")
            page.when("s.sent === 5")
            assert page.run(f"({AFTER_FRAMES})(10).then(() => socket.sent.length)") == 5
            messages = page.run(
                """Promise.all(socket.sent.map(async (message) => [...new Uint8Array(await message.arrayBuffer())]))"""
            )
            now_us = page.run("Date.now()") * 1000
        stamps = [int.from_bytes(message[:TIMESTAMP_BYTES], "big") for message in messages]
        assert stamps == sorted(set(stamps))
        assert all(0 <= now_us - stamp < DEADLINE_S * 1e6 for stamp in stamps)
        picture = cv2.imdecode(np.array(messages[0][TIMESTAMP_BYTES:], np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        assert picture.shape == (480, 640, 3)

    def test_a_hidden_tab_sends_nothing_and_begins_anew(self, browser: Browser, live_server: LiveServer) -> None:
        """Hiding the tab ends its session in order; showing it again opens a fresh one."""
        with browser.page(live_server.url + "/") as page:
            page.press("toggle")
            page.when("s.outcomes.prediction >= 2")
            page.run(
                """Object.defineProperty(document, "hidden", {value: true, configurable: true});
                document.dispatchEvent(new Event("visibilitychange"))"""
            )
            hidden = page.when("s.link === 'paused' && s.inFlight === 0 && s.totals")
            assert hidden["totals"]["received"] == hidden["sent"]
            page.run("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
            again = page.when(f"s.sessions === 2 && s.outcomes.prediction > {hidden['outcomes']['prediction']}")
            assert again["sent"] == accounted(again)

    def test_a_server_that_comes_back_is_found_again(self, browser: Browser) -> None:
        """While the server is away the page says so, and goes on by itself once it is back."""
        with ExitStack() as up:
            server = up.enter_context(serving(Settings(port=0, drain_ms=100)))
            with browser.page(server.url + "/") as page:
                page.press("toggle")
                page.when("s.outcomes.prediction >= 2")
                up.close()
                away = page.when("s.link === 'away' && s.inFlight === 0")
                assert away["sent"] == accounted(away)
                assert page.text("status").startswith("The server is away.")
                with serving(Settings(port=urlsplit(server.url).port, drain_ms=100)):
                    page.when(f"s.link === 'open' && s.outcomes.prediction > {away['outcomes']['prediction']}")

    def test_a_broken_connection_is_gone_on_with(self, browser: Browser, live_server: LiveServer) -> None:
        """While the connection is broken the page says so and shows no result; then the same session goes on."""
        with (
            cutting_proxy(urlsplit(live_server.url).port or 0) as proxy,
            browser.page(proxy.url + "/") as page,
        ):
            page.press("toggle")
            page.when("s.outcomes.prediction >= 2")
            proxy.refuses = True
            proxy.cut()
            page.when("s.link === 'away'")
            page.says("status", "The server is away. Trying again in ")
            page.says("word", "\N{EN DASH}")
            bars = page.run("[...document.querySelectorAll('.fill')].map(bar => bar.style.transform)")
            assert bars == ["scaleX(0)"] * 7
            proxy.refuses = False
            again = page.when("s.resumed === 1 && s.link === 'open'")
            assert again["sent"] == accounted(again)
            assert page.when(f"s.outcomes.prediction > {again['outcomes']['prediction']}")["sessions"] == 2

    def test_a_server_that_is_away_is_told_once(self, browser: Browser, live_server: LiveServer) -> None:
        """A screen reader hears once that it is away and once that it is back, however often the page tries."""
        with browser.page(live_server.url + "/") as page:
            page.run(ANSWERED)
            page.press("toggle")
            page.run("opened(1)")
            page.run(f"socket.say({protocol.encode(started(max_in_flight=1)).decode()})")
            page.says("announcer", "sad")
            page.run(
                """void (() => {
                    const announcer = document.getElementById("announcer");
                    window.told = [];
                    new MutationObserver(() => told.push(announcer.textContent)).observe(announcer, {childList: true});
                })()"""
            )
            for tries in (2, 3, 4):
                page.run("socket.end(1006)")
                page.says("status", "The server is away. Trying again in ")
                page.says("fresh", "Nothing new for ")
                page.run(f"opened({tries})")
                page.says("status", "The server is away. Trying again now.")
            page.run(f"socket.say({protocol.encode(started(max_in_flight=1)).decode()})")
            page.says("announcer", "sad")
            assert page.run("told.filter((text) => text.includes('again'))") == [
                "The server is away. Trying again.",
                "Connected again. Waiting for the first picture.",
            ]

    def test_the_wait_for_a_server_is_counted_down(self, browser: Browser, live_server: LiveServer) -> None:
        """What is said of the next try is how far away it is at that moment, 3 s at most."""
        with browser.page(live_server.url + "/page/link.js") as page:
            waits, before, after = page.run(
                """import("/page/link.js").then(async ({Link}) => {
                    const {setTimeout} = window;
                    window.setTimeout = (act) => setTimeout(act);
                    window.fetch = async () => { throw new TypeError("nobody there"); };
                    window.WebSocket = class extends EventTarget {
                        constructor() {
                            super();
                            setTimeout(() => this.dispatchEvent(new CloseEvent("close", {code: 1006})));
                        }
                        close() {}
                    };
                    performance.now = () => 5_000;
                    const waits = [];
                    const state = () => link.state.name === "away" && waits.push(link.state.retryInMs);
                    const link = new Link(location.origin, {state, counted() {}});
                    link.open({});
                    while (waits.length < 9) await new Promise((done) => setTimeout(done));
                    window.setTimeout = () => {};
                    while (link.state.name !== "away") await new Promise((done) => setTimeout(done));
                    const before = link.state.retryInMs;
                    performance.now = () => 6_000;
                    return [waits, before, link.state.retryInMs];
                })"""
            )
        assert 1_500 <= max(waits) <= 3_000
        assert after == before - 1_000

    def test_a_key_is_asked_for(self, browser: Browser) -> None:
        """Where the service has keys the page asks for one, says if it is wrong, and keeps it to itself."""
        key = "tc_" + "k" * 43
        keys = SecretStr(f"page sha256:{sha256(key.encode()).hexdigest()}")
        with serving(Settings(port=0, keys=keys, drain_ms=0)) as server, browser.page(server.url + "/") as page:
            page.press("toggle")
            page.says("status", "The server asks for an API key.")
            for typed, said in (("tc_wrong", "The server does not know this key."), (key, "Reading the face.")):
                assert page.run("document.getElementById('entry').hidden") is False
                page.run(f"void (document.getElementById('key').value = '{typed}')")
                page.run("document.getElementById('entry').requestSubmit()")
                assert page.run("document.getElementById('key').value") == ""
                page.says("status", said)
            assert page.run("document.getElementById('entry').hidden") is True
            assert page.run("[location.href, document.cookie, localStorage.length, sessionStorage.length]") == [
                *(server.url + "/", "", 0, 0)
            ]

    def test_a_full_server_is_told(self, browser: Browser) -> None:
        """The page shows the server's own words, and when it tries again."""
        with (
            serving(Settings(port=0, max_sessions=1, drain_ms=0)) as server,
            connect(server.ws) as other,
            browser.page(server.url + "/") as page,
        ):
            assert "session.started" in other.recv(DEADLINE_S)
            page.press("toggle")
            page.when("s.link === 'busy'")
            assert re.fullmatch(r".*1 sessions .*\. Trying again in [1-5] s\.", page.text("status"))

    def test_a_server_that_goes_away_is_left(self, browser: Browser, live_server: LiveServer) -> None:
        """On `goaway` the session is closed in order, no frame is sent in it any more, and another one is opened."""
        with browser.page(live_server.url + "/") as page:
            page.run(SILENT_SOCKET)
            page.press("toggle")
            page.run("opened(1)")
            page.run(f"socket.say({protocol.encode(started(max_in_flight=1)).decode()})")
            page.when("s.sent === 1")
            page.run("socket.say({type: 'goaway', time_left_ms: 5000, resume_token: null})")
            page.run("socket.say({type: 'frame', seq: 0, outcome: 'no_face'})")
            assert page.run(f"({AFTER_FRAMES})(5).then(() => socket.sent.slice(1))") == ['{"type":"session.close"}']
            page.run("socket.end(1000)")
            page.run("opened(2)")
            page.when("s.link === 'connecting'")

    @pytest.mark.parametrize(
        ("kind", "error", "said"),
        [
            ("camera", "NotAllowedError", "The camera is not allowed."),
            ("camera", "NotFoundError", "No camera was found."),
            ("camera", "NotReadableError", "The camera does not answer. Another program may be using it"),
            ("screen", "NotAllowedError", "No screen or window was shared."),
        ],
    )
    def test_a_source_that_cannot_be_had_is_explained(self, fresh: Page, kind: str, error: str, said: str) -> None:
        """What is refused or missing is told in words, also to a screen reader, with what to do; Start tries again."""
        fresh.run(
            f"""void (navigator.mediaDevices.getUserMedia = navigator.mediaDevices.getDisplayMedia =
                async () => {{ throw new DOMException("", "{error}"); }})"""
        )
        choose(fresh, kind)
        fresh.press("toggle")
        fresh.says("status", said)
        assert fresh.text("announcer") == fresh.text("status")
        assert fresh.text("toggle") == "Start"

    def test_a_camera_that_is_allowed_too_late_is_let_go(self, fresh: Page, webm: bytes) -> None:
        """A video that was dropped while the browser still asked plays on, and the camera does not stay on."""
        fresh.run(
            """void (() => {
                const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
                navigator.mediaDevices.getUserMedia = async (asked) => {
                    await new Promise((allow) => { window.allow = allow; });
                    return (window.stream = await open(asked));
                };
                document.getElementById("video").loop = true;
            })()"""
        )
        fresh.press("toggle")
        drop(fresh, webm, "talk.webm")
        fresh.when("s.source === 'file' && s.outcomes.prediction >= 1")
        fresh.run("allow()")
        until(fresh, "window.stream?.getTracks().every((track) => track.readyState === 'ended')")
        shown = "(({srcObject, controls, paused}) => [srcObject, controls, paused])(document.getElementById('video'))"
        assert fresh.run(shown) == [None, True, False]

    def test_a_camera_takes_the_place_of_a_file_that_is_being_opened(self, fresh: Page, webm: bytes) -> None:
        """A file that was dropped and is not open yet leaves the camera alone that was started meanwhile."""
        fresh.run(
            """(async () => {
                const stream = await navigator.mediaDevices.getUserMedia({video: true});
                navigator.mediaDevices.getUserMedia = async () => stream;
                addEventListener("drop", () => {
                    document.querySelector("[name=source][value=camera]").click();
                    document.getElementById("toggle").click();
                });
            })()"""
        )
        drop(fresh, webm, "talk.webm")
        fresh.when("s.source === 'camera' && s.outcomes.prediction >= 1")
        assert fresh.run("document.getElementById('video').paused") is False

    def test_a_file_that_is_no_video_is_explained(self, fresh: Page) -> None:
        """A dropped file that the browser cannot play is named."""
        drop(fresh, b"no video", "notes.webm")
        fresh.says("status", "This browser cannot play notes.webm.")

    def test_capture_times_of_a_video_never_go_back(self, browser: Browser, live_server: LiveServer) -> None:
        """Frames lie apart as in the video; a seek becomes a gap that empties the window, a pause keeps its length."""
        shown = [(0, 5.0, 1), (40, 5.04, 1), (80, 1.0, 1), (120, 1.04, 1), (9120, 1.08, 1), (9140, 1.12, 2)]
        with browser.page(live_server.url + "/") as page:
            stamps = page.run(
                f"""import("/page/sources.js").then(({{ MediaTimes }}) => {{
                    const times = new MediaTimes();
                    const stamp = ([takenMs, mediaS, rate]) => times.stampMs({{takenMs, mediaS, rate}});
                    return {json.dumps(shown)}.map(stamp);
                }})"""
            )
        assert np.diff(stamps) == pytest.approx([40, 1100, 40, 9000, 20])

    def test_several_faces_are_told_and_one_is_picked(self, scene: Page) -> None:
        """Each face has its id and word; the largest is read until another is picked, and once that is gone."""
        put(scene, faces=3)
        scene.press("toggle")
        two = scene.when("s.faces.length === 2 && s.faces.every(f => f.state === 'ready')")["faces"]
        largest, other = (face["id"] for face in two)
        scene.says("read-of", f"of face {largest}, the largest")
        until(scene, "document.querySelectorAll('#face-list button').length === 2")
        buttons = scene.run("[...document.querySelectorAll('#face-list button .face-id')].map(id => id.textContent)")
        assert buttons == [f"Face {number}" for number in sorted((largest, other))]

        scene.run(f"document.querySelectorAll('#face-list button')[{sorted((largest, other)).index(other)}].click()")
        scene.when(f"s.picked === {other}")
        scene.says("read-of", f"of face {other}")
        scene.run("void people.pop()")
        scene.says("status", f"Face {other} is not seen just now.")
        scene.says("status", f"Face {other} is gone; the largest is read.")
        gone = scene.when("s.picked === null && s.faces.length === 1")
        assert gone["faces"][0]["id"] == largest
        assert gone["sent"] == accounted(gone)

    def test_a_face_is_picked_in_the_picture_or_by_key(self, scene: Page) -> None:
        """A click on a face's box reads it, a click beside them changes nothing; N reads the next, L the largest."""
        # High enough for the picture to fill its frame.
        scene.emulate(width=1280, height=900)
        put(scene, faces=2)
        scene.press("toggle")
        other = scene.when("s.faces.length === 2")["faces"][1]["id"]
        for place, picked in ((0.73, other), (0.99, other)):
            # The camera's picture is mirrored.
            scene.run(
                f"""(() => {{
                    const {{left, top, width, height}} = document.getElementById("stage").getBoundingClientRect();
                    const at = {{clientX: left + (1 - {place}) * width, clientY: top + 0.45 * height, bubbles: true}};
                    document.getElementById("video").dispatchEvent(new MouseEvent("click", at));
                }})()"""
            )
            assert scene.when("s.faces.length === 2")["picked"] == picked
        type_key(scene, "l")
        scene.when("s.picked === null")
        type_key(scene, "n")
        assert scene.when("s.picked !== null")["picked"] == other

    def test_settings_are_applied_live_and_kept(self, fresh: Page) -> None:
        """A change reaches the session that runs; the next visit has it; what the server refuses is taken back."""
        fresh.press("toggle")
        fresh.when("s.outcomes.prediction >= 1")
        fresh.says("service", "Network timeconv-resnet20@")
        put(fresh, smoothingMs=1000, maxAgeMs=0, model="timeconv-mini-xception")
        changed = fresh.when("s.options.model.startsWith('timeconv-mini') && s.options.smoothing_ms === 1000")
        assert changed["options"]["max_age_ms"] is None
        assert changed["sessions"] == 1
        fresh.says("service", "Network timeconv-mini-xception@")
        kept = fresh.run("JSON.parse(localStorage.getItem('timeconv.settings'))")
        assert (kept["smoothingMs"], kept["model"]) == (1000, "timeconv-mini-xception")

        fresh.run("void document.querySelector('#model').add(new Option('none-such'))")
        put(fresh, model="none-such")
        fresh.says("settings-note", "The server refused that: ")
        assert fresh.run("document.querySelector('#model').value") == "timeconv-mini-xception"
        fresh.run("document.querySelector('#settings [type=reset]').click()")
        assert fresh.when("s.options.smoothing_ms === 250")["options"]["model"].startswith("timeconv-resnet20")

    def test_the_face_alone_is_sent(self, fresh: Page) -> None:
        """With that setting faces go out once one is found; without it, or with several, whole frames again."""
        put(fresh, faceOnly=True)
        fresh.press("toggle")
        faces = fresh.when("s.faceOnly.faces >= 10 && s.options.region === 'whole'")
        assert faces["faceOnly"]["whole"] >= 5
        assert faces["sent"] == accounted(faces)
        put(fresh, faces=2)
        assert fresh.run("document.querySelector('[name=faceOnly]').disabled") is True
        back = fresh.when("!s.faceOnly.now && s.options.region === 'detect' && s.options.faces === 2")
        again = fresh.when(f"s.outcomes.prediction > {back['outcomes']['prediction']}")
        assert again["sent"] == accounted(again)

    def test_what_was_read_is_drawn_and_saved(self, fresh: Page) -> None:
        """The file has a row for every frame that has its outcome; the picture is a PNG; clearing begins anew."""
        fresh.run(
            """void (() => {
                window.saved = [];
                const make = URL.createObjectURL;
                URL.createObjectURL = (blob) => (saved.push(blob), make.call(URL, blob));
                HTMLAnchorElement.prototype.click = function () { saved.at(-1).called = this.download; };
            })()"""
        )
        fresh.press("toggle")
        fresh.when("s.outcomes.prediction >= 5")
        fresh.press("toggle")
        done = fresh.when("s.link === 'closed' && s.inFlight === 0 && s.totals")
        until(fresh, "!document.getElementById('clear').disabled")
        fresh.press("save-csv")
        name, csv = fresh.run("saved[0].text().then(text => [saved[0].called, text])")
        assert re.fullmatch(r"timeconv-[\dT-]+\.csv", name)
        rows = list(DictReader(csv.splitlines()))
        assert len(rows) == done["rows"] == sum(done["outcomes"].values())
        assert Counter(row["outcome"] for row in rows) == done["outcomes"]
        assert {row["emotion"] for row in rows if row["outcome"] == "prediction"} <= set(
            done["prediction"]["faces"][0]["smoothed"]
        )
        assert fresh.run("document.getElementById('timeline').ariaLabel") is not None

        fresh.press("save-png")
        until(fresh, "saved.length > 1")
        assert fresh.run("saved[1].slice(1, 4).text()") == "PNG"
        fresh.press("clear")
        assert fresh.when("s.rows === 0")["sent"] == done["sent"]

    def test_what_was_told_to_a_screen_reader_goes(self, fresh: Page) -> None:
        """The word that was read out stands nowhere any more once the camera is stopped."""
        fresh.press("toggle")
        fresh.says("announcer", "happy")
        fresh.press("toggle")
        assert fresh.text("announcer") == ""

    def test_one_word_fills_the_page_and_is_left(self, fresh: Page) -> None:
        """W opens it and starts the camera; it shows the face's word; Escape gives page and focus back."""
        fresh.run("document.getElementById('word-open').focus()")
        type_key(fresh, "w")
        fresh.when("s.outcomes.prediction >= 1")
        fresh.says("big-word", "happy")
        assert fresh.run("[document.getElementById('page').inert, document.activeElement.id]") == [True, "word-leave"]
        type_key(fresh, "Escape")
        assert fresh.run("document.getElementById('word-mode').hidden") is True
        assert fresh.run("[document.getElementById('page').inert, document.activeElement.id]") == [False, "word-open"]

    def test_one_word_starts_a_source_again(self, fresh: Page) -> None:
        """Where nothing is read it has a Start; once that has done its work the keyboard is at Leave."""
        fresh.run(
            """void (() => {
                const {mediaDevices} = navigator;
                mediaDevices.getUserMedia = async () => {
                    delete mediaDevices.getUserMedia;
                    throw new DOMException("", "NotAllowedError");
                };
            })()"""
        )
        fresh.press("word-open")
        fresh.says("word-note", "The camera is not allowed.")
        assert fresh.run("document.getElementById('word-start').hidden") is False
        fresh.run("document.getElementById('word-start').focus()")
        fresh.type_key("Enter")
        fresh.says("big-word", "happy")
        start = "(({hidden}) => [hidden, document.activeElement.id])(document.getElementById('word-start'))"
        assert fresh.run(start) == [True, "word-leave"]
        type_key(fresh, "s")
        fresh.says("word-note", "Press Start")
        assert fresh.run("document.getElementById('word-start').hidden") is False

    def test_another_source_that_is_chosen_stops_nothing(self, fresh: Page, webm: bytes) -> None:
        """The camera is read until Start is pressed or a file is there; chosen again, it is as before."""
        fresh.press("toggle")
        fresh.when("s.outcomes.prediction >= 1")
        choose(fresh, "screen")
        said = "Press Start, then choose a tab, a window or the screen. Until then the camera goes on."
        fresh.says("status", said)
        fresh.says("announcer", said)
        assert fresh.text("toggle") == "Start"
        choose(fresh, "camera")
        fresh.says("status", "Reading the face.")
        assert fresh.text("toggle") == "Stop"
        choose(fresh, "file")
        count = fresh.run("timeconv.snapshot().outcomes.prediction")
        assert fresh.when(f"s.outcomes.prediction > {count}")["source"] == "camera"
        drop(fresh, webm, "talk.webm")
        fresh.when("s.source === 'file' && s.sessions === 2")

    def test_one_word_says_nothing_of_what_is_past(self, browser: Browser, live_server: LiveServer) -> None:
        """An uncertain face is "not sure"; without a fresh answer the word goes, and the page's reading with it."""
        stages = ("wait", "decode", "detect", "crop", "queue", "infer", "total")
        prediction = {"type": "prediction", "age_ms": 5, "timing_ms": dict.fromkeys(stages, 1), "batch_size": 1}
        quality = {"size": 200, "brightness": 0.5, "sharpness": 0.5}
        box = [200, 150, 200, 200]
        seen = {"id": 3, "box": box, "crop_box": box, "score": 0.9, "quality": quality}
        read = {"state": "ready", "emotion": "sad", "probabilities": {"sad": 1}, "smoothed": {"sad": 1}}
        with browser.page(live_server.url + "/") as page:
            page.run(SILENT_SOCKET)
            page.press("word-open")
            page.run("opened(1)")
            faces = [{**seen, **read, "uncertain": True}]
            # Frames are answered as they come, until no more are.
            page.run(
                f"""void (() => {{
                    window.answers = true;
                    window.answer = (seq) => socket.say({{...{json.dumps({**prediction, "faces": faces})}, seq}});
                    socket.send = function (message) {{
                        const seq = this.sent.push(message) - 1;
                        if (answers) setTimeout(answer, 0, seq);
                    }};
                }})()"""
            )
            page.run(f"socket.say({protocol.encode(started(max_in_flight=1)).decode()})")
            page.says("big-word", "not sure")
            page.run("window.answers = false")
            page.says("big-word", "\N{EN DASH}")
            page.says("word", "\N{EN DASH}")
            page.says("fresh", "Nothing new for ")
            assert page.run("document.getElementById('fresh').dataset.state") == "old"
            page.says("status", "No answer from the server just now.")
            # One that comes now is of a picture from then.
            page.run("answer(socket.sent.length - 1)")
            page.says("status", "The answers come too late to show.")
            assert [page.text(element) for element in ("word", "big-word")] == ["\N{EN DASH}"] * 2

    def test_a_picked_face_is_not_looked_for_in_another_session(self, fresh: Page) -> None:
        """Ids begin anew there, and the same one may be another person: the largest is read, which is told."""
        fresh.run(ANSWERED)
        put(fresh, faces=2)
        fresh.press("toggle")
        fresh.run("opened(1)")
        fresh.run(f"socket.say({protocol.encode(started(max_in_flight=1)).decode()})")
        fresh.when("s.faces.length === 2")
        type_key(fresh, "n")
        assert fresh.when("s.picked !== null")["picked"] == 1
        fresh.run("socket.end(1006)")
        fresh.run("opened(2)")
        fresh.run(f"socket.say({protocol.encode(started(max_in_flight=1)).decode()})")
        fresh.says("status", "Face 1 is gone; the largest is read.")
        assert fresh.when("s.faces.length === 2")["picked"] is None

    def test_an_answer_that_was_overtaken_is_not_shown(self, browser: Browser, live_server: LiveServer) -> None:
        """Other outcomes may overtake predictions: what is shown is that of the newest picture."""
        with browser.page(live_server.url + "/") as page:
            page.run(ANSWERED)
            page.run("void (window.answers = false)")
            page.press("toggle")
            page.run("opened(1)")
            page.run(f"socket.say({protocol.encode(started(max_in_flight=2)).decode()})")
            page.when("s.sent === 2")
            page.run("socket.say({type: 'frame', seq: 1, outcome: 'no_face', detail: {}}); answer(0)")
            both = page.when("s.outcomes.prediction === 1")
            assert both["faces"] == []

    def test_a_setting_that_is_refused_takes_no_other_with_it(self, fresh: Page) -> None:
        """What was changed after it, and is not refused, stays, on the page and in the browser."""
        fresh.run(SILENT_SOCKET)
        fresh.press("toggle")
        fresh.run("opened(1)")
        fresh.run(f"socket.say({protocol.encode(started(max_in_flight=1)).decode()})")
        fresh.when("s.link === 'open'")
        put(fresh, faces=3)
        put(fresh, smoothingMs=1000)
        fresh.run("socket.say({type: 'error', code: 'bad_option', message: 'no', close_code: null})")
        fresh.says("settings-note", "The server refused that: no")
        kept = fresh.run("JSON.parse(localStorage.getItem('timeconv.settings'))")
        assert [kept["faces"], kept["smoothingMs"]] == [1, 1000]
        fields = "(({faces, smoothingMs}) => [faces.value, smoothingMs.value])"
        assert fresh.run(f"{fields}(document.getElementById('settings').elements)") == ["1", "1000"]

    def test_a_part_of_a_screen_is_read(self, scene: Page) -> None:
        """A shared screen is read as a whole, then as the part that is set with the sliders or drawn on the picture."""
        put(scene, faces=2)
        choose(scene, "screen")
        scene.press("toggle")
        scene.when("s.source === 'screen' && s.faces.length === 2")
        assert scene.run("document.getElementById('video').className") == ""
        scene.run(
            """void (() => {
                const slider = document.querySelector("#region-panel [name=right]");
                slider.value = 53;
                slider.dispatchEvent(new Event("input", {bubbles: true}));
            })()"""
        )
        # The part is 509 pixels wide, so it is sent as it is; the other person is not in it.
        half = scene.when("s.faces.length === 1 && s.faces[0].state === 'ready'")
        x, _, w, _ = half["prediction"]["faces"][0]["box"]
        assert x + w < 509
        scene.run(
            """void (() => {
                const pane = document.getElementById("region-pane");
                pane.setPointerCapture = () => {};
                const {left, top, width, height} = pane.getBoundingClientRect();
                const drag = [["pointerdown", 0.99, 0.99], ["pointermove", 0.53, 0.93], ["pointerup", 0.53, 0.93]];
                for (const [type, x, y] of drag) {
                    const at = {clientX: left + x * width, clientY: top + y * height};
                    pane.dispatchEvent(new PointerEvent(type, {...at, pointerId: 1, button: 0, bubbles: true}));
                }
            })()"""
        )
        values = scene.run("[...document.querySelectorAll('#region-panel input')].map(input => Number(input.value))")
        assert values == pytest.approx([53, 99, 93, 99], abs=1)
        scene.says("word", "no face")
        scene.press("region-done")
        assert scene.run("document.activeElement.id") == "region-toggle"
        scene.run(
            "void document.getElementById('video').srcObject.getVideoTracks()[0].dispatchEvent(new Event('ended'))"
        )
        scene.says("status", "Sharing was stopped.")

    def test_a_video_file_is_played_to_its_end(self, fresh: Page, webm: bytes) -> None:
        """A dropped video is read while it plays; at its end the page says so, and Start plays it again."""
        drop(fresh, webm, "talk.webm")
        fresh.when("s.source === 'file' && s.outcomes.prediction >= 1")
        assert fresh.text("choose") == "talk.webm"
        ended = fresh.when("s.link === 'closed' && s.inFlight === 0")
        assert fresh.text("status") == "The video is at its end. Press Start to play it again."
        fresh.press("toggle")
        again = fresh.when(f"s.outcomes.prediction > {ended['outcomes']['prediction']}")
        assert again["sent"] == accounted(again)

    def test_shortcuts_leave_typing_alone(self, fresh: Page) -> None:
        """A letter in a list or field is the field's; switched off, shortcuts do nothing anywhere."""
        fresh.run("document.getElementById('settings-panel').open = true")
        type_key(fresh, "w", "document.getElementById('model')")
        put(fresh, shortcuts=False)
        type_key(fresh, "w", "document.body")
        assert fresh.run("document.getElementById('word-mode').hidden") is True
        put(fresh, shortcuts=True)
        type_key(fresh, "?", "document.body")
        assert fresh.run("document.getElementById('help').open") is True

    def test_what_the_browser_has_not_is_not_offered(self, fresh: Page) -> None:
        """Without sharing of screens there is no such source; without cameras, as over http, it says why."""
        fresh.call(
            "Page.addScriptToEvaluateOnNewDocument",
            source="Object.defineProperty(Navigator.prototype, 'mediaDevices', {get: () => undefined})",
        )
        fresh.call("Page.reload")
        fresh.run("new Promise(loaded => document.readyState === 'complete' ? loaded() : onload = loaded)")
        fresh.says("status", "Choose a video file, or drop one here.")
        assert fresh.run("[...document.querySelectorAll('.choice label')].map(label => label.hidden)") == [
            True,
            True,
            False,
        ]
        assert fresh.text("source-note").startswith("Browsers give camera and screen only to pages from https")

    def test_bars_and_numbers_are_of_the_same_frame(self, fresh: Page) -> None:
        """However fast readings come, no bar is further than the number beside it."""
        shown = fresh.run(
            """import("/page/reading.js").then(({ReadingView}) => {
                const view = new ReadingView(() => {});
                const row = document.querySelector("#bars li");
                return [0.25, 0.75, 0.5].map((angry) => {
                    view.show({word: "angry", sure: true, scores: {angry}, raw: {angry}});
                    const {transform} = row.querySelector(".fill").style;
                    return [transform, row.querySelector(".raw").style.left, row.querySelector(".value").textContent];
                });
            })"""
        )
        assert shown == [["scaleX(0.25)", "25%", "25 %"]] * 3

    def test_a_browser_that_has_less_is_enough(self, browser: Browser, live_server: LiveServer) -> None:
        """Frames are read where nobody tells of new ones, encoded on the page's own canvas; nothing keeps awake."""
        lacks = """
            delete HTMLVideoElement.prototype.requestVideoFrameCallback;
            delete window.OffscreenCanvas;
            delete Navigator.prototype.wakeLock;
            Object.defineProperty(Document.prototype, "fullscreenEnabled", {value: undefined});
            Object.defineProperty(window, "localStorage", {get() { throw new DOMException("", "SecurityError"); }});
        """
        with browser.page("about:blank") as page:
            browser.call("Page.addScriptToEvaluateOnNewDocument", page.session, source=lacks)
            page.go(live_server.url + "/")
            page.press("word-open")
            assert page.run("document.getElementById('word-full').hidden") is True
            page.says("big-word", "happy")
            put(page, smoothingMs=0)
            page.when("s.options?.smoothing_ms === 0")
            assert page.complaints() == []

    def test_a_camera_is_chosen(self, fresh: Page) -> None:
        """Where there are several cameras the user chooses; the back one of a phone is not mirrored."""
        fresh.run(
            """void (() => {
                const cameras = ["Front", "Back"].map((label) => ({kind: "videoinput", deviceId: label, label}));
                navigator.mediaDevices.enumerateDevices = async () => cameras;
                window.asked = [];
                const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
                navigator.mediaDevices.getUserMedia = async ({video}) => {
                    asked.push(video);
                    const stream = await open({video: true});
                    const isBack = video.deviceId?.exact === "Back";
                    stream.getVideoTracks()[0].getSettings = () =>
                        ({deviceId: isBack ? "Back" : "Front", facingMode: isBack ? "environment" : "user"});
                    return stream;
                };
            })()"""
        )
        fresh.press("toggle")
        fresh.says("camera", "FrontBack")
        fresh.when("s.outcomes.prediction >= 1")
        assert fresh.run("[asked[0].facingMode, document.getElementById('video').className]") == ["user", "mirrored"]
        fresh.run(
            """void (() => {
                const select = document.getElementById("camera");
                select.value = "Back";
                select.dispatchEvent(new Event("change", {bubbles: true}));
            })()"""
        )
        fresh.when("s.sessions === 2")
        assert fresh.run("[asked[1].deviceId.exact, document.getElementById('video').className]") == ["Back", ""]

    def test_shortcuts_are_documented(self, fresh: Page) -> None:
        """The table of docs/page.md and the page's own list are those of the code."""
        shortcuts = "({SHORTCUTS}) => SHORTCUTS.map(({key, does}) => [key.toUpperCase(), does])"
        keys = fresh.run(f"import('/page/shortcuts.js').then({shortcuts})")
        rows = re.findall(r"^\| `(.)` \| (.+?) \|$", (DOCS / "page.md").read_text(), re.MULTILINE)
        assert [list(row) for row in rows] == keys
        words = "({children: [key, does]}) => [key.textContent, does.textContent]"
        shown = fresh.run(f"[...document.querySelectorAll('#keys div')].map({words})")
        assert shown == keys


class TestItsParts:
    """Values in, values out: no camera, no server."""

    pytestmark = needs_chromium

    def test_a_calm_word(self, script: Page) -> None:
        """It settles, dwells, goes at once when there is no face, and when the newest picture is over a second old."""
        seen = [
            (0, "happy"),
            (200, "happy"),
            (400, "happy"),
            (500, "sad"),
            (1000, "sad"),
            (1700, "sad"),
            (1800, "no face"),
        ]
        seen += [(2200, "no face"), (3100, None), (3300, None)]
        words = script.run(
            f"""import("/page/steady.js").then(({{CalmWord}}) => {{
                const calm = new CalmWord({{settleMs: 300, dwellMs: 1200, staleMs: 1000}});
                return {json.dumps(seen)}.map(([atMs, word]) => {{
                    if (word) calm.see(word, atMs);
                    return calm.at(atMs);
                }});
            }})"""
        )
        none = "\N{EN DASH}"
        assert words == [none, none, "happy", "happy", "happy", "sad", "sad", "no face", "no face", none]

    def test_a_word_that_no_picture_says_any_more_goes(self, script: Page) -> None:
        """Where others take turns too fast for one of them to settle, the old one is not left standing for ever."""
        words = script.run(
            """import("/page/steady.js").then(({CalmWord}) => {
                const calm = new CalmWord();
                return Array.from({length: 60}, (_, i) => {
                    calm.see(i < 10 ? "happy" : ["sad", "fear"][i % 2], i * 100);
                    return calm.at(i * 100);
                });
            })"""
        )
        assert words[10:20] == ["happy"] * 10
        assert "happy" not in words[30:]
        assert len(set(words[30:])) == 1

    @pytest.mark.parametrize(
        ("state", "link", "seen", "said"),
        [
            ({}, "open", None, "Connected. Waiting for the first picture."),
            ({"state": "asking", "kind": "screen"}, "closed", None, "Choose the tab, window or screen to read."),
            ({"state": "standing", "kind": "screen"}, "open", None, "What is shared stands still, or is hidden"),
            ({}, "paused", None, "Paused while this page is hidden."),
            ({}, "locked", None, "The server asks for an API key. Enter it below."),
            ({}, "open", {"outcome": "expired", "old": False}, "The answers come too late to show."),
            ({}, "open", {"outcome": "prediction", "old": True}, "No answer from the server just now."),
            (
                {},
                "open",
                {"outcome": "overloaded", "old": False},
                "The server did not read a frame: server overloaded.",
            ),
            ({}, "open", {"quality": {"brightness": 0.1}}, "The face is very dark."),
            ({}, "open", {"quality": {"brightness": 0.95}}, "The face is very bright."),
            ({}, "open", {"quality": {"size": 33}}, "The face is very small. Come closer."),
            ({}, "open", {"quality": {"sharpness": 0.01}}, "The face is blurred."),
            ({}, "open", {"outcome": "no_face", "old": False}, "No face in the picture. Come closer"),
            (
                {"kind": "screen"},
                "open",
                {"outcome": "no_face", "old": False},
                "No face in the picture. Choose the part",
            ),
            ({"kind": "file"}, "open", {"quality": {"size": 33}}, "The face is very small. Choose the part"),
            ({"kind": "file", "state": "ended", "chosen": "camera"}, "closed", None, "Press Start to use the camera."),
            ({}, "open", {"quality": {}, "gone": 4}, "Face 4 is gone; the largest is read. Reading the face."),
        ],
    )
    def test_the_status_says_what_to_do(
        self, script: Page, state: dict[str, Any], link: str, seen: dict[str, Any] | None, said: str
    ) -> None:
        """One line for each state of source, connection and face."""
        source = {"kind": "camera", "state": "playing", "problem": "", "hasFile": False, **state}
        source = {"chosen": source["kind"], **source}
        if seen and "quality" in seen:
            quality = {"size": 100, "brightness": 0.5, "sharpness": 0.5, **seen["quality"]}
            seen = {"outcome": "prediction", "old": False, **seen, "face": {"state": "ready", "quality": quality}}
        about = {"name": link, "message": "", "retryInMs": 0, "again": False}
        told = script.run(
            f"""import("/page/status.js").then(({{statusOf}}) =>
                statusOf({json.dumps(source)}, {json.dumps(about)}, false, {json.dumps(seen)}).text)"""
        )
        assert told.startswith(said)

    def test_kept_settings_are_not_trusted(self, script: Page) -> None:
        """What is not allowed in them, of another type or unknown is as by default."""
        given = {"faces": 9, "smoothingMs": 500, "maxAgeMs": "0", "model": 5, "raw": True, "key": "tc_secret"}
        checked, default = script.run(
            f"""import("/page/settings.js").then(({{checked, DEFAULTS}}) => [checked({json.dumps(given)}), DEFAULTS])"""
        )
        assert checked == {**default, "smoothingMs": 500, "raw": True}

    def test_a_region_keeps_its_edges_in_order(self, script: Page) -> None:
        """Corners in any order make a rectangle within the picture, a tiny one none; edges stop before each other."""
        drawn, tiny, stopped, pixels = script.run(
            """import("/page/region.js").then(({between, inPixels, moved}) => {
                const region = between([0.9, -0.2], [0.4, 0.5]);
                const tiny = between([0.5, 0.5], [0.52, 0.9]);
                return [region, tiny, moved(region, "left", 1), inPixels(region, 1280, 720)];
            })"""
        )
        assert drawn == pytest.approx({"x": 0.4, "y": 0, "w": 0.5, "h": 0.5})
        assert tiny is None
        assert stopped == pytest.approx({"x": 0.85, "y": 0, "w": 0.05, "h": 0.5})
        assert pixels == [512, 0, 640, 360]

    def test_a_box_lies_where_the_part_lies(self, script: Page) -> None:
        """A box in what was sent is told in fractions of the whole picture."""
        area = script.run(
            """import("/page/stage.js").then(({inPicture}) =>
                inPicture([80, 60, 160, 120], {width: 320, height: 240, region: {x: 0.5, y: 0, w: 0.5, h: 1}}))"""
        )
        assert area == pytest.approx({"x": 0.625, "y": 0.25, "w": 0.25, "h": 0.5})
