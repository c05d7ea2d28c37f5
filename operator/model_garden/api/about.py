"""``/healthz`` and ``/api/v1/version``: about this server itself; they need no credentials."""

from __future__ import annotations

from fastapi import APIRouter

from model_garden import __version__
from model_garden.api.openapi import PREFIX
from model_garden.contract.names import API_VERSION

router = APIRouter(tags=["server"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Whether the server answers."""
    return {"status": "ok"}


@router.get(f"{PREFIX}/version")
async def version() -> dict[str, str]:
    """The server's version, and the version of the TrainingJob resource."""
    return {"version": __version__, "resource": API_VERSION}
