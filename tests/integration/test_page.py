"""The page: what is served, and what it does in a real browser with a fake camera."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import httpx
import numpy as np
import pytest
from pydantic import SecretStr
from websockets.sync.client import connect

from service import protocol
from service.protocol import TIMESTAMP_BYTES
from service.settings import Settings
from tests.chromium import DEADLINE_S, SILENT_SOCKET, Browser, chromium, needs_chromium
from tests.client.fake_server import started
from tests.conftest import LiveServer, serving
from tests.cutting_proxy import cutting_proxy

WEB = Path(str(files("service"))) / "web"
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
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium whose camera shows a smiling face that moves."""
    with chromium(tmp_path_factory.mktemp("chromium")) as running:
        yield running


def accounted(counts: dict[str, Any]) -> int:
    return sum(counts["outcomes"].values()) + counts["inFlight"] + counts["lost"]


class TestInABrowser:
    pytestmark = needs_chromium

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
            assert re.fullmatch(r".*1 sessions .*\. Trying again in 5 s\.", page.text("status"))

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

    def test_a_camera_that_is_not_allowed_is_explained(self, browser: Browser, live_server: LiveServer) -> None:
        """A refused permission is told in words, also to a screen reader."""
        with browser.page(live_server.url + "/") as page:
            page.run(
                """void (navigator.mediaDevices.getUserMedia =
                    async () => { throw new DOMException("", "NotAllowedError"); })"""
            )
            page.press("toggle")
            assert page.told("announcer").startswith("The camera is not allowed.")
            assert page.text("status") == page.text("announcer")

    def test_a_file_that_is_no_video_is_explained(self, browser: Browser, live_server: LiveServer) -> None:
        """A dropped file that the browser cannot play is named."""
        with browser.page(live_server.url + "/") as page:
            page.run(
                """void (() => {
                    const dataTransfer = new DataTransfer();
                    dataTransfer.items.add(new File(["no video"], "notes.webm", {type: "video/webm"}));
                    dispatchEvent(new DragEvent("drop", {dataTransfer, cancelable: true}));
                })()"""
            )
            assert page.told("announcer").startswith("This browser cannot play notes.webm.")

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
