"""The node process itself: one task for registration, one for the provisioner, one for the watch of its pods."""

import asyncio
import logging
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from devcluster.cluster import NODE_NAME, Cluster
from devcluster.node.api import UNREACHABLE, Api, ApiError
from devcluster.node.environment import image_environment
from devcluster.node.leftovers import kill_runs, unfinished_runs
from devcluster.node.pod import Host, PodWorker
from devcluster.node.provisioner import provision
from devcluster.node.registration import capacity, keep_registered
from devcluster.node.server import serve
from devcluster.node.status import timestamp

Object = dict[str, Any]

log = logging.getLogger(__name__)


async def run_node(cluster: Cluster, gpus: int) -> None:
    """Runs until SIGTERM or SIGINT. Pods go on running then; the next node process takes them over."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    api, provisioner = Api(cluster.server, cluster.pki, "node"), Api(cluster.server, cluster.pki, "provisioner")
    node = Node(cluster, api, capacity(gpus))
    server = await serve(cluster, node.find_pod)
    tasks = [
        asyncio.create_task(keep_registered(api, cluster, node.resources)),
        asyncio.create_task(provision(provisioner, cluster)),
        asyncio.create_task(node.follow_pods()),
    ]
    ended = asyncio.create_task(stop.wait())
    await asyncio.wait({*tasks, ended}, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        if task.done():
            task.result()  # none of them ends by itself: raise what ended it
    await server.cleanup()
    await api.close()
    await provisioner.close()


class Node:
    """The pods bound to this node, each with its worker."""

    def __init__(self, cluster: Cluster, api: Api, resources: dict[str, str]) -> None:
        self.cluster = cluster
        self.api = api
        self.resources = resources
        self.workers: dict[str, PodWorker] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        environment = image_environment(os.environ, str(Path(sys.executable).parent))
        self.host = Host(cluster, api, environment, resources, self.event)

    async def follow_pods(self) -> None:
        """Gives each pod a worker, and each worker the news of its pod."""
        selector = {"fieldSelector": f"spec.nodeName={NODE_NAME}"}
        async for kind, found in self.api.follow("/api/v1/pods", selector):
            if kind == "LIST":
                await self._take_all(found)
            elif kind == "DELETED":
                self._drop(found["metadata"]["uid"])
            else:
                self._take(found)

    async def _take_all(self, pods: list[Object]) -> None:
        """A list is the whole truth: what is not in it is gone, in memory and on disk."""
        listed = {pod["metadata"]["uid"] for pod in pods}
        for uid in self.workers.keys() - listed:
            self._drop(uid)
        for folder in self.cluster.pods.iterdir():
            if folder.name not in listed and folder.name not in self.workers:
                await asyncio.to_thread(_sweep, folder)
        for pod in pods:
            self._take(pod)

    def _take(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        if uid in self.workers:
            self.workers[uid].update(pod)
            return
        self.workers[uid] = worker = PodWorker(self.host, pod)
        self._spawn(_supervise(worker))

    def _drop(self, uid: str) -> None:
        worker = self.workers.pop(uid, None)
        if worker:
            worker.lose()

    def find_pod(self, namespace: str, name: str) -> Path | None:
        """The folder of a pod."""
        for worker in reversed(self.workers.values()):  # of two of one name, the newer
            metadata = worker.pod["metadata"]
            if (metadata["namespace"], metadata["name"]) == (namespace, name):
                return worker.folder
        return None

    def event(self, pod: Object, kind: str, reason: str, message: str) -> None:
        """Records an Event about a pod; one that cannot be written is lost, as events may be."""
        self._spawn(self._event(pod, kind, reason, message))

    async def _event(self, pod: Object, kind: str, reason: str, message: str) -> None:
        metadata, now = pod["metadata"], time.time()
        about = {"apiVersion": "v1", "kind": "Pod", **{key: metadata[key] for key in ("namespace", "name", "uid")}}
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{metadata['name'][:200]}.", "namespace": metadata["namespace"]},
            "involvedObject": about,
            "type": kind,
            "reason": reason,
            "message": message[:1024],
            "source": {"component": "devcluster-node", "host": NODE_NAME},
            "firstTimestamp": timestamp(now),
            "lastTimestamp": timestamp(now),
            "count": 1,
        }
        try:
            await self.api.create(f"/api/v1/namespaces/{metadata['namespace']}/events", body)
        except (ApiError, *UNREACHABLE) as error:
            log.info("event %s of %s/%s lost: %s", reason, metadata["namespace"], metadata["name"], error)

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._tasks.discard)


async def _supervise(worker: PodWorker) -> None:
    """A fault in one pod's worker is written down and touches no other pod."""
    try:
        await worker.run()
    except Exception:
        log.exception("%s: worker failed", worker.name)


def _sweep(folder: Path) -> None:
    """Ends and removes what is left of a pod that was deleted while no node process ran."""
    kill_runs(unfinished_runs(folder), grace=0)
    shutil.rmtree(folder, ignore_errors=True)
