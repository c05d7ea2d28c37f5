"""The node's HTTPS endpoint, which the API server asks for logs and commands: what `kubectl logs` ends up at."""

import contextlib
import datetime
import ssl
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from aiohttp import web

from devcluster.cluster import Cluster
from devcluster.node.exec import exec_in
from devcluster.node.logs import LogOptions, read_log
from devcluster.node.runs import Run, runs_of

FindPod = Callable[[str, str], Path | None]
"""(namespace, name) -> the pod's folder."""


async def serve(cluster: Cluster, find_pod: FindPod) -> web.AppRunner:
    """Serves on the node's port until the runner is cleaned up. Only the cluster's administrators get in."""
    application = web.Application(middlewares=[_only_masters])
    application.add_routes(
        [
            web.get("/healthz", _healthz),
            web.get("/containerLogs/{namespace}/{pod}/{container}", _logs_of(find_pod)),
            web.route("*", "/exec/{namespace}/{pod}/{container}", exec_in(lambda request: _running(find_pod, request))),
            web.route("*", "/{rest:.*}", _not_here),
        ]
    )
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", cluster.ports["node"], ssl_context=_tls(cluster)).start()
    return runner


def _tls(cluster: Cluster) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=cluster.pki / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(cluster.pki / "node-server.crt", cluster.pki / "node-server.key")
    return context


@web.middleware
async def _only_masters(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    assert request.transport is not None
    certificate = request.transport.get_extra_info("peercert") or {}
    subject = {key: value for part in certificate.get("subject", ()) for key, value in part}
    if subject.get("organizationName") != "system:masters":
        raise web.HTTPForbidden(text=f"user {subject.get('commonName')} may not use the node's endpoint")
    return await handler(request)


async def _healthz(_: web.Request) -> web.Response:
    return web.Response(text="ok")


async def _not_here(request: web.Request) -> web.Response:
    text = f"devcluster runs pods as processes and has no {request.path.split('/')[1]} (attach and port-forward)"
    return web.Response(status=501, text=text)


def _logs_of(find_pod: FindPod) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def logs(request: web.Request) -> web.StreamResponse:
        try:
            options = LogOptions.of(request.query, datetime.datetime.now(datetime.UTC))
        except ValueError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        run = _chosen_run(find_pod, request.match_info, options.previous)
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):  # the reader may leave at any time
            async for chunk in read_log(run.log, options, lambda: has_ended(run)):
                await response.write(chunk)
            await response.write_eof()
        return response

    return logs


def has_ended(run: Run) -> bool:
    """Whether nothing will be added to a run's log any more; the folder goes with its pod."""
    shim = run.shim()
    return run.exit() is not None or (shim is not None and not shim.alive) or not run.folder.exists()


def _running(find_pod: FindPod, request: web.Request) -> Run:
    run = _chosen_run(find_pod, request.match_info, previous=False)
    if run.container() is None or has_ended(run):
        raise web.HTTPNotFound(text=f'container "{request.match_info["container"]}" is not running')
    return run


def _chosen_run(find_pod: FindPod, wanted: Mapping[str, str], previous: bool) -> Run:
    folder = find_pod(wanted["namespace"], wanted["pod"])
    runs = runs_of(folder / "containers" / wanted["container"]) if folder else []
    if previous:
        runs = runs[:-1]
    if not runs:
        which = "previous terminated container" if previous else "container"
        raise web.HTTPNotFound(text=f'{which} "{wanted["container"]}" in pod "{wanted["pod"]}" not found')
    return runs[-1]
