"""``POST /v1/predict``: one window over REST. The upload is held in memory and never touches the disk."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import Response
from msgspec import Struct
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from service import protocol
from service.api import samples, schemas
from service.api.entry import REFUSALS, prediction_place
from service.api.openapi import refusals
from service.api.requests import request_id, traceparents
from service.engine import Engine
from service.errors import (
    BadBody,
    BadImage,
    BadOption,
    ClientGone,
    FrameRefused,
    GoingAway,
    ImageTooLarge,
    ModelDamaged,
    Overloaded,
    RateLimited,
    RunnerFailed,
    TimedOut,
    TooLarge,
    UnknownModel,
)
from service.inference.models import LoadedNetwork
from service.predict import PredictCall
from service.protocol import FrameOutcome, Prediction, PredictOptions
from service.vision.window import FRAMES

if TYPE_CHECKING:
    from service.telemetry.traces import PredictionTrace

log = logging.getLogger(__name__)

router = APIRouter(prefix="/v1", tags=["prediction"])

_DRAIN_S = 1.0
_BASE64_GROWTH = 4 / 3
_ENVELOPE_BYTES = 16_384
"""Room for boundaries, part headers and JSON around the pictures."""

_PICTURE = {"type": "string", "format": "binary"}
_ONE_OR_FIVE = {"type": "array", "oneOf": [{"minItems": count, "maxItems": count} for count in (1, FRAMES)]}
_FRAMES_AS_FILES = {**_ONE_OR_FIVE, "items": _PICTURE}
_FRAMES_AS_BASE64 = {**_ONE_OR_FIVE, "items": {"type": "string", "format": "byte"}}
_ONLY_FRAMES = {"type": "object", "required": ["frames"], "additionalProperties": False}
_OPENAPI: dict[str, Any] = {
    "parameters": [
        {
            "name": name,
            "in": "query",
            "schema": {word: value for word, value in schema.items() if word != "description"},
            "description": schema["description"],
        }
        for name, schema in schemas.components([PredictOptions])["PredictOptions"]["properties"].items()
    ],
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {**_ONLY_FRAMES, "properties": {"frames": _FRAMES_AS_FILES}},
                "encoding": {"frames": {"contentType": "image/jpeg"}},
            },
            "application/json": {"schema": {**_ONLY_FRAMES, "properties": {"frames": _FRAMES_AS_BASE64}}},
            "image/jpeg": {"schema": _PICTURE},
        },
    },
}
_RESPONSES = {
    **refusals(
        *REFUSALS,
        TooLarge("The body has more than 10016384 bytes"),
        FrameRefused(0, ImageTooLarge("The picture has 5184x3456 pixels; at most 4200000 are taken")),
        FrameRefused(3, BadImage("corrupt", "The JPEG is cut off")),
        BadBody("Send 5 frames, or one that stands for all; these are 3"),
        BadOption("region: invalid enum value 'face'"),
        UnknownModel("No network 'timeconv-resnet21'; there are: timeconv-resnet20@1"),
        RateLimited("This key may send 50 frames a second", retry_after_s=0.2),
        RunnerFailed("The network failed on this window"),
        ModelDamaged("timeconv-resnet20@1: model.onnx cannot be read: Permission denied"),
        Overloaded("The window was not run: full"),
        GoingAway("The window was not run: closing"),
        TimedOut("No answer within 5000 ms"),
    ),
    200: {
        "description": "A prediction, or which frame shows no face",
        "content": {
            "application/json": {
                "schema": {
                    "oneOf": [schemas.reference("Prediction"), schemas.reference("FrameOutcome")],
                    "discriminator": {
                        "propertyName": "type",
                        "mapping": {
                            "prediction": schemas.PLACE + "Prediction",
                            "frame": schemas.PLACE + "FrameOutcome",
                        },
                    },
                },
                "examples": {
                    "one picture": {"value": schemas.as_json(samples.STILL)},
                    "no face": {"value": schemas.as_json(samples.FACELESS)},
                },
            }
        },
    },
}


class PredictBody(Struct, frozen=True, forbid_unknown_fields=True):
    """JSON body: JPEGs in base64, oldest first."""

    frames: list[bytes]


@router.post(
    "/predict",
    summary="Emotion of five frames, or of one",
    response_class=Response,
    responses=_RESPONSES,
    openapi_extra=_OPENAPI,
)
async def predict(request: Request) -> Response:
    """Five JPEGs in order (multipart ``frames``, or base64 in JSON), or one that stands for all five."""
    engine: Engine = request.app.state.engine
    options = protocol.parse_predict_query(request.query_params.multi_items())
    started_s = engine.clock()
    traces, called = engine.traces, request_id(request)
    with nullcontext() if traces is None else traces.prediction(called, traceparents(request)) as trace:
        message, network = await _answer(engine, request, options, trace)
    outcome = "prediction" if isinstance(message, Prediction) else message.outcome
    engine.metrics.predicted(outcome, message.faces if isinstance(message, Prediction) else ())
    log.info(
        "Prediction answered",
        extra={
            "request": called,
            "key": request.state.key.name,
            "model": network.lane,
            "outcome": str(outcome),
            "took_s": round(engine.clock() - started_s, 4),
        },
    )
    return Response(protocol.encode(message), media_type="application/json")


async def _answer(
    engine: Engine, request: Request, options: PredictOptions, trace: "PredictionTrace | None"
) -> tuple[Prediction | FrameOutcome, LoadedNetwork]:
    """What is answered, and the network that was asked; ``trace`` is told of both."""
    timeout_ms = engine.settings.predict_timeout_ms
    try:
        # The deadline is for the upload too, or a few slow ones would hold all places.
        with prediction_place(engine, request, request.state.key) as rate:
            async with asyncio.timeout(timeout_ms / 1000):
                frames = await _frames(request, engine.settings.max_frame_bytes)
                if rate is not None:
                    rate.owe(engine.clock(), len(frames) - 1)  # The first was taken with the place.
                network = await engine.network(options.model)
                call = PredictCall(
                    frames,
                    options,
                    network,
                    look=engine.look,
                    answer=asyncio.get_running_loop().create_future(),
                    clock=engine.clock,
                )
                if trace is not None:
                    trace.call = call
                message = await _carried_out(engine, call)
    except TimeoutError as error:
        raise TimedOut(f"No answer within {timeout_ms} ms") from error
    except ClientDisconnect as error:
        raise ClientGone("The client left during the upload") from error
    if trace is not None:
        trace.message = message
    return message, network


async def _carried_out(engine: Engine, call: PredictCall) -> Prediction | FrameOutcome:
    engine.pool.ready(call, kind="predict")
    try:
        return await call.answer
    finally:
        engine.pool.leave(call, call)


async def _frames(request: Request, max_frame_bytes: int) -> list[bytes]:
    """The JPEGs of a request: one, or five.

    Raises:
        TooLarge: more bytes than five of the largest frames; the rest is not read.
        BadBody: another content type, a damaged body, or another number of pictures.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        frames = await _multipart(request, FRAMES * max_frame_bytes + _ENVELOPE_BYTES)
    elif kind == "application/json":
        frames = await _json(request, int(_BASE64_GROWTH * FRAMES * max_frame_bytes) + _ENVELOPE_BYTES)
    elif kind == "image/jpeg":
        frames = [b"".join([chunk async for chunk in _limited(request, max_frame_bytes)])]
    else:
        raise BadBody(f"Send multipart/form-data, application/json or image/jpeg, not {kind or 'an untyped body'}")
    if len(frames) not in (1, FRAMES):
        raise BadBody(f"Send {FRAMES} frames, or one that stands for all; these are {len(frames)}")
    return frames


