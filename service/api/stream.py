"""WebSocket ``/v1/stream``: the conversation of one session, see ``docs/protocol.md``."""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from service import protocol
from service.api.problems import problem
from service.engine import Engine
from service.errors import AtCapacity, BadOption, NoSuchStream, TimeConvError
from service.inference.models import LoadedNetwork
from service.protocol import Options, ServerMessage, SessionClose
from service.session import Session
from service.vision.crop import CROP_SIDE
from service.vision.window import FRAMES
from service.websocket import EXTENSION, End

log = logging.getLogger(__name__)

router = APIRouter()


@router.websocket("/v1/stream")
async def stream(websocket: WebSocket) -> None:
    """Serve one session, from the upgrade to the close."""
    engine: Engine = websocket.app.state.engine
    try:
        try:
            with engine.session_places.place():
                await _accepted(engine, websocket)
        except AtCapacity as error:
            engine.metrics.refused(error.code)
            await websocket.send_denial_response(problem(error))
    except WebSocketDisconnect:
        log.debug("A client went away during the opening")


@router.websocket("/{path:path}")
async def elsewhere(websocket: WebSocket) -> None:
    """Refuse an upgrade on any other path, saying where the stream is."""
    await websocket.send_denial_response(problem(NoSuchStream("The stream is at /v1/stream")))


async def _accepted(engine: Engine, websocket: WebSocket) -> None:
    """Accept the upgrade and converse. Bad options are said after it: before it a browser sees nothing."""
    offered = websocket.scope["subprotocols"]
    await websocket.accept(protocol.SUBPROTOCOL if protocol.SUBPROTOCOL in offered else None)
    try:
        if offered and protocol.SUBPROTOCOL not in offered:
            raise BadOption(f"The subprotocol is {protocol.SUBPROTOCOL}; offered: {', '.join(offered)}")
        options = protocol.parse_query(websocket.query_params.multi_items())
        network = await engine.network(options.model)
    except TimeConvError as error:
        engine.metrics.refused(error.code)
        _end(websocket, error)
        return
    connection = StreamConnection(engine, websocket, options, network)
    with engine.sessions.connected(connection):
        await connection.run()


def _end(websocket: WebSocket, error: TimeConvError) -> None:
    """Say why, and close, whether the client reads or not."""
    end: End = websocket.scope["extensions"][EXTENSION]
    end(protocol.encode(protocol.error_message(error, closing=True)).decode(), error.close_code, error.code)


