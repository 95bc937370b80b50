"""The door: who finds a place, and that nobody enters a service that is stopping."""

import asyncio
from collections.abc import Coroutine
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.datastructures import QueryParams
from starlette.requests import HTTPConnection

from service.access import ANYONE, ApiKey
from service.api.entry import prediction_place, session_place
from service.api.stream import _accepted
from service.drain import Drain
from service.engine import Engine
from service.errors import Overloaded, RateLimited, TimeConvError, TooManySessions, Unavailable
from service.limits import NamedPlaces, NamedRates
from service.places import Places
from service.resume import Resumption
from service.sessions import Sessions
from service.settings import Settings
from service.websocket import EXTENSION
from tests.fakes import ManualClock

HERE, THERE = "203.0.113.5", "203.0.113.6"


class FakeHolder:
    """A connection that frees its places when it gives up."""

    session = cast("Any", object())

    def __init__(self, places: ExitStack) -> None:
        self.places = places
        self.gave_up = 0

    def give_up(self) -> None:
        self.gave_up += 1
        self.places.close()


def engine_of(**settings: Any) -> Any:
    """What the door asks of an engine; a clock that the test moves."""
    chosen, clock = Settings(**settings), ManualClock()
    sessions = Sessions(blocked_timeout_s=1.0, idle_timeout_s=1.0, clock=clock)
    return SimpleNamespace(
        settings=chosen,
        clock=clock,
        drain=Drain(sessions, time_s=1.0),
        resumption=Resumption(
            grace_s=1.0, most_kept=10, call_later=lambda *_: cast("Any", SimpleNamespace(cancel=int))
        ),
        key_places=NamedPlaces(lambda _: TooManySessions("of the key")),
        address_places=NamedPlaces(lambda _: TooManySessions("of the address")),
        session_places=Places(chosen.max_sessions, lambda _: Unavailable("full")),
        key_predictions=NamedPlaces(lambda _: RateLimited("of the key")),
        address_predictions=NamedPlaces(lambda _: RateLimited("of the address")),
        predict_places=Places(chosen.max_waiting_predictions, lambda _: Overloaded("full")),
        key_frames=NamedRates(1.0, burst_s=1.0, kept=10),
    )


def caller(address: str = HERE) -> HTTPConnection:
    """A connection from there, or of whom a trusted proxy says so."""
    return HTTPConnection({"type": "http", "client": (address, 1)})


def key(name: str = "key", **limits: Any) -> ApiKey:
    return ApiKey(name, name.encode(), **limits)


class TestSessions:
    @pytest.mark.parametrize(
        ("limits", "single"),
        [({}, 1), ({"max_sessions_per_address": 1}, None), ({"max_sessions": 1}, None)],
        ids=["key", "address", "all"],
    )
    def test_a_holder_hands_its_place_over(self, limits: dict[str, Any], single: int | None) -> None:
        """Whatever there is one place of: the token's session keeps it, once, and who shows none is refused."""
        engine, whose = engine_of(**limits), key(max_sessions=single)
        with ExitStack() as old, ExitStack() as new:
            old.enter_context(session_place(engine, caller(), whose))
            holder = FakeHolder(old)
            token = engine.resumption.hold(holder, whose.identity, party="")
            for shown in (None, "guess"):
                with pytest.raises(TimeConvError):
                    new.enter_context(session_place(engine, caller(), whose, shown))
            assert holder.gave_up == 0
            new.enter_context(session_place(engine, caller(), whose, token))
            assert holder.gave_up == 1
            old.close()
            with pytest.raises(TimeConvError):
                new.enter_context(session_place(engine, caller(), whose))
        with session_place(engine, caller(), whose):
            assert engine.resumption.kept == 1, "nobody took it, so it is kept"

    def test_the_other_address_is_full(self) -> None:
        """Where the upgrade finds no place after all the session is kept, and no place is lost."""
        engine = engine_of(max_sessions_per_address=1)
        with ExitStack() as old, session_place(engine, caller(THERE), ANYONE):
            old.enter_context(session_place(engine, caller(), ANYONE))
            token = engine.resumption.hold(FakeHolder(old), ANYONE.identity, party="")
            with pytest.raises(TooManySessions):
                session_place(engine, caller(THERE), ANYONE, token).__enter__()
            with session_place(engine, caller(), ANYONE, token):
                assert engine.resumption.take(token, ANYONE.identity) is FakeHolder.session

    def test_another_key(self) -> None:
        """A token of another's frees no place and ends nothing."""
        engine, whose = engine_of(max_sessions=1), key()
        with ExitStack() as old:
            old.enter_context(session_place(engine, caller(), whose))
            holder = FakeHolder(old)
            token = engine.resumption.hold(holder, whose.identity, party="")
            with pytest.raises(Unavailable):
                session_place(engine, caller(), key("thief"), token).__enter__()
            assert holder.gave_up == 0

    def test_stopping(self) -> None:
        """While the service stops a token gets nobody in, and its session is left to its connection."""
        engine = engine_of()
        engine.drain.begun = True
        holder = FakeHolder(ExitStack())
        token = engine.resumption.hold(holder, ANYONE.identity, party="")
        with pytest.raises(Unavailable):
            session_place(engine, caller(), ANYONE, token).__enter__()
        assert holder.gave_up == 0

    def test_the_stop_begins_while_a_network_is_loaded(self) -> None:
        """An upgrade that was let in, and waits for its network when the service begins to stop, opens no session."""
        engine, refused, ended = engine_of(), [], []

        async def network(_: str) -> None:
            engine.drain.begun = True

        async def accept(_: str | None) -> None:
            """As of a WebSocket."""

        engine.network = network
        engine.metrics = SimpleNamespace(refused=refused.append, text_sent=lambda _: None)

        async def while_open(awaited: Coroutine[Any, Any, None]) -> None:
            await awaited

        link = SimpleNamespace(while_open=while_open, end=lambda _, close_code, code: ended.append((close_code, code)))
        scope = {"subprotocols": [], "extensions": {EXTENSION: link}}
        websocket = SimpleNamespace(scope=scope, accept=accept, query_params=QueryParams(""))
        asyncio.run(_accepted(cast("Engine", engine), cast("Any", websocket), ANYONE, ExitStack()))
        assert (refused, ended) == (["unavailable"], [(1013, "unavailable")])


