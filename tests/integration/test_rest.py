"""``POST /v1/predict``, its documents, and errors as problems."""

import base64
import concurrent.futures
import json
import re
from collections.abc import Iterator
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from service.vision.boxes import Box, iou
from tests.conftest import LiveServer, jpeg

LABELS = {"angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"}


@pytest.fixture(scope="module")
def client(live_server: LiveServer) -> Iterator[httpx.Client]:
    """A client of the service that keeps its connection."""
    with httpx.Client(base_url=live_server.url, timeout=20) as made:
        yield made


@pytest.fixture(scope="module")
def openapi(client: httpx.Client) -> dict[str, Any]:
    """The OpenAPI document."""
    document = client.get("/openapi.json").json()
    assert isinstance(document, dict)
    return document


def multipart(client: httpx.Client, frames: list[bytes], query: str = "") -> httpx.Response:
    files = [("frames", (f"{index}.jpg", frame, "image/jpeg")) for index, frame in enumerate(frames)]
    return client.post(f"/v1/predict{query}", files=files)


def in_json(client: httpx.Client, frames: list[bytes], query: str = "") -> httpx.Response:
    return client.post(f"/v1/predict{query}", json={"frames": [base64.b64encode(frame).decode() for frame in frames]})


def single(client: httpx.Client, frame: bytes, query: str = "") -> httpx.Response:
    return client.post(f"/v1/predict{query}", content=frame, headers={"Content-Type": "image/jpeg"})


def prediction(response: httpx.Response) -> dict[str, Any]:
    """The body, checked to be a prediction of one face."""
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body["type"] == "prediction"
    assert len(body["faces"]) == 1
    assert isinstance(body, dict)
    return body


def scores(body: dict[str, Any]) -> NDArray[np.float64]:
    probabilities = body["faces"][0]["probabilities"]
    return np.array([probabilities[label] for label in sorted(LABELS)])


