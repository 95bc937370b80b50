"""timeconv.js: the module for browsers and Node, in a real browser against a real server."""

import json
import math
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from hashlib import sha256
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from pydantic import SecretStr
from websockets.sync.client import connect

from loadtest.clips import encoded, moving_face, there_and_back
from service import protocol
from service.settings import Settings
from service.vision.boxes import Box
from service.vision.crop import CropGeometry, crop_face, crop_whole
from tests.chromium import DEADLINE_S, SILENT_SOCKET, Browser, Page, needs_chromium
from tests.client.fake_server import prediction, started
from tests.conftest import LiveServer, serving
from tests.cutting_proxy import cutting_proxy

pytestmark = needs_chromium

# `watch` keeps a stream's events; `until` waits for the moment at which a condition on them holds. `feed` sends frame
# after frame, each as soon as there is credit.
HELPERS = """(async () => {
    window.timeconvjs = await import("/page/timeconv.js");
    window.watch = (stream) => {
        const events = [], waiting = new Set();
        stream.on("*", (event) => {
            events.push(event);
            for (const look of waiting) look();
        });
        const of = (type) => events.filter((event) => event.type === type);
        const until = (condition) => new Promise((resolve) => {
            const look = () => condition(of, stream) && (waiting.delete(look), resolve());
            waiting.add(look);
            look();
        });
        return {events, of, until};
    };
    window.feed = async (stream) => {
        try {
            for (let i = 0; ; i += 1) await stream.send(jpegs[i % jpegs.length], {data: i});
        } catch (error) {
            if (!(error instanceof timeconvjs.TimeConvError)) throw error;
        }
    };
    window.summed = ({sent, lost, inFlight, outcomes}) =>
        sent === lost + inFlight + Object.values(outcomes).reduce((sum, count) => sum + count, 0);
})()"""

STARTED = protocol.encode(started(max_in_flight=2)).decode()
PREDICTED = protocol.encode(prediction(0)).decode()


@cache
def pictures() -> str:
    """A clip of a face that may be repeated, for JavaScript."""
    return json.dumps([b64encode(jpeg).decode() for jpeg in there_and_back(encoded(islice(moving_face(100), 20)))])


@contextmanager
def opened(browser: Browser, url: str) -> Iterator[Page]:
    """A tab that has the module and pictures of a face; not the page itself, which would take its time."""
    with browser.page(url + "/healthz") as page:
        page.run(
            f"void (window.jpegs = {pictures()}.map((text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0))))"
        )
        page.run(HELPERS)
        yield page


def talk(page: Page, body: str) -> Any:
    """What the body of an async function returns."""
    return page.run(f"(async () => {{ const {{connect, TimeConvError}} = timeconvjs; {body} }})()")


