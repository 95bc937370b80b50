"""service.websocket: how a connection ends, on a transport of the test's own."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from uvicorn import Config
from uvicorn.server import ServerState
from websockets.frames import Close, Frame, Opcode

from service.errors import ClientGone
from service.gate import Gate
from service.settings import Settings
from service.websocket import EXTENSION, Link, WebSocketProtocol
from tests.fakes import UPGRADE, ManualClock, Pipe

CLOSE = Frame(Opcode.CLOSE, Close(1000, "").serialize()).serialize(mask=True)

Application = Callable[[Any, Any, Any], Awaitable[None]]


def opened(
    application: Application, pipe: Pipe | None = None, gate: Gate | None = None
) -> tuple[WebSocketProtocol, Pipe]:
    """A connection that has asked for its upgrade."""
    pipe = pipe or Pipe()
    config = Config(application, lifespan="off", log_config=None, ws=WebSocketProtocol, ws_max_size=1000)
    loop = asyncio.get_running_loop()
    protocol = pipe.protocol = WebSocketProtocol(config, ServerState(), {}, loop, gate=gate or Gate(Settings()))
    protocol.close_timeout = 0.01
    protocol.connection_made(pipe)
    protocol.data_received(UPGRADE + b"\r\n")
    return protocol, pipe


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run a test on an event loop."""

    async def main() -> None:
        await asyncio.wait_for(test(), 30)

    asyncio.run(main())


class Ear:
    """A listener with room for so many messages."""

    def __init__(self, link: Link, room: int = 100) -> None:
        self.link, self.room = link, room
        self.heard: list[bytes | str] = []
        link.attach(self)

    def received(self, message: bytes | str) -> bool:
        self.heard.append(message)
        self.room -= 1
        return self.room > 0

    def blocked(self) -> None:
        self.heard.append("blocked")

    def unblocked(self) -> None:
        self.heard.append("unblocked")


def binary(*messages: bytes) -> bytes:
    """Binary messages as a client sends them."""
    return b"".join(Frame(Opcode.BINARY, message).serialize(mask=True) for message in messages)


class Talk:
    """An application that accepts, and ends when the test says so."""

    def __init__(self) -> None:
        self.accepted, self.over = asyncio.Event(), asyncio.Event()
        self.send: Callable[[dict[str, Any]], Awaitable[None]]
        self.receive: Callable[[], Awaitable[dict[str, Any]]]
        self.link: Link

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.send, self.receive, self.link = send, receive, scope["extensions"][EXTENSION]
        await send({"type": "websocket.accept"})
        self.accepted.set()
        await self.over.wait()


async def talking(pipe: Pipe | None = None, gate: Gate | None = None) -> tuple[WebSocketProtocol, Pipe, Talk]:
    """A connection that is accepted."""
    talk = Talk()
    protocol, pipe = opened(talk, pipe, gate)
    await talk.accepted.wait()
    pipe.written = b""
    return protocol, pipe, talk


def test_an_ordinary_close_that_is_not_taken_cuts_off() -> None:
    """A client that takes neither the last answers nor the close does not keep its connection for ever."""

    async def test() -> None:
        _, pipe, talk = await talking()
        await talk.send({"type": "websocket.close", "code": 1000})
        talk.over.set()
        await pipe.cut_off.wait()

    run(test)


def test_a_refused_upgrade_that_is_not_taken_cuts_off() -> None:
    """So it is with a client that does not take the refusal of its upgrade."""

    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        del scope, receive
        await send({"type": "websocket.http.response.start", "status": 503, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"full"})

    async def test() -> None:
        _, pipe = opened(refuse)
        await pipe.cut_off.wait()
        assert pipe.written.startswith(b"HTTP/1.1 503")

    run(test)


def test_a_client_that_closes_but_does_not_read_is_cut_off() -> None:
    """A client that began to close while its buffer is full is cut off once its session has ended."""

    async def test() -> None:
        protocol, pipe, talk = await talking()
        protocol.data_received(CLOSE)
        assert (await talk.receive(), await talk.receive())[1]["type"] == "websocket.disconnect"
        talk.over.set()
        await pipe.cut_off.wait()

    run(test)


def test_an_end_does_not_wait() -> None:
    """The last message and the close are written though the buffer is full, the connection reads on, and is cut off."""

    async def test() -> None:
        protocol, pipe, talk = await talking()
        protocol.pause_writing()
        protocol.data_received(Frame(Opcode.BINARY, b"x").serialize(mask=True))
        assert pipe.is_reading_paused
        talk.link.end(b"why", 1008, "slow_reader")
        assert pipe.written == b"\x81\x03why" + b"\x88\x0d\x03\xf0slow_reader"
        assert not pipe.is_reading_paused
        talk.over.set()
        await pipe.cut_off.wait()

    run(test)


