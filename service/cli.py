"""The command ``timeconv``: serve, doctor, stream, models."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from service import __version__
from service.errors import TimeConvError
from service.settings import Settings

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, help=__doc__)


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
        typer.BadParameter: a value is out of range or of the wrong kind.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type] # pydantic checks them
    except ValidationError as error:
        reasons = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
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
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker threads.")] = None,
) -> None:
    """Run the service. Every setting is also a TIMECONV_* variable; see docs/configuration.md."""
    from service.serve import run  # noqa: PLC0415 - the other commands start faster without the web framework
    from service.telemetry.logs import configure_logging  # noqa: PLC0415

    settings = read_settings(
        host=host, port=port, model=model, detector=detector, yunet_file=yunet_file, device=device, workers=workers
    )
    configure_logging(settings)
    raise typer.Exit(run(settings))


if __name__ == "__main__":
    main()