class TestAgainstTheServer:
    def test_every_frame_has_its_outcome(self, browser: Browser, live_server: LiveServer) -> None:
        """Predictions come in the order of the frames; the totals of the server are the counts of the client."""
        with opened(browser, live_server.url) as page:
            told = talk(
                page,
                """const stream = connect(location.href, {options: {freshness: "every"}});
                const predicted = [], seen = [];
                (async () => {
                    for (let i = 0; i < 12; i += 1) await stream.send(jpegs[i], {data: i});
                    stream.close();
                })();
                for await (const event of stream) {
                    seen.push(event.type);
                    if (event.type === "prediction") predicted.push(event.frame.data);
                }
                return {predicted, counts: stream.counts, totals: await stream.close(), last: seen.at(-1),
                        face: stream.session.labels.length};""",
            )
        assert told["predicted"] == list(range(4, 12))
        outcomes = {"window_filling": 4, "prediction": 8}
        assert told["counts"] == {"sent": 12, "lost": 0, "inFlight": 0, "outcomes": outcomes}
        assert told["totals"] == {"received": 12, "outcomes": outcomes}
        assert (told["last"], told["face"]) == ("closed", 7)

    @pytest.mark.parametrize("freshness", ["latest", "every"])
    def test_a_broken_connection_is_gone_on_with(
        self, browser: Browser, live_server: LiveServer, freshness: str
    ) -> None:
        """The session is the same after a break, with its options; frames on their way are lost, told once."""
        with (
            cutting_proxy(urlsplit(live_server.url).port or 0) as proxy,
            opened(browser, proxy.url) as page,
        ):
            talk(
                page,
                f"""const options = {{freshness: "{freshness}"}};
                window.stream = connect(location.href, {{options, reconnect: {{firstMs: 1}}}});
                window.seen = watch(stream);
                feed(stream);
                await seen.until((of) => of("prediction").length >= 2);
                await stream.update({{stride: 2}});""",
            )
            proxy.cut()
            told = talk(
                page,
                """await seen.until((of) => of("started").length === 2);
                const after = seen.of("prediction").length;
                await seen.until((of) => of("prediction").length >= after + 2);
                const totals = await stream.close();
                return {started: seen.of("started").map(({message}) => message), totals, counts: stream.counts,
                        states: seen.of("state"), lost: seen.of("lost").map(({frame}) => frame.id),
                        answered: [...seen.of("prediction"), ...seen.of("frame")].map(({frame}) => frame.id)};""",
            )
        first, again = told["started"]
        assert (again["resumed"], again["session"]) == (True, first["session"])
        assert again["options"]["stride"] == 2
        broke = next(state for state in told["states"] if state["state"] == "waiting")
        assert (broke["error"]["code"], broke["willResume"]) == ("connection_lost", True)
        assert len(told["lost"]) == told["counts"]["lost"]
        assert sorted(told["lost"] + told["answered"]) == list(range(told["counts"]["sent"]))
        # What of the lost ones had come to the server is in its totals, and what came from it as well.
        received, outcomes = told["totals"]["received"], told["totals"]["outcomes"]
        assert told["counts"]["sent"] - told["counts"]["lost"] <= received <= told["counts"]["sent"]
        assert sum(outcomes.values()) == received

    @pytest.mark.parametrize("freshness", ["latest", "every"])
    def test_a_server_that_restarts_is_left_in_order_and_found_again(self, browser: Browser, freshness: str) -> None:
        """It says `goaway`; everything sent is answered; with the next one another session begins; their sums agree."""
        with ExitStack() as up:
            server = up.enter_context(serving(Settings(port=0)))
            with opened(browser, server.url) as page:
                talk(
                    page,
                    f"""const options = {{freshness: "{freshness}"}}, reconnect = {{firstMs: 20, mostMs: 100}};
                    window.stream = connect(location.href, {{reconnect, options}});
                    window.seen = watch(stream);
                    feed(stream);
                    await seen.until((of) => of("prediction").length >= 2);""",
                )
                up.close()
                gone = talk(
                    page,
                    """await seen.until((of, {state}) => state.error?.code === "unreachable");
                    return {goaways: seen.of("goaway").length, counts: stream.counts, ended: seen.of("ended")[0],
                            summed: summed(stream.counts)};""",
                )
                with serving(Settings(port=urlsplit(server.url).port)):
                    again = talk(
                        page,
                        """const before = seen.of("prediction").length;
                        await seen.until((of) => of("prediction").length > before);
                        const totals = await stream.close();
                        const sessions = seen.of("started").map(({message}) => message);
                        return {sessions, totals, counts: stream.counts};""",
                    )
        assert (gone["goaways"], gone["counts"]["lost"], gone["summed"]) == (1, 0, True)
        assert gone["ended"]["totals"] == {"received": gone["counts"]["sent"], "outcomes": gone["counts"]["outcomes"]}
        assert [session["resumed"] for session in again["sessions"]] == [False, False]
        assert again["counts"]["lost"] == 0
        both = gone["ended"]["totals"], again["totals"]
        assert sum(totals["received"] for totals in both) == again["counts"]["sent"]
        outcomes = sum((Counter(totals["outcomes"]) for totals in both), Counter())
        assert outcomes == again["counts"]["outcomes"]

    def test_a_wrong_key_ends_it(self, browser: Browser) -> None:
        """The stream is at its end with what the server said; a right one is let in; nobody can send to what ended."""
        key = "tc_" + "k" * 43
        keys = SecretStr(f"module sha256:{sha256(key.encode()).hexdigest()}")
        with serving(Settings(port=0, keys=keys, drain_ms=0)) as server, opened(browser, server.url) as page:
            told = talk(
                page,
                f"""const wrong = connect(location.href, {{key: "tc_wrong"}});
                const problem = await (async () => {{ for await (const event of wrong); }})().catch((error) => error);
                const sent = await wrong.send(jpegs[0]).catch(({{code}}) => code);
                const right = connect(location.href, {{key: async () => "{key}"}});
                const seen = watch(right);
                await seen.until((of) => of("started").length);
                const totals = await right.close();
                return {{problem: {{...problem}}, isOurs: problem instanceof TimeConvError, sent, totals}};""",
            )
        problem = told["problem"]
        assert (problem["code"], problem["status"], problem["retryable"]) == ("unauthorized", 401, False)
        assert (told["isOurs"], told["sent"], told["totals"]["received"]) == (True, "unauthorized", 0)

    def test_a_full_server_is_tried_again(self, browser: Browser) -> None:
        """It waits at least as long as it was told, and gets in once there is room."""
        with serving(Settings(port=0, max_sessions=1, drain_ms=0)) as server, opened(browser, server.url) as page:
            with connect(server.ws) as other:
                assert "session.started" in other.recv(DEADLINE_S)
                waits = talk(
                    page,
                    """window.stream = connect(location.href);
                    window.seen = watch(stream);
                    await seen.until((of, {state}) => state.state === "waiting");
                    return {...stream.state, error: {...stream.state.error}};""",
                )
            # The server frees the place when it sees that the other has gone, which a refusal more may come before.
            state = talk(
                page,
                """stream.on("state", ({state}) => state === "waiting" && queueMicrotask(() => stream.reconnect()));
                stream.reconnect();
                await seen.until((of) => of("started").length);
                await stream.close();
                return stream.state.state;""",
            )
        error = waits["error"]
        assert (error["code"], error["status"], error["retryable"]) == ("at_capacity", 503, True)
        assert waits["retryInMs"] >= error["retryAfterMs"] > 0
        assert state == "closed"

    def test_options_change_or_stay_whole(self, browser: Browser, live_server: LiveServer) -> None:
        """A good update is answered, an early one too; a bad one gets an error by code, and the old options stay."""
        with opened(browser, live_server.url) as page:
            told = talk(
                page,
                """const stream = connect(location.href);
                const early = stream.update({max_age_ms: 900});
                const seen = watch(stream);
                await seen.until((of) => of("started").length);
                const good = await stream.update({stride: 3});
                const bad = await stream.update({stride: 9}).catch((error) => error);
                await stream.close();
                return {early: await early, good, bad: {...bad}, options: stream.options,
                        begun: seen.of("started")[0].message.options};""",
            )
        assert told["early"]["options"] == {**told["begun"], "max_age_ms": 900}
        assert (told["good"]["options"]["stride"], told["good"]["by"]) == (3, "client")
        assert (told["bad"]["code"], told["bad"]["retryable"]) == ("bad_option", False)
        assert told["options"] == {"timestamps": True, "max_age_ms": 900, "stride": 3}

    def test_bad_options_end_it(self, browser: Browser, live_server: LiveServer) -> None:
        """What the server refuses after the upgrade is told, and not tried again."""
        with opened(browser, live_server.url) as page:
            error = talk(
                page,
                """const stream = connect(location.href, {options: {model: "nobody"}});
                return (async () => { for await (const event of stream); })().catch((error) => ({...error}));""",
            )
        assert (error["code"], error["closeCode"]) == ("unknown_model", 1008)

    def test_a_hidden_page_has_no_session(self, browser: Browser, live_server: LiveServer) -> None:
        """Its session ends in order, and another one begins when it is seen again."""
        with opened(browser, live_server.url) as page:
            told = talk(
                page,
                """const stream = connect(location.href), seen = watch(stream);
                const hide = (hidden) => {
                    Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
                    document.dispatchEvent(new Event("visibilitychange"));
                };
                await seen.until((of) => of("started").length === 1);
                hide(true);
                await seen.until((of) => of("ended").length === 1);
                const paused = stream.state.state;
                const sent = stream.trySend(jpegs[0]);
                hide(false);
                await seen.until((of) => of("started").length === 2);
                await stream.close();
                return {paused, sent, ended: seen.of("ended").map(({totals}) => totals.received)};""",
            )
        assert told == {"paused": "paused", "sent": None, "ended": [0, 0]}


