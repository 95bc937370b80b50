"""Do windows leave together, what does that cost, and is the device or are the workers the limit?"""

from grafana_foundation_sdk.models.units import BytesIEC, NoUnit, PercentUnit, Seconds

from monitoring.dashboards.drawing import About, Query, heat, lines, listing, number, up_to
from monitoring.dashboards.known import (
    BATCH_REASONS,
    BUSY,
    LONG_CALL_S,
    OF_NETWORKS,
    SWIFT_S,
    TOO_BUSY,
    WORK,
)
from monitoring.dashboards.page import Page, Section
from monitoring.dashboards.promql import (
    buckets,
    highest,
    increase,
    mean,
    quantile,
    rate,
    ratio,
    raw,
    total,
)

WINDOWS_PER_S = "suffix:windows/s"


def page() -> Page:
    """For who asks why `queue` or `infer` takes long, or whether the device is used."""
    sections = [_device(), _batches(), _waiting(), _networks(), _workers()]
    purpose = "Do windows leave together, what does that cost, and is the device or are the workers the limit?"
    return Page("batching", "Batching and device", purpose, sections)


def _device() -> Section:
    devices = listing(
        "Devices",
        About("What do networks run on?", "Another device than was meant: `/readyz` says why it was chosen."),
        Query(f"count by (device, precision) ({raw('timeconv_device_info')})", "{{device}} {{precision}}"),
        {"device": "Device", "precision": "Precision", "Value": "Instances"},
    )
    fallback = number(
        "Instances without the GPU they looked for",
        About(
            "Does `TIMECONV_DEVICE=auto` run on the CPU, for it found no usable GPU?",
            "From 1 on: `timeconv doctor` says what is missing. Where there is no GPU on purpose, set `cpu`.",
            ["TimeConvDeviceFallback"],
        ),
        NoUnit,
        Query(total("timeconv_device_fallback"), "instances"),
        limits=up_to(1),
        empty="no instance",
    )
    memory = lines(
        "GPU memory",
        About("How much of the GPU's memory is used, by whomever? There is none to tell of on a CPU."),
        BytesIEC,
        Query(total("timeconv_device_memory_bytes", by="instance, kind"), "{{instance}} {{kind}}"),
        empty="no GPU",
    )
    memory_share = lines(
        "GPU memory, share used",
        About(
            "Is the GPU's memory running out?",
            "From 90 % on a network that is loaded now may find none.",
            ["TimeConvDeviceMemory"],
        ),
        PercentUnit,
        Query(
            ratio(
                highest("timeconv_device_memory_bytes", 'kind="used"', by="instance"),
                highest("timeconv_device_memory_bytes", 'kind="total"', by="instance"),
            ),
            "{{instance}}",
        ),
        limits=up_to(0.9),
        highest=1,
        empty="no GPU",
    )
    return Section("What do networks run on?", [[devices, fallback, memory, memory_share]], height=6)


def _batches() -> Section:
    sizes = heat(
        "Windows in a batch",
        About("How large are batches? Of a single client all are 1; under load they should grow."),
        NoUnit,
        buckets("timeconv_batch_size"),
    )
    means = lines(
        "Windows in a batch, mean",
        About("Do windows leave together under load?", "At 1 with busy workers: the reasons below say why."),
        NoUnit,
        Query(mean("timeconv_batch_size", by="model"), "{{model}}", OF_NETWORKS),
    )
    reasons = lines(
        "Why batches left",
        About(
            "Why are batches as small, or late, as they are? `idle`: a worker was free, and nothing gained by waiting. "
            "`full`: the largest batch was reached. `held`: windows had waited too long.",
            "Mostly `full`: the network is the limit. Many `held`: workers were busy with frames for too long.",
        ),
        "suffix:batches/s",
        Query(rate("timeconv_batches_total", by="reason"), "{{reason}}", BATCH_REASONS),
        stacked=True,
    )
    return Section("Do windows leave together?", [[sizes, means, reasons]])


