"""Do clients come, stay, and get what they came for?"""

from grafana_foundation_sdk.models.units import BytesIEC, BytesPerSecondIEC, NoUnit, RequestsPerSecond

from monitoring.dashboards.drawing import FRAMES_PER_S, About, Query, lines, number, up_to
from monitoring.dashboards.known import BROKEN, ENDS, NO_ROOM, REFUSALS
from monitoring.dashboards.page import Page, Section
from monitoring.dashboards.promql import increase, rate, ratio, raw, total

SESSIONS = total("timeconv_sessions")
SESSIONS_PER_S = "suffix:sessions/s"


def page() -> Page:
    """For who asks why clients are gone, or cannot come in."""
    sections = [_now(), _connected(), _coming(), _refused(), _bytes()]
    return Page("sessions", "Sessions", "Do clients come, stay, and get what they came for?", sections)


def _now() -> Section:
    active = number(
        "Active sessions",
        About("How many clients are connected and read their answers?"),
        NoUnit,
        Query(total("timeconv_sessions", 'state="active"'), "active"),
        empty="no instance",
    )
    blocked = number(
        "Blocked sessions",
        About(
            "How many clients do not read their answers? After 10 s they are ended as `slow_reader`.",
            "Many at once: the network between, or a proxy that buffers.",
        ),
        NoUnit,
        Query(total("timeconv_sessions", 'state="blocked"'), "blocked"),
        empty="no instance",
    )
    kept = number(
        "Sessions kept",
        About("How many sessions whose connection broke wait for their client?", "Many: connections broke just now."),
        NoUnit,
        Query(total("timeconv_sessions_kept"), "kept"),
        empty="no instance",
    )
    connections = number(
        "Connections",
        About("How many connections of all kinds are open?", "Many more than sessions: somebody holds them open."),
        NoUnit,
        Query(total("timeconv_connections"), "connections"),
        empty="no instance",
    )
    rate_of_one = number(
        "Frames of a session, now",
        About("How many frames a second does a session send, in the mean?"),
        FRAMES_PER_S,
        Query(ratio(rate("timeconv_frames_received_total"), SESSIONS), "frames/s"),
        empty="no session",
    )
    refused = number(
        "Turned away for room",
        About(
            "How many a second are refused because all places are taken?",
            "From 1 on: more instances, or a higher limit where workers are not busy.",
            ["TimeConvRefusedForRoom"],
        ),
        RequestsPerSecond,
        Query(f"{rate('timeconv_refused_total', NO_ROOM)} or vector(0)", "refused"),
        limits=up_to(1),
    )
    return Section("Who is there?", [[active, blocked, kept, connections, rate_of_one, refused]], height=4)


def _connected() -> Section:
    states = lines(
        "Sessions",
        About(
            "How many are connected, do they read, and how many connections broke just now?",
            "A fall to 0: a restart, or nobody gets in. Blocked ones: clients that do not read.",
            ["TimeConvClientsComeBack"],
        ),
        NoUnit,
        Query(total("timeconv_sessions", by="state"), "{{state}}", ("active", "blocked")),
        Query(total("timeconv_sessions_kept"), "kept for their client"),
        stacked=True,
    )
    places = lines(
        "Sessions and connections of an instance",
        About(
            "Are clients spread over instances, and how near are the limits? These are `TIMECONV_MAX_SESSIONS`, 500 by "
            "default, and `TIMECONV_MAX_CONNECTIONS`, 2000.",
            "One instance far above the others: the balancer goes by requests, and sessions last.",
            ["TimeConvRefusedForRoom"],
        ),
        NoUnit,
        Query(total("timeconv_sessions", by="instance"), "{{instance}}, sessions"),
        Query(total("timeconv_connections", by="instance"), "{{instance}}, connections"),
    )
    return Section("Are they connected?", [[states, places]])


