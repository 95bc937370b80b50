"""``GET /v1/models``: what can be asked for."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request

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
            for artifact in await asyncio.to_thread(engine.networks.store.artifacts, "network")
        ],
    }


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
