"""The life of one pod on this node: volumes, init containers, containers, status, end and removal."""

import asyncio
import contextlib
import dataclasses
import json
import logging
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from devcluster.cluster import Cluster, write_whole
from devcluster.node import status
from devcluster.node.api import UNREACHABLE, Api, ApiError
from devcluster.node.container import RETRY_SECONDS, ContainerRunner, Surroundings
from devcluster.node.environment import ConfigError, declared_environment, references
from devcluster.node.leftovers import kill_runs, unfinished_runs
from devcluster.node.tokens import Tokens, mounts_token, token_volume, write_kubeconfig
from devcluster.node.volumes import VolumeError, Volumes, data_of

Object = dict[str, Any]

log = logging.getLogger(__name__)

ENDED = ("Succeeded", "Failed")


@dataclasses.dataclass(frozen=True)
class Host:
    """What a pod needs of its node."""

    cluster: Cluster
    api: Api
    image_environment: Mapping[str, str]
    allocatable: Mapping[str, str]
    event: Callable[[Object, str, str, str], None]


class PodWorker:
    """Runs one pod from its binding to its removal. `update` and `lose` tell it what the watch saw."""

    def __init__(self, host: Host, pod: Object) -> None:
        self.host = host
        self.pod = pod
        self.uid = str(pod["metadata"]["uid"])
        self.folder = host.cluster.pods / self.uid
        self.stopping = asyncio.Event()
        self._leaving = asyncio.Event()
        self._lost = False
        self._dirty = asyncio.Event()
        self._published: Object | None = None
        self._overwritten = False
        self._over = False
        self._failure: status.Failure | None = None
        self._tokens = Tokens(host.api)
        self._volumes = Volumes(host.api, self.folder / "volumes", self._tokens, host.allocatable)
        self._prepared: dict[str, Path] = {}
        spec = pod["spec"]
        told = status.recorded(pod)
        self.init = [self._runner(spec, told) for spec in spec.get("initContainers", [])]
        self.main = [self._runner(spec, told) for spec in spec["containers"]]
        for runner in [*self.init, *self.main][1:] if self.init and not told else []:
            runner.view.state = status.waiting("PodInitializing")

    @property
    def name(self) -> str:
        """namespace/name, for the log."""
        return f"{self.pod['metadata']['namespace']}/{self.pod['metadata']['name']}"

    def update(self, pod: Object) -> None:
        """The pod's newest version: changed labels and annotations, images, or the order to end."""
        self.pod = pod
        for runner, spec in zip(self.main, pod["spec"]["containers"], strict=True):
            runner.spec = spec
        if self._published and _ready(pod.get("status", {})) != _ready(self._published):
            self._overwritten = True  # the node controller writes Ready=False to the pods of a node that was silent
            self._dirty.set()
        if self._prepared:
            try:
                self._volumes.refresh(pod)
            except (VolumeError, OSError) as error:
                self.event("Warning", "FailedMount", f"cannot update files: {error}")
        if "deletionTimestamp" in pod["metadata"]:
            self.stopping.set()
            self._leaving.set()

    def lose(self) -> None:
        """The object is gone: end everything at once."""
        self._lost = True
        self.stopping.set()
        self._leaving.set()

    async def run(self) -> None:
        """From binding to removal. An ended pod keeps its folder, for its logs, until it is deleted."""
        self.update(self.pod)
        if self.pod.get("status", {}).get("phase") not in ENDED:
            publisher = asyncio.create_task(self._keep_publishing())
            await self._live_or_stop()
            self._over = True
            self._dirty.set()
            await publisher  # not canceled: the server could commit a status in flight after the last one
        await self._leaving.wait()
        await self._remove()

    async def _live_or_stop(self) -> None:
        live = asyncio.create_task(self._live())
        stopping = asyncio.create_task(self.stopping.wait())
        deadline = self.pod["spec"].get("activeDeadlineSeconds")
        left = deadline - status.age(self.pod, time.time()) if deadline else None
        timer = asyncio.get_running_loop().call_later(left, self._exceed) if left is not None else None
        await asyncio.wait({live, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if timer:
            timer.cancel()
        stopping.cancel()
        if not live.done():
            await self._end(live)
        if problem := live.exception():
            self._break(problem)

    def _break(self, problem: BaseException) -> None:
        """A fault of the node's own must not leave the pod hanging: it ends as Failed and says why."""
        log.error("%s: fault while running the pod", self.name, exc_info=problem)
        kill_runs(unfinished_runs(self.folder), grace=0)
        self._failure = status.Failure("NodeFault", f"devcluster's node could not run the pod: {problem!r}")
        for runner in [*self.init, *self.main]:
            if "running" in runner.view.state:
                runner.view.state = status.waiting("NodeFault")

    def _exceed(self) -> None:
        self._failure = status.Failure("DeadlineExceeded", "Pod was active on the node longer than its deadline")
        self.stopping.set()

    async def _live(self) -> None:
        """Everything in its order; each step can be cut short by `stopping`."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        metadata = self.pod["metadata"]
        write_whole(self.folder / "pod.json", json.dumps({key: metadata[key] for key in ("namespace", "name", "uid")}))
        self._dirty.set()
        if not await self._prepare():
            return
        renewal = asyncio.create_task(self._keep_tokens())
        try:
            for runner in self.init:
                await runner.run()
                if runner.view.exit_code != 0:
                    return
                self._next_is_creating(runner)
            await asyncio.gather(*(runner.run() for runner in self.main))
        finally:
            renewal.cancel()

    def _next_is_creating(self, runner: ContainerRunner) -> None:
        for following in self.main if runner is self.init[-1] else [self.init[self.init.index(runner) + 1]]:
            if following.view.state == status.waiting("PodInitializing"):
                following.view.state = status.waiting("ContainerCreating")

    async def _prepare(self) -> bool:
        """Prepares the volumes, trying until it works; False when the pod stops before.

        Tries once also for a pod that is to stop already: an earlier node process may have left it running.
        """
        told = ""
        while True:
            try:
                self._prepared.update(await self._volumes.prepare(self.pod))
                self._write_kubeconfig()
                return True
            except (VolumeError, ApiError, *UNREACHABLE) as error:
                if str(error) != told:
                    told = str(error)
                    self.event("Warning", "FailedMount", f"MountVolume.SetUp failed: {error}")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.stopping.wait(), RETRY_SECONDS)
                    return False

    def _write_kubeconfig(self) -> None:
        volume = token_volume(self.pod)
        if volume:
            namespace = self.pod["metadata"]["namespace"]
            token_file = self._prepared[volume] / "token"
            write_kubeconfig(self.folder / "kubeconfig", self.host.cluster, namespace, token_file)

    async def _keep_tokens(self) -> None:
        """Renews tokens before they expire."""
        while True:
            await asyncio.sleep(max(0.0, min(self._tokens.renew_at - time.time(), 3600)))
            if time.time() < self._tokens.renew_at:
                continue
            try:
                self._tokens.renew_at = float("inf")
                await self._volumes.prepare(self.pod)
                self._write_kubeconfig()
            except (VolumeError, ApiError, *UNREACHABLE) as error:
                log.warning("%s: cannot renew tokens: %s", self.name, error)
                self._tokens.renew_at = time.time() + 10

    async def _end(self, live: "asyncio.Task[None]") -> None:
        """SIGTERM, the grace period, SIGKILL. A pod whose object is gone already has no grace left."""
        began = time.monotonic()
        runners = [*self.init, *self.main]
        self.event("Normal", "Killing", f"Stopping container {', '.join(runner.view.name for runner in runners)}")
        for runner in runners:
            runner.signal(signal.SIGTERM)
        while not live.done() and time.monotonic() - began < self._grace():
            await asyncio.wait({live}, timeout=0.1)
        while not live.done():
            for runner in runners:
                runner.signal(signal.SIGKILL)
            await asyncio.wait({live}, timeout=0.1)

    def _grace(self) -> float:
        """Seconds; a later deletion may shorten it."""
        asked = self.pod["metadata"].get("deletionGracePeriodSeconds")
        usual = self.pod["spec"].get("terminationGracePeriodSeconds", 30)
        return 0.0 if self._lost else float(usual if asked is None else asked)

    async def _remove(self) -> None:
        """Deletes the object for good, as only its node may, and then the folder."""
        metadata = self.pod["metadata"]
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
        await self._insist(lambda: self.host.api.delete(_path(metadata), options))
        shutil.rmtree(self.folder, ignore_errors=True)

    async def _keep_publishing(self) -> None:
        """One status after the other, until the one of a pod that is over is written."""
        over = False
        while not over:
            await self._dirty.wait()
            over = self._over
            await self._publish()

    async def _publish(self) -> None:
        """Writes the pod's status, if it differs from what was written last or somebody else has changed it."""
        self._dirty.clear()
        views = [runner.view for runner in self.init], [runner.view for runner in self.main]
        pod = self.pod if self._published is None else {**self.pod, "status": self._published}
        wanted = status.pod_status(pod, *views, time.time(), self.stopping.is_set(), self._failure)
        if wanted == self._published and not self._overwritten:
            return
        self._overwritten = False
        wanted = json.loads(json.dumps(wanted))  # the views go on changing
        body = {"metadata": {"uid": self.uid}, "status": wanted}
        await self._insist(lambda: self.host.api.patch(_path(self.pod["metadata"]) + "/status", body))
        self._published = wanted

    async def _insist(self, call: Callable[[], Any]) -> None:
        """Makes a call until it succeeds or its object is gone."""
        while not self._lost:
            try:
                await call()
                return
            except ApiError as error:
                if error.status in (404, 409):
                    return
                log.warning("%s: %s", self.name, error)
                if error.status in (400, 422):
                    return  # it will be refused every time
            except UNREACHABLE as error:
                log.info("%s: API server unreachable: %s", self.name, error)
            await asyncio.sleep(0.5)

    def event(self, kind: str, reason: str, message: str) -> None:
        """Records an Event about the pod."""
        self.host.event(self.pod, kind, reason, message)

    async def _declared_environment(self, container: Object) -> dict[str, str]:
        namespace = self.pod["metadata"]["namespace"]
        data: dict[tuple[str, str], dict[str, str]] = {}
        for kind, name, optional in references(container):
            try:
                found = await self.host.api.for_pod("GET", f"/api/v1/namespaces/{namespace}/{kind}/{name}")
                data[kind, name] = {key: value.decode() for key, value in data_of(found, kind).items()}
            except ApiError as error:
                if not (optional and error.status == 404):
                    raise ConfigError(f"{kind[:-1]} {name}: {error}") from error
            except UNREACHABLE as error:
                raise ConfigError(f"{kind[:-1]} {name}: {error}") from error
        return declared_environment(container, self.pod, data, self.host.allocatable)

    def _runner(self, container: Object, told: Mapping[str, Object]) -> ContainerRunner:
        view = status.first_view(container, told.get(container["name"]))
        return ContainerRunner(container, self._surroundings(container), view)

    def _surroundings(self, container: Object) -> Surroundings:
        spec = self.pod["spec"]
        policy = spec.get("restartPolicy", "Always")
        is_init = container in spec.get("initContainers", [])
        own = {"HOSTNAME": spec.get("hostname") or self.pod["metadata"]["name"]}
        if mounts_token(container):
            own["KUBECONFIG"] = str(self.folder / "kubeconfig")
        return Surroundings(
            folder=self.folder / "containers" / container["name"],
            policy="OnFailure" if is_init and policy == "Always" else policy,
            grace=float(spec.get("terminationGracePeriodSeconds", 30)),
            stopping=self.stopping,
            volumes=self._prepared,
            image_environment=self.host.image_environment,
            own_environment=own,
            declared_environment=self._declared_environment,
            publish=self._dirty.set,
            event=self.event,
        )


def _ready(pod_status: Object) -> str | None:
    return next((c["status"] for c in pod_status.get("conditions", []) if c["type"] == "Ready"), None)


def _path(metadata: Object) -> str:
    return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