class TestByAScript:
    """What a server says is the test's: `socket` is the newest, and answers nothing by itself."""

    def test_credit_is_never_exceeded(self, browser: Browser, live_server: LiveServer) -> None:
        """Without credit a frame is dropped; a range of outcomes gives back that of each; an update may change it."""
        with opened(browser, live_server.url) as page:
            page.run(SILENT_SOCKET)
            told = talk(
                page,
                f"""const stream = connect(location.href), seen = watch(stream);
                const burst = (n) => [...Array(n)].map(() => stream.trySend(jpegs[0]) !== null);
                await opened(1);
                const early = burst(1);
                socket.say({STARTED});
                const first = burst(4);
                socket.say({{type: "frames", from: 0, to: 1, outcome: "superseded"}});
                const second = burst(3);
                socket.say({{type: "session.updated", options: {{}}, from_seq: 4, max_in_flight: 4, by: "service"}});
                const third = burst(3);
                const waiting = stream.send(jpegs[0]);
                socket.say({{type: "frame", seq: 2, outcome: "no_face", age_ms: 1, detail: {{}}}});
                return {{early, first, second, third, waited: (await waiting).seq, sent: socket.sent.length,
                         outcomes: seen.of("frame").map(({{outcome}}) => outcome), summed: summed(stream.counts)}};""",
            )
        assert told == {
            "early": [False],
            "first": [True, True, False, False],
            "second": [True, True, False],
            "third": [True, True, False],
            "waited": 6,
            "sent": 7,
            "outcomes": ["superseded", "superseded", "no_face"],
            "summed": True,
        }

    def test_what_is_not_taken_stops_the_sender(self, browser: Browser, live_server: LiveServer) -> None:
        """Events that an iterator leaves lying are bounded: with 256 of them no frame is sent until one is taken."""
        with opened(browser, live_server.url) as page:
            page.run(SILENT_SOCKET)
            told = talk(
                page,
                f"""const stream = connect(location.href), iterator = stream[Symbol.asyncIterator]();
                await opened(1);
                socket.say({STARTED});
                let sent = 0;
                while (stream.trySend(jpegs[0])) {{
                    socket.say({{type: "frame", seq: sent, outcome: "no_face", age_ms: 1, detail: {{}}}});
                    sent += 1;
                }}
                await iterator.next();
                const again = stream.trySend(jpegs[0]) !== null;
                await iterator.return();
                return {{sent, again, after: stream.free}};""",
            )
        # `connecting`, `open` and `started` are events as well.
        assert told == {"sent": 256 - 3, "again": True, "after": True}

    def test_a_token_is_shown_only_where_it_helps(self, browser: Browser, live_server: LiveServer) -> None:
        """After a break the session's token is offered, until it is used; after an error that ends the session not."""
        with opened(browser, live_server.url) as page:
            page.run(SILENT_SOCKET)
            told = talk(
                page,
                f"""const stream = connect(location.href, {{reconnect: {{firstMs: 1, mostMs: 1}}}}), offers = [];
                const offer = async (n) => {{
                    await opened(n);
                    offers.push(socket.subprotocols.filter((name) => name.startsWith("timeconv.resume.")));
                }};
                const start = (token) => socket.say({{...{STARTED}, resume_token: token}});
                await offer(1);
                start("one");
                socket.end(1006);
                await offer(2);
                socket.end(1006);
                await offer(3);
                start("two");
                const fail = (code) => {{
                    const about = {{message: "", retryable: false, retry_after_ms: null, close_code: 1008}};
                    socket.say({{type: "error", code, ...about}});
                    socket.end(1008);
                }};
                fail("slow_reader");
                await offer(4);
                start("three");
                fail("resumed_elsewhere");
                return {{offers, state: stream.state.state, code: stream.state.error.code}};""",
            )
        assert told["offers"] == [[], ["timeconv.resume.one"], ["timeconv.resume.one"], []]
        assert (told["state"], told["code"]) == ("closed", "resumed_elsewhere")

    def test_an_update_is_answered_in_the_end(self, browser: Browser, live_server: LiveServer) -> None:
        """One whose connection broke is asked again of the next session, before it gets a frame."""
        with opened(browser, live_server.url) as page:
            page.run(SILENT_SOCKET)
            told = talk(
                page,
                f"""const stream = connect(location.href, {{reconnect: {{firstMs: 1}}}});
                stream.on("started", () => stream.trySend(jpegs[0]));
                await opened(1);
                socket.say({STARTED});
                const updated = stream.update({{stride: 2}});
                socket.end(1006);
                await opened(2);
                const url = socket.url;
                socket.say({STARTED});
                const [first, second] = socket.sent;
                socket.say({{type: "session.updated", options: {{}}, from_seq: 0, max_in_flight: 2, by: "client"}});
                await updated;
                return {{url, first, second: typeof second, options: stream.options}};""",
            )
        assert "stride" not in told["url"]
        assert json.loads(told["first"]) == {"type": "session.update", "options": {"stride": 2}}
        assert (told["second"], told["options"]["stride"]) == ("object", 2)

    def test_a_dead_connection_is_noticed(self, browser: Browser, live_server: LiveServer) -> None:
        """Where frames wait and nothing comes, the connection counts as broken, and its frames as lost, once each."""
        with opened(browser, live_server.url) as page:
            page.run(SILENT_SOCKET)
            told = talk(
                page,
                f"""const stream = connect(location.href, {{silenceMs: 1, reconnect: {{firstMs: 1}}}});
                const seen = watch(stream);
                await opened(1);
                socket.say({STARTED});
                const dead = socket;
                stream.trySend(jpegs[0]);
                stream.trySend(jpegs[1]);
                await opened(2);
                dead.say({{type: "frame", seq: 0, outcome: "no_face", age_ms: 1, detail: {{}}}});
                dead.say({STARTED});
                dead.end(1006);
                const [started, frames] = [seen.of("started").length, seen.of("frame").length];
                return {{started, frames, lost: seen.of("lost").map(({{frame}}) => frame.seq),
                         ended: seen.of("ended").length, summed: summed(stream.counts)}};""",
            )
        assert told == {"started": 1, "lost": [0, 1], "frames": 0, "ended": 1, "summed": True}

    def test_an_older_session_is_waited_for(self, browser: Browser, live_server: LiveServer) -> None:
        """Where no other try can help, a session that still gets its last answers is left to; then comes the reason."""
        with opened(browser, live_server.url) as page:
            page.run(SILENT_SOCKET)
            told = talk(
                page,
                f"""const stream = connect(location.href), seen = watch(stream);
                await opened(1);
                socket.say({STARTED});
                const older = socket;
                stream.trySend(jpegs[0]);
                stream.pause();
                stream.unpause();
                await opened(2);
                const about = {{message: "", retryable: false, retry_after_ms: null, close_code: 1008}};
                socket.say({{type: "error", code: "unknown_model", ...about}});
                socket.end(1008);
                const early = seen.of("closed").length;
                older.say({{type: "frame", seq: 0, outcome: "no_face", age_ms: 1, detail: {{}}}});
                older.say({{type: "session.closed", totals: {{received: 1, outcomes: {{no_face: 1}}}}}});
                older.end(1000);
                const [{{late}}] = seen.of("frame"), [{{error}}] = seen.of("closed");
                return {{early, late, code: error.code, summed: summed(stream.counts)}};""",
            )
        assert told == {"early": 0, "late": True, "code": "unknown_model", "summed": True}

    def test_without_a_network_it_waits_for_one(self, browser: Browser, live_server: LiveServer) -> None:
        """Offline it does not hammer; the moment there is a network it tries."""
        with opened(browser, live_server.url) as page:
            page.run(SILENT_SOCKET)
            told = talk(
                page,
                f"""const stream = connect(location.href);
                await opened(1);
                socket.say({STARTED});
                Object.defineProperty(navigator, "onLine", {{value: false, configurable: true}});
                socket.end(1006);
                const {{state, retryInMs}} = stream.state;
                delete navigator.onLine;
                dispatchEvent(new Event("online"));
                await opened(2);
                return {{state, longs: retryInMs >= 7500, now: stream.state.state}};""",
            )
        assert told == {"state": "offline", "longs": True, "now": "connecting"}

    def test_the_end_waits_for_answers_as_long_as_they_come(self, browser: Browser, live_server: LiveServer) -> None:
        """While frames wait for their answers a session that ends is given up after a silence only."""
        with opened(browser, live_server.url) as page:
            page.run(SILENT_SOCKET)
            told = talk(
                page,
                f"""const stream = connect(location.href, {{silenceMs: 54321}}), seen = watch(stream), waits = [];
                await opened(1);
                socket.say({STARTED});
                stream.trySend(jpegs[0]);
                stream.trySend(jpegs[1]);
                const timer = setTimeout;
                window.setTimeout = (then, ms) => (waits.push(ms), timer(then, ms));
                const closing = stream.close();
                const answer = {{type: "frame", outcome: "no_face", age_ms: 1, detail: {{}}}};
                for (const seq of [0, 1]) socket.say({{...answer, seq}});
                socket.say({{type: "session.closed", totals: {{received: 2, outcomes: {{no_face: 2}}}}}});
                socket.end(1000);
                await closing;
                return {{waits, lost: seen.of("lost").length}};""",
            )
        assert told == {"waits": [54321, 54321, 3000], "lost": 0}

    def test_how_long_silence_is_borne(self, browser: Browser, live_server: LiveServer) -> None:
        """Longer with `every`, of which the service reads later what is over a rate; also once that is updated."""
        with opened(browser, live_server.url) as page:
            page.run(SILENT_SOCKET)
            told = talk(
                page,
                f"""const stream = connect(location.href), waits = [], timer = setTimeout;
                await opened(1);
                socket.say({STARTED});
                window.setTimeout = (then, ms) => (waits.push(ms), timer(then, ms));
                stream.trySend(jpegs[0]);
                const updated = stream.update({{freshness: "every"}});
                socket.say({{type: "session.updated", options: {{}}, from_seq: 1, max_in_flight: 8, by: "client"}});
                await updated;
                stream.trySend(jpegs[0]);
                socket.say({{type: "frame", seq: 0, outcome: "no_face", age_ms: 1, detail: {{}}}});
                return waits;""",
            )
        assert told == [8000, 30000]

    def test_a_vast_range_takes_no_time(self, browser: Browser, live_server: LiveServer) -> None:
        """Outcomes for frames that were never sent neither take time nor give credit."""
        with opened(browser, live_server.url) as page:
            page.run(SILENT_SOCKET)
            told = talk(
                page,
                f"""const stream = connect(location.href), seen = watch(stream);
                await opened(1);
                socket.say({STARTED});
                stream.trySend(jpegs[0]);
                socket.say({{type: "frames", from: 0, to: 1e15, outcome: "superseded"}});
                return {{counts: stream.counts, heard: seen.of("frame").length}};""",
            )
        counts = {"sent": 1, "lost": 0, "inFlight": 0, "outcomes": {"superseded": 1}}
        assert told == {"counts": counts, "heard": 1}

    def test_what_is_new_is_passed_over(self, browser: Browser, live_server: LiveServer) -> None:
        """Messages of unknown type, and fields that are not there or too many, harm nothing."""
        with opened(browser, live_server.url) as page:
            page.run(SILENT_SOCKET)
            told = talk(
                page,
                f"""const stream = connect(location.href), seen = watch(stream);
                await opened(1);
                socket.say({{type: "weather", sun: true}});
                socket.say({{...{STARTED}, sun: true}});
                stream.trySend(jpegs[0]);
                const updated = stream.update({{stride: 9}}).catch(({{code}}) => code);
                socket.say({{type: "weather"}});
                socket.say({{type: "error", code: "bad_option", message: "stride", retryable: false}});
                socket.say({{type: "frame", seq: 0, outcome: "sunburnt", age_ms: 1, detail: {{}}, sun: true}});
                socket.end(1006);
                return {{updated: await updated, outcomes: stream.counts.outcomes, state: stream.state.error.code}};""",
            )
        assert told == {"updated": "bad_option", "outcomes": {"sunburnt": 1}, "state": "connection_lost"}

    def test_what_is_no_picture(self, browser: Browser, live_server: LiveServer) -> None:
        """A path, say, in the place of its bytes is an error, as is a time that cannot be; no credit is gone."""
        with opened(browser, live_server.url) as page:
            page.run(SILENT_SOCKET)
            told = talk(
                page,
                f"""const wrong = [];
                const attempt = (stream, ...given) => {{
                    try {{ stream.trySend(...given); }} catch (error) {{ wrong.push(error.name); }}
                }};
                const stream = connect(location.href, {{options: {{timestamps: false}}}});
                await opened(1);
                socket.say({STARTED});
                for (const jpeg of ["1.jpg", 5, null, [1, 2]]) attempt(stream, jpeg);
                const view = stream.trySend(new DataView(jpegs[0].buffer)) !== null;
                const plain = {{...stream.counts, socket: socket.sent.length}};
                const timed = connect(location.href);
                await opened(2);
                socket.say({STARTED});
                for (const capturedUs of [-1, NaN, 2 ** 64]) attempt(timed, jpegs[0], {{capturedUs}});
                timed.trySend(new DataView(jpegs[0].buffer, 2, 6));
                timed.trySend(jpegs[0].buffer.slice(0, 4));
                const sizes = socket.sent.map(({{length}}) => length);
                return {{wrong, view, plain, seqs: timed.counts.sent, sizes}};""",
            )
        assert told["wrong"] == ["TypeError"] * 4 + ["RangeError"] * 3
        assert (told["view"], told["plain"]["sent"], told["plain"]["socket"]) == (True, 1, 1)
        assert (told["seqs"], told["sizes"]) == (2, [14, 12])

    def test_a_page_that_is_seen_again_leaves_a_pause_alone(self, browser: Browser, live_server: LiveServer) -> None:
        """Who pauses the stream unpauses it: hiding the page and coming back does not."""
        with opened(browser, live_server.url) as page:
            page.run(SILENT_SOCKET)
            told = talk(
                page,
                f"""const stream = connect(location.href), seen = watch(stream), states = [];
                const hide = (hidden) => {{
                    Object.defineProperty(document, "hidden", {{value: hidden, configurable: true}});
                    document.dispatchEvent(new Event("visibilitychange"));
                    states.push(stream.state.state);
                }};
                await opened(1);
                socket.say({STARTED});
                stream.pause();
                hide(true);
                hide(false);
                dispatchEvent(new Event("pageshow"));
                states.push(stream.state.state);
                hide(true);
                stream.unpause();
                states.push(stream.state.state);
                hide(false);
                return {{states, paused: seen.of("state").filter(({{state}}) => state === "paused").length}};""",
            )
        assert told == {"states": ["paused"] * 5 + ["connecting"], "paused": 1}

    def test_a_session_that_has_lasted_ends_the_outage(self, browser: Browser, live_server: LiveServer) -> None:
        """One that was open for longer than the longest wait was no failed try, also if no frame was answered."""
        with opened(browser, live_server.url) as page:
            page.run(SILENT_SOCKET)
            told = talk(
                page,
                f"""const stream = connect(location.href, {{reconnect: {{firstMs: 1, mostMs: 5, attempts: 3}}}});
                const attempts = [];
                let clock = 0;
                performance.now = () => clock;
                for (let n = 1; n <= 6; n += 1) {{
                    await opened(n);
                    socket.say({STARTED});
                    if (n > 2) clock += 6;
                    socket.end(1006);
                    attempts.push(stream.state.attempt);
                }}
                return {{attempts, state: stream.state.state}};""",
            )
        assert told == {"attempts": [1, 2, 1, 1, 1, 1], "state": "waiting"}

    def test_leaving_an_iteration_that_waits(self, browser: Browser, live_server: LiveServer) -> None:
        """Who waits for the next event when the iterator is given back is told that there is none."""
        with opened(browser, live_server.url) as page:
            page.run(SILENT_SOCKET)
            told = talk(
                page,
                """const stream = connect(location.href), iterator = stream[Symbol.asyncIterator]();
                await iterator.next();
                const waiting = iterator.next();
                await iterator.return();
                return [await waiting, await iterator.next()];""",
            )
        assert told == [{"done": True}, {"done": True}]

    def test_a_token_that_comes_too_late(self, browser: Browser, live_server: LiveServer) -> None:
        """Once the stream is paused it opens nothing."""
        with opened(browser, live_server.url) as page:
            page.run(SILENT_SOCKET)
            told = talk(
                page,
                """let give;
                const turn = () => new Promise((done) => setTimeout(done));
                const stream = connect(location.href, {token: () => new Promise((given) => (give = given))});
                await turn();
                stream.pause();
                give("token");
                await turn();
                return [stream.state.state, typeof window.socket];""",
            )
        assert told == ["paused", "undefined"]

    def test_how_long_a_token_is_trusted(self, browser: Browser, live_server: LiveServer) -> None:
        """To go on with a session the last one will do, unless nobody was let in with it."""
        with opened(browser, live_server.url) as page:
            page.run(SILENT_SOCKET)
            told = talk(
                page,
                f"""let asked = 0;
                const fetch = async () => (asked += 1, new Response('{{"subprotocol": "timeconv.auth.t"}}'));
                connect(location.href, {{fetch, reconnect: {{firstMs: 1}}}});
                const counts = [];
                for (const start of [true, false, true]) {{
                    await opened(counts.length + 1);
                    counts.push(asked);
                    if (start) socket.say({{...{STARTED}, resume_token: "token"}});
                    socket.end(1006);
                }}
                return counts;""",
            )
        assert told == [1, 1, 2]

    def test_a_token_that_does_not_come(self, browser: Browser, live_server: LiveServer) -> None:
        """Who is to give one and never answers is asked again after ten seconds."""
        with opened(browser, live_server.url) as page:
            told = talk(
                page,
                """const timer = setTimeout;
                window.setTimeout = (then, ms) => timer(then, ms === 10000 ? 0 : ms);
                const stream = connect(location.href, {token: () => new Promise(() => {})}), seen = watch(stream);
                await seen.until((of, {state}) => state.state === "waiting");
                const {code} = stream.state.error;
                await stream.close();
                return code;""",
            )
        assert told == "unreachable"

    def test_who_answers_something_else(self, browser: Browser, live_server: LiveServer) -> None:
        """A web server that is none of ours ends the stream, and its proxy that has lost ours is asked again."""
        with opened(browser, live_server.url) as page:
            told = talk(
                page,
                """const answers = {}, page = "<html>";
                for (const [status, text] of [[404, page], [405, "null"], [502, page], [200, page], [200, "null"]]) {
                    const fetch = async () => new Response(text, {status});
                    const stream = connect(location.href, {fetch}), seen = watch(stream);
                    await seen.until((of, {state}) => state.error);
                    answers[`${status} ${text}`] = [stream.state.error.code, stream.state.state];
                    stream.close();
                }
                return answers;""",
            )
        assert told == {
            "404 <html>": ["not_timeconv", "closed"],
            "405 null": ["not_timeconv", "closed"],
            "502 <html>": ["not_timeconv", "waiting"],
            "200 <html>": ["not_timeconv", "waiting"],
            "200 null": ["not_timeconv", "waiting"],
        }

    @pytest.mark.parametrize("said", ['"<html>"', '"null"', '"[]"', "new Blob()"])
    def test_what_is_no_protocol_ends_it(self, browser: Browser, live_server: LiveServer, said: str) -> None:
        """A server that says something else is not asked again."""
        with opened(browser, live_server.url) as page:
            page.run(SILENT_SOCKET)
            told = talk(
                page,
                f"""const stream = connect(location.href), seen = watch(stream);
                await opened(1);
                socket.dispatchEvent(new MessageEvent("message", {{data: {said}}}));
                return stream.state.error?.code;""",
            )
        assert told == "not_timeconv"

    def test_a_listener_that_throws_harms_nobody(self, browser: Browser, live_server: LiveServer) -> None:
        """The others hear the event, the stream goes on, and the console has the error."""
        with opened(browser, live_server.url) as page:
            page.run(SILENT_SOCKET)
            heard = talk(
                page,
                f"""const stream = connect(location.href);
                stream.on("started", () => {{ throw new Error("mine"); }});
                const seen = watch(stream);
                await opened(1);
                socket.say({STARTED});
                await new Promise((done) => setTimeout(done));
                return seen.of("started").length;""",
            )
            assert heard == 1
            assert any("mine" in complaint for complaint in page.complaints())