def _coming() -> Section:
    started = lines(
        "Sessions started",
        About("Do clients come, or come back again and again?", "Many starts with few sessions: see why they end."),
        SESSIONS_PER_S,
        Query(rate("timeconv_sessions_started_total"), "started"),
    )
    ended = lines(
        "Sessions ended",
        About(
            "Do sessions end by themselves, or are they ended? `closed` is how it should be.",
            "`disconnected`: the network or the client. `slow_reader`, `idle_timeout`: the client. `internal`: ours.",
            ["TimeConvClientsComeBack", "TimeConvRequestsFail"],
        ),
        SESSIONS_PER_S,
        Query(rate("timeconv_sessions_ended_total", by="reason"), "{{reason}}", ENDS),
        stacked=True,
        empty="none ended",
    )
    storm = lines(
        "Reconnect storm",
        About(
            "Do connections break and come back again and again? Those broken in 5 minutes, by 10 and five for each "
            "session.",
            "From 1 on they last less than a minute: a proxy's time limit, a loop of restarts, or hasty clients.",
            ["TimeConvClientsComeBack"],
        ),
        "suffix:x",
        Query(
            f"({increase('timeconv_sessions_ended_total', BROKEN, window='5m')} or vector(0)) / "
            f"(10 + 5 * sum(avg_over_time({raw('timeconv_sessions')}[5m])))",
            "broken",
        ),
        limits=up_to(1),
    )
    resumes = lines(
        "Sessions resumed",
        About(
            "Do clients get their sessions back?",
            "`not_found`: they come after `TIMECONV_RESUME_GRACE_MS`, or to another instance.",
        ),
        SESSIONS_PER_S,
        Query(rate("timeconv_resumes_total", by="result"), "{{result}}", ("resumed", "not_found")),
    )
    return Section("Do they come, and stay?", [[started, ended], [storm, resumes]])


def _refused() -> Section:
    refused = lines(
        "Refused, by code",
        About(
            "Who is turned away, and why?",
            "`at_capacity`, `overloaded`: no room. `too_many_…`, `rate_limited`: a caller's own limits. "
            "`unauthorized`, `origin_refused`: no valid key, or a site that is not allowed.",
            ["TimeConvRefusedForRoom", "TimeConvCallerLimits", "TimeConvEntryRefused"],
        ),
        RequestsPerSecond,
        Query(rate("timeconv_refused_total", by="code"), "{{code}}", REFUSALS),
        limits=up_to(1),
        empty="none refused",
    )
    limited = lines(
        "Frames dropped",
        About(
            "Which frames were not looked at? `rate_limited` came faster than is allowed, `superseded` gave way to "
            "newer ones, `abandoned` lost their client.",
            "Much `rate_limited`: a client floods. Much `superseded`: workers are saturated.",
            ["TimeConvFramesSuperseded", "TimeConvCallerLimits"],
        ),
        FRAMES_PER_S,
        *(
            Query(rate("timeconv_frames_total", f'outcome="{outcome}"'), outcome)
            for outcome in ("superseded", "rate_limited", "abandoned")
        ),
    )
    return Section("Who is turned away?", [[refused, limited]])


def _bytes() -> Section:
    up, down = (
        lines(
            title,
            About(answers, then),
            BytesPerSecondIEC,
            Query(ratio(rate(metric), SESSIONS), "a session"),
            empty="no session",
        )
        for title, answers, then, metric in (
            (
                "Bytes received of a session",
                "How much does a session upload?",
                "More than before: larger pictures than faces need, which also take longer to decode.",
                "timeconv_frame_bytes_total",
            ),
            (
                "Bytes sent to a session",
                "How much is sent back to a session?",
                "More than before: more frames, or more faces in them.",
                "timeconv_answer_bytes_total",
            ),
        )
    )
    size = lines(
        "Size of a frame",
        About("How large are frames, in the mean?", "Far above 100 KiB: clients should send smaller pictures."),
        BytesIEC,
        Query(ratio(rate("timeconv_frame_bytes_total"), rate("timeconv_frames_received_total")), "a frame"),
    )
    frames = lines(
        "Frames of a session",
        About("How many frames a second does a session send, and get answered?", "Apart: see the outcomes."),
        FRAMES_PER_S,
        Query(ratio(rate("timeconv_frames_received_total"), SESSIONS), "received"),
        Query(ratio(rate("timeconv_frame_age_seconds_count"), SESSIONS), "answered"),
        empty="no session",
    )
    return Section("What does a session send and get?", [[frames, size], [up, down]])
