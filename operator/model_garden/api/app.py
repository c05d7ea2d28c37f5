"""The web application: routers, error handlers, and protection from pages elsewhere.

``model-garden serve`` runs it. A further front door, such as web pages, adds its router to ``ROUTERS``.
"""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute

from model_garden import __version__
from model_garden.api import about, changes, datasets, jobs, live, models, planning
from model_garden.api.access import Access, LocalAccess
from model_garden.api.limits import InProgress, Limits
from model_garden.api.openapi import PREFIX, TAGS, document
from model_garden.api.problems import add_handlers
from model_garden.api.protection import Addresses, Protected
from model_garden.services.feed import Feeds

ROUTERS: tuple[APIRouter, ...] = (
    jobs.router,
    changes.router,
    live.router,
    planning.router,
    datasets.router,
    models.router,
)
"""What is served below ``/api/v1``."""


def create_app(access: Access | LocalAccess | None = None, addresses: Addresses | None = None) -> FastAPI:
    """The application.

    Args:
        access: the cluster and whose credentials are used; None only to read the OpenAPI document.
        addresses: the addresses of the server; requests to others, and from pages of others, are refused.
    """
    app = FastAPI(
        title="Model Garden",
        version=__version__,
        summary="Fine-tune text and vision-language models on Kubernetes.",
        openapi_url=f"{PREFIX}/openapi.json",
        openapi_tags=TAGS,
        docs_url=None,  # its pages load scripts from elsewhere
        redoc_url=None,
        generate_unique_id_function=_operation_id,
    )
    app.state.access = access
    app.state.feeds = Feeds()
    app.state.limits = Limits()
    for router in ROUTERS:
        app.include_router(router, prefix=PREFIX)
    app.include_router(about.router)
    add_handlers(app)
    app.add_middleware(InProgress)
    app.add_middleware(Protected, addresses=addresses or Addresses())
    app.openapi = lambda: document(app)  # type: ignore[method-assign]
    return app


def _operation_id(route: APIRoute) -> str:
    """The name of the route's function: generators make a method of it."""
    return route.name
