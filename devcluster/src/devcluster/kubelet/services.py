"""The process beside the kubelet: the volumes of claims, GPUs on paper, and the way from a pod to the API server."""

import asyncio
import contextlib
import logging

from devcluster.cluster import NODE_NAME, Cluster
from devcluster.kubelet.settings import API_ADDRESS
from devcluster.node.api import UNREACHABLE, Api, ApiError
from devcluster.node.provisioner import provision

GPU = "nvidia.com/gpu"

CHECK_SECONDS = 1.0
"""How often the node's GPUs are looked at: a kubelet that starts again reports none."""

log = logging.getLogger(__name__)


async def run_services(cluster: Cluster, gpus: int) -> None:
    """Runs for ever."""
    node, provisioner = Api(cluster.server, cluster.pki, "node"), Api(cluster.server, cluster.pki, "provisioner")
    forwarder = await asyncio.start_server(
        lambda reader, writer: _forward(cluster.ports["kube-apiserver"], reader, writer), API_ADDRESS, 443
    )
    async with forwarder, asyncio.TaskGroup() as group:
        group.create_task(provision(provisioner, cluster))
        group.create_task(_keep_gpus(node, gpus))


async def _keep_gpus(api: Api, gpus: int) -> None:
    """Writes to the node's status that it has GPUs, as a device plugin would through the kubelet."""
    path, wanted = f"/api/v1/nodes/{NODE_NAME}", {GPU: str(gpus)}
    while True:
        try:
            status = (await api.get(path)).get("status", {})
            if any(status.get(key, {}).get(GPU) != str(gpus) for key in ("capacity", "allocatable")):
                await api.patch(f"{path}/status", {"status": {"capacity": wanted, "allocatable": wanted}})
        except (ApiError, *UNREACHABLE) as error:
            log.info("cannot write the node's GPUs: %s", error)
        await asyncio.sleep(CHECK_SECONDS)


async def _forward(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection of a pod to the API server, which listens on loopback alone."""
    try:
        api_reader, api_writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError as error:
        log.info("the API server does not answer: %s", error)
        writer.close()
        return
    await asyncio.gather(_copy(reader, api_writer), _copy(api_reader, writer))


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()
    target.close()