class TestPrediction:
    def test_five_files(self, client: httpx.Client, face_clip: list[bytes]) -> None:
        """Five files give the prediction of their window, with the face of the last one."""
        body = prediction(multipart(client, face_clip[:5]))
        (face,) = body["faces"]
        assert (body["seq"], body["repeated"], body["batch_size"]) == (4, False, 1)
        assert set(face["probabilities"]) == LABELS
        assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert face["emotion"] == max(face["probabilities"], key=face["probabilities"].get)
        assert (face["state"], face["id"], face["smoothed"]) == ("ready", 0, face["probabilities"])
        x, y, w, h = face["box"]
        assert 0 <= x < x + w <= 320
        assert 0 <= y < y + h <= 240

    def test_times(self, client: httpx.Client, face_clip: list[bytes]) -> None:
        """A prediction says how long each stage took; together they are no longer than all of it."""
        timing = prediction(multipart(client, face_clip[:5]))["timing_ms"]
        assert set(timing) == {"wait", "decode", "detect", "crop", "queue", "infer", "total"}
        assert min(timing["decode"], timing["detect"], timing["crop"], timing["infer"]) > 0
        total = timing.pop("total")
        assert sum(timing.values()) <= total + 0.01

    def test_forms_agree(self, client: httpx.Client, face_clip: list[bytes]) -> None:
        """The same five pictures as files and in JSON are the same window."""
        files, encoded = prediction(multipart(client, face_clip[:5])), prediction(in_json(client, face_clip[:5]))
        np.testing.assert_allclose(scores(encoded), scores(files), atol=1e-4)
        assert files["faces"][0]["box"] == encoded["faces"][0]["box"]

    def test_order(self, client: httpx.Client, face_clip: list[bytes]) -> None:
        """The last picture sent is the newest of the window: its face is the one that is told."""
        forwards, backwards = multipart(client, face_clip[:5]), multipart(client, face_clip[4::-1])
        assert prediction(forwards)["faces"][0]["box"] != prediction(backwards)["faces"][0]["box"]
        last = prediction(single(client, face_clip[4]))
        newest, oldest = (Box(*prediction(answer)["faces"][0]["box"]) for answer in (forwards, backwards))
        found = Box(*last["faces"][0]["box"])
        assert iou(found, newest) > max(0.8, iou(found, oldest))

    def test_one_picture(self, client: httpx.Client, face_jpeg: bytes) -> None:
        """One picture, in any form, stands for all five, which the answer says."""
        answers = [single(client, face_jpeg), multipart(client, [face_jpeg]), in_json(client, [face_jpeg])]
        bodies = [prediction(answer) for answer in answers]
        assert [(body["repeated"], body["seq"]) for body in bodies] == [(True, 0)] * 3
        five = prediction(multipart(client, [face_jpeg] * 5))
        assert five["repeated"] is False
        for body in bodies:
            np.testing.assert_allclose(scores(body), scores(five), atol=1e-4)

    def test_happy(self, client: httpx.Client, face_jpeg: bytes) -> None:
        """The astronaut smiles."""
        assert prediction(single(client, face_jpeg))["faces"][0]["emotion"] == "happy"

    def test_whole(self, client: httpx.Client, astronaut: NDArray[np.uint8], empty_jpeg: bytes) -> None:
        """With region=whole the picture is the face: its box is the picture, and nothing is looked for."""
        face = jpeg(cv2.resize(astronaut[60:220, 140:300], (48, 48), interpolation=cv2.INTER_AREA), quality=100)
        body = prediction(single(client, face, "?region=whole"))
        assert body["faces"][0]["box"] == [0, 0, 48, 48]
        assert (body["faces"][0]["score"], body["timing_ms"]["detect"]) == (1, 0)
        assert prediction(single(client, empty_jpeg, "?region=whole"))["faces"][0]["crop_box"] == [40, 0, 240, 240]

    @pytest.mark.parametrize("index", [0, 3])
    def test_no_face(self, client: httpx.Client, face_clip: list[bytes], empty_jpeg: bytes, index: int) -> None:
        """A picture without a face is an answer, not an error, and is named."""
        frames = face_clip[:5]
        frames[index] = empty_jpeg
        response = multipart(client, frames)
        assert response.status_code == 200
        body = response.json()
        assert (body["type"], body["outcome"], body["seq"]) == ("frame", "no_face", index)
        assert body["detail"] == {"index": index}

    def test_model(self, client: httpx.Client, face_jpeg: bytes) -> None:
        """A model can be asked for by name, or by name and version."""
        default = client.get("/v1/models").json()["default"]
        expected = scores(prediction(single(client, face_jpeg)))
        for model in (default, default.partition("@")[0]):
            np.testing.assert_allclose(scores(prediction(single(client, face_jpeg, f"?model={model}"))), expected)

    def test_other_headers(self, client: httpx.Client, face_jpeg: bytes) -> None:
        """A content type is read whatever its case and parameters."""
        headers = {"Content-Type": "IMAGE/JPEG; name=x"}
        assert prediction(client.post("/v1/predict", content=face_jpeg, headers=headers))

    def test_in_pieces(self, client: httpx.Client, face_jpeg: bytes) -> None:
        """A body of unknown length that comes in pieces is put together."""
        pieces = (face_jpeg[at : at + 1000] for at in range(0, len(face_jpeg), 1000))
        assert prediction(client.post("/v1/predict", content=pieces, headers={"Content-Type": "image/jpeg"}))

    def test_at_once(self, live_server: LiveServer, face_clip: list[bytes], face_jpeg: bytes) -> None:
        """Calls at the same time get each its own answer."""

        def ask(index: int) -> tuple[int, dict[str, Any]]:
            with httpx.Client(base_url=live_server.url, timeout=20) as own:
                return index, prediction(single(own, face_jpeg) if index % 2 else multipart(own, face_clip[:5]))

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(ask, range(16)))
        for parity in (0, 1):
            boxes = {tuple(body["faces"][0]["box"]) for index, body in answers if index % 2 == parity}
            assert len(boxes) == 1


