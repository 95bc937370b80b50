"""Settings of the service: typed, bounded, frozen; the unit is in each name.

Every field is a ``TIMECONV_*`` environment variable and is described in ``docs/configuration.md``. Nothing is read at
import: the command line builds one ``Settings`` and hands it down.
"""

import os
import re
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "TIMECONV_"
CLIENT_VARIABLES = frozenset({"TIMECONV_KEY"})
"""What `timeconv stream` reads, and the service does not."""
MOST_WORKERS = 256

SECRETS = frozenset({"keys", "token_secret"})
"""Settings whose values are shown to nobody."""

_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(?::(?P<port>[1-9][0-9]{0,4}))?"
)
_DEFAULT_PORTS = {"http": "80", "https": "443"}

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


def listed(text: str) -> list[str]:
    """The words of a setting, with commas between."""
    return [word for item in text.split(",") if (word := item.strip().rstrip("/"))]


def _is_origin(word: str) -> bool:
    origin = _ORIGIN.fullmatch(word)
    if origin is None or origin["port"] is None:
        return origin is not None
    return int(origin["port"]) <= 65_535 and origin["port"] != _DEFAULT_PORTS.get(origin["scheme"])


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Names in ``environment`` that look like settings and are none: a misspelt one must not be passed over."""
    known = {PREFIX + name.upper() for name in Settings.model_fields} | CLIENT_VARIABLES
    return sorted(name for name in environment if name.upper().startswith(PREFIX) and name.upper() not in known)


class Settings(BaseSettings):
    """All settings, with the values that suit a laptop."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", protected_namespaces=())

    host: str = Field("127.0.0.1", description="Address to listen on; without keys only the loopback is taken.")
    port: int = Field(8000, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
    keys_file: Path | None = Field(None, description="File of API keys, hashed; read again when it changes.")
    keys: SecretStr = Field(SecretStr(""), description="API keys, hashed, as in the file; `;` between two.")
    allow_anyone: bool = Field(default=False, description="Without keys, listen on other addresses than loopback too.")
    token_secret: SecretStr = Field(
        SecretStr(""), description="Signs browsers' tokens; without it a secret of the process's own does."
    )
    token_lifetime_ms: int = Field(60_000, ge=1000, le=3_600_000, description="How long a token opens sessions.")
    allowed_origins: str = Field(
        "", description="Sites whose pages may use the service beside its own, with commas between; `*` for all."
    )
    trusted_proxies: str = Field(
        "", description="Addresses or networks of proxies whose X-Forwarded-For is believed, with commas between."
    )
    tls_cert: Path | None = Field(None, description="Certificate chain, PEM; with it and its key HTTPS is served.")
    tls_key: Path | None = Field(None, description="Private key of the certificate, PEM, without a password.")
    ops_port: int = Field(
        0, ge=0, le=65_535, description="Port of its own for health and metrics; 0 leaves them on the common one."
    )
    ops_host: str = Field("127.0.0.1", description="Address of that port. Nothing asks for a key there.")
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
    max_sessions_per_address: int = Field(
        50, ge=1, le=100_000, description="Sessions from one address (IPv6: /64), but loopback; more get 429."
    )
    max_session_ms: int = Field(
        86_400_000, ge=1000, le=2_592_000_000, description="Longest session; then it is closed (1013)."
    )
    max_frames_per_s: float = Field(
        1000.0, gt=0, le=1_000_000, description="Frames of a session; more are `rate_limited`, with `every` read later."
    )
    max_texts_per_s: float = Field(
        20.0, gt=0, le=100_000, description="Text messages of a session; faster ones are read later."
    )
    max_text_bytes: int = Field(
        8192, ge=1024, le=1_048_576, description="Largest text message; a larger one closes the connection (1009)."
    )
    max_connections: int = Field(
        2000, ge=1, le=1_000_000, description="Connections of all kinds at once; more get 503 and are closed."
    )
    max_connections_per_address: int = Field(
        500, ge=1, le=1_000_000, description="The same for one address (IPv6: /64), but loopback."
    )
    max_new_connections_per_s: float = Field(
        50.0, gt=0, le=1_000_000, description="New ones of an address, but loopback; more get 503 and are closed."
    )
    max_header_bytes: int = Field(
        32_768, ge=1024, le=1_048_576, description="Header of a request, and all that frames its body; more gets 431."
    )
    handshake_timeout_ms: int = Field(
        10_000, ge=100, le=600_000, description="A connection without a whole request header for longer gets 408."
    )
    max_small_frames_per_s: int = Field(
        200,
        ge=10,
        le=100_000,
        description="Control frames, small fragments and tiny messages of a WebSocket; more close it (1008).",
    )
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
    max_waiting_predictions_per_caller: int = Field(
        16,
        ge=1,
        le=10_000,
        description="The same of one key, and of one address (IPv6: /64) but loopback; more get 429.",
    )
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
    trace_share: float = Field(
        0.0, ge=0, le=1, description="Share of frames and REST predictions that become a trace; wants the extra `otel`."
    )
    log_format: Literal["text", "json"] = Field("text", description="Form of log lines on standard error.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")

    @field_validator("allowed_origins")
    @classmethod
    def _origins(cls, text: str) -> str:
        """Take what browsers send as ``Origin`` (RFC 6454, 6.2) and nothing else: it would let nobody in, unnoticed."""
        for word in listed(text):
            if word != "*" and not _is_origin(word):
                raise ValueError(
                    f"{word} is no site as browsers name it: https://example.org, in lower case, without a path,"
                    " with a port only if it is not the usual one"
                )
        return ",".join(listed(text))

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies(cls, text: str) -> str:
        """Take addresses and networks, never ``*``: then every caller could choose the address it is counted under."""
        for word in listed(text):
            try:
                ip_network(word)
            except ValueError as error:
                raise ValueError(f"{word} is neither an address nor a network such as 10.0.0.0/8 ({error})") from error
        return ",".join(listed(text))
