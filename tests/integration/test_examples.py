"""Every program of examples/ is run, as a reader runs it, against a real service; what it says is looked at."""

import csv
import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from pydantic import SecretStr

from loadtest.clips import encoded, moving_face, write_clip
from service.access import new_key
from service.settings import Settings
from tests.chromium import chromium, needs_chromium
from tests.conftest import LiveServer, serving
from tests.cutting_proxy import cutting_proxy
from timeconv_client import FaceResult, Prediction

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
BROWSER_FILES = {"browser/index.html", "browser/faces.js"}
TIMEOUT_S = 60
LABELS = {"angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"}


def command(name: str, *arguments: object) -> list[str]:
    """The command that the example's first lines tell."""
    interpreter = sys.executable if name.endswith(".py") else "sh"
    return [interpreter, str(EXAMPLES / name), *map(str, arguments)]


def environment(**variables: str) -> dict[str, str]:
    """This one's, with the packages of this tree, and `timeconv` of this Python before any other."""
    packages = os.pathsep.join([str(ROOT), str(ROOT / "client")])
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return os.environ | {"PYTHONPATH": packages, "PATH": path} | variables


def run(name: str, *arguments: object, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run an example to its end."""
    return subprocess.run(  # noqa: S603 - ours
        command(name, *arguments),
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@contextmanager
def running(name: str, *arguments: object, **variables: str) -> Iterator["subprocess.Popen[str]"]:
    """An example that goes on until it is told to stop; its output is read by line."""
    process = subprocess.Popen(  # noqa: S603 - ours
        command(name, *arguments), env=environment(**variables), stdout=subprocess.PIPE, text=True
    )
    late = threading.Timer(TIMEOUT_S, process.kill)
    late.start()
    with process:
        try:
            yield process
        finally:
            late.cancel()
            process.kill()


class NetworkCamera(BaseHTTPRequestHandler):
    """Shows a smiling face, as network cameras do: Motion JPEG over HTTP."""

    FRAMES = 40

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        pace = threading.Event()
        for jpeg in encoded(moving_face(self.FRAMES)):
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            self.wfile.write(head.encode() + jpeg + b"\r\n")
            pace.wait(0.02)

    def log_message(self, *_: object) -> None:
        pass


def until(process: "subprocess.Popen[str]", wanted: str) -> str:
    """The first line of the output from here on that has this text."""
    assert process.stdout is not None
    read = []
    for line in process.stdout:
        read.append(line)
        if wanted in line:
            return line
    pytest.fail(f"{wanted!r} did not come after {read}")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of a smiling face."""
    file = tmp_path_factory.mktemp("clips") / "face.avi"
    write_clip(file, 50)
    return file


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five frames of the same face."""
    folder = tmp_path_factory.mktemp("pictures")
    files = [folder / f"{number}.jpg" for number in range(1, 6)]
    for file, jpeg in zip(files, encoded(moving_face(5)), strict=True):
        file.write_bytes(jpeg)
    return files


@pytest.fixture(scope="module")
def key() -> tuple[str, str]:
    """A key, and its line."""
    return new_key("examples")


def test_all_are_told_of_and_run() -> None:
    """Each program is in the README's table, and begins with what it shows, what it needs and how it is run."""
    files = {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*.*") if "__pycache__" not in path.parts}
    programs = files - {"README.md"} - BROWSER_FILES
    assert programs == {"live.py", "folder.py", "smiles.py", "rest.sh", "ffmpeg.sh", "browser/backend.py"}
    told = (EXAMPLES / "README.md").read_text()
    for name in sorted(programs):
        head = (EXAMPLES / name).read_text().split('"""\n\n', 1)[0].split("set -eu", 1)[0]
        assert all(word in head for word in ("Shows", "Needs", "Run", f"examples/{name}")), name
        assert f"({name})" in told


@pytest.mark.usefixtures("heeded_interrupt")
def test_live(live_server: LiveServer, tmp_path: Path) -> None:
    """It says what the face shows, goes on in the same session after a break, and ends at Ctrl-C."""
    write_clip(tmp_path / "long.avi", 2000)
    port = urlsplit(live_server.url).port
    assert port is not None
    with cutting_proxy(port) as proxy, running("live.py", tmp_path / "long.avi", "--url", proxy.url) as program:
        until(program, "happy")
        proxy.cut()
        until(program, "frames without an answer")
        until(program, "back, in the same session")
        until(program, "happy")
        program.send_signal(signal.SIGINT)
        until(program, "bye")
        assert program.wait(TIMEOUT_S) == 0


def test_a_folder(live_server: LiveServer, clip: Path, tmp_path: Path) -> None:
    """A row for each video; one that cannot be read is told of, and stops nobody."""
    shutil.copy(clip, tmp_path / "b.avi")
    write_clip(tmp_path / "a.avi", 4)
    (tmp_path / "notes.txt").write_text("no video")
    done = run("folder.py", tmp_path, "--url", live_server.url)
    assert done.returncode == 1
    assert done.stderr.startswith("notes.txt: ")
    short, long = csv.DictReader(done.stdout.splitlines())
    assert (short["video"], short["frames"], short["happy"]) == ("a.avi", "0", "")
    assert (long["video"], long["frames"], long["happy"]) == ("b.avi", "46", "1.000")


def test_smiles(live_server: LiveServer, clip: Path) -> None:
    """One who smiles from the first frame on is told of once, half a second after the first answer."""
    done = run("smiles.py", clip, "--url", live_server.url)
    assert (done.returncode, done.stderr) == (0, "")
    # The fifth frame of 25 a second is of 0.16 s; frames come every 0.04 s.
    assert done.stdout == "0.68 s  face 0 smiles\n"


def test_a_smile_counts_once_it_lasts() -> None:
    """It is told of half a second after it began, and its end likewise; a flicker and a doubt are nothing."""
    smiles_of = runpy.run_path(str(EXAMPLES / "smiles.py"))["Smiles"]
    told: list[tuple[float, int, bool]] = []
    smiles = smiles_of(lambda *what: told.append(what))
    shown = ["happy"] * 4 + ["sad"] + ["happy"] * 8 + [None] * 8 + ["neutral"] * 8
    for tenths, emotion in enumerate(shown):
        face = FaceResult.model_construct(id=3, state="ready", uncertain=emotion is None, emotion=emotion)
        smiles.see(Prediction.model_construct(captured_us=tenths * 100_000, faces=(face,)))
    assert told == [(1.0, 3, True), (2.6, 3, False)]


def test_rest(pictures: list[Path], key: tuple[str, str]) -> None:
    """With the key every question gets its answer, wrong ones a problem; without it there is one answer to all."""
    with serving(Settings(port=0, keys=SecretStr(key[1]), drain_ms=0)) as server:
        done = run("rest.sh", *pictures, URL=server.url, TIMECONV_KEY=key[0])
        refused = run("rest.sh", *pictures, URL=server.url, TIMECONV_KEY="")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    statuses = [int(line) for line in lines if line.isdigit()]
    healthy, models, *answers = (line for line in lines if line.startswith("{"))
    assert statuses == [200, 200, 200, 200, 422, 422]
    assert json.loads(healthy)["healthy"]
    assert models.startswith('{"default":"timeconv-resnet20@1"')
    window, picture, damaged, unknown = map(json.loads, answers)
    for answer, repeated in (window, False), (picture, True):
        assert answer["faces"][0]["emotion"] == "happy"
        assert answer["repeated"] is repeated
    assert (damaged["code"], damaged["retryable"]) == ("bad_image", False)
    assert unknown["code"] == "unknown_model"
    assert [line for line in refused.stdout.splitlines() if line.isdigit()] == ["200"] + ["401"] * 5
    assert refused.stdout.count('"code":"unauthorized"') == 4


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg on the PATH")
class TestFfmpeg:
    def test_a_file(self, live_server: LiveServer, clip: Path, tmp_path: Path) -> None:
        """A format that it reads goes through, every frame in order."""
        video = tmp_path / "face.mkv"
        make = ["ffmpeg", "-nostdin", "-loglevel", "error", "-i", str(clip), "-c:v", "mpeg4", "-q:v", "2", str(video)]
        subprocess.run(make, check=True, timeout=TIMEOUT_S)  # noqa: S603 - ours
        done = run("ffmpeg.sh", video, "--url", live_server.url, "--quiet", "--csv", tmp_path / "face.csv")
        assert done.returncode == 0, done.stderr
        rows = list(csv.DictReader((tmp_path / "face.csv").read_text().splitlines()))
        assert [row["outcome"] for row in rows] == ["window_filling"] * 4 + ["prediction"] * 46
        assert {row["emotion"] for row in rows[4:]} == {"happy"}
        assert rows[-1]["t_s"] == "1.960000"

    def test_a_network_camera(self, live_server: LiveServer, tmp_path: Path) -> None:
        """What it sends is taken at the time when it comes, until it ends."""
        with ThreadingHTTPServer(("127.0.0.1", 0), NetworkCamera) as camera:
            threading.Thread(target=camera.serve_forever).start()
            try:
                address = f"http://127.0.0.1:{camera.server_port}/"
                done = run("ffmpeg.sh", address, "--url", live_server.url, "--quiet", "--csv", tmp_path / "live.csv")
            finally:
                camera.shutdown()
        assert done.returncode == 0, done.stderr
        rows = list(csv.DictReader((tmp_path / "live.csv").read_text().splitlines()))
        # The last is one that ffmpeg waits to be told the end of.
        assert len(rows) in {NetworkCamera.FRAMES - 1, NetworkCamera.FRAMES}
        assert "happy" in {row["emotion"] for row in rows}
        # Timed by when they came, not by a rate.
        assert float(rows[-1]["t_s"]) != (len(rows) - 1) / 25

    def test_no_such_file(self, live_server: LiveServer, tmp_path: Path) -> None:
        """What ffmpeg cannot read is no success."""
        done = run("ffmpeg.sh", tmp_path / "none.mkv", "--url", live_server.url)
        assert done.returncode == 2
        assert "No such file" in done.stderr


def test_a_token_of_a_service_that_breaks_off(key: tuple[str, str]) -> None:
    """Who asks the site for a token is told that the service is away, and that trying again may help."""

    class BreaksOff(BaseHTTPRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()

    with ThreadingHTTPServer(("127.0.0.1", 0), BreaksOff) as service:
        threading.Thread(target=service.serve_forever).start()
        try:
            address = f"http://127.0.0.1:{service.server_port}"
            with running("browser/backend.py", "--service", address, "--port", 0, TIMECONV_KEY=key[0]) as backend:
                site = until(backend, "http://").strip()
                reply = httpx.post(f"{site}/token", trust_env=False)
        finally:
            service.shutdown()
    assert reply.status_code == 502
    assert [reply.json()[member] for member in ("code", "retryable")] == ["unreachable", True]


@pytest.mark.browser
class TestBrowser:
    pytestmark = needs_chromium

    def test_a_page_of_another_site(self, key: tuple[str, str], tmp_path: Path) -> None:
        """It says what the face before the camera shows, and has seen no key."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        settings = Settings(port=0, keys=SecretStr(key[1]), allowed_origins=f"http://127.0.0.1:{port}", drain_ms=0)
        with (
            serving(settings) as server,
            running("browser/backend.py", "--service", server.url, "--port", port, TIMECONV_KEY=key[0]) as backend,
            chromium(tmp_path) as browser,
        ):
            address = until(backend, "http://").strip()
            with browser.page(address) as page:
                page.says("word", "happy")
                assert page.text("state") == "open"
                sent = page.run("fetch('token', {method: 'POST'}).then(reply => reply.text())")
                assert "token" in json.loads(sent)
                assert key[0] not in sent
                # Without a camera there is nothing to say of now.
                page.run("document.querySelector('video').srcObject.getTracks()[0].stop()")
                page.run("new Promise(gone => (function look() { word.textContent ? setTimeout(look) : gone() })())")
                assert page.complaints() == []
