"""The command ``timeconv``: serve, key, doctor, stream, models."""

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError

from service import __version__
from service.errors import TimeConvError
from service.settings import SECRETS, Settings, unknown_variables

if TYPE_CHECKING:
    from service.inference.artifact import NetworkManifest
    from service.streaming import StreamRequest

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, help=__doc__)


class Region(StrEnum):
    """Choices of ``--region``."""

    DETECT = "detect"
    WHOLE = "whole"


_INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it: 128 + SIGINT."""


def main() -> None:
    """Run the command; an error of ours is one line, not a traceback."""
    try:
        app()
    except TimeConvError as error:
        typer.echo(f"timeconv: {error}", err=True)
        sys.exit(1)


def read_settings(**given: object) -> Settings:
    """Settings from the environment, with what the command line gave on top.

    Raises:
        typer.BadParameter: a value is out of range or of the wrong kind, or a variable is no setting.
    """
    if unknown := unknown_variables(os.environ):
        raise typer.BadParameter(f"No such setting: {', '.join(unknown)}; see docs/configuration.md")
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type] # pydantic checks them
    except ValidationError as error:
        reasons = "; ".join(
            f"{name} (TIMECONV_{name.upper()}): {item['msg']}" + ("" if name in SECRETS else f", not {item['input']!r}")
            for item in error.errors()
            for name in ("_".join(map(str, item["loc"])),)
        )
        raise typer.BadParameter(reasons) from error


@app.callback(invoke_without_command=True)
def version(*, show: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Streaming inference for facial expression."""
    if show:
        typer.echo(f"timeconv {__version__}")
        raise typer.Exit


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    model: Annotated[str | None, typer.Option(help="Default network.")] = None,
    detector: Annotated[str | None, typer.Option(help="blazeface, haar or yunet.")] = None,
    yunet_file: Annotated[Path | None, typer.Option(help="ONNX file of YuNet.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, tensorrt or openvino.")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker threads.")] = None,
) -> None:
    """Run the service. Every setting is also a TIMECONV_* variable; see docs/configuration.md."""
    from service.serve import run  # noqa: PLC0415 - the other commands start faster without the web framework
    from service.telemetry.logs import configure_logging  # noqa: PLC0415

    settings = read_settings(
        host=host, port=port, model=model, detector=detector, yunet_file=yunet_file, device=device, workers=workers
    )
    configure_logging(settings)
    run(settings)


@app.command()
def key(
    name: Annotated[str, typer.Argument(help="What to call it in logs: letters, digits, - and _.")],
    *,
    admin: Annotated[bool, typer.Option("--admin", help="It may also load models: POST /v1/models/NAME/load.")] = False,
) -> None:
    """Make an API key: prints it once, and the line that lets it in, for the file of TIMECONV_KEYS_FILE."""
    from service.access import new_key  # noqa: PLC0415 - as in serve

    secret, line = new_key(name, admin=admin)
    typer.echo(f"The key, for who may use the service; it is nowhere else:\n  {secret}")
    typer.echo(f"Its line for the file of keys; sessions=N and frames_per_s=N may follow:\n  {line}")


