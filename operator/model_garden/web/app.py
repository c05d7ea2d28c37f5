"""Adds the pages to the application of the REST API."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from fastapi.responses import RedirectResponse
from starlette.staticfiles import StaticFiles

from model_garden.web import form_data, form_upload, job_actions, job_list, job_log, job_page, login, new_job
from model_garden.web.pages import FOLDER
from model_garden.web.sessions import Sessions

_router = APIRouter(include_in_schema=False)


@_router.get("/")
async def index() -> RedirectResponse:
    """The first page."""
    return RedirectResponse("/training")


def add_pages(app: FastAPI, session_key: str | None = None) -> FastAPI:
    """Serve the pages beside what ``app`` serves already, and return it.

    Raises:
        ValueError: ``session_key``, with which replicas share sessions, is too short.
    """
    app.state.sessions = Sessions(session_key)
    app.mount("/static", StaticFiles(directory=FOLDER / "static"), name="static")
    # The page of a job takes any name, so that it comes last.
    for router in (
        _router,
        login.router,
        job_list.router,
        new_job.router,
        form_data.router,
        form_upload.router,
        job_page.router,
        job_log.router,
        job_actions.router,
    ):
        app.include_router(router)
    return app
