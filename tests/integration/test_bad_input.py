"""Whatever is sent, the answer is clear, and who sent it is served on wherever the protocol lets the session live."""

import base64
import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

import cv2
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.conftest import LiveServer, jpeg

MAX_FRAME_BYTES = 2_000_000
TIMEOUT_S = 20


class Stream:
    """A session, frame by frame, without the client package."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.sent = 0
        self.started = self.receive()

    def receive(self) -> dict[str, Any]:
        message = self.socket.recv(timeout=TIMEOUT_S)
        assert isinstance(message, str)
        decoded = json.loads(message)
        assert isinstance(decoded, dict)
        return decoded

    def frame(self, content: bytes) -> dict[str, Any]:
        """Send a frame; its outcome."""
        self.socket.send(content)
        answer = self.receive()
        assert answer["seq"] == self.sent
        self.sent += 1
        return answer

    def text(self, content: str) -> dict[str, Any]:
        """Send a text; its answer."""
        self.socket.send(content)
        return self.receive()

    def predicts(self, clip: list[bytes]) -> dict[str, Any]:
        """Check that a clip gets predictions as soon as its window is full; the last one."""
        answers = [self.frame(content) for content in clip[:6]]
        assert [answer["type"] for answer in answers[4:]] == ["prediction"] * 2
        return answers[-1]

    def close(self) -> dict[str, Any]:
        """Close in order; the totals, which hold every frame that was sent."""
        closed = self.text('{"type":"session.close"}')
        assert closed["type"] == "session.closed"
        totals = closed["totals"]
        assert totals["received"] == self.sent == sum(totals["outcomes"].values())
        with pytest.raises(ConnectionClosed) as ended:
            self.socket.recv(timeout=TIMEOUT_S)
        assert ended.value.rcvd is not None
        assert ended.value.rcvd.code == 1000
        return dict(totals["outcomes"])


@contextmanager
def streaming(server: LiveServer, **options: object) -> Iterator[Stream]:
    """A session of the server."""
    address = f"{server.ws}?{urlencode(options)}"
    with connect(address, subprotocols=["timeconv.v1"], compression=None, max_size=None) as socket:  # type: ignore[list-item] # NewType
        yield Stream(socket)


def refused(server: LiveServer, query: str) -> tuple[dict[str, Any], int]:
    """The error and the close code of a session that does not begin."""
    with connect(f"{server.ws}?{query}", subprotocols=["timeconv.v1"]) as socket:  # type: ignore[list-item] # NewType
        error = json.loads(socket.recv(timeout=TIMEOUT_S))
        with pytest.raises(ConnectionClosed) as ended:
            socket.recv(timeout=TIMEOUT_S)
    assert ended.value.rcvd is not None
    return error, ended.value.rcvd.code


def post(server: LiveServer, content: bytes, media_type: str = "image/jpeg", query: str = "") -> httpx.Response:
    headers = {"Content-Type": media_type, "Connection": "close"}
    return httpx.post(f"{server.url}/v1/predict{query}", content=content, headers=headers, timeout=TIMEOUT_S)


def post_frames(server: LiveServer, frames: list[bytes], query: str = "") -> httpx.Response:
    files = [("frames", (f"{index}.jpg", frame, "image/jpeg")) for index, frame in enumerate(frames)]
    headers = {"Connection": "close"}
    return httpx.post(f"{server.url}/v1/predict{query}", files=files, headers=headers, timeout=TIMEOUT_S)


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The body of a problem, checked."""
    body = response.json()
    assert (response.status_code, body["status"], body["code"]) == (status, status, code)
    assert response.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "detail", "retryable", "retry_after_ms"} <= set(body)
    assert body["detail"]
    assert isinstance(body, dict)
    return body


def noise(size: int) -> bytes:
    return np.random.default_rng(5).integers(0, 256, size, np.uint8).tobytes()


def with_size(content: bytes, width: int, height: int) -> bytes:
    """The JPEG with another size in its header."""
    at = content.index(b"\xff\xc0")
    return content[: at + 5] + struct.pack(">HH", height, width) + content[at + 9 :]


