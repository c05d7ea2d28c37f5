"""Adds the OpenAI API to the application of the REST API, below ``/v1``."""

from __future__ import annotations

from fastapi import FastAPI

from model_garden.openai_api import files, jobs, models
from model_garden.openai_api.problems import add_handlers

PREFIX = "/v1"


def add_openai_api(app: FastAPI) -> FastAPI:
    """Serve it beside what ``app`` serves already, and return ``app``.

    It is an application of its own, because its errors have another shape.
    """
    door = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    door.state = app.state
    for router in (jobs.router, files.router, models.router):
        door.include_router(router)
    add_handlers(door)
    app.mount(PREFIX, door)
    return app
