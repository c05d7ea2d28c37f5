"""``/metrics`` for Prometheus."""

from __future__ import annotations

import os

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from model_garden.controller.metrics import Metrics


async def serve(metrics: Metrics, port: int) -> web.AppRunner:
    """Start serving on all addresses; ``cleanup()`` of what is returned ends it.

    Raises:
        OSError: the port is taken.
    """

    async def show(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/metrics", show)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, port=port).start()
    except OSError as error:
        why = (
            f"MODEL_GARDEN_PORT: {port} cannot serve /metrics ({os.strerror(error.errno or 0)}); set it to a free port"
        )
        raise OSError(why) from error
    return runner
