"""``GET /v1/models``: what can be asked for; ``POST /v1/models/{name}/load``: take the newest version into use."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict

from service.api.entry import REFUSALS, Credentials
from service.api.openapi import refusals
from service.engine import Engine
from service.errors import (
    AdminOnly,
    DeviceUnavailable,
    ModelDamaged,
    RunnerFailed,
    Unavailable,
    UnknownModel,
)
from service.inference.artifact import Artifact, NetworkManifest

router = APIRouter(prefix="/v1", tags=["models"])

_DAMAGED = ModelDamaged("timeconv-resnet20@2: the sha256 of model.onnx is not the manifest's")


class Network(BaseModel):
    """A network of the model store, from its manifest.

    ``uncertain_below`` is null where nothing it says is certain, since it learnt from drawn faces alone
    (``for_people``). ``scores`` are those of the model card.
    """

    name: str
    version: str
    labels: list[str]
    window: int
    uncertain_below: float | None
    learnt_from: str
    for_people: bool
    parameters: dict[str, int]
    scores: dict[str, Any]
    loaded: bool


class Models(BaseModel):
    """What may be asked for, and as ``name@version`` what serves who asks for nothing."""

    default: str
    models: list[Network]


@router.get("/models", summary="Networks of the model store", responses=refusals(*REFUSALS, _DAMAGED))
async def models(request: Request) -> Models:
    """Name, version, labels and published scores of every network; which are loaded, which is the default."""
    engine: Engine = request.app.state.engine
    loaded = {network.lane for network in engine.networks.loaded}
    return Models(
        default=engine.default.lane,
        models=[
            _described(artifact, loaded=artifact.spec in loaded)
            for artifact in await engine.reading.run(engine.networks.store.artifacts, "network")
        ],
    )


class Swap(BaseModel):
    """Which version serves who asks for this model from now on, and which did; null if none was loaded."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "timeconv-resnet20", "version": "2", "version_before": "1"}]}
    )

    model: str
    version: str
    version_before: str | None


@router.post(
    "/models/{name}/load",
    summary="Take the newest version of a network into use now",
    responses=refusals(
        *REFUSALS,
        AdminOnly("Only a key with admin=true may do this; tokens and other keys do not"),
        UnknownModel("No network 'timeconv-resnet21'; there are: timeconv-resnet20@1"),
        _DAMAGED,
        DeviceUnavailable("The device cuda cannot be had: libcudnn.so.9 is missing"),
        RunnerFailed("The network's answer is not finite"),
        Unavailable("The service is stopping"),
    ),
)
async def load(name: str, request: Request, given: Credentials) -> Swap:
    """Load, check and warm the newest version of ``name``, and have it serve, live sessions too; or a ``name@version``.

    Takes an API key with ``admin=true``. Until it is done, and if it fails, the version before goes on.
    """
    engine: Engine = request.app.state.engine
    engine.access.by_admin_key(None if given is None else given.credentials)
    engine.drain.admit()
    old, new = await engine.model_watch.load(name)
    return Swap(model=new.name, version=new.version, version_before=None if old is None else old.version)


def _described(artifact: Artifact, *, loaded: bool) -> Network:
    manifest = artifact.manifest
    assert isinstance(manifest, NetworkManifest)
    return Network(
        name=manifest.name,
        version=manifest.version,
        labels=list(manifest.labels),
        window=manifest.window,
        uncertain_below=manifest.uncertain_below if manifest.for_people else None,
        learnt_from=manifest.learnt_from,
        for_people=manifest.for_people,
        parameters=manifest.parameters,
        scores=manifest.scores,
        loaded=loaded,
    )