async def _limited(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    """The body in pieces, up to ``max_bytes``."""
    received, chunks = 0, request.stream()
    async for chunk in chunks:
        received += len(chunk)
        if received > max_bytes:
            await _drain(chunks)
            raise TooLarge(f"The body has more than {max_bytes} bytes")
        yield chunk


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    """Read on for a moment: an answer that comes while the caller still sends is lost to a reset of the connection."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_S):
            async for _ in chunks:
                pass


async def _json(request: Request, max_bytes: int) -> list[bytes]:
    body = b"".join([chunk async for chunk in _limited(request, max_bytes)])
    try:
        return msgspec.json.decode(body, type=PredictBody).frames
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadBody(f"Not the JSON of a prediction: {error}") from error


class _WholeForm(MultiPartParser):
    """A parser that asks for the closing boundary: without it a body that is cut off is one of fewer files."""

    _is_whole = False

    def on_end(self) -> None:
        """The closing boundary has come."""
        self._is_whole = True

    async def parse(self) -> FormData:
        """The parts, all of them.

        Raises:
            MultiPartException: the body is damaged or cut off.
        """
        form = await super().parse()
        if not self._is_whole:
            for file in self._files_to_close_on_error:  # Of the part that was cut off the form knows nothing.
                file.close()
            raise MultiPartException("it ends before its closing boundary, so something is missing")
        return form


async def _multipart(request: Request, max_bytes: int) -> list[bytes]:
    parser = _WholeForm(request.headers, _limited(request, max_bytes), max_files=2 * FRAMES, max_fields=FRAMES)
    parser.spool_max_size = max_bytes  # What is under it stays in memory, and the stream ends before it.
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise BadBody(f"Not a whole multipart body: {error.message}") from error
    try:
        if unknown := set(form) - {"frames"}:
            raise BadBody(f"Unknown parts: {', '.join(sorted(unknown))}; the pictures are called frames")
        parts = form.getlist("frames")
        if not all(isinstance(part, UploadFile) for part in parts):
            raise BadBody("A part called frames is no file; give it a file name")
        return [await part.read() for part in parts if isinstance(part, UploadFile)]
    finally:
        await form.close()