class TestPredictions:
    @pytest.mark.parametrize(
        ("whose", "mine", "theirs"),
        [
            ("key", (caller("127.0.0.1"), key()), (caller("127.0.0.1"), key("other"))),
            ("address", (caller(), ANYONE), (caller(THERE), ANYONE)),
            ("address", (caller(), key()), (caller(THERE), key("other"))),
        ],
    )
    def test_of_each_caller(self, whose: str, mine: Any, theirs: Any) -> None:
        """A key and an address have so many calls in work; others find a place, and each place comes back."""
        engine = engine_of(max_waiting_predictions_per_caller=2)
        with ExitStack() as held:
            for _ in range(2):
                held.enter_context(prediction_place(engine, *mine))
            with pytest.raises(RateLimited):
                prediction_place(engine, *mine).__enter__()
            with prediction_place(engine, *theirs):
                pass
            names = engine.key_predictions if whose == "key" else engine.address_predictions
            assert len(names) == 1
        assert (len(engine.key_predictions), len(engine.address_predictions)) == (0, 0)

    def test_this_machine_is_not_counted(self) -> None:
        """The loopback without a key is bounded by all places alone."""
        engine = engine_of(max_waiting_predictions=3, max_waiting_predictions_per_caller=1)
        with ExitStack() as held:
            for _ in range(3):
                held.enter_context(prediction_place(engine, caller("127.0.0.1"), ANYONE))
            with pytest.raises(Overloaded):
                prediction_place(engine, caller(), ANYONE).__enter__()
        assert len(engine.address_predictions) == 0

    def test_the_rate_of_a_key(self) -> None:
        """Frames over the key's rate are refused with when there is one again; other keys are not touched."""
        engine, slow = engine_of(), key(max_frames_per_s=2.0)
        with prediction_place(engine, caller(), slow) as rate:
            assert rate is not None
            rate.owe(engine.clock(), 4)
        with pytest.raises(RateLimited) as refused:
            prediction_place(engine, caller(), slow).__enter__()
        assert (refused.value.retry_after_ms, refused.value.status) == (2000, 429)
        with prediction_place(engine, caller(), key("free")) as free:
            assert free is None
        with prediction_place(engine, caller(), key("other", max_frames_per_s=2.0)):
            pass
        engine.clock.advance(2.0)
        with prediction_place(engine, caller(), slow):
            pass

    def test_a_rate_that_was_changed(self) -> None:
        """A key whose line has another rate now has that one."""
        engine = engine_of()
        with prediction_place(engine, caller(), key(max_frames_per_s=0.01)):
            pass
        with prediction_place(engine, caller(), key(max_frames_per_s=100.0)) as rate:
            assert rate is not None
            assert rate.wait_s(engine.clock()) == 0

    def test_too_fast_holds_no_place(self) -> None:
        """A call that is refused for its rate leaves nothing behind."""
        engine, slow = engine_of(), key(max_frames_per_s=0.5)
        with prediction_place(engine, caller(), slow):
            pass
        with pytest.raises(RateLimited):
            prediction_place(engine, caller(), slow).__enter__()
        assert (len(engine.key_predictions), len(engine.address_predictions)) == (0, 0)
