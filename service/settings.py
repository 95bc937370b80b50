"""Settings of the service: typed, bounded, frozen; the unit is in each name.

Every field is a ``TIMECONV_*`` environment variable and is described in ``docs/configuration.md``. Nothing is read at
import: the command line builds one ``Settings`` and hands it down.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "TIMECONV_"
MOST_WORKERS = 256

DeviceName = Literal["auto", "cpu", "cuda", "tensorrt", "openvino"]
Precision = Literal["f32", "bf16", "int8"]
DetectorName = Literal["blazeface", "haar", "yunet"]


def shipped_model_store() -> Path:
    """The model store that lies beside the package, in a checkout and in an installed wheel alike."""
    return Path(__file__).resolve().parent.parent / "model_store"


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers() -> int:
    """One worker per usable core."""
    return min(MOST_WORKERS, usable_cores())


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Names in ``environment`` that look like settings and are none: a misspelt one must not be passed over."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    return sorted(name for name in environment if name.upper().startswith(PREFIX) and name.upper() not in known)


class Settings(BaseSettings):
    """All settings, with the values that suit a laptop."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", protected_namespaces=())

    host: str = Field("127.0.0.1", description="Address to listen on; without keys it should stay the loopback.")
    port: int = Field(8000, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
    model_store: Path = Field(default_factory=shipped_model_store, description="Folder of models.")
    model: str = Field("timeconv-resnet20", description="Default network, `name` or `name@version`.")
    model_poll_ms: int = Field(
        5000, ge=0, le=3_600_000, description="How often the model store is looked at for new versions; 0: never."
    )
    device: DeviceName = Field(
        "auto", description="Where the network runs; `auto` is `cuda`, or else the CPU, with a warning."
    )
    precision: Precision = Field(
        "f32",
        description="Arithmetic of networks: `int8` with `device=cpu`, where the network has that form; `bf16` with "
        "`device=openvino`.",
    )
    gpu_mem_limit_mb: int = Field(
        2048, ge=64, le=1_048_576, description="Most GPU memory for one network's buffers; TensorRT: at one batch size."
    )
    engine_cache: Path | None = Field(
        None, description="Folder that keeps TensorRT's engines; without it they are built at every start."
    )
    detector: DetectorName = Field("blazeface", description="Face detector.")
    detect_every_frames: int = Field(
        8, ge=1, le=100, description="The detector looks at every so many frames; in between the face is followed."
    )
    yunet_file: Path | None = Field(None, description="ONNX file of YuNet; needed with `detector=yunet`.")
    workers: int = Field(
        default_factory=default_workers,
        ge=1,
        le=MOST_WORKERS,
        description="Worker threads; the default is one per usable core.",
    )
    max_sessions: int = Field(500, ge=1, le=100_000, description="Sessions connected at once; more get 503.")
    max_frame_bytes: int = Field(
        2_000_000, ge=1_000, le=50_000_000, description="Largest JPEG; over twice this the connection is closed (1009)."
    )
    max_frame_pixels: int = Field(4_200_000, ge=10_000, le=100_000_000, description="Largest picture, by its header.")
    max_batch: int = Field(
        8,
        ge=1,
        le=256,
        description="Largest batch; less for a network that is slow (`batch_budget_ms`) or gains nothing from more.",
    )
    batch_budget_ms: float = Field(10.0, gt=0, le=1000, description="Longest a batch may take to run.")
    batch_hold_ms: float = Field(
        5.0, ge=0, le=1000, description="Longest a window waits while workers, all busy with frames, fill its batch."
    )
    max_waiting_windows: int = Field(1024, ge=1, le=100_000, description="Windows waiting; more are `overloaded`.")
    max_waiting_predictions: int = Field(64, ge=1, le=10_000, description="REST calls in work; more get 503.")
    predict_timeout_ms: int = Field(5000, ge=10, le=60_000, description="A REST call that takes longer gets 504.")
    gap_reset_ms: int = Field(1000, ge=50, le=60_000, description="A longer gap between frames empties the window.")
    blocked_timeout_ms: int = Field(
        10_000, ge=100, le=600_000, description="A client that does not read for longer is closed (1008 slow_reader)."
    )
    idle_timeout_ms: int = Field(
        60_000, ge=1000, le=3_600_000, description="A session without a frame or an answer for longer is closed (1008)."
    )
    resume_grace_ms: int = Field(
        10_000, ge=0, le=600_000, description="How long a session whose connection broke can be resumed."
    )
    drain_ms: int = Field(
        5000, ge=0, le=600_000, description="Longest that stopping waits for sessions, which are closed spread over it."
    )
    stuck_ms: int = Field(
        5000, ge=100, le=60_000, description="An engine call over this ends the process, for its supervisor."
    )
    send_buffer_bytes: Annotated[int, Field(ge=4096, le=4_194_304)] = Field(
        65_536, description="SO_SNDBUF of the listening socket; small, so that a slow reader is noticed early."
    )
    log_format: Literal["text", "json"] = Field("text", description="Form of log lines on standard error.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