class TestItsParts:
    def test_tries_lie_ever_further_apart(self, browser: Browser, live_server: LiveServer) -> None:
        """The time is doubled up to a bound, half of it chance, on top of what the server asked for."""
        with opened(browser, live_server.url) as page:
            told = talk(
                page,
                """const delay = timeconvjs.retryDelayMs, bounds = {firstMs: 100, mostMs: 1000};
                const at = (attempt, random, least = 0) => delay(attempt, least, bounds, () => random);
                return [at(0, 0), at(0, 1), at(1, 1), at(3, 1), at(9, 1), at(Infinity, 1), at(0, 1, 5000)];""",
            )
        assert told == [50, 100, 200, 800, 1000, 1000, 5100]

    def test_a_wait_is_never_none(self, browser: Browser, live_server: LiveServer) -> None:
        """Neither a first wait of 0 nor one of months, which timers take for none, makes it hammer."""
        with opened(browser, live_server.url) as page:
            told = talk(
                page,
                """const delay = timeconvjs.retryDelayMs, most = 2 ** 31 - 1;
                return [delay(Infinity, 0, {firstMs: 0, mostMs: 50}, () => 1), delay(0, 1e12) === most,
                        delay(2, 0, {firstMs: 1e9, mostMs: Infinity}, () => 1) === most];""",
            )
        assert told == [50, True, True]

    def test_a_message_begins_with_its_time(self, browser: Browser, live_server: LiveServer) -> None:
        """Bytes and blobs get eight bytes, big-endian microseconds, before them."""
        with opened(browser, live_server.url) as page:
            told = talk(
                page,
                """const bytes = timeconvjs.stamped(new Uint8Array([7, 8]).subarray(1), 1795446081691028);
                const blob = timeconvjs.stamped(new Blob([new Uint8Array([8])]), 1795446081691028);
                return [[...bytes], [...new Uint8Array(await blob.arrayBuffer())]];""",
            )
        expected = [*(1795446081691028).to_bytes(8, "big"), 8]
        assert told == [expected, expected]

    @pytest.mark.parametrize("box", [(60, 40, 70, 74), (3.5, -8, 90, 92), (100, 70, 31, 30), (10, -20, 240, 250)])
    def test_a_face_is_cut_as_the_service_does(
        self, browser: Browser, live_server: LiveServer, box: tuple[float, float, float, float]
    ) -> None:
        """A crop of 96 pixels, squeezed to 48 by the service, is what it had cut itself, to a gray level."""
        gray = next(moving_face(1)).mean(axis=2).astype(np.uint8)
        height, width = gray.shape
        geometry = CropGeometry(1.127, 0.01, -0.106)
        crop = json.dumps({"scale": geometry.scale, "dx": geometry.dx, "dy": geometry.dy})
        with opened(browser, live_server.url) as page:
            pixels = talk(
                page,
                f"""const text = atob("{b64encode(gray.tobytes()).decode()}");
                const pixels = Uint8Array.from(text, (c) => c.charCodeAt(0));
                const picture = {{pixels, width: {width}, height: {height}, left: 0, top: 0}};
                const square = timeconvjs.cropSquare({json.dumps(box)}, {crop});
                return [...timeconvjs.resample(picture, square, 96)];""",
            )
        sent = np.round(np.array(pixels)).astype(np.uint8).reshape(96, 96)
        difference = np.abs(crop_whole(sent).astype(int) - crop_face(gray, Box(*box), geometry).astype(int))
        assert difference.mean() < 1

    def test_a_face_is_followed_to_parts_of_a_pixel(self, browser: Browser, live_server: LiveServer) -> None:
        """It is found where it has moved to, and lost where it is not."""
        with opened(browser, live_server.url) as page:
            told = talk(
                page,
                """const pixels = (right, down) => {
                    const at = (x, y) => 128 + 60 * Math.sin(x / 9) * Math.cos(y / 7) + 40 * Math.sin((x + y) / 15);
                    const place = (i) => [i % 200 - right, Math.floor(i / 200) - down];
                    return Uint8Array.from({length: 200 * 160}, (_, i) => at(...place(i)));
                };
                const whole = {width: 200, height: 160, left: 0, top: 0};
                const picture = (right, down) => ({pixels: pixels(right, down), ...whole});
                const follower = new timeconvjs.Follower(picture(0, 0), [70, 50, 60, 60]);
                const near = follower.follow(picture(3.3, -2.6));
                const flat = {pixels: new Uint8Array(200 * 160).fill(9), ...whole};
                return {near, lost: follower.follow(flat)};""",
            )
        assert told["near"] == pytest.approx([73.3, 47.4, 60, 60], abs=0.4)
        assert told["lost"] is None


