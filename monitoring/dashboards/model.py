"""Do the answers still make sense?"""

from grafana_foundation_sdk.models.units import NoUnit, PercentUnit, Seconds

from monitoring.dashboards.drawing import FRAMES_PER_S, About, Panel, Query, heat, lines, listing, number, up_to
from monitoring.dashboards.known import DRIFT, EMOTIONS
from monitoring.dashboards.page import Page, Section
from monitoring.dashboards.promql import buckets, earlier, increase, quantile, rate, ratio, raw, recorded, total

EMOTION_SHARES = recorded("job:timeconv_emotions:ratio_rate1h")
EMOTION_SHARES_OF_A_DAY = recorded("job:timeconv_emotions:ratio_rate1d")
EMOTION_SHARES_A_WEEK_AGO = earlier("1w", EMOTION_SHARES_OF_A_DAY)
UNCERTAIN = recorded("job:timeconv_faces_uncertain:ratio_rate1h")
UNCERTAIN_BEFORE = earlier("1h", recorded("job:timeconv_faces_uncertain:ratio_rate1d"))
NO_FACE = recorded("job:timeconv_frames_without_face:ratio_rate1h")
NO_FACE_BEFORE = earlier("1h", recorded("job:timeconv_frames_without_face:ratio_rate1d"))
BUT = "What people show and who comes changes too: a drift is a question, and no verdict on the network."


def page() -> Page:
    """For who put a new network in, and for who asks whether cameras, faces or the network have changed."""
    sections = [_moved(), _emotions(), _confidence(), _faces(), _networks()]
    purpose = "Do the answers still make sense, beside those of before?"
    return Page("model", "Model quality", purpose, sections, shown="6h", refresh="1m")


def _moved() -> Section:
    emotions = number(
        "Emotions moved",
        About(
            "Which share of the last day's faces would have to be another emotion for the mix of a week before?",
            f"From 20 % on: see which emotion, and what was deployed. {BUT}",
            ["TimeConvEmotionDrift"],
        ),
        PercentUnit,
        Query(f"max(sum by (job) (abs({EMOTION_SHARES_OF_A_DAY} - {EMOTION_SHARES_A_WEEK_AGO})) / 2)", "moved"),
        limits=up_to(DRIFT),
        empty="nothing to compare",
    )
    uncertain = _against_the_day_before(
        "Uncertain, more than before",
        "By how much is the share of uncertain faces higher in the last hour than in the day before it?",
        f"{UNCERTAIN} - {UNCERTAIN_BEFORE}",
        "TimeConvUncertainDrift",
    )
    no_face = _against_the_day_before(
        "Without a face, more than before",
        "By how much is the share of frames without a face higher in the last hour than in the day before it?",
        f"{NO_FACE} - {NO_FACE_BEFORE}",
        "TimeConvNoFaceDrift",
    )
    confidence = number(
        "Confidence, median",
        About("How probable is the winner, of half of the faces of the last hour at least?"),
        PercentUnit,
        Query(quantile(0.5, "timeconv_confidence", window="1h"), "median"),
    )
    return Section("Is it as before?", [[emotions, uncertain, no_face, confidence]], height=4)


def _against_the_day_before(title: str, answers: str, difference: str, alert: str) -> Panel:
    return number(
        title,
        About(answers, f"From 20 percentage points on: light, cameras, pictures, or a new network. {BUT}", [alert]),
        PercentUnit,
        Query(f"max({difference})", "more"),
        limits=up_to(DRIFT),
        empty="nothing to compare",
    )


def _emotions() -> Section:
    now = lines(
        "Emotions",
        About(
            "What do faces show, by the network's own winner, before any smoothing?",
            f"One emotion that pushes out the others: see the confidence, and the networks below. {BUT}",
            ["TimeConvEmotionDrift"],
        ),
        PercentUnit,
        Query(
            f"{rate('timeconv_emotions_total', by='emotion')} / ignoring (emotion) group_left () "
            f"({rate('timeconv_emotions_total')} > 0)",
            "{{emotion}}",
            EMOTIONS,
        ),
        stacked=True,
        highest=1,
    )
    hour, day_before, day, week_before = (
        lines(
            f"Emotions, {when}",
            About(f"What did faces show, {when}? Of all instances.", BUT, ["TimeConvEmotionDrift"]),
            PercentUnit,
            Query(f"max by (emotion) ({shares})", "{{emotion}}", EMOTIONS),
            empty=empty,
        )
        for when, shares, empty in (
            ("an hour", EMOTION_SHARES, "no traffic"),
            ("that hour a day before", earlier("1d", EMOTION_SHARES), "no traffic then"),
            ("a day", EMOTION_SHARES_OF_A_DAY, "no traffic"),
            ("that day a week before", EMOTION_SHARES_A_WEEK_AGO, "no traffic then"),
        )
    )
    return Section("What do faces show?", [[now, hour, day_before], [day, week_before]])