def _waiting() -> Section:
    wait = heat(
        "Wait for a batch",
        About("How long do windows wait for their batch?"),
        Seconds,
        buckets("timeconv_batch_wait_seconds"),
    )
    percentiles = lines(
        "Wait for a batch, p99",
        About(
            "What does batching cost in latency, by network?",
            "From 15 ms on it costs as much as a frame should take in all: the workers are saturated.",
            ["TimeConvWorkersSaturated"],
        ),
        Seconds,
        Query(quantile(0.99, "timeconv_batch_wait_seconds", by="model"), "{{model}}", OF_NETWORKS),
        limits=up_to(SWIFT_S),
    )
    queue = lines(
        "Windows that wait",
        About("Does the network keep up?", "Growing: it does not. `overloaded` is the outcome when the queue is full."),
        NoUnit,
        Query(total("timeconv_waiting_windows", by="instance"), "{{instance}}"),
    )
    return Section("What does batching cost?", [[wait, percentiles, queue]])


def _networks() -> Section:
    windows = lines(
        "Windows by network",
        About("How much does each network do?"),
        WINDOWS_PER_S,
        Query(rate("timeconv_batch_size_sum", by="model"), "{{model}}", OF_NETWORKS),
        stacked=True,
    )
    infer = lines(
        "Inference of a frame's batch",
        About(
            "How long does the network take for the batch that a frame's window is in?",
            "Longer at the same batch size: the device is shared, throttled, or another one than before.",
        ),
        Seconds,
        *(Query(quantile(q, "timeconv_stage_seconds", 'stage="infer"'), f"p{q * 100:.0f}") for q in (0.5, 0.9, 0.99)),
        limits=up_to(SWIFT_S),
    )
    cost = lines(
        "Worker time of a window",
        About("What does a window cost a worker? Larger batches should make it less."),
        Seconds,
        Query(
            ratio(rate("timeconv_worker_busy_seconds_total", 'work="batch"'), rate("timeconv_batch_size_sum")),
            "a window",
        ),
    )
    return Section("How fast are networks?", [[windows, infer, cost]])


def _workers() -> Section:
    busy = lines(
        "Workers busy, by work",
        About(
            "How near is the service to its capacity, and with what? `frames`: decoding, detecting and cropping; "
            "`batch`: networks. On a GPU, who waits for it is busy too.",
            "From 90 % on: more instances, more cores, or fewer clients.",
            ["TimeConvWorkersSaturated"],
        ),
        PercentUnit,
        Query(
            f"{rate('timeconv_worker_busy_seconds_total', by='work')} / scalar({total('timeconv_workers')})",
            "{{work}}",
            WORK,
        ),
        limits=up_to(TOO_BUSY, warn_at=BUSY),
        stacked=True,
        highest=1,
    )
    workers = lines(
        "Workers",
        About("Over how many threads is the work spread?", "Fewer: an instance is gone."),
        NoUnit,
        Query(total("timeconv_workers", by="instance"), "{{instance}}"),
        stacked=True,
    )
    sources = lines(
        "Sessions and calls that wait for a worker",
        About("Do frames come faster than workers take them?", "Some all the time: the workers are the limit."),
        NoUnit,
        Query(total("timeconv_waiting_sources", by="instance"), "{{instance}}"),
    )
    stuck = lines(
        "Oldest call, and workers stuck",
        About(
            "Does a call hang right now, or did one? Seconds of the oldest call, and workers that were given up.",
            "From 0.4 s on: past `TIMECONV_STUCK_MS` the process ends.",
            ["TimeConvEngineStuck"],
        ),
        Seconds,
        Query(highest("timeconv_engine_call_age_seconds", by="instance"), "{{instance}}"),
        Query(increase("timeconv_stuck_total"), "stuck"),
        limits=up_to(LONG_CALL_S),
    )
    return Section("Are the workers the limit?", [[busy, workers, sources, stuck]])