class StreamConnection:
    """One session on its WebSocket: one task receives, one sends, and one waits to be told to end both.

    Only the sending task sends, so that there is one place where a client that does not read is noticed.
    """

    def __init__(self, engine: Engine, websocket: WebSocket, options: Options, network: LoadedNetwork) -> None:
        """Nothing is sent before `run`."""
        self._engine = engine
        self._websocket = websocket
        self._finished = False
        self._notices: deque[ServerMessage] = deque()
        self._outgoing = asyncio.Event()
        self._room = asyncio.Event()
        self._expelled: asyncio.Future[TimeConvError] = asyncio.get_running_loop().create_future()
        self.session = Session(
            secrets.token_urlsafe(12),
            options,
            network,
            look=engine.look,
            gap_reset_s=engine.settings.gap_reset_ms / 1000,
            max_frame_bytes=engine.settings.max_frame_bytes,
            observer=engine.metrics,
            on_change=self._wake,
            clock=engine.clock,
        )

    def expel(self, error: TimeConvError) -> None:
        """End the session with ``error``, soon."""
        if not self._expelled.done():
            self._expelled.set_result(error)

    async def run(self) -> None:
        """Converse until one side ends it, then leave nothing behind."""
        reason = "internal"
        try:
            await self._converse()
            reason = "closed"
        except* WebSocketDisconnect:
            reason = "disconnected"
        except* TimeConvError as errors:
            error = errors.exceptions[0]
            assert isinstance(error, TimeConvError)
            reason = error.code
            _end(self._websocket, error)
        except* asyncio.CancelledError:
            reason = "shutdown"
            raise
        except* Exception:
            # The edge of the session: the client is told that it is our fault, as the protocol promises.
            log.exception("A session failed")
            _end(self._websocket, TimeConvError("The service failed in this session"))
        finally:
            self._leave(reason)

    def _leave(self, reason: str) -> None:
        self._engine.pool.leave(self.session, self.session)
        self.session.close()
        self._engine.metrics.session_ended(reason)
        log.info(
            "Session ended",
            extra={
                "session": self.session.identity,
                "reason": reason,
                "model": self.session.network.lane,
                "received": self.session.received,
                **{outcome.value: count for outcome, count in self.session.outcomes.items()},
            },
        )

    async def _converse(self) -> None:
        async with asyncio.TaskGroup() as group:
            self._notices.append(self._started())
            sender = group.create_task(self._send_all())
            watcher = group.create_task(self._raise_when_expelled())
            await self._receive_all()
            self._finished = True
            self._wake()
            await sender
            watcher.cancel()

    async def _raise_when_expelled(self) -> None:
        raise await self._expelled

    async def _receive_all(self) -> None:
        """Receive until the client says `session.close`."""
        while True:
            while self._notices or not self.session.has_room:
                self._room.clear()
                await self._room.wait()
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message["code"])
            if (frame := message.get("bytes")) is not None:
                self.session.receive(frame)
                self._give_turn()
            elif not await self._text(message["text"]):
                return

    async def _text(self, text: str) -> bool:
        """Act on a text message; False for `session.close`. A bad one is answered, and changes nothing."""
        self.session.touch()
        try:
            message = protocol.parse_text(text)
            if isinstance(message, SessionClose):
                return False
            options = protocol.updated(self.session.options, message.options)
            network = await self._engine.network(options.model)
        except TimeConvError as error:
            self._say(protocol.error_message(error, closing=False))
            return True
        self.session.update(options, network)
        self._say(
            protocol.SessionUpdated(
                options=self.session.options,
                from_seq=self.session.received,
                max_in_flight=protocol.MAX_IN_FLIGHT[options.freshness],
            )
        )
        return True

    def _say(self, notice: ServerMessage) -> None:
        """Have a message sent before the next answer. One at a time: nothing more is received until it is sent."""
        self._notices.append(notice)
        self._wake()

    async def _send_all(self) -> None:
        """Send notices and answers until the client has said `session.close` and has every answer; then close."""
        while True:
            while self._notices:
                await self._send(self._notices[0])
                self._notices.popleft()
                self._wake()
            if (message := self.session.next_message()) is not None:
                await self._send(message)
                self.session.sent()
            elif self._finished and self.session.is_settled:
                break
            else:
                self._outgoing.clear()
                await self._outgoing.wait()
        await self._send(protocol.SessionClosed(totals=self.session.totals()))
        with self._noticing_a_block():
            await self._websocket.close(1000)

    async def _send(self, message: ServerMessage) -> None:
        clock = self._engine.clock
        start_s = clock()
        text = protocol.encode(message).decode()
        encoded_s = clock()
        with self._noticing_a_block():
            await self._websocket.send({"type": "websocket.send", "text": text})
        if isinstance(message, protocol.Prediction):
            self._engine.metrics.message_sent(encoded_s - start_s, clock() - encoded_s)

    @contextmanager
    def _noticing_a_block(self) -> Iterator[None]:
        """Around sending: it waits only while the transport's buffer is over its mark; then the session is blocked."""
        blocking = asyncio.get_running_loop().call_soon(self.session.block)
        try:
            yield
        finally:
            blocking.cancel()
            if self.session.blocked_since_s is not None:
                self.session.unblock()
                self._give_turn()

    def _give_turn(self) -> None:
        if self.session.has_frames:
            self._engine.pool.ready(self.session, "stream")

    def _wake(self) -> None:
        self._outgoing.set()
        self._room.set()

    def _started(self) -> protocol.SessionStarted:
        session, settings = self.session, self._engine.settings
        geometry = session.network.geometry
        return protocol.SessionStarted(
            session=session.identity,
            model=session.network.name,
            version=session.network.version,
            labels=session.network.labels,
            window=FRAMES,
            crop=protocol.CropInfo(
                size=CROP_SIDE,
                detector=self._engine.look.detector.name,
                scale=geometry.scale,
                dx=geometry.dx,
                dy=geometry.dy,
            ),
            limits=protocol.Limits(
                max_frame_bytes=settings.max_frame_bytes,
                max_frame_pixels=settings.max_frame_pixels,
                gap_reset_ms=settings.gap_reset_ms,
            ),
            options=session.options,
            max_in_flight=protocol.MAX_IN_FLIGHT[session.options.freshness],
        )
