"""A server of the TrainingJobs of a folder, in a thread of the test, so that its bounds can be smaller."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from model_garden.api import connections
from model_garden.api.access import LocalAccess
from model_garden.api.app import create_app
from model_garden.api.limits import Gate, Rate
from model_garden.api.protection import Addresses
from model_garden.local.home import local_home
from model_garden.openai_api.app import add_openai_api
from model_garden.web.app import add_pages


@contextmanager
def running(workspace: Path, **bounds: Rate | Gate) -> Iterator[str]:
    """A server of the TrainingJobs of a folder, with other bounds where given; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        config = uvicorn.Config(
            lambda: None, http=connections.BoundedProtocol, ws="none", log_level="critical", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        serving = pool.submit(serve, server, listener, workspace, bounds)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            serving.result()


def serve(server: uvicorn.Server, listener: socket.socket, workspace: Path, bounds: dict[str, Rate | Gate]) -> None:
    with local_home(workspace) as home:  # its database is of the thread that opens it
        app = add_openai_api(add_pages(create_app(LocalAccess(home.cluster, workspace), Addresses(loopback=True))))
        vars(app.state.limits).update(bounds)
        server.config.app = app
        asyncio.run(server.serve(sockets=[listener]))
