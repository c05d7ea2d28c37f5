"""``/metrics`` for Prometheus and ``/healthz`` for the kubelet, on one port."""

from __future__ import annotations

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from model_garden.controller.metrics import Metrics


async def serve(metrics: Metrics, port: int) -> web.AppRunner:
    """Start serving on all addresses; ``cleanup()`` of what is returned ends it.

    ``/healthz`` answers as long as the event loop turns; a part that fails ends the whole process.
    """

    async def health(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def show(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/healthz", health), web.get("/metrics", show)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    return runner