@pytest.mark.parametrize("kind", [Opcode.BINARY, Opcode.TEXT])
@pytest.mark.parametrize("fragments", [1, 2])
def test_a_message_handed_over_is_not_kept(fragments: int, kind: Opcode) -> None:
    """A silent session does not hold its last message: once it was handed over no frame has it."""

    async def test() -> None:
        protocol, pipe, talk = await talking()
        ear = Ear(talk.link)
        picture = b"kept?" * 20 * fragments
        for index in range(fragments):
            part, opcode = picture[index * 100 :][:100], Opcode.CONT if index else kind
            protocol.data_received(Frame(opcode, part, fin=index == fragments - 1).serialize(mask=True))
        assert ear.heard == [picture if kind is Opcode.BINARY else picture.decode()]
        held = [frame for frame in gc.get_objects() if type(frame) is Frame and b"kept?" in bytes(frame.data)]
        assert held == []
        talk.over.set()
        pipe.abort()

    run(test)


def test_a_second_end_is_nothing() -> None:
    """A connection ends once."""

    async def test() -> None:
        _, pipe, talk = await talking()
        talk.link.end(b"first", 1008, "")
        written = pipe.written
        talk.link.end(b"second", 1011, "")
        assert pipe.written == written
        talk.over.set()
        await pipe.cut_off.wait()

    run(test)


def test_an_end_after_the_clients_close_cuts_off_at_once() -> None:
    """To a client that has begun to close nothing more can be said."""

    async def test() -> None:
        protocol, pipe, talk = await talking()
        protocol.pause_writing()
        protocol.data_received(CLOSE)
        talk.link.end(b"why", 1008, "slow_reader")
        assert pipe.cut_off.is_set()
        assert b"why" not in pipe.written
        talk.over.set()

    run(test)


@pytest.mark.parametrize("half_closes", [True, False])
def test_a_broken_rule_ends_the_connection(*, half_closes: bool) -> None:
    """After a message that is too large nothing can be sent; the close is, and the sender may finish sending."""

    async def test() -> None:
        protocol, pipe, talk = await talking(Pipe(half_closes=half_closes))
        protocol.data_received(Frame(Opcode.BINARY, bytes(1001)).serialize(mask=True))
        assert pipe.ended_writing is half_closes
        assert b"\x03\xf1" in pipe.written  # 1009
        assert not talk.link.is_writable
        talk.over.set()
        await pipe.cut_off.wait()

    run(test)


def test_pings_are_answered_while_the_client_reads() -> None:
    """A ping is answered, but not while the client's buffer is full, which pongs would grow without bound."""

    async def test() -> None:
        protocol, pipe, talk = await talking()
        ping = Frame(Opcode.PING, b"hello").serialize(mask=True)
        protocol.data_received(ping)
        assert pipe.written == b"\x8a\x05hello"
        protocol.pause_writing()
        protocol.data_received(ping)
        protocol.resume_writing()
        await talk.send({"type": "websocket.send", "text": "on"})
        assert pipe.written == b"\x8a\x05hello" + b"\x81\x02on"
        talk.over.set()
        pipe.abort()

    run(test)


@pytest.mark.parametrize("closes", [False, True])
def test_stopping_cuts_a_client_off_that_does_not_read(*, closes: bool) -> None:
    """A client that does not take the close of a service that stops is cut off, even one that has begun to close."""

    async def test() -> None:
        protocol, pipe, talk = await talking()
        protocol.pause_writing()
        if closes:
            protocol.data_received(CLOSE)
        protocol.shutdown()
        assert (b"\x03\xf4" in pipe.written) is not closes  # 1012
        await pipe.cut_off.wait()
        talk.over.set()

    run(test)


def test_stopping_waits_for_a_close_that_is_under_way() -> None:
    """A connection that we have closed is not closed below it, which could cut off what was sent; but soon cut off."""

    async def test() -> None:
        protocol, pipe, talk = await talking()
        Ear(talk.link)
        protocol.close_timeout = 30
        talk.link.finish(1001)
        written = pipe.written
        protocol.shutdown()
        assert (pipe.is_closing(), pipe.written) == (False, written)
        await pipe.cut_off.wait()
        talk.over.set()

    run(test)


def test_messages_come_by_calls() -> None:
    """Binary and text, whole or in fragments, also what came before there was a listener; reading does not pause."""

    async def test() -> None:
        protocol, pipe, talk = await talking()
        protocol.data_received(binary(b"early", b"bird"))
        assert pipe.is_reading_paused
        ear = Ear(talk.link)
        assert not pipe.is_reading_paused
        protocol.data_received(Frame(Opcode.TEXT, "späte".encode(), fin=False).serialize(mask=True))
        protocol.data_received(Frame(Opcode.CONT, b" worm").serialize(mask=True))
        protocol.data_received(binary(b"one", b"two"))
        assert ear.heard == [b"early", b"bird", "späte worm", b"one", b"two"]
        assert not pipe.is_reading_paused
        talk.over.set()
        pipe.abort()

    run(test)