class TestProblems:
    @pytest.mark.parametrize(
        ("method", "path", "status", "code"),
        [
            ("GET", "/nothing", 404, "not_found"),
            ("GET", "/v1/nothing", 404, "not_found"),
            ("GET", "/v1/predict", 405, "method_not_allowed"),
            ("DELETE", "/healthz", 405, "method_not_allowed"),
            ("POST", "/", 405, "method_not_allowed"),
        ],
    )
    def test_http(self, client: httpx.Client, method: str, path: str, status: int, code: str) -> None:
        """A path or method that does not exist is a problem too."""
        response = client.request(method, path)
        assert response.status_code == status
        assert response.headers["content-type"] == "application/problem+json"
        body = response.json()
        assert (body["status"], body["code"], body["retryable"], body["retry_after_ms"]) == (status, code, False, None)
        assert (body["type"], body["title"]) == ("about:blank", {404: "Not Found", 405: "Method Not Allowed"}[status])

    def test_allowed_methods(self, client: httpx.Client) -> None:
        """A method that does not exist is told those that do."""
        assert client.delete("/healthz").headers["allow"] == "GET"

    def test_members(self, client: httpx.Client) -> None:
        """A problem has the members of RFC 9457 and our own: code, whether and when to try again."""
        body = single(client, b"text").json()
        assert body == {
            "type": "about:blank",
            "title": body["title"],
            "status": 422,
            "detail": body["detail"],
            "code": "bad_image",
            "retryable": False,
            "retry_after_ms": None,
            "index": 0,
            "reason": "not_jpeg",
        }

    def test_stream_without_upgrade(self, client: httpx.Client) -> None:
        """The stream's address over plain HTTP is a problem, not a hanging request."""
        assert client.get("/v1/stream").status_code in (404, 405, 426)


class TestDocuments:
    def test_docs(self, client: httpx.Client) -> None:
        """The page of the interface needs no other host: all it loads is here and is served."""
        page = client.get("/docs")
        assert page.status_code == 200
        loaded = re.findall(r"""(?:src|href)=["']([^"']+)""", page.text)
        assert loaded
        for address in loaded:
            assert not address.startswith(("http:", "https:", "//"))
            assert client.get(address).status_code == 200
        hosts = set(re.findall(r"https?://[\w.-]+", page.text))
        assert hosts == set()

    def test_paths(self, openapi: dict[str, Any]) -> None:
        """Every endpoint over HTTP is described, with a summary, and the page's files are not."""
        expected = {"/v1/predict": "post", "/v1/models": "get", "/healthz": "get", "/readyz": "get", "/metrics": "get"}
        assert expected.items() <= {path: next(iter(methods)) for path, methods in openapi["paths"].items()}.items()
        assert not {"/", "/page/{name}"} & set(openapi["paths"])
        for methods in openapi["paths"].values():
            assert all(operation["summary"] for operation in methods.values())

    def test_predict(self, openapi: dict[str, Any]) -> None:
        """The prediction's bodies, options, answers and problems are described."""
        operation = openapi["paths"]["/v1/predict"]["post"]
        assert set(operation["requestBody"]["content"]) == {"multipart/form-data", "application/json", "image/jpeg"}
        assert {parameter["name"] for parameter in operation["parameters"]} == {"model", "region"}
        assert {"200", "413", "422", "503", "504"} <= set(operation["responses"])

    def test_references(self, openapi: dict[str, Any]) -> None:
        """Every reference within the document leads to something."""
        references = set(re.findall(r'"#/([^"]+)"', json.dumps(openapi)))
        assert any(reference.endswith("/Prediction") for reference in references)
        for reference in references:
            place: Any = openapi
            for step in reference.split("/"):
                place = place[step]

    def test_version(self, openapi: dict[str, Any]) -> None:
        """The document is OpenAPI 3.1 and has a title and a version."""
        assert openapi["openapi"].startswith("3.1")
        assert openapi["info"]["title"] == "TimeConv"
        assert openapi["info"]["version"]

    def test_answer_fits_its_schema(
        self, client: httpx.Client, openapi: dict[str, Any], face_jpeg: bytes, empty_jpeg: bytes
    ) -> None:
        """What is answered has the members that the document requires, and no others."""
        schemas = openapi["components"]["schemas"]
        for body, name in (
            (prediction(single(client, face_jpeg)), "Prediction"),
            (single(client, empty_jpeg).json(), "FrameOutcome"),
        ):
            assert set(schemas[name]["required"]) <= set(body) <= set(schemas[name]["properties"])
        face = prediction(single(client, face_jpeg))["faces"][0]
        assert set(face) == set(schemas["FaceResult"]["properties"]) - {
            "frames_needed"
        }  # Of a filling one, in a stream.
