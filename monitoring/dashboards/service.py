"""Are users served, and if not, which stage is the cause?"""

from grafana_foundation_sdk.models.units import (
    BytesIEC,
    DurationSeconds,
    NoUnit,
    PercentUnit,
    RequestsPerSecond,
    Seconds,
)

from monitoring.dashboards import colours
from monitoring.dashboards.drawing import (
    FRAMES_PER_S,
    About,
    Panel,
    Query,
    at_least,
    heat,
    lines,
    listing,
    number,
    states,
    up_to,
)
from monitoring.dashboards.known import (
    BUDGET,
    BUSY,
    FRESH_S,
    INTERNAL,
    LATE_S,
    LONG_CALL_S,
    OUR_FAULT,
    OUTCOMES,
    PAGED_AT,
    PAGED_SHARE,
    REFUSALS,
    STAGES,
    SWIFT_S,
    TOO_BUSY,
)
from monitoring.dashboards.page import Page, Section
from monitoring.dashboards.promql import (
    buckets,
    highest,
    increase,
    mean,
    quantile,
    rate,
    raw,
    recorded,
    total,
)

STALE = ("TimeConvStaleFramesFast", "TimeConvStaleFramesSlow")
UNSERVED = ("TimeConvUnservedFramesFast", "TimeConvUnservedFramesSlow")
FIRING = 'ALERTS{alertname=~"TimeConv.*",alertstate="firing"}'


def page() -> Page:
    """The first that the person on call looks at."""
    sections = [_served(), _wrong(), _objectives(), _traffic(), _freshness(), _stages(), _saturation(), _processes()]
    return Page("service", "Service", "Are users served, and if not, which stage is the cause?", sections)


def _served() -> Section:
    up = number(
        "Instances up",
        About(
            "Do all instances answer Prometheus?",
            "Below 100 %: look whether the process runs, and what it logged last.",
            ["TimeConvDown", "TimeConvAbsent"],
        ),
        PercentUnit,
        Query(f"avg({raw('up')})", "up"),
        limits=at_least(1),
        empty="no instance",
    )
    firing = number(
        "Alerts that fire",
        About(
            "Does any alert of TimeConv fire now?", "From 1 on: the chart below says which. Those that page come first."
        ),
        NoUnit,
        Query(f"count({FIRING}) or vector(0)", "alerts"),
        limits=up_to(1),
    )
    sessions = number(
        "Sessions",
        About("How many clients are connected?", "None where there should be some: the dashboard Sessions says why."),
        NoUnit,
        Query(total("timeconv_sessions"), "sessions"),
    )
    answered = number(
        "Frames answered",
        About("How many frames a second get a prediction? Of all instances, over 5 minutes."),
        FRAMES_PER_S,
        Query(f"sum({recorded('job:timeconv_frames_answered:rate5m')}) > 0", "frames/s"),
    )
    age = number(
        "Age, p99",
        About(
            "How old is the frame that a prediction is of? 99 % are younger. Of all instances, over 5 minutes.",
            "From 100 ms on: the stages below say where the time goes.",
            STALE,
        ),
        Seconds,
        Query(f"max({recorded('job:timeconv_frame_age_seconds:p99_rate5m')})", "p99"),
        limits=up_to(FRESH_S),
    )
    burn = number(
        "Error budget burns",
        About(
            "How many times faster than allowed did stale and unserved frames use up their error budgets in the last "
            "hour? At 1 a budget lasts 30 days.",
            "At 14.4 it lasts two days, and somebody is called.",
            [STALE[0], UNSERVED[0]],
        ),
        "suffix:x",
        *(
            Query(f"max({recorded(f'job:timeconv_frames_{what}:ratio_rate1h')}) / {BUDGET}", what)
            for what in ("stale", "unserved")
        ),
        limits=up_to(PAGED_AT, warn_at=1),
    )
    stale, unserved = (
        number(
            f"{what.capitalize()} frames",
            About(
                f"Which share of frames {meaning}? Of all instances, over 5 minutes.",
                f"From 1 % on the objective is being missed: {then}.",
                alerts,
            ),
            PercentUnit,
            Query(f"max({recorded(f'job:timeconv_frames_{what}:ratio_rate5m')})", what),
            limits=up_to(BUDGET),
        )
        for what, meaning, then, alerts in (
            ("stale", "was over 100 ms old when answered", "see the stages", STALE),
            ("unserved", "got no useful outcome by the service's fault", "see the outcomes", UNSERVED),
        )
    )
    return Section("Are users served?", [[up, firing, sessions, answered, age, stale, unserved, burn]], height=4)


