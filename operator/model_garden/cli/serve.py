"""``serve``: the REST API of a cluster on this machine's own address."""

from __future__ import annotations

import asyncio
import socket

from model_garden.cli.output import FAILED, CommandError
from model_garden.services.errors import MissingPackages


def serve(host: str, port: int, *, context: str | None) -> None:
    """Serve until the process is told to end.

    Raises:
        CommandError: the address cannot be used.
        MissingPackages: the packages of the REST API are not installed.
        ClusterError: no cluster is configured.
    """
    try:
        import uvicorn

        from model_garden.api.access import Access
        from model_garden.api.app import create_app
        from model_garden.api.protection import is_loopback
    except ModuleNotFoundError as missing:
        raise MissingPackages(
            f"serve needs the packages of the REST API ({missing.name} is missing): pip install 'model-garden[api]'"
        ) from missing
    loopback = is_loopback(host)

    async def session() -> None:
        async with await Access.open(context, loopback=loopback) as access:
            with _listen(host, port) as listener:
                address = f"[{host}]" if ":" in host else host
                print(f"Model Garden serves http://{address}:{listener.getsockname()[1]}/api/v1", flush=True)
                config = uvicorn.Config(
                    create_app(access, loopback=loopback),
                    log_level="warning",
                    access_log=False,
                    server_header=False,
                    timeout_graceful_shutdown=3,
                )
                await uvicorn.Server(config).serve(sockets=[listener])

    try:
        asyncio.run(session())
    except KeyboardInterrupt:  # the usual way to end it
        return


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as refused:
        raise CommandError(
            f"cannot listen on {host}:{port} ({refused.strerror}); choose another --port, or 0 for any free one", FAILED
        ) from refused
