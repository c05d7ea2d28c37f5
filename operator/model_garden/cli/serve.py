"""``serve``: the REST API and the web pages, of a cluster or of this machine's own TrainingJobs."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from model_garden.cli.output import FAILED, CommandError
from model_garden.cluster.errors import NOT_CONFIGURED
from model_garden.services.errors import MissingPackages

if TYPE_CHECKING:
    from model_garden.api.access import Access, LocalAccess


@dataclass(frozen=True)
class Place:
    """Where the server listens, and the addresses that people open where those are others."""

    host: str
    port: int
    urls: Sequence[str] = ()
    proxy_auth: bool = False


def serve(place: Place, *, local: bool, context: str | None) -> None:
    """Serve until the process is asked to end.

    Raises:
        CommandError: an address cannot be used, or another server has the current folder open.
        MissingPackages: the packages of the REST API are not installed.
        ClusterError: no cluster is configured, though one was named.
    """
    try:
        import uvicorn  # noqa: F401

        from model_garden.api.protection import is_loopback
        from model_garden.local.home import FolderInUse
    except ModuleNotFoundError as missing:
        raise MissingPackages(
            f"serve needs the packages of the REST API ({missing.name} is missing): pip install 'model-garden[api]'"
        ) from missing
    loopback = is_loopback(place.host)
    if local and not loopback:
        raise CommandError(
            f"--local has no authentication, so --host must be a loopback address such as 127.0.0.1; got {place.host}"
        )
    if loopback and place.urls:  # whoever reached it there would act with the kubeconfig's credentials
        raise CommandError(f"--url needs a --host that other machines can reach, such as 0.0.0.0; got {place.host}")
    try:
        asyncio.run(_local(place) if local else _cluster(place, context, loopback=loopback))
    except KeyboardInterrupt:  # the usual way to end it
        return
    except FolderInUse as error:
        raise CommandError(str(error), FAILED) from error


async def _cluster(place: Place, context: str | None, *, loopback: bool) -> None:
    from model_garden.api.access import Access
    from model_garden.cluster import ClusterError

    try:
        access = await Access.open(context, loopback=loopback, proxy_auth=place.proxy_auth)
    except ClusterError as error:
        if error.reason != NOT_CONFIGURED or context or os.environ.get("KUBECONFIG") or not loopback:
            raise
        print("There is no kubeconfig, so jobs run on this machine.", file=sys.stderr)
        await _local(place)
        return
    async with access:
        await _listen_and_serve(place, access)


async def _local(place: Place) -> None:
    """Serve and run the jobs of the current folder."""
    from model_garden.api.access import LocalAccess
    from model_garden.cli.local import NO_TRAINER, has_trainer
    from model_garden.local.home import local_home

    if not has_trainer():
        print(f"Jobs will fail: {NO_TRAINER}", file=sys.stderr)
    workspace = Path.cwd()
    with local_home(workspace) as home:
        running = asyncio.create_task(home.runner.run())
        access = LocalAccess(home.cluster, workspace)
        serving = asyncio.create_task(_listen_and_serve(place, access))
        done, _ = await asyncio.wait((running, serving), return_when=asyncio.FIRST_COMPLETED)
        running.cancel()
        for task in done:
            task.result()
        if training := home.runner.training():
            print(
                f"The training of {training} continues. Run model-garden serve in this folder again to follow it.",
                file=sys.stderr,
            )


async def _listen_and_serve(place: Place, access: Access | LocalAccess) -> None:
    import uvicorn

    from model_garden.api.app import create_app
    from model_garden.api.connections import BoundedProtocol
    from model_garden.api.protection import Addresses, is_loopback
    from model_garden.openai_api.app import add_openai_api
    from model_garden.web.app import add_pages
    from model_garden.web.sessions import KEY_VARIABLE

    try:
        addresses = Addresses(place.urls, loopback=is_loopback(place.host))
        app = add_openai_api(add_pages(create_app(access, addresses), os.environ.get(KEY_VARIABLE)))
    except ValueError as wrong:
        raise CommandError(str(wrong)) from wrong
    with _listen(place.host, place.port) as listener:
        address = f"[{place.host}]" if ":" in place.host else place.host
        server = f"http://{address}:{listener.getsockname()[1]}"
        print(f"Model Garden serves {server}/api/v1", flush=True)
        print(f"The web pages start at {server}/training", flush=True)
        print(f"OpenAI clients use base_url={server}/v1", flush=True)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            http=BoundedProtocol,
            ws="none",
            proxy_headers=False,
            timeout_graceful_shutdown=3,
        )
        await uvicorn.Server(config).serve(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as refused:
        raise CommandError(
            f"cannot listen on {host}:{port} ({refused.strerror}); choose another --port, or 0 for any free one", FAILED
        ) from refused
    # asyncio does not see that a socket of create_server is TCP. Without this, each answer waits 40 ms for an ACK.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
