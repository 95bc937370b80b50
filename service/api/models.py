"""``GET /v1/models``: what can be asked for; ``POST /v1/models/{name}/load``: take the newest version into use."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel

from service.api.entry import Credentials
from service.engine import Engine
from service.inference.artifact import Artifact, NetworkManifest

router = APIRouter(prefix="/v1", tags=["models"])


@router.get("/models", summary="Networks of the model store")
async def models(request: Request) -> dict[str, Any]:
    """Name, version, labels and published scores of every network; which are loaded, which is the default."""
    engine: Engine = request.app.state.engine
    loaded = {network.lane for network in engine.networks.loaded}
    return {
        "default": engine.default.lane,
        "models": [
            {**describe(artifact), "loaded": artifact.spec in loaded}
            for artifact in await engine.reading.run(engine.networks.store.artifacts, "network")
        ],
    }


class Swap(BaseModel):
    """Which version serves who asks for this model from now on, and which did; null if none was loaded."""

    model: str
    version: str
    version_before: str | None


@router.post(
    "/models/{name}/load",
    summary="Take the newest version of a network into use now",
    responses={
        403: {"description": "Not the key of an admin, or a page of another site"},
        422: {"description": "No such network or version"},
        500: {"description": "It cannot be used, and why; what served before goes on"},
        503: {"description": "The service is stopping"},
    },
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


def describe(artifact: Artifact) -> dict[str, Any]:
    """What a user wants to know of a network, from its manifest."""
    manifest = artifact.manifest
    assert isinstance(manifest, NetworkManifest)
    return {
        "name": manifest.name,
        "version": manifest.version,
        "labels": manifest.labels,
        "window": manifest.window,
        # Null: nothing it says is certain.
        "uncertain_below": manifest.uncertain_below if manifest.for_people else None,
        "learnt_from": manifest.learnt_from,
        "for_people": manifest.for_people,
        "parameters": manifest.parameters,
        "scores": manifest.scores,
    }