def _confidence() -> Section:
    spread = heat(
        "Confidence",
        About("How probable are winners? A network that is at its limits has few above 0.9."),
        PercentUnit,
        buckets("timeconv_confidence"),
    )
    median = lines(
        "Confidence, percentiles",
        About(
            "Is the network less sure than it was? Over an hour.",
            f"Lower for hours: as when faces are uncertain. {BUT}",
        ),
        PercentUnit,
        Query(quantile(0.5, "timeconv_confidence", window="1h"), "median"),
        Query(_a_day_before(0.5), "median, a day before"),
        Query(quantile(0.1, "timeconv_confidence", window="1h"), "p10"),
        Query(_a_day_before(0.1), "p10, a day before"),
        highest=1,
    )
    uncertain = lines(
        "Uncertain faces",
        About(
            "Which share of answers is of little use?",
            "Far above the day before: dark or small faces, or a network that does not know them.",
            ["TimeConvUncertainDrift"],
        ),
        PercentUnit,
        Query(ratio(rate("timeconv_uncertain_total"), rate("timeconv_confidence_count")), "now"),
        Query(f"max({UNCERTAIN})", "last hour"),
        Query(f"max({UNCERTAIN_BEFORE})", "the day before that hour"),
        highest=1,
    )
    return Section("Is the network sure?", [[spread, median, uncertain]])


def _a_day_before(q: float) -> str:
    return quantile(q, "timeconv_confidence", window="1h", offset="1d")


def _faces() -> Section:
    without = lines(
        "Frames without a face",
        About(
            "Do fewer frames have a face than before?",
            "Far above the day before: cameras that look away, or turned or dark pictures.",
            ["TimeConvNoFaceDrift"],
        ),
        PercentUnit,
        Query(
            ratio(
                rate("timeconv_frames_total", 'outcome="no_face"'),
                rate("timeconv_frames_total", 'outcome=~"prediction|window_filling|no_face"'),
            ),
            "now",
        ),
        Query(f"max({NO_FACE})", "last hour"),
        Query(f"max({NO_FACE_BEFORE})", "the day before that hour"),
        highest=1,
    )
    looked = lines(
        "How faces are found",
        About(
            "Does following faces spare the detector? A face that was lost is one that the detector had to look for.",
            "Many lost: fast movement, low frame rates, or frames that are dropped under load.",
        ),
        FRAMES_PER_S,
        Query(rate("timeconv_detections_total"), "detector ran"),
        Query(rate("timeconv_follows_total", 'result="hit"'), "followed"),
        Query(rate("timeconv_follows_total", 'result="lost"'), "lost"),
    )
    lost = lines(
        "Faces lost",
        About("Which share of the faces that were to be followed was lost?", "More than before: as beside."),
        PercentUnit,
        Query(
            ratio(rate("timeconv_follows_total", 'result="lost"'), rate("timeconv_follows_total")),
            "lost",
        ),
        highest=1,
    )
    return Section("Are faces found?", [[without, looked, lost]])


def _networks() -> Section:
    networks = listing(
        "Networks",
        About(
            "Which networks serve, byte for byte?",
            "Two files of one version: instances answer differently; look at the model store of each.",
        ),
        Query(f"count by (model, file, sha256) ({raw('timeconv_model_info')})", "{{model}}"),
        {"model": "Network", "file": "File", "sha256": "SHA-256", "Value": "Instances"},
    )
    unusable = number(
        "Versions that cannot be used",
        About(
            "Of how many loaded networks is the newest version in the store of no use? The one before serves on.",
            "From 1 on: mend the version or take it out, before any restart.",
            ["TimeConvModelSwapFailed"],
        ),
        NoUnit,
        Query(total("timeconv_models_unusable"), "unusable"),
        limits=up_to(1),
        empty="no instance",
    )
    swaps = lines(
        "New versions",
        About(
            "Was a new version taken, or is it broken?",
            "`failed`: the version before serves on. Mend the store before any restart.",
            ["TimeConvModelSwapFailed"],
        ),
        NoUnit,
        Query(increase("timeconv_model_swaps_total", by="result"), "{{result}}", ("swapped", "failed")),
        Query(increase("timeconv_model_load_seconds_count"), "loaded"),
    )
    loads = lines(
        "Time to load a network",
        About(
            "How long do clients wait for a network that is not loaded? In the mean, since the processes started.",
            "Minutes: TensorRT builds engines, which are kept in `TIMECONV_ENGINE_CACHE`.",
        ),
        Seconds,
        Query(
            ratio(
                total("timeconv_model_load_seconds_sum", by="instance"),
                total("timeconv_model_load_seconds_count", by="instance"),
            ),
            "{{instance}}",
        ),
        empty="none loaded",
    )
    return Section("Which networks serve?", [[networks, unusable, swaps, loads]], height=7)
