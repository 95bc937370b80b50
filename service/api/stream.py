"""WebSocket ``/v1/stream``: the conversation of one session, see ``docs/protocol.md``."""

import asyncio
import logging
import secrets
from collections import deque
from contextlib import ExitStack
from typing import Literal, cast

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from msgspec import UNSET, structs

from service import protocol
from service.access import ApiKey
from service.api.entry import address_of, bearer, key_of, session_place, token_offered
from service.api.problems import problem
from service.api.requests import request_id, traceparents
from service.engine import Engine
from service.errors import BadOption, ClientGone, GoingAway, NoSuchStream, ResumedElsewhere, TimeConvError
from service.inference.models import LoadedNetwork
from service.limits import TokenBucket
from service.protocol import Options, ServerMessage, SessionClose
from service.session import FrameTracer, Session
from service.vision.crop import CROP_SIDE
from service.vision.window import FRAMES
from service.websocket import EXTENSION, Link

log = logging.getLogger(__name__)

router = APIRouter()


@router.websocket("/v1/stream")
async def stream(websocket: WebSocket) -> None:
    """Serve one session, from the upgrade to the close."""
    engine: Engine = websocket.app.state.engine
    try:
        with ExitStack() as places:
            try:
                key = key_of(websocket, bearer(websocket) or token_offered(websocket))
                resume_token = protocol.resume_token(websocket.scope["subprotocols"])
                places.enter_context(session_place(engine, websocket, key, resume_token))
            except TimeConvError as error:
                engine.metrics.refused(error.code)
                await websocket.send_denial_response(problem(error))
            else:
                await _accepted(engine, websocket, key, places)
    except WebSocketDisconnect:
        log.debug("A client went away during the opening")


@router.websocket("/{path:path}")
async def elsewhere(websocket: WebSocket) -> None:
    """Refuse an upgrade on any other path, saying where the stream is."""
    error = NoSuchStream("The stream is at /v1/stream")
    websocket.app.state.engine.metrics.refused(error.code)
    await websocket.send_denial_response(problem(error))


async def _accepted(engine: Engine, websocket: WebSocket, key: ApiKey, places: ExitStack) -> None:
    """Accept the upgrade and converse. Bad options are said after it: before it a browser sees nothing."""
    offered = websocket.scope["subprotocols"]
    await websocket.accept(protocol.SUBPROTOCOL if protocol.SUBPROTOCOL in offered else None)
    try:
        options = _options(websocket)
        network = await _link(websocket).while_open(engine.network(options.model))
        engine.drain.admit()
    except ClientGone as error:
        engine.metrics.refused(error.code)
        return
    except TimeConvError as error:
        _refuse(engine, websocket, error)
        return
    except Exception:
        log.exception("A session could not be opened", extra={"request": request_id(websocket)})
        _refuse(engine, websocket, TimeConvError("The service failed to open this session"))
        return
    before = _before(engine, websocket, key)
    connection = StreamConnection(engine, websocket, options, network, key, places, before)
    del network  # The session may go over to another, and then this one is to be unloaded.
    with engine.sessions.connected(connection):
        await connection.run()


def _options(websocket: WebSocket) -> Options:
    offered = protocol.without_secrets(websocket.scope["subprotocols"])
    if offered and protocol.SUBPROTOCOL not in offered:
        raise BadOption(f"The subprotocol is {protocol.SUBPROTOCOL}; offered: {', '.join(offered)}")
    return protocol.parse_query(websocket.query_params.multi_items())


def _before(engine: Engine, websocket: WebSocket, key: ApiKey) -> Session | None:
    """The session that the client asks to go on with, if it is to be had."""
    token = protocol.resume_token(websocket.scope["subprotocols"])
    if token is None:
        return None
    before = engine.resumption.take(token, key.identity)
    engine.metrics.resume_asked(resumed=before is not None)
    return before