def test_a_listener_without_room_is_spared() -> None:
    """Of a chunk with more messages than there is room for the rest is held; reading pauses till it is asked for."""

    async def test() -> None:
        protocol, pipe, talk = await talking()
        ear = Ear(talk.link, room=2)
        protocol.data_received(binary(b"1", b"2", b"3", b"4", b"5"))
        assert ear.heard == [b"1", b"2"]
        assert pipe.is_reading_paused
        ear.room = 2
        talk.link.read_on()
        assert ear.heard == [b"1", b"2", b"3", b"4"]
        assert pipe.is_reading_paused
        ear.room = 2
        talk.link.read_on()
        talk.link.read_on()
        assert ear.heard == [b"1", b"2", b"3", b"4", b"5"]
        assert not pipe.is_reading_paused
        talk.over.set()
        pipe.abort()

    run(test)


def test_the_listener_hears_of_a_client_that_does_not_read() -> None:
    """While the buffer is over its mark nothing may be said, and both ends of that are told."""

    async def test() -> None:
        protocol, pipe, talk = await talking()
        ear = Ear(talk.link)
        talk.link.say(b"{}")
        assert pipe.written == b"\x81\x02{}"
        protocol.pause_writing()
        assert not talk.link.is_writable
        protocol.resume_writing()
        assert talk.link.is_writable
        assert ear.heard == ["blocked", "unblocked"]
        talk.over.set()
        pipe.abort()
        assert not talk.link.is_writable

    run(test)


def test_finishing_is_heard_and_cut_off() -> None:
    """After the close of the application what comes is not listened to, and ASGI tells the end."""

    async def test() -> None:
        protocol, pipe, talk = await talking()
        ear = Ear(talk.link)
        assert (await talk.receive())["type"] == "websocket.connect"
        talk.link.finish()
        assert pipe.written == b"\x88\x02\x03\xe8"
        protocol.data_received(binary(b"late"))
        assert (await talk.receive())["code"] == 1000
        assert not ear.heard
        talk.over.set()
        await pipe.cut_off.wait()

    run(test)


def test_text_that_is_not_utf8_breaks_a_rule() -> None:
    """The connection is closed with 1007, and the listener is spared it."""

    async def test() -> None:
        protocol, pipe, talk = await talking()
        ear = Ear(talk.link)
        protocol.data_received(Frame(Opcode.TEXT, b"\xff\xfe").serialize(mask=True))
        assert b"\x03\xef" in pipe.written
        assert not ear.heard
        talk.over.set()
        await pipe.cut_off.wait()

    run(test)