@app.command()
def stream(
    clip: Annotated[
        str,
        typer.Argument(
            help="A video file, a folder of them (with --out), the number of a camera, or - for Motion JPEG on stdin."
        ),
    ],
    url: Annotated[str, typer.Option(help="Address of the service.")] = "ws://127.0.0.1:8000",
    key: Annotated[
        str | None, typer.Option(envvar="TIMECONV_KEY", help="API key, if the service asks for one.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="All results of each video, in a folder of its name in this one. Needs no --every."),
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Table: a row for each face of each frame.")] = None,
    jsonl: Annotated[Path | None, typer.Option(help="A line of JSON for each frame.")] = None,
    parquet: Annotated[Path | None, typer.Option(help="The table as Parquet (needs pyarrow).")] = None,
    video: Annotated[
        Path | None, typer.Option(help="The video with boxes and emotions drawn in: .mp4, .mkv, .avi, .webm.")
    ] = None,
    timeline: Annotated[Path | None, typer.Option(help="Picture of the emotions over time: .svg, .png.")] = None,
    summary: Annotated[Path | None, typer.Option(help="The summary at the end, as JSON.")] = None,
    without: Annotated[
        list[str] | None, typer.Option(help="With --out: leave out csv, jsonl, parquet, video or timeline; repeatable.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="With --out: videos at once.")] = 2,
    model: Annotated[str, typer.Option(help="Network, name or name@version.")] = "",
    faces: Annotated[int, typer.Option(min=1, max=8, help="Faces to follow.")] = 1,
    smoothing_ms: Annotated[int, typer.Option(min=0, max=5000, help="Smooth the emotions over this time.")] = 0,
    region: Annotated[Region, typer.Option(help="detect, or whole for frames cropped to the face.")] = Region.DETECT,
    stride: Annotated[int, typer.Option(min=1, max=5, help="The window takes one of so many frames.")] = 1,
    quality: Annotated[int, typer.Option(help="JPEG quality, 1 to 100.")] = 92,
    fps: Annotated[float, typer.Option(help="Frames/s of what comes on stdin, with --every.")] = 25.0,
    max_age_ms: Annotated[int | None, typer.Option(help="Frames older than this are not answered.")] = None,
    *,
    every: Annotated[bool, typer.Option("--every", help="As fast as answered, dropping nothing.")] = False,
    again: Annotated[bool, typer.Option("--again", help="With --out: do anew what is done.")] = False,
    timing: Annotated[bool, typer.Option("--timing", help="Add to the tables how long each frame took.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No line per frame.")] = False,
) -> None:
    """Stream videos or a camera through the service: an outcome per frame, files of results, and a summary."""
    from service.streaming import StreamError, StreamRequest  # noqa: PLC0415 - as in serve

    files = {"csv": csv, "jsonl": jsonl, "parquet": parquet, "video": video, "timeline": timeline, "summary": summary}
    if out is None and (without or again):
        raise typer.BadParameter("--without and --again go with --out")
    if out is not None and (alone := [f"--{name}" for name, file in files.items() if file is not None]):
        raise typer.BadParameter(f"--out writes all results; {', '.join(alone)} cannot be given beside it")
    try:
        request = StreamRequest(
            clip=clip,
            url=url,
            key=key,
            csv=csv,
            jsonl=jsonl,
            parquet=parquet,
            video=video,
            timeline=timeline,
            summary=summary,
            timing=timing,
            every=every or out is not None,
            model=model,
            faces=faces,
            smoothing_ms=smoothing_ms,
            region=region.value,
            stride=stride,
            quality=quality,
            fps=fps,
            max_age_ms=max_age_ms,
            quiet=quiet,
        )
        status = _stream_one(request) if out is None else _stream_all(request, out, without or [], jobs, again=again)
    except StreamError as error:
        if error.summary is not None:
            typer.echo(str(error.summary))
        typer.echo(f"timeconv: {error}", err=True)
        raise typer.Exit(error.exit_code) from error
    raise typer.Exit(status)


def _stream_one(request: "StreamRequest") -> int:
    """Stream a clip, and print its summary; returns the exit status."""
    from service.streaming import stream_clip  # noqa: PLC0415 - as in serve

    summary = stream_clip(request)
    typer.echo(str(summary))
    if not summary.agrees:
        typer.echo("timeconv: frames received and outcomes do not add up", err=True)
    return _INTERRUPTED if summary.interrupted else int(not summary.agrees)


def _stream_all(request: "StreamRequest", out: Path, without: list[str], jobs: int, *, again: bool) -> int:
    """Stream a clip or a folder into a folder, and print a table; returns the exit status."""
    from service.streaming import NAMES, FolderRequest, has_parquet, stream_folder  # noqa: PLC0415 - as in serve

    optional = [name for name in NAMES if name != "summary"]
    if unknown := [name for name in without if name not in optional]:
        raise typer.BadParameter(f"--without takes {', '.join(optional)}, not {', '.join(unknown)}")
    wanted = NAMES.keys() - set(without)
    if "parquet" in wanted and not has_parquet():
        typer.echo("timeconv: no Parquet, which needs pyarrow: pip install 'pyarrow>=17'", err=True)
        wanted -= {"parquet"}
    sweep = stream_folder(
        FolderRequest(source=Path(request.clip), out=out, each=request, wanted=wanted, again=again, jobs=jobs)
    )
    typer.echo(f"\n{sweep}")
    if sweep.failed:
        typer.echo(f"timeconv: {len(sweep.failed)} of {len(sweep.ends)} videos have no results", err=True)
    if sweep.stopped_by is not None:
        typer.echo(f"timeconv: {sweep.stopped_by}", err=True)
        return sweep.stopped_by.exit_code
    return _INTERRUPTED if sweep.interrupted else int(bool(sweep.failed))


@app.command()
def doctor(
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, tensorrt or openvino.")] = None,
    detector: Annotated[str | None, typer.Option(help="blazeface, haar or yunet.")] = None,
    yunet_file: Annotated[Path | None, typer.Option(help="ONNX file of YuNet.")] = None,
    model: Annotated[str | None, typer.Option(help="Default network.")] = None,
) -> None:
    """Say what is really in use: libraries, device, threads, models, and windows per second by batch size."""
    from service.doctor import examine  # noqa: PLC0415 - as in serve

    for name, value in examine(read_settings(device=device, detector=detector, yunet_file=yunet_file, model=model)):
        typer.echo(f"{name:12} {value}")


@app.command()
def models() -> None:
    """List the networks of the model store, with their published scores."""
    from service.inference.artifact import ModelStore, NetworkManifest  # noqa: PLC0415 - as in serve

    settings = read_settings()
    for artifact in ModelStore(settings.model_store).artifacts("network"):
        manifest = artifact.manifest
        assert isinstance(manifest, NetworkManifest)
        size = f"{manifest.parameters['total']:,} parameters" if "total" in manifest.parameters else ""
        default = "default" if settings.model in (manifest.name, artifact.spec) else ""
        parts = (f"{artifact.spec:32}", f"{size:18}", _published(manifest), default)
        typer.echo("  ".join(part for part in parts if part.strip()))


def _published(manifest: "NetworkManifest") -> str:
    """The score that tells most, if it was measured: on what neither training nor choices have seen."""
    if not manifest.for_people:
        accuracy = manifest.scores.get("test", {}).get("accuracy")
        return f"not for people: learnt from {manifest.learnt_from}" + (
            "" if accuracy is None else f", top-1 {accuracy:.3f}"
        )
    accuracy = manifest.scores.get("private", {}).get("deduplicated", {}).get("ferplus_accuracy")
    return "" if accuracy is None else f"FER+ accuracy {accuracy:.3f} (PrivateTest, de-duplicated)"


if __name__ == "__main__":
    main()
