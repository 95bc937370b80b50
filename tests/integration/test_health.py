"""What operations read of a running service."""

import gc
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families
from websockets.sync.client import connect

from service import __version__
from service.inference.artifact import ModelStore
from service.settings import Settings, shipped_model_store
from tests.conftest import LiveServer, serving
from tests.unit.telemetry.test_document import documented

NAME = Settings().model


@pytest.fixture(scope="module")
def client(live_server: LiveServer) -> Iterator[httpx.Client]:
    """A client of the service that keeps its connection."""
    with httpx.Client(base_url=live_server.url, timeout=20) as made:
        yield made


def scrape(client: httpx.Client) -> dict[str, Metric]:
    """The metrics, read as Prometheus does."""
    response = client.get("/metrics")
    assert response.status_code == 200
    return {family.name: family for family in text_string_to_metric_families(response.text)}


def samples(client: httpx.Client) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every number, by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in scrape(client).values()
        for sample in family.samples
    }


def frames(outcome: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    return "timeconv_frames_total", (("outcome", outcome),)


def test_healthz(client: httpx.Client) -> None:
    """Health says what every worker is at, one a core."""
    response = client.get("/healthz")
    body = response.json()
    assert (response.status_code, body["healthy"]) == (200, True)
    assert len(body["workers"]) == Settings().workers
    for worker in body["workers"]:
        assert set(worker) == {"name", "state", "busy_s"}
        assert worker["state"] in ("idle", "busy")


def test_readyz(client: httpx.Client) -> None:
    """Readiness says what is really in use, and warns where it is not what was hoped for."""
    response = client.get("/readyz")
    body = response.json()
    assert (response.status_code, body["ready"]) == (200, True)
    assert (body["model"].partition("@")[0], body["detector"]) == (NAME, "blazeface")
    fell_back = samples(client)["timeconv_device_fallback", ()] == 1
    assert body["device"] == ("cpu" if fell_back else "cuda")
    assert len(body["warnings"]) == int(fell_back)
    assert all("No GPU" in warning for warning in body["warnings"])


def test_models(client: httpx.Client) -> None:
    """The networks of the store are listed, the default one loaded, with labels and scores; detectors are not."""
    body = client.get("/v1/models").json()
    models = {f"{model['name']}@{model['version']}": model for model in body["models"]}
    default = models[body["default"]]
    assert (default["name"], default["loaded"], default["window"]) == (NAME, True, 5)
    assert set(default["labels"]) == {"angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"}
    assert default["parameters"]["total"] == 274_535
    assert 0 < default["uncertain_below"] < 1
    assert "blazeface-short" not in {model["name"] for model in body["models"]}


def test_a_default_network_of_drawn_faces_is_warned_of(tmp_path: Path) -> None:
    """Readiness warns where the default network has never seen a person."""
    store = shutil.copytree(shipped_model_store(), tmp_path / "store")
    for path in store.glob(f"{NAME}/*/manifest.json"):
        path.write_text(json.dumps(json.loads(path.read_bytes()) | {"for_people": False, "learnt_from": "drawings"}))
    with serving(Settings(port=0, model_store=store, model=NAME)) as server:
        warnings = httpx.get(f"{server.url}/readyz").json()["warnings"]
    assert [warning for warning in warnings if "learnt from drawings: all its answers are called uncertain" in warning]


class TestMetrics:
    def test_content_type(self, client: httpx.Client) -> None:
        """The metrics are in Prometheus's text format."""
        assert client.get("/metrics").headers["content-type"].startswith("text/plain; version=")

    @pytest.mark.parametrize(
        ("name", "kind", "labels"),
        [
            ("timeconv_frames_received", "counter", set()),
            ("timeconv_frames", "counter", {"outcome"}),
            ("timeconv_stage_seconds", "histogram", {"stage"}),
            ("timeconv_frame_age_seconds", "histogram", set()),
            ("timeconv_batch_size", "histogram", {"model"}),
            ("timeconv_sessions", "gauge", {"state"}),
        ],
    )
    def test_names(self, client: httpx.Client, face_clip: list[bytes], name: str, kind: str, labels: set[str]) -> None:
        """The metrics of the design are there, by name, kind and labels."""
        files = [("frames", ("frame.jpg", frame, "image/jpeg")) for frame in face_clip[:5]]
        assert client.post("/v1/predict", files=files).status_code == 200
        family = scrape(client)[name]
        assert family.type == kind
        assert {label for sample in family.samples for label in sample.labels} - {"le"} == labels

    def test_a_session(self, live_server: LiveServer, client: httpx.Client, face_clip: list[bytes]) -> None:
        """A session is counted while it lasts, its frames by outcome, its end by its reason."""
        before = samples(client)
        with connect(live_server.ws, compression=None) as socket:
            socket.recv(timeout=20)
            for frame in face_clip[:6]:
                socket.send(frame)
                socket.recv(timeout=20)
            during = samples(client)
            socket.send('{"type":"session.close"}')
            totals = json.loads(socket.recv(timeout=20))["totals"]
        after = samples(client)
        assert totals == {"received": 6, "outcomes": {"window_filling": 4, "prediction": 2}}
        active = ("timeconv_sessions", (("state", "active"),))
        assert (during[active] - before[active], after[active]) == (1, before[active])
        for sample, more in (
            (("timeconv_frames_received_total", ()), 6),
            (("timeconv_frame_bytes_total", ()), sum(map(len, face_clip[:6]))),
            (frames("prediction"), 2),
            (frames("window_filling"), 4),
            (frames("no_face"), 0),
            (("timeconv_frame_age_seconds_count", ()), 2),
            (("timeconv_stage_seconds_count", (("stage", "infer"),)), 2),
            (("timeconv_stage_seconds_count", (("stage", "send"),)), 2),
        ):
            assert (sample, after[sample] - before[sample]) == (sample, more)
        assert after["timeconv_frames_in_flight", ()] == 0
        ended = ("timeconv_sessions_ended_total", (("reason", "closed"),))
        assert after[ended] - before.get(ended, 0) == 1

    def test_received_is_the_sum_of_outcomes(self, client: httpx.Client) -> None:
        """Frames received are those with an outcome and those in flight."""
        numbers = samples(client)
        outcomes = sum(value for (name, _), value in numbers.items() if name == "timeconv_frames_total")
        received = numbers["timeconv_frames_received_total", ()]
        assert received == outcomes + numbers["timeconv_frames_in_flight", ()]

    def test_refusals(self, client: httpx.Client) -> None:
        """A refused call is counted by its code."""
        sample = ("timeconv_refused_total", (("code", "bad_option"),))
        before = samples(client).get(sample, 0)
        assert client.post("/v1/predict?nonsense=1").status_code == 422
        assert samples(client)[sample] - before == 1

    def test_predictions(self, client: httpx.Client, face_jpeg: bytes, empty_jpeg: bytes) -> None:
        """REST predictions are counted by outcome, apart from the stream's frames."""
        before = samples(client)
        for picture in (face_jpeg, empty_jpeg, empty_jpeg):
            client.post("/v1/predict", content=picture, headers={"Content-Type": "image/jpeg"})
        after = samples(client)
        for outcome, more in (("prediction", 1), ("no_face", 2)):
            sample = ("timeconv_predict_requests_total", (("outcome", outcome),))
            assert after[sample] - before.get(sample, 0) == more
        assert after["timeconv_frames_received_total", ()] == before["timeconv_frames_received_total", ()]
        assert after["timeconv_confidence_count", ()] - before["timeconv_confidence_count", ()] == 1

    def test_version(self, client: httpx.Client) -> None:
        """The version in use is told."""
        assert samples(client)["timeconv_build_info", (("version", __version__),)] == 1

    def test_the_page(self, client: httpx.Client) -> None:
        """A running service tells every metric of docs/metrics.md, but those of a GPU and of traces, and no other."""
        told = {
            f"{name}_total" if family.type == "counter" else name
            for name, family in scrape(client).items()
            if not name.endswith("_created")
        }
        assert documented().keys() - told <= {"timeconv_device_memory_bytes", "timeconv_spans_dropped_total"}
        assert told <= documented().keys()

    def test_openmetrics(self, client: httpx.Client) -> None:
        """Who asks for OpenMetrics gets it, as Prometheus asks; who does not gets the text format."""
        accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
        response = client.get("/metrics", headers={"Accept": accept})
        assert response.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
        assert "timeconv_frames_received" in {family.name for family in openmetrics_families(response.text)}

    def test_a_stream_moves_them(self, live_server: LiveServer, client: httpx.Client, face_clip: list[bytes]) -> None:
        """Sessions, bytes of answers, faces that were followed, emotions and the workers' time are counted."""
        before = samples(client)
        answered = 0
        with connect(live_server.ws, compression=None) as socket:
            answered += len(str(socket.recv(timeout=20)).encode())
            for frame in face_clip[:7]:
                socket.send(frame)
                answered += len(str(socket.recv(timeout=20)).encode())
            after = samples(client)

        def more(name: str, **labels: str) -> float:
            sample = name, tuple(sorted(labels.items()))
            return after[sample] - before.get(sample, 0)

        assert more("timeconv_sessions_started_total") == 1
        assert more("timeconv_answer_bytes_total") == answered
        assert more("timeconv_detections_total") + more("timeconv_follows_total", result="hit") == 7
        assert more("timeconv_follows_total", result="hit") >= 5
        assert more("timeconv_confidence_count") == 3
        emotions = [sample for sample in after if sample[0] == "timeconv_emotions_total"]
        assert len(emotions) == 7
        assert sum(after[sample] - before.get(sample, 0) for sample in emotions) == 3
        for work in ("frames", "batch"):
            assert more("timeconv_worker_busy_seconds_total", work=work) > 0

    def test_errors_are_answers_too(self, live_server: LiveServer, client: httpx.Client) -> None:
        """The bytes of the message that refuses a session are counted."""
        before = samples(client)["timeconv_answer_bytes_total", ()]
        with connect(f"{live_server.ws}?faces=0", compression=None) as socket:
            said = len(str(socket.recv(timeout=20)).encode())
        assert samples(client)["timeconv_answer_bytes_total", ()] - before == said

    def test_what_runs(self, client: httpx.Client) -> None:
        """The default network's file is told by the digest of its manifest, and how long it took to load."""
        numbers = samples(client)
        store = ModelStore(shipped_model_store())
        artifact = store.find(NAME, "network")
        manifest = artifact.manifest
        named = {"model": artifact.spec, "version": manifest.version, "file": manifest.file, "sha256": manifest.sha256}
        assert numbers["timeconv_model_info", tuple(sorted(named.items()))] == 1
        assert numbers["timeconv_model_load_seconds_count", ()] >= 1
        assert numbers["timeconv_workers", ()] == Settings().workers
        assert numbers["timeconv_engine_call_age_seconds", ()] < 5
        assert numbers["timeconv_event_loop_lag_seconds_count", ()] > 0

    def test_callers_make_no_series(
        self, live_server: LiveServer, client: httpx.Client, face_clip: list[bytes]
    ) -> None:
        """Whatever names callers think of, the series are those that the first of them caused."""

        def call(name: str) -> None:
            with connect(live_server.ws, compression=None, additional_headers={"X-Request-ID": name}) as socket:
                socket.recv(timeout=20)
                socket.send(face_clip[0])
                socket.recv(timeout=20)
                socket.send(json.dumps({"type": name}))
                socket.recv(timeout=20)
                socket.send('{"type":"session.close"}')
                socket.recv(timeout=20)
            client.get(f"/{name}")
            client.request(name.upper(), "/v1/predict", headers={"Authorization": f"Bearer {name}"})
            client.post(f"/v1/predict?model={name}", content=face_clip[0], headers={"Content-Type": "image/jpeg"})
            client.post(f"/v1/predict?{name}=1")

        call("first")
        before = samples(client).keys()
        for number in range(5):
            call(f"caller{number}")
        assert samples(client).keys() == before


def test_python_knows_how_little_it_has_to_look_through() -> None:
    """After what was loaded is frozen it is counted out, so garbage of sessions is looked for before it piles up."""
    frozen: list[int] = []

    def collected(phase: str, info: dict[str, int]) -> None:
        if (phase, info["generation"]) == ("stop", 2):
            frozen.append(gc.get_freeze_count())

    gc.unfreeze()
    gc.callbacks.append(collected)
    try:
        with serving(Settings(port=0)):
            assert frozen[-1] > 0
    finally:
        gc.callbacks.remove(collected)