def _refuse(engine: Engine, websocket: WebSocket, error: TimeConvError) -> None:
    engine.metrics.refused(error.code)
    _end(engine, _link(websocket), error)


def _link(websocket: WebSocket) -> Link:
    return cast("Link", websocket.scope["extensions"][EXTENSION])


def _end(engine: Engine, link: Link, error: TimeConvError) -> None:
    """Say why, and close, whether the client reads or not."""
    text = protocol.encode(protocol.error_message(error, closing=True))
    link.end(text, error.close_code, error.code)
    engine.metrics.text_sent(len(text))


class StreamConnection:
    """One session on its WebSocket. Everything happens in calls on the event loop; the task only waits for the end.

    Answers are sent in one place, `_flush`, which stops where the client does not read.
    """

    def __init__(
        self,
        engine: Engine,
        websocket: WebSocket,
        options: Options,
        network: LoadedNetwork,
        key: ApiKey,
        places: ExitStack,
        before: Session | None,
    ) -> None:
        """Nothing is sent before `run`. ``places``: those it holds. ``before``: the session to go on with."""
        now_s = engine.clock()
        self.key = key
        self._places = places
        self._texts = TokenBucket(engine.settings.max_texts_per_s, now_s)
        self._pause: asyncio.TimerHandle | None = None
        self._engine = engine
        self._websocket = websocket
        self._link = _link(websocket)
        self._request = request_id(websocket)
        self._loop = asyncio.get_running_loop()
        self._notices: deque[ServerMessage] = deque()
        self._updating: asyncio.Task[None] | None = None
        self._flush_is_due = False
        self._finished = False
        self._is_told_to_leave = False
        self._end_in_order = (1000, "closed")
        self._reason = "disconnected"
        self._asked_for = self._spec(options)
        self._resumed = before is not None
        self._shown = protocol.resume_token(websocket.scope["subprotocols"]) if self._resumed else None
        self._token: str | None = None
        identity = secrets.token_urlsafe(12) if before is None else before.identity
        self.session = Session(
            identity,
            options,
            network,
            look=engine.look,
            gap_reset_s=engine.settings.gap_reset_ms / 1000,
            max_frame_bytes=engine.settings.max_frame_bytes,
            observer=engine.metrics,
            tracer=self._tracer(identity),
            on_change=self._wake,
            clock=engine.clock,
            rate=TokenBucket(key.max_frames_per_s or engine.settings.max_frames_per_s, now_s),
            before=before,
        )

    def _tracer(self, identity: str) -> FrameTracer | None:
        traces = self._engine.traces
        return None if traces is None else traces.stream(identity, self._request, traceparents(self._websocket))

    def expel(self, error: TimeConvError) -> None:
        """End the session with ``error``."""
        self._ends(error.code)
        _end(self._engine, self._link, error)

    def give_up(self) -> None:
        """End, since another connection goes on with the session, in our places; frames in flight are abandoned now."""
        self._finished = True
        self.expel(ResumedElsewhere("Another connection goes on with this session"))
        self._close()
        self._places.close()

    def renew(self) -> None:
        """Go over to the version that has taken over from the session's."""
        if not (self._finished or self._updating) and (heir := self._heir()) is not self.session.network:
            self._change(self.session.options, heir, by="service")

    def go_away(self, time_left_s: float) -> None:
        """Tell the client to leave; it is served while it stays, and what it has sent is read at once."""
        self._is_told_to_leave = True
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self._say(protocol.GoAway(time_left_ms=round(time_left_s * 1000), resume_token=self._token))

    def finish(self) -> None:
        """Close as if the client had asked for it, unless it has."""
        if not self._finished:
            self._finished, self._end_in_order = True, (GoingAway.close_code, GoingAway.code)
            self._wake()

    async def run(self) -> None:
        """Converse until one side ends it, then leave nothing behind."""
        try:
            self._token = self._engine.resumption.hold(
                self, self.key.identity, party=self.key.name or address_of(self._websocket), shown=self._shown
            )
            self._notices.append(self._started())
            self._engine.metrics.session_started()
            self._link.attach(self)
            self._wake()
            await self._websocket.receive()  # Messages come by calls; this is the end.
            self._reason = self._link.breach or self._reason
        except asyncio.CancelledError:
            self._ends("shutdown")
            raise
        finally:
            self._leave()

    def _leave(self) -> None:
        self._finished = True
        if self._updating is not None:
            self._updating.cancel()
        if self._pause is not None:
            self._pause.cancel()
        self._close()
        self._engine.resumption.keep(self)
        self._engine.metrics.session_ended(self._reason)
        log.info(
            "Session ended",
            extra={
                "session": self.session.identity,
                "request": self._request,
                "reason": self._reason,
                "resumed": self._resumed,
                "lasted_s": round(self._engine.clock() - self.session.started_s, 3),
                "key": self.key.name,
                "model": self.session.network.lane,
                "received": self.session.received,
                **{outcome.value: count for outcome, count in self.session.outcomes.items()},
            },
        )

    def _close(self) -> None:
        self._engine.pool.leave(self.session, self.session)
        self.session.close()

    def _ends(self, reason: str) -> None:
        """The session ends for this reason, and is not kept; unless there is one, its connection broke."""
        self._reason = reason
        self._engine.resumption.release(self)

    # Calls of the connection

    def received(self, message: bytes | str) -> bool:
        """Take a message; whether there is room for the next. After `session.close` what comes is not looked at."""
        try:
            if self._finished:
                return True
            if self._shown is not None:
                self._engine.resumption.heard(self)
                self._shown = None
            if isinstance(message, str):
                self._text(message)
                self._texts.owe(now_s := self._engine.clock())
                self._read_in(self._texts.wait_s(now_s))
            else:
                self.session.receive(message)
                self._give_turn()
                if not self._is_told_to_leave:
                    self._read_in(self.session.pause_s)
        except Exception as error:  # noqa: BLE001 - the edge of the session, see `_failed`
            self._failed(error)
        return self._has_room

    def blocked(self) -> None:
        """The client does not read."""
        self.session.block()

    def unblocked(self) -> None:
        """The client reads again."""
        self.session.unblock()
        self._give_turn()
        self._wake()

    @property
    def _has_room(self) -> bool:
        """One notice at a time: nothing more is received until it is sent."""
        return self._finished or (not (self._notices or self._updating or self._pause) and self.session.has_room)

    def _read_in(self, seconds: float) -> None:
        """Receive nothing more for so long; 0 for no pause."""
        if seconds > 0 and self._pause is None:
            self._pause = self._loop.call_later(seconds, self._read_again)

    def _read_again(self) -> None:
        self._pause = None
        self._wake()

    def _text(self, text: str) -> None:
        """Act on a text message. A bad one is answered, and changes nothing."""
        self.session.touch()
        try:
            message = protocol.parse_text(text)
            if isinstance(message, SessionClose):
                self._finished = True
                self._wake()
                return
            now = structs.replace(self.session.options, model=self._asked_for)
            options = protocol.updated(now, message.options)
        except TimeConvError as error:
            self._say(protocol.error_message(error, closing=False))
        else:
            if "model" in message.options:
                self._updating = self._loop.create_task(self._update(options))
            else:
                self._change(options, self._heir(), by="client")

    async def _update(self, options: Options) -> None:
        """Change the options, once their network is loaded; until then nothing is received."""
        try:
            network = await self._engine.network(options.model)
        except TimeConvError as error:
            self._updating = None
            self._say(protocol.error_message(error, closing=False))
        except Exception as error:  # noqa: BLE001 - the edge of the session, see `_failed`
            self._failed(error)
        else:
            self._updating = None
            self._asked_for = self._spec(options)
            self._change(options, network, by="client")

    def _heir(self) -> LoadedNetwork:
        """The version that has taken over from the session's, or its own.

        One with other labels or crops takes over from none unasked: the client shows labels, and may cut faces out, as
        it was told.
        """
        old, new = self.session.network, self._engine.networks.ready(self._asked_for)
        return old if new is None or (new.labels, new.geometry) != (old.labels, old.geometry) else new

    def _spec(self, options: Options) -> str:
        """The network that the options ask for; without a version it is the newest."""
        return options.model or self._engine.settings.model

    def _change(self, options: Options, network: LoadedNetwork, by: Literal["client", "service"]) -> None:
        """Options and network for the frames from the next one on, and say so, with what it has other than before."""
        old = self.session.network
        self.session.update(options, network)
        self._say(
            protocol.SessionUpdated(
                options=self.session.options,
                from_seq=self.session.received,
                max_in_flight=protocol.MAX_IN_FLIGHT[options.freshness],
                by=by,
                labels=UNSET if network.labels == old.labels else network.labels,
                crop=UNSET if network.geometry == old.geometry else self._crop(),
            )
        )

    def _say(self, notice: ServerMessage) -> None:
        """Have a message sent before the next answer."""
        self._notices.append(notice)
        self._wake()

    def _wake(self) -> None:
        """Send what there is, once for all that changes in this turn of the event loop."""
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        try:
            self._send_all()
        except Exception as error:  # noqa: BLE001 - the edge of the session, see `_failed`
            self._failed(error)
        if self._has_room:
            self._link.read_on()

    def _send_all(self) -> None:
        """Send notices and answers as long as the client reads; after the last one, the totals, and close."""
        link = self._link
        while link.is_writable:
            if self._notices:
                self._tell(protocol.encode(self._notices.popleft()))
            elif (message := self.session.next_message()) is not None:
                self._answer(message)
            elif self._finished and self.session.is_settled:
                code, reason = self._end_in_order
                self._ends(reason)
                self._tell(protocol.encode(protocol.SessionClosed(totals=self.session.totals())))
                link.finish(code)
            else:
                return

    def _answer(self, message: ServerMessage) -> None:
        clock = self._engine.clock
        start_s = clock()
        text = protocol.encode(message)
        encoded_s = clock()
        self._tell(text)
        self.session.sent(start_s, encoded_s)
        if isinstance(message, protocol.Prediction):
            self._engine.metrics.message_sent(encoded_s - start_s, clock() - encoded_s)

    def _tell(self, text: bytes) -> None:
        self._link.say(text)
        self._engine.metrics.text_sent(len(text))

    def _failed(self, error: Exception) -> None:
        """End the session: the client is told that it is our fault."""
        log.error("A session failed", exc_info=error, extra={"request": self._request})
        self.expel(TimeConvError("The service failed in this session"))

    def _give_turn(self) -> None:
        if self.session.has_frames:
            self._engine.inlet.ready(self.session)

    def _started(self) -> protocol.SessionStarted:
        session, settings = self.session, self._engine.settings
        return protocol.SessionStarted(
            session=session.identity,
            model=session.network.name,
            version=session.network.version,
            labels=session.network.labels,
            window=FRAMES,
            crop=self._crop(),
            limits=protocol.Limits(
                max_frame_bytes=settings.max_frame_bytes,
                max_frame_pixels=settings.max_frame_pixels,
                gap_reset_ms=settings.gap_reset_ms,
            ),
            options=session.options,
            max_in_flight=protocol.MAX_IN_FLIGHT[session.options.freshness],
            next_seq=session.received,
            resumed=self._resumed,
            resume_token=self._token,
        )

    def _crop(self) -> protocol.CropInfo:
        geometry = self.session.network.geometry
        return protocol.CropInfo(
            size=CROP_SIDE,
            detector=self._engine.look.detector.name,
            scale=geometry.scale,
            dx=geometry.dx,
            dy=geometry.dy,
        )
