"""A real browser for tests: Chromium, driven by the DevTools protocol, with a camera that shows a face."""

import json
import re
import shutil
import subprocess
import threading
from base64 import b64decode
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Literal

import pytest
from websockets.sync.client import ClientConnection, connect

from loadtest.clips import encoded, moving_face, there_and_back

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DEADLINE_S = 40.0

needs_chromium = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on the PATH"),
]

# Stands in for a server that answers only what a test says. `opened(n)` waits for the n-th socket,
# `socket` is the newest.
SILENT_SOCKET = """void (() => {
    let count = 0;
    const waiting = [];
    window.opened = (n) => new Promise(resolve => count >= n ? resolve() : waiting.push({n, resolve}));
    window.WebSocket = class extends EventTarget {
        readyState = 1;
        sent = [];
        constructor(url, subprotocols) {
            super();
            window.socket = Object.assign(this, {url, subprotocols});
            count += 1;
            for (const {n, resolve} of waiting) if (count >= n) resolve();
        }
        send(message) { this.sent.push(message); }
        close() {}
        say(message) { this.dispatchEvent(new MessageEvent("message", {data: JSON.stringify(message)})); }
        end(code) { this.dispatchEvent(new CloseEvent("close", {code})); }
    };
})()"""


@dataclass
class Browser:
    """A running Chromium; one conversation with it, one call at a time."""

    connection: ClientConnection
    ids: Iterator[int] = field(default_factory=count)
    events: list[dict[str, Any]] = field(default_factory=list)

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """The result of a command; events that come meanwhile are kept."""
        call_id = next(self.ids)
        request = {"id": call_id, "method": method, "params": params}
        self.connection.send(json.dumps(request if session is None else {**request, "sessionId": session}))
        while True:
            message = json.loads(self.connection.recv(timeout=DEADLINE_S))
            if message.get("id") == call_id:
                assert "error" not in message, message["error"]
                return message["result"]
            self.events.append(message)

    @contextmanager
    def page(self, url: str) -> Iterator["Page"]:
        """A new tab that has loaded ``url``."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        page = Page(self, self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])
        try:
            for domain in ("Runtime", "Log", "Page"):
                self.call(f"{domain}.enable", page.session)
            page.go(url)
            yield page
        finally:
            self.call("Target.closeTarget", targetId=target)


@dataclass
class Page:
    """A tab."""

    browser: Browser
    session: str

    def go(self, url: str) -> None:
        """Load ``url``."""
        self.browser.call("Page.navigate", self.session, url=url)
        self.run("new Promise(loaded => document.readyState === 'complete' ? loaded() : onload = loaded)")

    def run(self, expression: str) -> Any:
        """The value of an expression; a promise is awaited."""
        result = self.browser.call(
            "Runtime.evaluate", self.session, expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def when(self, condition: str) -> dict[str, Any]:
        """The page's counts, at the first moment when the condition on them, ``s``, holds."""
        try:
            return self.run(f"timeconv.when(s => {condition})")
        except TimeoutError:
            pytest.fail(f"{condition} did not come true within {DEADLINE_S:g} s")

    def press(self, element_id: str) -> None:
        self.run(f"document.getElementById('{element_id}').click()")

    def text(self, element_id: str) -> str:
        return self.run(f"document.getElementById('{element_id}').textContent")

    def told(self, element_id: str) -> str:
        """The text of an element, once it has one."""
        return self.run(
            f"""new Promise(told => {{
                const element = document.getElementById("{element_id}");
                const look = () => element.textContent && told(element.textContent);
                new MutationObserver(look).observe(element, {{childList: true, characterData: true, subtree: true}});
                look();
            }})"""
        )

    def says(self, element_id: str, text: str) -> None:
        """Wait until an element has this text."""
        self.run(
            f"""new Promise(said => {{
                const element = document.getElementById("{element_id}");
                const look = () => element.textContent.startsWith({json.dumps(text)}) && said();
                new MutationObserver(look).observe(element, {{childList: true, characterData: true, subtree: true}});
                look();
            }})"""
        )

    def emulate(
        self,
        *,
        width: int = 1280,
        height: int = 800,
        scale: float = 1,
        touch: bool = False,
        colour_scheme: Literal["light", "dark"] = "light",
        reduced_motion: bool = False,
        forced_colours: bool = False,
    ) -> None:
        """Show the tab as a screen of that size (CSS pixels, ``scale`` dots each) and these wishes would."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": touch}
        wishes = {
            "prefers-color-scheme": colour_scheme,
            "prefers-reduced-motion": "reduce" if reduced_motion else "no-preference",
            "forced-colors": "active" if forced_colours else "none",
        }
        features = [{"name": name, "value": value} for name, value in wishes.items()]
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch)
        self.call("Emulation.setEmulatedMedia", features=features)

    def screenshot(self, *, whole: bool = False) -> bytes:
        """What is seen, or the ``whole`` page, as PNG."""
        clip = {}
        if whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"clip": {**size, "scale": 1}, "captureBeyondViewport": True}
        return b64decode(self.call("Page.captureScreenshot", **clip)["data"])

    def type_key(self, key: Literal["Tab", "Enter", "Escape"]) -> None:
        """Press a key and let it go."""
        about = {"key": key, "code": key, "windowsVirtualKeyCode": {"Tab": 9, "Enter": 13, "Escape": 27}[key]}
        self.call("Input.dispatchKeyEvent", type="keyDown", **about, **({"text": "\r"} if key == "Enter" else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a command to this tab."""
        return self.browser.call(method, self.session, **params)

    def complaints(self) -> list[str]:
        """Errors and warnings on the console, violations of the policy included."""
        told = []
        for event in self.browser.events:
            if event.get("sessionId") != self.session:
                continue
            params = event["params"]
            entry = params.get("entry", {})
            if event["method"] == "Runtime.exceptionThrown" or entry.get("level") in {"error", "warning"}:
                told.append(json.dumps(params))
            elif event["method"] == "Runtime.consoleAPICalled" and params["type"] in {"error", "warning", "assert"}:
                told.append(json.dumps(params["args"]))
        return told


@contextmanager
def chromium(folder: Path, camera: Iterable[bytes] | None = None) -> Iterator[Browser]:
    """Chromium whose camera shows these JPEGs over and over, or else a smiling face that moves; ``folder`` is empty."""
    clip = folder / "camera.mjpeg"
    clip.write_bytes(b"".join(camera or there_and_back(encoded(moving_face(50, (640, 480))))))
    assert CHROMIUM is not None
    command = [
        *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
        *(f"--use-file-for-fake-video-capture={clip}", f"--user-data-dir={folder / 'profile'}"),
        *("--remote-debugging-port=0", "about:blank"),
    ]
    chromium = subprocess.Popen(  # noqa: S603 # the command is the browser found on the PATH and the flags above
        command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    with chromium as process:
        try:
            assert process.stderr is not None
            listening = (re.search(r"DevTools listening on (ws://\S+)", line) for line in process.stderr)
            address = next(filter(None, listening))[1]
            # A full pipe would stop the browser; the thread ends with it.
            threading.Thread(target=deque, args=(process.stderr, 0), daemon=True).start()
            with connect(address, max_size=None, proxy=None, ping_interval=None) as connection:
                yield Browser(connection)
        finally:
            process.terminate()
            process.wait(DEADLINE_S)