def test_what_a_client_asked_for_ends_with_it() -> None:
    """What is waited for while the client is there is cancelled when it is gone, and comes to its result if not."""

    async def test() -> None:
        _, pipe, talk = await talking()

        async def forever() -> None:
            await asyncio.Event().wait()

        async def soon() -> int:
            await asyncio.sleep(0)
            return 7

        assert await talk.link.while_open(soon()) == 7
        waiting = asyncio.create_task(talk.link.while_open(forever()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        pipe.abort()
        for _ in range(5):
            await asyncio.sleep(0)
        assert waiting.done(), "nothing but the end of the connection may be what ends it"
        with pytest.raises(ClientGone):
            await waiting
        talk.over.set()

    run(test)


@pytest.mark.parametrize("pieces", [1, 3])
def test_a_text_that_is_too_large(pieces: int) -> None:
    """It ends the connection with 1009, in pieces too, and nobody looks at it; a picture of that size is none."""

    async def test() -> None:
        gate = Gate(Settings())
        gate.max_text_bytes = 300
        protocol, pipe, talk = await talking(gate=gate)
        ear = Ear(talk.link)
        text = b"x" * 303
        protocol.data_received(binary(text) + Frame(Opcode.TEXT, text[:300]).serialize(mask=True))
        assert [len(message) for message in ear.heard] == [303, 300]
        size = len(text) // pieces
        for index in range(pieces):
            opcode, is_last = (Opcode.CONT if index else Opcode.TEXT), index == pieces - 1
            piece = Frame(opcode, text[index * size : (index + 1) * size], fin=is_last)
            protocol.data_received(piece.serialize(mask=True))
        assert b"\x03\xf1" in pipe.written
        assert len(ear.heard) == 2
        talk.over.set()
        await pipe.cut_off.wait()

    run(test)


SMALL = {
    "ping": Frame(Opcode.PING, b"!").serialize(mask=True),
    "pong": Frame(Opcode.PONG, b"").serialize(mask=True),
    "fragment": Frame(Opcode.CONT, b"f", fin=False).serialize(mask=True),
    "empty fragment": Frame(Opcode.CONT, b"", fin=False).serialize(mask=True),
    "tiny message": Frame(Opcode.BINARY, b"m").serialize(mask=True),
    "text": Frame(Opcode.TEXT, b"t").serialize(mask=True),
}
BEGUN = Frame(Opcode.BINARY, b"a", fin=False).serialize(mask=True)


def narrow_gate(codes: list[str]) -> Gate:
    """A gate that lets twenty small frames pass, and no more, as its clock stands still."""
    return Gate(Settings(max_small_frames_per_s=10), refused=codes.append, clock=ManualClock())


@pytest.mark.parametrize("kind", SMALL)
def test_a_flood_of_small_frames_ends_the_connection(kind: str) -> None:
    """With `rate_limited` and 1008; the rest of the flood is neither parsed nor read, and the client is cut off."""

    async def test() -> None:
        codes: list[str] = []
        protocol, pipe, talk = await talking(gate=narrow_gate(codes))
        ear = Ear(talk.link)
        begun = BEGUN if "fragment" in kind else b""
        protocol.data_received(begun + SMALL[kind] * (20 - bool(begun)))
        heard = len(ear.heard)
        assert talk.link.breach is None
        pipe.written = b""
        protocol.data_received(SMALL[kind] * 10_000)
        assert b'"code":"rate_limited"' in pipe.written
        assert pipe.written.endswith(b"\x88\x0e\x03\xf0rate_limited")
        assert pipe.is_reading_paused
        assert pipe.ended_writing
        assert (len(ear.heard), talk.link.breach, codes) == (heard, "rate_limited", ["rate_limited"])
        assert not talk.link.is_writable
        assert (await talk.receive(), await talk.receive())[1]["type"] == "websocket.disconnect"
        talk.link.read_on()
        assert pipe.is_reading_paused
        talk.over.set()
        await pipe.cut_off.wait()

    run(test)


def test_small_frames_over_time_are_no_flood() -> None:
    """What is spent comes back: a client that pings now and then lives."""

    async def test() -> None:
        clock = ManualClock()
        gate = Gate(Settings(max_small_frames_per_s=10), clock=clock)
        protocol, pipe, talk = await talking(gate=gate)
        for _ in range(200):
            protocol.data_received(SMALL["ping"])
            clock.advance(0.1)
        assert talk.link.is_writable
        talk.over.set()
        pipe.abort()

    run(test)


def test_pictures_are_no_small_frames() -> None:
    """Pictures, whole and in pieces of an ordinary size, are not counted."""

    async def test() -> None:
        protocol, pipe, talk = await talking(gate=narrow_gate([]))
        ear = Ear(talk.link)
        protocol.data_received(binary(*[bytes(600)] * 50))
        assert len(ear.heard) == 50
        talk.over.set()
        pipe.abort()

    run(test)


def test_a_flood_before_the_accept_cuts_off() -> None:
    """There is no WebSocket yet that could be closed with a code."""

    async def test() -> None:
        never = asyncio.Event()

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            del scope, receive, send
            await never.wait()

        protocol, pipe = opened(slow, gate=narrow_gate([]))
        protocol.data_received(SMALL["ping"] * 100)
        assert pipe.cut_off.is_set()
        never.set()

    run(test)


def test_a_rule_broken_before_the_accept_cuts_off() -> None:
    """Nor for any other broken rule."""

    async def test() -> None:
        never = asyncio.Event()

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            del scope, receive, send
            await never.wait()

        protocol, pipe = opened(slow)
        protocol.data_received(b"\xff\xff")
        assert pipe.cut_off.is_set()
        never.set()

    run(test)


def test_a_flood_after_the_close_is_not_read() -> None:
    """A client that is told to go and begins to flood is not parsed to its end."""

    async def test() -> None:
        protocol, pipe, talk = await talking(gate=narrow_gate([]))
        talk.link.end(b"why", 1008, "slow_reader")
        protocol.data_received(SMALL["ping"] * 100)
        assert pipe.is_reading_paused
        assert pipe.written.endswith(b"slow_reader")
        talk.over.set()
        await pipe.cut_off.wait()

    run(test)


def test_after_a_broken_rule_not_all_is_read() -> None:
    """As much as a message may have is discarded, so that the sender sees the close; then reading stops."""

    async def test() -> None:
        protocol, pipe, talk = await talking()
        protocol.data_received(Frame(Opcode.BINARY, bytes(1001)).serialize(mask=True))
        assert not pipe.is_reading_paused
        protocol.data_received(bytes(1000))
        assert not pipe.is_reading_paused
        protocol.data_received(bytes(1))
        assert pipe.is_reading_paused
        talk.over.set()
        await pipe.cut_off.wait()

    run(test)
