"""Runs one container of a pod, again and again as the pod's restart policy asks, and keeps its view for the status."""

import asyncio
import dataclasses
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from devcluster.cluster import is_free
from devcluster.node import probes, status
from devcluster.node.environment import ConfigError, command_line, container_roots, on_machine, process_environment
from devcluster.node.images import image_problem
from devcluster.node.logs import tail
from devcluster.node.runs import Exit, Run, runs_of
from devcluster.node.volumes import inside, link_mounts
from devcluster.processes import Process

Object = dict[str, Any]

RETRY_SECONDS = 2.0
"""Pause before a container that could not be started for want of something is tried again."""

LONG_RUN = 600.0
"""Seconds; a container that ran this long begins its back-off anew."""


@dataclasses.dataclass(frozen=True)
class Surroundings:
    """What a container needs of its pod and node."""

    folder: Path
    policy: str
    grace: float
    stopping: asyncio.Event
    volumes: Mapping[str, Path]
    image_environment: Mapping[str, str]
    own_environment: Mapping[str, str]
    declared_environment: Callable[[Object], Awaitable[dict[str, str]]]
    publish: Callable[[], None]
    event: Callable[[str, str, str], None]


class ContainerRunner:
    """One container. `spec` may be replaced by a newer one: the image of a pod's container may change."""

    def __init__(self, spec: Object, around: Surroundings, view: status.ContainerView) -> None:
        self.spec = spec
        self.around = around
        self.view = view
        self.current: Run | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._failures = 0

    async def run(self) -> None:
        """Until it has ended for good or the pod is stopping. Goes on from what an earlier node process left."""
        run = await self._adopt()
        while run or not self.around.stopping.is_set():
            run = run or await self._begin()
            if run is None:
                return
            end = await self._watch(run)
            self._show_end(run, end)
            if self.around.stopping.is_set() or not status.restarts_after(self.around.policy, end.code):
                return
            await self._back_off()
            run = None

    def signal(self, number: int) -> None:
        """Signals the main process; SIGKILL goes to all of the container."""
        container = self.current.container() if self.current else None
        if container is None:
            return
        if number == signal.SIGKILL:
            container.signal_group(number)
        else:
            container.signal(number)

    async def _adopt(self) -> Run | None:
        """The run an earlier node process started, if it left one; its exit, if it ended meanwhile, is still news."""
        runs = runs_of(self.around.folder)
        while runs and runs[-1].is_beginning():
            await asyncio.sleep(0.05)
        if runs and not (runs[-1].started() or runs[-1].exit()):
            shutil.rmtree(runs.pop().folder)  # prepared, but never begun
        if len(runs) > 1 and (before := runs[-2].exit()):
            self.view.last_state = self._terminated(runs[-2], before)
        return runs[-1] if runs else None

    async def _begin(self) -> Run | None:
        """Starts the container as soon as it can be started; None when the pod stops before."""
        while not self.around.stopping.is_set():
            try:
                await self._pull()
                return await self._launch()
            except ConfigError as error:
                if self._wait_for(error.reason, str(error)):
                    self.around.event("Warning", "Failed", f"Error: {error}")
                await self._pause(RETRY_SECONDS)
        return None

    async def _pull(self) -> None:
        """Passes when the image is there. A name that cannot be pulled is reported as a kubelet does, then refused."""
        image = self.spec["image"]
        problem = image_problem(image)
        if problem and self.view.state.get("waiting", {}).get("reason") == "ContainerCreating":
            reason, message = problem
            self._wait_for(reason, message)
            self.around.event("Warning", "Failed", f'Failed to pull image "{image}": {message}')
            await self._pause(RETRY_SECONDS)
        if problem and problem[0] == "ErrImagePull":
            message = f'Back-off pulling image "{image}": ErrImagePull: {problem[1]}'
            raise ConfigError(message, "ImagePullBackOff")
        if problem:
            raise ConfigError(problem[1], problem[0])

    async def _launch(self) -> Run:
        if "restartPolicy" in self.spec:
            raise ConfigError(f"container {self.spec['name']}: devcluster knows no restartPolicy of a single container")
        declared = await self.around.declared_environment(self.spec)
        command = command_line(self.spec, declared)
        run = self._next_run()
        roots, rootfs = container_roots(self.spec), str(run.rootfs)
        own = {**self.around.own_environment, "DEVCLUSTER_ROOTFS": rootfs}
        own |= {name: str(inside(run.rootfs, path)) for name, path in (("HOME", "/root"), ("TMPDIR", "/tmp"))}
        directory = self._make_rootfs(run)
        self._warn_of_taken_ports()
        self._child = run.launch(
            [on_machine(word, roots, rootfs) for word in command],
            process_environment(self.around.image_environment, declared, own, roots, rootfs),
            directory,
            roots,
        )
        while not (run.started() or run.exit()) and self._child.poll() is None:
            await asyncio.sleep(0.005)
        if self.view.exit_code is not None:
            self.view.last_state = self.view.state
        return run

    def _warn_of_taken_ports(self) -> None:
        """Pods here share the machine's ports: say so before the program fails in its own words."""
        for port in [int(entry["containerPort"]) for entry in self.spec.get("ports", [])]:
            if not is_free(port):
                message = (
                    f"port {port} of container {self.spec['name']} is in use on this machine, whose ports pods share"
                )
                self.around.event("Warning", "PortTaken", message)

    def _next_run(self) -> Run:
        """A new run; of the earlier ones only the last is kept, for `kubectl logs --previous`."""
        earlier = runs_of(self.around.folder)
        for old in earlier[:-1]:
            shutil.rmtree(old.folder, ignore_errors=True)
        return Run(self.around.folder / str(earlier[-1].number + 1 if earlier else 0))

    def _make_rootfs(self, run: Run) -> Path:
        """The container's folders, mounts and empty termination message; returns its working directory."""
        for path in ("/root", "/tmp", "/dev"):
            inside(run.rootfs, path).mkdir(parents=True, exist_ok=True)
        link_mounts(self.spec, self.around.volumes, run.rootfs)
        directory = inside(run.rootfs, self.spec.get("workingDir", "/"))
        directory.mkdir(parents=True, exist_ok=True)
        message = self._message_file(run)
        message.parent.mkdir(parents=True, exist_ok=True)
        message.write_bytes(b"")
        return directory

    def _message_file(self, run: Run) -> Path:
        return inside(run.rootfs, self.spec.get("terminationMessagePath", "/dev/termination-log"))

    async def _watch(self, run: Run) -> Exit:
        """Shows the container as running, asks its probes, and returns how it ended."""
        self.current = run
        watchers = []
        if run.started() and not run.exit():
            self._show_running(run)
            watchers = [asyncio.create_task(self._keep_asking(run))]
            if self.around.stopping.is_set():
                self.signal(signal.SIGTERM)  # the order to stop came while it was starting
        shim = run.shim()
        if shim:
            await gone(shim)
        for watcher in watchers:
            watcher.cancel()
        if self._child:
            self._child.wait()
            self._child = None
        return run.exit() or self._lost(run)

    def _lost(self, run: Run) -> Exit:
        """The end of a run whose shim was killed: nobody knows the exit code. What it left running is ended."""
        run.kill()
        message = "The container's shim ended before the container did"
        now = time.time()
        return Exit(137, run.started() or now, now, "ContainerStatusUnknown", message)

    def _show_running(self, run: Run) -> None:
        container = run.container()
        self.view.identifier = f"process://{container.pid if container else 0}"
        self.view.restarts = run.number
        self.view.state = status.running(run.started() or time.time())
        self.view.started = "startupProbe" not in self.spec
        self.view.ready = self.view.started and "readinessProbe" not in self.spec
        self.around.publish()
        self.around.event("Normal", "Started", f"Started container {self.spec['name']}")

    def _show_end(self, run: Run, end: Exit) -> None:
        self.view.restarts, self.view.ready, self.view.started = run.number, False, False
        self.view.state = self._terminated(run, end)
        self._failures = 1 if end.finished - end.started > LONG_RUN else self._failures + 1
        self.around.publish()

    def _terminated(self, run: Run, end: Exit) -> Object:
        file = self._message_file(run)
        written = file.read_bytes() if file.is_file() else b""
        policy = self.spec.get("terminationMessagePolicy", "File")
        message = end.message or status.termination_message(written, tail(run.log), policy, end.code)
        container = run.container()
        return status.terminated(end, message, f"process://{container.pid if container else 0}")

    async def _back_off(self) -> None:
        seconds = status.back_off(self._failures - 1)
        if not seconds:
            return
        self.view.last_state = self.view.state
        message = f"back-off {seconds:.0f}s restarting failed container={self.spec['name']}"
        self._wait_for("CrashLoopBackOff", message)
        self.around.event("Warning", "BackOff", f"Back-off restarting failed container {self.spec['name']}")
        await self._pause(seconds)

    async def _keep_asking(self, run: Run) -> None:
        """Startup first, then readiness and liveness; a failing startup or liveness probe ends the run."""
        if startup := self.spec.get("startupProbe"):
            started = asyncio.Event()
            starting = asyncio.create_task(
                probes.watch(startup, self.spec, run, lambda good, why: started.set() if good else self._unwell(why))
            )
            try:
                await started.wait()
            finally:
                starting.cancel()
            self.view.started, self.view.ready = True, "readinessProbe" not in self.spec
            self.around.publish()
        async with asyncio.TaskGroup() as group:
            if readiness := self.spec.get("readinessProbe"):
                group.create_task(probes.watch(readiness, self.spec, run, self._show_ready))
            if liveness := self.spec.get("livenessProbe"):
                report = lambda good, why: None if good else self._unwell(why)  # noqa: E731
                group.create_task(probes.watch(liveness, self.spec, run, report))

    def _show_ready(self, good: bool, problem: str) -> None:
        if not good:
            self.around.event("Warning", "Unhealthy", f"Readiness probe failed: {problem}")
        self.view.ready = good
        self.around.publish()

    def _unwell(self, problem: str) -> None:
        """Ends a run that is not alive: SIGTERM now, SIGKILL after the pod's grace period."""
        self.around.event("Warning", "Unhealthy", f"Liveness probe failed: {problem}; will be restarted")
        container = self.current.container() if self.current else None
        if container:
            container.signal(signal.SIGTERM)
            asyncio.get_running_loop().call_later(self.around.grace, container.signal_group, signal.SIGKILL)

    def _wait_for(self, reason: str, message: str) -> bool:
        """Shows that the container waits, and says whether that is news."""
        state = status.waiting(reason, message)
        news = state != self.view.state
        self.view.state = state
        self.around.publish()
        return news

    async def _pause(self, seconds: float) -> None:
        """Waits, but not longer than until the pod stops."""
        try:
            await asyncio.wait_for(self.around.stopping.wait(), seconds)
        except TimeoutError:
            return


async def gone(process: Process) -> None:
    """Returns when the process has ended, whoever its parent is."""
    try:
        handle = os.pidfd_open(process.pid)  # type: ignore[attr-defined, unused-ignore]
    except (AttributeError, OSError):
        while process.alive:
            await asyncio.sleep(0.1)
        return
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(handle, ended.set)
    try:
        if process.alive:  # and the handle is that of this very process, not of a later one of the same pid
            await ended.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)