def _wrong() -> Section:
    alerts = states(
        "Alerts over time",
        About("Which alerts of TimeConv fired, and when?", "docs/operations.md has a section for each."),
        Query(f"max by (alertname, severity) ({FIRING})", "{{alertname}} ({{severity}})"),
        {"1": ("fires", colours.BAD)},
        empty="no alert",
    )
    failures = lines(
        "Failures",
        About(
            "Does the service itself fail? None of this belongs to normal operation.",
            "Above 0: the log names the cause of each.",
            ["TimeConvNetworkFails", "TimeConvRequestsFail", "TimeConvModelSwapFailed", "TimeConvEngineStuck"],
        ),
        NoUnit,
        Query(increase("timeconv_frames_total", 'outcome="failed"'), "frames"),
        Query(f"{increase('timeconv_refused_total', OUR_FAULT)} or vector(0)", "requests"),
        Query(f"{increase('timeconv_sessions_ended_total', INTERNAL)} or vector(0)", "sessions"),
        Query(increase("timeconv_model_swaps_total", 'result="failed"'), "new versions of networks"),
        Query(increase("timeconv_stuck_total"), "workers stuck"),
        limits=up_to(1),
        empty="no failure",
    )
    return Section("What is wrong?", [[alerts, failures]])


def _objectives() -> Section:
    stale, unserved = (
        lines(
            f"Share of {what} frames",
            About(
                f"Which share of frames {meaning}, of all instances, over windows of 5 minutes to 3 days?",
                "From 1 % on the error budget is used up too fast; from 14.4 % over an hour somebody is called.",
                alerts,
            ),
            PercentUnit,
            *(
                Query(f"max({recorded(f'job:timeconv_frames_{what}:ratio_rate{window}')})", window)
                for window in ("5m", "1h", "6h", "3d")
            ),
            limits=up_to(PAGED_SHARE, warn_at=BUDGET),
        )
        for what, meaning, alerts in (
            ("stale", "was over 100 ms old when answered", STALE),
            ("unserved", "got no useful outcome by the service's fault", UNSERVED),
        )
    )
    return Section("Are the objectives kept?", [[stale, unserved]])


def _traffic() -> Section:
    outcomes = lines(
        "Outcomes of frames",
        About(
            "What becomes of the frames? `superseded` is what live clients get under load, `overloaded`, `expired` and "
            "`failed` are the service's fault, the others are what the client sent or asked for.",
            "More `superseded` than `prediction`: the workers are saturated.",
            ["TimeConvFramesSuperseded", *UNSERVED],
        ),
        FRAMES_PER_S,
        Query(rate("timeconv_frames_total", by="outcome"), "{{outcome}}", OUTCOMES),
        stacked=True,
    )
    received = lines(
        "Frames received and answered",
        About("Does the service answer what comes?", "Apart for long: the outcomes say what becomes of the others."),
        FRAMES_PER_S,
        Query(rate("timeconv_frames_received_total"), "received"),
        Query(rate("timeconv_frame_age_seconds_count"), "answered"),
    )
    calls = lines(
        "REST predictions",
        About("How much comes by REST, and with what outcome? Those refused are in the chart of refusals."),
        RequestsPerSecond,
        Query(rate("timeconv_predict_requests_total", by="outcome"), "{{outcome}}", OUTCOMES),
        stacked=True,
        empty="no calls",
    )
    refused = lines(
        "Refused requests",
        About(
            "Who is turned away, by error code?",
            "`at_capacity` and `overloaded`: there is no room. `failed` and `internal`: the service's own fault. "
            "Others: the caller's.",
            ["TimeConvRefusedForRoom", "TimeConvCallerLimits", "TimeConvRequestsFail"],
        ),
        RequestsPerSecond,
        Query(rate("timeconv_refused_total", by="code"), "{{code}}", REFUSALS),
        limits=up_to(1),
        empty="none refused",
    )
    return Section("What comes, and what becomes of it?", [[outcomes, received], [calls, refused]])


def _freshness() -> Section:
    age = heat(
        "Age of frames",
        About(
            "How old are frames when their prediction is handed over? Two bands are two kinds of clients, or of "
            "frames: those that the detector looks at take longer."
        ),
        Seconds,
        buckets("timeconv_frame_age_seconds"),
    )
    percentiles = lines(
        "Age of frames, percentiles",
        About(
            "How old is what users see?",
            "p99 from 100 ms on: see which stage grew with it. p50 too: all clients wait, and not some.",
            STALE,
        ),
        Seconds,
        *(Query(quantile(q, "timeconv_frame_age_seconds"), f"p{q * 100:.0f}") for q in (0.5, 0.9, 0.99)),
        limits=up_to(FRESH_S),
    )
    return Section("How old is what users see?", [[age, percentiles]])


def _stages() -> Section:
    cause = (
        "`wait`: frames wait for a worker. `decode`, `detect`, `crop`: large pictures, or faces that get lost. "
        "`queue`: windows wait for a batch. `infer`: the network. `encode`, `send`: the event loop."
    )
    p99 = lines(
        "Stages, p99",
        About("Which stage takes the time of slow frames? Of all instances, over 5 minutes.", cause, STALE),
        Seconds,
        Query(f"max by (stage) ({recorded('job:timeconv_stage_seconds:p99_rate5m')})", "{{stage}}", (*STAGES, "total")),
        limits=up_to(FRESH_S),
    )
    p50 = lines(
        "Stages, p50",
        About(
            "Which stage takes the time of most frames? The aim for a frame's total is 15 ms.",
            "A total that stays above: see the stage that grew.",
        ),
        Seconds,
        Query(quantile(0.5, "timeconv_stage_seconds", by="stage"), "{{stage}}", (*STAGES, "total")),
        limits=up_to(SWIFT_S),
    )
    means = lines(
        "Stages, mean",
        About("What does a frame's time consist of? The stages on each other are the mean time of a frame.", cause),
        Seconds,
        Query(mean("timeconv_stage_seconds", 'stage!="total"', by="stage"), "{{stage}}", STAGES),
        limits=up_to(SWIFT_S),
        stacked=True,
    )
    return Section("Which stage is the cause?", [[p99, p50, means]], height=9)


