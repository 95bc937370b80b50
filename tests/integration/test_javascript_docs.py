"""docs/javascript.md: every block of code on the page does what the text around it says."""

import json
import re
import shutil
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest
from pydantic import SecretStr

from loadtest.clips import encoded, moving_face
from service.settings import Settings
from tests.chromium import Browser, Page, needs_chromium
from tests.conftest import LiveServer, serving

ROOT = Path(__file__).parents[2]
WEB = ROOT / "service" / "web"
BLOCKS = re.findall(r"```js\n(.*?)```", (ROOT / "docs" / "javascript.md").read_text(), re.DOTALL)
WS = ROOT / "build" / "javascript" / "node_modules" / "ws" / "wrapper.mjs"
NODE = shutil.which("node")
ADDRESS = "http://127.0.0.1:8000/"
IMPORT = re.compile(r'^import (\{[^}]+\}) from "\./timeconv\.js";$', re.MULTILINE)


def block(with_text: str) -> str:
    """The block that has this text."""
    (found,) = [code for code in BLOCKS if with_text in code]
    return found


@contextmanager
def a_page(browser: Browser, url: str) -> Iterator[Page]:
    """A page with what the blocks take for granted: the module's names, a video, a place for the word, JPEGs."""
    with browser.page(url + "/") as page:
        pictures = json.dumps([b64encode(jpeg).decode() for jpeg in encoded(moving_face(6))])
        page.run(
            f"""(async () => {{
                document.body.innerHTML = '<video autoplay muted playsinline></video><p id="word"></p>';
                window.jpegs = {pictures}.map((text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)));
                Object.assign(window, await import("/page/timeconv.js"));
                window.once = (stream, type) => new Promise((come) => stream.on(type, come));
            }})()"""
        )
        yield page


def run(page: Page, url: str, code: str, then: str) -> object:
    """Run a block against the service at ``url``; what the function body ``then`` returns, in the block's scope."""
    assert ADDRESS in code
    code = IMPORT.sub("", code).replace(ADDRESS, url)
    return page.run(f"(async () => {{ {code}\n{then} }})()")


@contextmanager
def with_keys() -> Iterator[LiveServer]:
    keys = SecretStr(f"docs sha256:{sha256(b'tc_other').hexdigest()}")
    with serving(Settings(port=0, keys=keys, drain_ms=0)) as server:
        yield server


def test_every_block_is_run() -> None:
    """No block is left out of the tests below."""
    assert len(BLOCKS) == 7


class TestInABrowser:
    pytestmark = needs_chromium

    def test_the_camera(self, browser: Browser, live_server: LiveServer) -> None:
        """The word appears, and goes when nothing new is said."""
        with a_page(browser, live_server.url) as page:
            word = run(
                page,
                live_server.url,
                block("getUserMedia"),
                """await once(stream, "prediction");
                const shown = word.textContent;
                // The camera stops; the stream goes on.
                video.srcObject.getTracks()[0].stop();
                await new Promise((gone) =>
                    new MutationObserver(() => word.textContent || gone()).observe(word, {childList: true}));
                return [shown, stream.state.state];""",
            )
        assert isinstance(word, list)
        assert word[0] in {"angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "not sure"}
        assert word[1] == "open"

    def test_what_becomes_of_a_frame(self, browser: Browser, live_server: LiveServer) -> None:
        """What it asserts is so."""
        with a_page(browser, live_server.url) as page:
            sent = run(page, live_server.url, block("lost with the connection"), "return sent;")
            assert sent == 6
            assert page.complaints() == []

    def test_when_something_is_wrong(self, browser: Browser) -> None:
        """A key of nobody closes the stream."""
        with with_keys() as server, a_page(browser, server.url) as page:
            then = 'return (await once(stream, "closed")).error.code;'
            assert run(page, server.url, block("tc_of_nobody"), then) == "unauthorized"

    def test_a_token_of_ones_own_server(self, browser: Browser) -> None:
        """What the function throws is why the stream is closed."""
        with with_keys() as server, a_page(browser, server.url) as page:
            page.run("void (window.fetch = async () => new Response('{}', {status: 403}))")
            then = 'return (await once(stream, "closed")).error.code;'
            assert run(page, server.url, block("token-of-mine"), then) == "not_mine"

    def test_options(self, browser: Browser, live_server: LiveServer) -> None:
        """The good update stays, the bad one does not."""
        with a_page(browser, live_server.url) as page:
            options = run(page, live_server.url, block("stride: 9"), "return stream.options;")
        assert options == {"timestamps": True, "stride": 1, "max_age_ms": 500}

    def test_the_face_alone(self, browser: Browser, live_server: LiveServer) -> None:
        """Faces go out in the place of frames."""
        with a_page(browser, live_server.url) as page:
            page.run(
                """(async () => {
                    window.video = document.querySelector("video");
                    video.srcObject = await navigator.mediaDevices.getUserMedia({video: true});
                })()"""
            )
            counts = run(
                page,
                live_server.url,
                block("new FaceSender"),
                """while (!faces.counts.faces) await once(stream, "prediction");
                await stream.close();
                return faces.counts;""",
            )
        assert isinstance(counts, dict)
        assert counts["whole"] >= 5


@pytest.mark.skipif(NODE is None or not WS.exists(), reason="no Node, or no WebSocket for it: make javascript")
def test_files_in_node(live_server: LiveServer, face_clip: list[bytes], tmp_path: Path) -> None:
    """Each file gets its answer, the last the prediction; a service that is not there is told."""
    for name in ("timeconv.js", "timeconv.d.ts"):
        shutil.copy(WEB / name, tmp_path)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "websocket.js").write_text(f'import WebSocket from "{WS}";\nglobalThis.WebSocket ??= WebSocket;\n')
    code = block("process.argv").replace(ADDRESS, live_server.url)
    (tmp_path / "answers.js").write_text(code)
    names = [f"{number}.jpg" for number in range(1, 7)]
    for name, jpeg in zip(names, face_clip, strict=False):
        (tmp_path / name).write_bytes(jpeg)
    assert NODE is not None
    done = subprocess.run(  # noqa: S603 - the node found on the PATH
        [NODE, "--import", "./websocket.js", "answers.js", *names],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:4] == [f"{name} window_filling" for name in names[:4]]
    assert [line.split()[0] for line in lines[4:6]] == names[4:]