def damaged(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + b"\xff\xff\xff\x01" * 16 + content[middle + 64 :]


def with_orientation(content: bytes, orientation: int) -> bytes:
    """The JPEG with an EXIF block."""
    tiff = b"II" + struct.pack("<HIHHHIHHI", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    return content[:2] + b"\xff\xe1" + struct.pack(">H", 8 + len(tiff)) + b"Exif\0\0" + tiff + content[2:]


BAD_FRAMES = {
    "empty": "empty",
    "text": "not_jpeg",
    "PNG": "not_jpeg",
    "cut off": "corrupt",
    "cut off in the header": "corrupt",
    "damaged": "corrupt",
    "20,000x20,000": "too_large",
    "1 MB of noise": "not_jpeg",
    "noise behind the start of a JPEG": "corrupt",
    "3 MB of noise": "too_large",
}


@pytest.fixture(scope="module")
def bad_frames(face_jpeg: bytes, astronaut: NDArray[np.uint8]) -> dict[str, bytes]:
    """What is no picture we take, by name."""
    return {
        "empty": b"",
        "text": b'{"type":"session.close"}',
        "PNG": cv2.imencode(".png", astronaut)[1].tobytes(),
        "cut off": face_jpeg[: len(face_jpeg) // 2],
        "cut off in the header": face_jpeg[:50],
        "damaged": damaged(face_jpeg),
        "20,000x20,000": with_size(face_jpeg, 20_000, 20_000),
        "1 MB of noise": b"\0" + noise(1_000_000),
        "noise behind the start of a JPEG": b"\xff\xd8" + noise(100_000),
        "3 MB of noise": noise(3_000_000),
    }


class TestStream:
    @pytest.mark.parametrize("freshness", ["latest", "every"])
    def test_bad_frames(
        self, live_server: LiveServer, bad_frames: dict[str, bytes], face_clip: list[bytes], freshness: str
    ) -> None:
        """Each bad frame is `bad_image` with its reason, and the same session predicts before and after it."""
        with streaming(live_server, freshness=freshness) as stream:
            stream.predicts(face_clip)
            for name, content in bad_frames.items():
                answer = stream.frame(content)
                assert (name, answer["type"], answer["outcome"]) == (name, "frame", "bad_image")
                assert (name, answer["detail"]["reason"]) == (name, BAD_FRAMES[name])
                assert answer["detail"]["message"]
                assert stream.frame(face_clip[6])["type"] == "prediction"
            assert stream.close()["bad_image"] == len(bad_frames)

    def test_bad_frames_first(
        self, live_server: LiveServer, bad_frames: dict[str, bytes], face_clip: list[bytes]
    ) -> None:
        """A session that begins with bad frames needs five good ones, as any other."""
        with streaming(live_server) as stream:
            for content in bad_frames.values():
                assert stream.frame(content)["outcome"] == "bad_image"
            answers = [stream.frame(content) for content in face_clip[:5]]
            assert [answer.get("outcome", "prediction") for answer in answers] == ["window_filling"] * 4 + [
                "prediction"
            ]

    def test_far_too_large(self, live_server: LiveServer, face_clip: list[bytes]) -> None:
        """A message over twice the limit closes its connection with 1009, which its sender can read, and no other."""
        with streaming(live_server) as other:
            for _ in range(20):  # What is still on its way must not reset the connection under the close frame.
                with streaming(live_server) as stream, pytest.raises(ConnectionClosed) as ended:
                    stream.frame(noise(5_000_000))
                assert ended.value.rcvd is not None
                assert ended.value.rcvd.code == 1009
            other.predicts(face_clip)

    def test_no_time_stamp(self, live_server: LiveServer, face_clip: list[bytes]) -> None:
        """With time stamps a message too short for one, or with nothing behind it, is `bad_image` and counted."""
        with streaming(live_server, timestamps=1) as stream:
            for length, reason in ((0, "timestamp_missing"), (7, "timestamp_missing"), (8, "empty")):
                answer = stream.frame(bytes(length))
                assert (answer["outcome"], answer["detail"]["reason"]) == ("bad_image", reason)
            stamped = [struct.pack(">Q", 10**15 + 40_000 * index) + frame for index, frame in enumerate(face_clip)]
            assert stream.predicts(stamped)["captured_us"] == 10**15 + 200_000
            stream.close()

    def test_no_stamp_before_a_picture(self, live_server: LiveServer, face_jpeg: bytes) -> None:
        """A client that forgets its time stamps is told that there is no JPEG, not given a guess."""
        with streaming(live_server, timestamps=1) as stream:
            assert stream.frame(face_jpeg)["detail"]["reason"] == "not_jpeg"

    @pytest.mark.parametrize("stamp", [0, 1, 2**63, 2**64 - 1])
    def test_any_time_stamp(self, live_server: LiveServer, face_clip: list[bytes], stamp: int) -> None:
        """A time stamp is any number of eight bytes, and is echoed as it came."""
        with streaming(live_server, timestamps=1) as stream:
            answer = stream.frame(struct.pack(">Q", stamp) + face_clip[0])
            assert (answer["outcome"], answer["captured_us"]) == ("window_filling", stamp)
            stream.close()

    @pytest.mark.parametrize(
        ("text", "code"),
        [
            ("", "bad_message"),
            ("hello", "bad_message"),
            ("[" * 5_000, "bad_message"),
            ('{"type":"session.open"}', "bad_message"),
            ('{"type":"session.update"}', "bad_message"),
            ('{"type":"session.update","options":' + '{"a":' * 1_000 + "1" + "}" * 1_001, "bad_message"),
            ('{"type":"session.close","now":true}', "bad_message"),
            ('{"type":"session.update","options":{"stride":9}}', "bad_option"),
            ('{"type":"session.update","options":{"speed":1}}', "bad_option"),
            ('{"type":"session.update","options":{"faces":9}}', "bad_option"),
            ('{"type":"session.update","options":{"freshness":"every","max_age_ms":5}}', "bad_option"),
            ('{"type":"session.update","options":{"model":"nothing"}}', "unknown_model"),
            ('{"type":"session.update","options":{"model":"../../etc"}}', "unknown_model"),
            ('{"type":"session.update","options":{"model":"\\u0000"}}', "unknown_model"),
            ('{"type":"session.update","options":{"model":"\\ud800"}}', "bad_message"),
        ],
    )
    def test_bad_text(self, live_server: LiveServer, face_clip: list[bytes], text: str, code: str) -> None:
        """A bad text is answered by an error that closes nothing, changes nothing and takes no seq."""
        with streaming(live_server) as stream:
            answer = stream.text(text)
            assert (answer["type"], answer["code"], answer["close_code"]) == ("error", code, None)
            assert not answer["retryable"]
            stream.predicts(face_clip)
            updated = stream.text('{"type":"session.update","options":{}}')
            assert updated["options"] == stream.started["options"]
            stream.close()

    @pytest.mark.parametrize(
        ("query", "code"),
        [
            ("model=nothing", "unknown_model"),
            ("model=timeconv-mini-xception@999", "unknown_model"),
            ("model=blazeface-short", "unknown_model"),
            ("model=..%2F..%2Fetc", "unknown_model"),
            ("speed=1", "bad_option"),
            ("stride=6", "bad_option"),
            ("stride=", "bad_option"),
            ("stride=1&stride=1", "bad_option"),
            ("stride=1&stride=2", "bad_option"),
            ("region=face", "bad_option"),
            ("faces=9", "bad_option"),
            ("smoothing_ms=5001", "bad_option"),
            ("freshness=every&max_age_ms=100", "bad_option"),
            ("%ff=%fe", "bad_option"),
        ],
    )
    def test_bad_opening(self, live_server: LiveServer, query: str, code: str) -> None:
        """An unknown model or a bad option is told after the accept, where browsers can read it, then 1008."""
        error, close_code = refused(live_server, query)
        assert (error["type"], error["code"], error["close_code"], close_code) == ("error", code, 1008, 1008)
        assert not error["retryable"]

    def test_other_subprotocol(self, live_server: LiveServer) -> None:
        """A client that speaks another protocol is told which one is spoken here."""
        with connect(live_server.ws, subprotocols=["other.v9"]) as socket:  # type: ignore[list-item] # NewType
            error = json.loads(socket.recv(timeout=TIMEOUT_S))
            assert (error["code"], error["close_code"]) == ("bad_option", 1008)
            assert "timeconv.v1" in error["message"]

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_rotated(self, live_server: LiveServer, astronaut: NDArray[np.uint8], orientation: int) -> None:
        """A picture that EXIF says is turned is predicted, its box where the face is in the upright picture."""
        upright = np.ascontiguousarray(astronaut[:300, :400])
        content = with_orientation(jpeg(stored(upright, orientation)), orientation)
        with streaming(live_server) as stream:
            (face,) = stream.predicts([content] * 6)["faces"]
            (reference,) = stream.predicts([jpeg(upright)] * 6)["faces"]
        np.testing.assert_allclose(face["box"], reference["box"], atol=4)
        x, y, w, h = face["box"]
        assert 0 <= x < x + w <= 400
        assert 0 <= y < y + h <= 300
        assert face["emotion"] == reference["emotion"]


def stored(upright: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """What a camera stores for an upright picture: row 0 and column 0 show the sides that CIPA DC-008, 4.6.4 names."""
    row_0, column_0 = [
        ("top", "left"),
        ("top", "right"),
        ("bottom", "right"),
        ("bottom", "left"),
        ("left", "top"),
        ("right", "top"),
        ("right", "bottom"),
        ("left", "bottom"),
    ][orientation - 1]
    picture = upright if row_0 in ("top", "bottom") else upright.transpose(1, 0, 2)
    picture = picture[::-1] if row_0 in ("bottom", "right") else picture
    return np.ascontiguousarray(picture[:, ::-1] if column_0 in ("bottom", "right") else picture)


class TestPredict:
    @pytest.mark.parametrize("name", BAD_FRAMES)
    def test_bad_picture(self, live_server: LiveServer, bad_frames: dict[str, bytes], name: str) -> None:
        """A bad picture is a problem with its reason; one too large is 413."""
        response = post(live_server, bad_frames[name])
        if len(bad_frames[name]) > MAX_FRAME_BYTES:
            problem(response, 413, "too_large")
            return
        body = problem(response, 413 if BAD_FRAMES[name] == "too_large" else 422, "bad_image")
        assert (body["index"], body["reason"], body["retryable"]) == (0, BAD_FRAMES[name], False)

    @pytest.mark.parametrize("index", [0, 2, 4])
    def test_bad_picture_among_good(
        self, live_server: LiveServer, bad_frames: dict[str, bytes], face_clip: list[bytes], index: int
    ) -> None:
        """Of five pictures the bad one is named, in both forms of the body."""
        frames = face_clip[:5]
        frames[index] = bad_frames["damaged"]
        assert problem(post_frames(live_server, frames), 422, "bad_image")["index"] == index
        encoded = json.dumps({"frames": [base64.b64encode(frame).decode() for frame in frames]}).encode()
        assert problem(post(live_server, encoded, "application/json"), 422, "bad_image")["index"] == index

    def test_one_of_five_too_large(self, live_server: LiveServer, face_clip: list[bytes]) -> None:
        """A picture over the limit among five small ones is 413 and named."""
        body = problem(post_frames(live_server, [*face_clip[:4], noise(MAX_FRAME_BYTES + 1)]), 413, "bad_image")
        assert (body["index"], body["reason"]) == (4, "too_large")

    @pytest.mark.parametrize("count", [0, 2, 3, 4, 6, 10])
    def test_number_of_frames(self, live_server: LiveServer, face_clip: list[bytes], count: int) -> None:
        """Four frames, or any number but one and five, are refused with the number."""
        encoded = json.dumps({"frames": [base64.b64encode(frame).decode() for frame in face_clip[:count]]}).encode()
        bodies = [problem(post(live_server, encoded, "application/json"), 422, "bad_body")]
        if count:
            bodies.append(problem(post_frames(live_server, face_clip[:count]), 422, "bad_body"))
        assert all(str(count) in body["detail"] for body in bodies)

    def test_far_too_many_frames(self, live_server: LiveServer, face_clip: list[bytes]) -> None:
        """A multipart body of many parts is refused before they are all kept."""
        problem(post_frames(live_server, face_clip[:1] * 100), 422, "bad_body")

    @pytest.mark.parametrize("media_type", ["text/plain", "image/png", "application/octet-stream", "jpeg", ""])
    def test_content_type(self, live_server: LiveServer, face_jpeg: bytes, media_type: str) -> None:
        """A body of another type is refused with the types that are taken, whatever it holds."""
        body = problem(post(live_server, face_jpeg, media_type), 422, "bad_body")
        assert "image/jpeg" in body["detail"]

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"{",
            b"null",
            b"[]",
            b"{}",
            b'{"frames":null}',
            b'{"frames":"abcd"}',
            b'{"frames":[1]}',
            b'{"frames":["not base64!"]}',
            b'{"frames":["abc"]}',
            b'{"frames":[],"more":1}',
            b'{"frames":["\xff\xfe"]}',
            b'{"\xff\xfe":1}',
            b"\xff\xfe",
            b'{"frames":' + b"[" * 50_000,
            b'{"frames":["\\ud800"]}',
        ],
    )
    def test_bad_json(self, live_server: LiveServer, content: bytes) -> None:
        """A JSON body that is not a prediction's is refused, however it is wrong."""
        problem(post(live_server, content, "application/json"), 422, "bad_body")

    @pytest.mark.parametrize(
        ("media_type", "content"),
        [
            ("multipart/form-data", b"--x--"),
            ("multipart/form-data; boundary=x", b""),
            ("multipart/form-data; boundary=x", b"hello"),
            ("multipart/form-data; boundary=x", b"--y\r\n\r\n"),
            ("multipart/form-data; boundary=x", b"--x\r\n\r\ncontent\r\n--x--\r\n"),
            ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\nc\r\n--x--\r\n"),
            (
                "multipart/form-data; boundary=x",
                b'--x\r\nContent-Disposition: form-data; name="frames"; filename="a"\r\n',
            ),
            (
                "multipart/form-data; boundary=x",
                b'--x\r\nContent-Disposition: form-data; name="frames"\r\n\r\nno file\r\n--x--\r\n',
            ),
            (
                "multipart/form-data; boundary=x",
                b'--x\r\nContent-Disposition: form-data; name="other"; filename="a"\r\n\r\nc\r\n--x--\r\n',
            ),
            ("multipart/form-data; boundary=x; charset=nonsense", b"--x\r\nno colon\r\n\r\nc\r\n--x--\r\n"),
            ("multipart/form-data; boundary=" + "x" * 300, b"--x--"),
            (  # A name that is a lone surrogate, which no encoding of Unicode can write.
                "multipart/form-data; boundary=x; charset=utf-7",
                b'--x\r\nContent-Disposition: form-data; name="+2AA-"\r\n\r\nc\r\n--x--\r\n',
            ),
        ],
    )
    def test_bad_multipart(self, live_server: LiveServer, media_type: str, content: bytes) -> None:
        """A multipart body that is damaged, or whose parts are no files called frames, is refused."""
        problem(post(live_server, content, media_type), 422, "bad_body")

    @pytest.mark.parametrize("share", [0.3, 0.5, 0.99])
    def test_multipart_that_is_cut_off(self, live_server: LiveServer, face_clip: list[bytes], share: float) -> None:
        """A body that ends within its second picture or a later one is not taken for those that are whole."""
        parts = [
            b'--x\r\nContent-Disposition: form-data; name="frames"; filename="a"\r\n\r\n' + f for f in face_clip[:5]
        ]
        body = b"\r\n".join(parts) + b"\r\n--x--"
        answer = problem(
            post(live_server, body[: int(len(body) * share)], "multipart/form-data; boundary=x"), 422, "bad_body"
        )
        assert "closing boundary" in answer["detail"]

    @pytest.mark.parametrize(
        ("query", "code"),
        [
            ("?model=nothing", "unknown_model"),
            ("?model=..%2Fsecret", "unknown_model"),
            ("?region=face", "bad_option"),
            ("?stride=2", "bad_option"),
            ("?region=whole&region=whole", "bad_option"),
            ("?%ff", "bad_option"),
        ],
    )
    def test_bad_query(self, live_server: LiveServer, face_jpeg: bytes, query: str, code: str) -> None:
        """An unknown model or option, and an option given twice, are problems."""
        problem(post(live_server, face_jpeg, query=query), 422, code)

    def test_body_too_large(self, live_server: LiveServer, face_clip: list[bytes]) -> None:
        """A body over the limit is 413 in each of its forms, and the service goes on."""
        too_much = noise(5 * MAX_FRAME_BYTES + 100_000)
        problem(post(live_server, too_much), 413, "too_large")
        problem(post_frames(live_server, [too_much]), 413, "too_large")
        problem(post(live_server, b'{"frames":["' + b"A" * 14_000_000, "application/json"), 413, "too_large")
        assert post_frames(live_server, face_clip[:5]).json()["type"] == "prediction"

    def test_five_of_the_largest(self, live_server: LiveServer, face_jpeg: bytes) -> None:
        """Five pictures, each as large as a picture may be, are within the limit of a body in both forms."""
        padded = face_jpeg[:-2] + bytes(MAX_FRAME_BYTES - len(face_jpeg)) + face_jpeg[-2:]
        assert len(padded) == MAX_FRAME_BYTES
        encoded = json.dumps({"frames": [base64.b64encode(padded).decode()] * 5}).encode()
        for response in (post_frames(live_server, [padded] * 5), post(live_server, encoded, "application/json")):
            assert response.status_code != 413

    @pytest.mark.parametrize("orientation", [3, 6, 8])
    def test_rotated(self, live_server: LiveServer, astronaut: NDArray[np.uint8], orientation: int) -> None:
        """A rotated picture is predicted as its upright one."""
        upright = np.ascontiguousarray(astronaut[:300, :400])
        turned = post(live_server, with_orientation(jpeg(stored(upright, orientation)), orientation)).json()
        reference = post(live_server, jpeg(upright)).json()
        np.testing.assert_allclose(turned["faces"][0]["box"], reference["faces"][0]["box"], atol=4)

    def test_good_after_all(
        self, live_server: LiveServer, bad_frames: dict[str, bytes], face_clip: list[bytes]
    ) -> None:
        """One connection that brings bad bodies and good ones in turn gets its predictions."""
        with httpx.Client(base_url=live_server.url, timeout=TIMEOUT_S) as client:
            for name in ("empty", "PNG", "cut off", "damaged", "20,000x20,000"):
                headers = {"Content-Type": "image/jpeg"}
                assert client.post("/v1/predict", content=bad_frames[name], headers=headers).status_code in (413, 422)
                assert client.post("/v1/predict", content=face_clip[0], headers=headers).json()["type"] == "prediction"


def test_nothing_is_stuck(live_server: LiveServer) -> None:
    """After all of it the service is healthy, holds no session and no frame, and had no thought of ending itself."""
    assert httpx.get(f"{live_server.url}/healthz").status_code == 200
    lines = httpx.get(f"{live_server.url}/metrics").text.splitlines()
    assert "timeconv_frames_in_flight 0.0" in lines
    assert live_server.exits == []