def _saturation() -> Section:
    busy = lines(
        "Workers busy",
        About(
            "How near is the service to its capacity? Of all instances, over a minute.",
            "From 90 % on frames wait for each other: more instances, more cores, or fewer clients.",
            ["TimeConvWorkersSaturated", "TimeConvFramesSuperseded"],
        ),
        PercentUnit,
        Query(f"max by (job) ({recorded('job:timeconv_workers_busy:ratio_rate1m')})", "{{job}}", ("timeconv",)),
        limits=up_to(TOO_BUSY, warn_at=BUSY),
        highest=1,
    )
    waiting = lines(
        "What waits",
        About(
            "Do frames come faster than they are taken?",
            "Sources that wait all the time: workers are the limit. Windows: the network is.",
            ["TimeConvWorkersSaturated"],
        ),
        NoUnit,
        Query(total("timeconv_waiting_sources"), "sessions and calls for a worker"),
        Query(total("timeconv_waiting_windows"), "windows for a batch"),
        Query(total("timeconv_frames_in_flight"), "frames without an outcome yet"),
    )
    lag = lines(
        "Lag of the event loop",
        About(
            "Does one client's work on the event loop keep all others waiting?",
            "p99 from 50 ms on: look for what blocks it, or for too little CPU.",
            ["TimeConvEventLoopBlocked"],
        ),
        Seconds,
        *(Query(quantile(q, "timeconv_event_loop_lag_seconds"), f"p{q * 100:.0f}") for q in (0.5, 0.99)),
        limits=up_to(LATE_S),
    )
    call = lines(
        "Oldest call of a worker",
        About(
            "Does a call hang right now? Calls take milliseconds.",
            "From 0.4 s on: the worker is about to be found stuck, and then the process ends.",
            ["TimeConvEngineStuck"],
        ),
        Seconds,
        Query(highest("timeconv_engine_call_age_seconds"), "age"),
        limits=up_to(LONG_CALL_S),
    )
    return Section("What is the limit?", [[busy, waiting, lag, call], _resources()])


def _resources() -> list[Panel]:
    connections = lines(
        "Connections",
        About(
            "How near is the limit of connections? It is `TIMECONV_MAX_CONNECTIONS` of an instance, 2000 by default.",
            "Many more than sessions: somebody opens connections and says nothing.",
            ["TimeConvRefusedForRoom", "TimeConvCallerLimits"],
        ),
        NoUnit,
        Query(highest("timeconv_connections", by="instance"), "{{instance}}"),
    )
    files = lines(
        "File descriptors",
        About(
            "Which share of the descriptors that a process may open is open?",
            "From 80 % on: raise the limit of open files. At 100 % no connection can be accepted.",
            ["TimeConvOpenFiles"],
        ),
        PercentUnit,
        Query(
            f"max by (instance) ({raw('process_open_fds')} / {raw('process_max_fds')})",
            "{{instance}}",
        ),
        limits=up_to(0.8),
    )
    cpu = lines(
        "CPU",
        About(
            "How many cores are in use?",
            "At the container's limit: workers are throttled, and every stage gets slower.",
        ),
        "suffix:cores",
        Query(rate("process_cpu_seconds_total", by="instance"), "{{instance}}"),
    )
    memory = lines(
        "Memory",
        About("Does memory grow?", "For a day without more sessions: it leaks.", ["TimeConvMemoryGrows"]),
        BytesIEC,
        Query(total("process_resident_memory_bytes", by="instance"), "{{instance}}"),
    )
    return [connections, files, cpu, memory]


def _processes() -> Section:
    started = raw("process_start_time_seconds")
    versions = listing(
        "Versions",
        About("Which version runs where, and since when?", "Two versions: an upgrade is on its way, or got stuck."),
        Query(
            f"(time() - {started}) * on (job, instance) group_left (version) {raw('timeconv_build_info')}",
            "{{instance}}",
        ),
        {"job": "Job", "instance": "Instance", "version": "Version", "Value": "Up for"},
        DurationSeconds,
    )
    age = lines(
        "Age of processes",
        About(
            "Was it restarted? Each fall to 0 is a start, and ended all sessions.",
            "Three falls in 15 minutes: it does not stay up; the log says why.",
            ["TimeConvRestarts"],
        ),
        DurationSeconds,
        Query(f"time() - {started}", "{{instance}}"),
    )
    return Section("What runs, since when?", [[versions, age]], height=7)