# A canvas stands for the camera: it shows a picture of the clip, or nothing.
STAGE = """
    const canvas = Object.assign(document.createElement("canvas"), {width: 320, height: 240});
    const context = canvas.getContext("2d", {willReadFrequently: true});
    const pictures = await Promise.all(jpegs.map((jpeg) => createImageBitmap(new Blob([jpeg], {type: "image/jpeg"}))));
    let moment = 0;
    const show = (face) => {
        if (face) context.drawImage(pictures[moment++ % pictures.length], 0, 0);
        else context.fillRect(0, 0, 320, 240);
        return canvas;
    };
    // One frame after the other, each answered before the next, until a condition holds.
    const play = async (face, condition) => {
        while (!condition()) {
            const frame = await faces.trySend(show(face));
            if (frame) await seen.until(() => stream.inFlight === 0);
            else await new Promise((turn) => setTimeout(turn));
        }
    };
"""


class TestTheFaceAlone:
    def test_only_the_face_is_sent_once_it_is_known(self, browser: Browser, live_server: LiveServer) -> None:
        """The window stays full over looks at whole frames; box and id are those of the frame the face is cut from."""
        with opened(browser, live_server.url) as page:
            told = talk(
                page,
                f"""const stream = connect(location.href), seen = watch(stream);
                const faces = new timeconvjs.FaceSender(stream, {{lookEveryMs: 1}});
                {STAGE}
                await play(true, () => faces.counts.faces >= 30 && faces.counts.looks >= 3);
                const whole = seen.of("prediction").filter(({{frame}}) => !frame.place);
                const alone = seen.of("prediction").filter(({{frame}}) => frame.place);
                const filling = seen.of("frame").filter(({{outcome}}) => outcome === "window_filling");
                await stream.close();
                return {{counts: faces.counts, region: stream.session.options.region,
                         filling: filling.map(({{message}}) => message.detail.box),
                         before: whole.at(-1).message.faces[0], after: alone[0].message.faces[0],
                         summed: summed(stream.counts)}};""",
            )
        counts = told["counts"]
        assert counts["lost"] == 0
        # Five frames for each of the two windows: whole frames, then faces.
        assert (len(told["filling"]), counts["whole"]) == (8, 5)
        before, after = told["before"], told["after"]
        assert np.array(told["filling"]) == pytest.approx(np.array([before["box"]] * 8), abs=12)
        assert after["id"] == before["id"]
        assert after["box"] == pytest.approx(before["box"], abs=12)
        assert after["quality"]["size"] == pytest.approx(before["quality"]["size"], abs=12)
        assert (told["region"], told["summed"]) == ("whole", True)

    def test_a_face_that_is_lost_is_sought_in_whole_frames(self, browser: Browser, live_server: LiveServer) -> None:
        """The next frame goes out whole, the service says that there is no face, and the window begins anew."""
        with opened(browser, live_server.url) as page:
            told = talk(
                page,
                f"""const stream = connect(location.href), seen = watch(stream);
                const faces = new timeconvjs.FaceSender(stream, {{lookEveryMs: 60000}});
                {STAGE}
                await play(true, () => faces.counts.faces >= 6);
                const from = seen.events.length;
                await play(false, () => faces.counts.whole >= 8);
                const gone = seen.events.slice(from).filter(({{outcome}}) => outcome).map(({{outcome}}) => outcome);
                const then = seen.events.length;
                await play(true, () => faces.sendsFace);
                const back = seen.events.slice(then).filter(({{outcome}}) => outcome).map(({{outcome}}) => outcome);
                await stream.close();
                return {{gone, back, lost: faces.counts.lost}};""",
            )
        assert told["gone"] == ["no_face"] * 3
        assert told["back"] == ["window_filling"] * 4 + ["prediction"]
        assert told["lost"] == 1

    def test_where_nobody_says_where_the_face_is_whole_frames_go_out(
        self, browser: Browser, live_server: LiveServer
    ) -> None:
        """A look that fails is no reason to trust an old place: whole frames are sent, and answered, as before."""
        with opened(browser, live_server.url) as page:
            told = talk(
                page,
                f"""const busy = () => new Response('{{"code":"overloaded"}}', {{status: 503}});
                const failing = async (url, request) => (url.includes("predict") ? busy() : fetch(url, request));
                const stream = connect(location.href, {{fetch: failing}}), seen = watch(stream);
                const faces = new timeconvjs.FaceSender(stream, {{lookEveryMs: 1}});
                {STAGE}
                await play(true, () => faces.counts.lost === 1);
                const whole = faces.counts.whole;
                await play(true, () => faces.counts.whole >= whole + 8);
                await stream.close();
                return {{counts: faces.counts, region: stream.session.options.region}};""",
            )
        assert told["counts"]["looks"] == 1
        assert told["region"] == "detect"
        assert math.isfinite(told["counts"]["bytes"])

    def test_with_more_than_one_face_asked_for_it_is_never_sent_alone(
        self, browser: Browser, live_server: LiveServer
    ) -> None:
        """A look tells of the largest only, so whoever came in later would go unseen."""
        with opened(browser, live_server.url) as page:
            told = talk(
                page,
                f"""const stream = connect(location.href), seen = watch(stream);
                const faces = new timeconvjs.FaceSender(stream, {{lookEveryMs: 60000}});
                {STAGE}
                await play(true, () => faces.counts.faces >= 2);
                await stream.update({{faces: 2}});
                const alone = faces.counts.faces;
                await play(true, () => faces.counts.whole >= 12);
                await stream.close();
                return {{more: faces.counts.faces - alone, region: stream.session.options.region}};""",
            )
        assert told == {"more": 0, "region": "detect"}

    def test_pictures_of_frames_are_not_kept(self, browser: Browser, live_server: LiveServer) -> None:
        """Once a frame has its outcome its picture is gone, whoever keeps the frame."""
        with opened(browser, live_server.url) as page:
            told = talk(
                page,
                f"""const kept = new Set(), Plain = WeakMap;
                window.WeakMap = class extends Plain {{
                    set(key, value) {{ kept.add(key); return super.set(key, value); }}
                    delete(key) {{ kept.delete(key); return super.delete(key); }}
                }};
                const stream = connect(location.href), seen = watch(stream);
                const faces = new timeconvjs.FaceSender(stream);
                window.WeakMap = Plain;
                {STAGE}
                await play(true, () => faces.counts.whole >= 5);
                await play(false, () => faces.counts.whole >= 8);
                await stream.close();
                return kept.size;""",
            )
        assert told == 0

    def test_a_picture_of_another_size(self, browser: Browser, live_server: LiveServer) -> None:
        """Where the face was is told by no picture of another size: a whole frame goes out first."""
        with opened(browser, live_server.url) as page:
            told = talk(
                page,
                f"""const stream = connect(location.href), seen = watch(stream);
                const faces = new timeconvjs.FaceSender(stream, {{lookEveryMs: 60000}});
                {STAGE}
                await play(true, () => faces.counts.faces >= 2);
                canvas.height = 241;
                const {{whole}} = faces.counts;
                await play(true, () => faces.counts.whole > whole);
                const first = seen.events.findLast(({{outcome}}) => outcome);
                await play(true, () => faces.sendsFace);
                await stream.close();
                return {{lost: faces.counts.lost, whole: first.frame.place === undefined}};""",
            )
        assert told == {"lost": 1, "whole": True}

    def test_what_is_overtaken_while_it_is_encoded(self, browser: Browser, live_server: LiveServer) -> None:
        """A whole frame when the answer comes that tells of the face, and a face when that is lost, are not sent."""
        with opened(browser, live_server.url) as page:
            page.run(SILENT_SOCKET)
            told = talk(
                page,
                f"""const stream = connect(location.href), seen = watch(stream);
                const faces = new timeconvjs.FaceSender(stream, {{lookEveryMs: 60000}});
                {STAGE}
                await opened(1);
                socket.say({STARTED});
                show(true);
                await faces.trySend(canvas);
                const whole = faces.trySend(canvas);
                const predicted = {PREDICTED};
                socket.say({{...predicted, faces: [{{...predicted.faces[0], box: [110, 70, 90, 90]}}]}});
                const overtaken = [await whole];
                const face = faces.trySend(canvas);
                const sendsFace = faces.sendsFace;
                faces.stop();
                overtaken.push(await face);
                return {{overtaken, sendsFace, sent: stream.counts.sent}};""",
            )
        assert told == {"overtaken": [None, None], "sendsFace": True, "sent": 1}
