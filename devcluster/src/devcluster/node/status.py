"""A pod's status from the states of its containers (pure)."""

import dataclasses
import datetime
import itertools
from collections.abc import Sequence
from typing import Any

from devcluster.node.runs import Exit

Object = dict[str, Any]

TERMINATION_MESSAGE_LIMIT = 4096
"""Bytes."""

BACK_OFF_LIMIT = 60.0
"""Seconds; a kubelet waits longer (10 s doubling to 300 s), but here nobody pays for a busy node."""


@dataclasses.dataclass
class ContainerView:
    """What is known of one container."""

    name: str
    image: str
    state: Object
    last_state: Object = dataclasses.field(default_factory=dict)
    restarts: int = 0
    ready: bool = False
    started: bool = False
    identifier: str = ""
    """Changes with every run."""

    @property
    def exit_code(self) -> int | None:
        """The exit code of a container that has ended and will not be started again."""
        ended = self.state.get("terminated")
        return ended["exitCode"] if ended else None


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why a pod as a whole failed: its deadline, its eviction."""

    reason: str
    message: str


def timestamp(seconds: float) -> str:
    """Seconds since 1970 as the API writes them."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def age(pod: Object, now: float) -> float:
    """Seconds since the pod began on this node; 0 for one that has not."""
    began = pod.get("status", {}).get("startTime")
    return max(0.0, now - datetime.datetime.fromisoformat(began).timestamp()) if began else 0.0


def waiting(reason: str, message: str = "") -> Object:
    """The state of a container that does not run yet, or not again yet."""
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}


def running(started: float) -> Object:
    """The state of a container that runs."""
    return {"running": {"startedAt": timestamp(started)}}


def terminated(end: Exit, message: str, identifier: str) -> Object:
    """The state of a container that has ended."""
    state: Object = {
        "exitCode": end.code,
        "reason": end.reason or ("Completed" if end.code == 0 else "Error"),
        "startedAt": timestamp(end.started),
        "finishedAt": timestamp(end.finished),
        "containerID": identifier,
    }
    return {"terminated": state | ({"message": message} if message else {})}


def termination_message(written: bytes, log_tail: bytes, policy: str, code: int) -> str:
    """The message of an ended container: what it wrote to its terminationMessagePath, else, if asked, its log's end."""
    if not written and policy == "FallbackToLogsOnError" and code != 0:
        written = log_tail
        return written[-TERMINATION_MESSAGE_LIMIT:].decode(errors="replace")
    return written[:TERMINATION_MESSAGE_LIMIT].decode(errors="replace")


def recorded(pod: Object) -> dict[str, Object]:
    """What a pod's status tells of each of its containers, by name; empty for a pod that has not begun."""
    lists = [pod.get("status", {}).get(key, []) for key in ("initContainerStatuses", "containerStatuses")]
    return {each["name"]: each for each in itertools.chain(*lists)}


def first_view(spec: Object, told: Object | None) -> ContainerView:
    """A container before anything is known of it, or as the pod's status told it to an earlier node process."""
    if told is None:
        return ContainerView(spec["name"], spec["image"], waiting("ContainerCreating"))
    return ContainerView(
        spec["name"],
        spec["image"],
        told.get("state", {}),
        told.get("lastState", {}),
        told["restartCount"],
        told["ready"],
        told.get("started", False),
        told.get("containerID", ""),
    )


def restarts_after(policy: str, code: int) -> bool:
    """Whether a container that ended with this code is started again."""
    return policy == "Always" or (policy == "OnFailure" and code != 0)


def back_off(restarts: int) -> float:
    """Seconds to wait before a container is started for the (restarts + 1)-th time: 0, 1, 2, 4, ..., 60."""
    return 0.0 if restarts < 1 else min(BACK_OFF_LIMIT, 2.0 ** (restarts - 1))


def phase(policy: str, init: Sequence[ContainerView], main: Sequence[ContainerView], stopping: bool) -> str:
    """The pod's phase, by the rules of the pod life cycle.

    `stopping` says that nothing is started any more, because the pod is deleted or its deadline is over.
    """
    final = stopping or policy == "Never"
    if any(view.exit_code not in (None, 0) for view in init):
        return "Failed" if final else "Pending"
    codes = [view.exit_code for view in main]
    if None not in codes:
        if not any(codes):
            return "Succeeded" if stopping or policy != "Always" else "Running"
        return "Failed" if final else "Running"
    if stopping and not any("running" in view.state for view in [*init, *main]):
        return "Failed"
    begun = any("running" in view.state or view.last_state or view.exit_code is not None for view in main)
    waits_first = any("waiting" in view.state and not view.last_state for view in main)
    return "Running" if begun and not waits_first else "Pending"


def pod_status(
    pod: Object,
    init: Sequence[ContainerView],
    main: Sequence[ContainerView],
    now: float,
    stopping: bool = False,
    failure: Failure | None = None,
) -> Object:
    """The parts of `status` that are the node's to write. Conditions keep their time while they do not change."""
    policy = pod["spec"].get("restartPolicy", "Always")
    current = pod.get("status", {})
    name = "Failed" if failure and not _any_running(init, main) else phase(policy, init, main, stopping)
    status: Object = {
        "phase": name,
        "hostIP": "127.0.0.1",
        "hostIPs": [{"ip": "127.0.0.1"}],
        "podIP": "127.0.0.1",
        "podIPs": [{"ip": "127.0.0.1"}],
        "startTime": current.get("startTime") or timestamp(now),
        "containerStatuses": [_container_status(view) for view in main],
        "conditions": _conditions(name, init, main, current.get("conditions", []), timestamp(now)),
    }
    if init:
        status["initContainerStatuses"] = [_container_status(view) for view in init]
    if failure:
        status |= {"reason": failure.reason, "message": failure.message}
    return status


def _any_running(init: Sequence[ContainerView], main: Sequence[ContainerView]) -> bool:
    return any("running" in view.state for view in [*init, *main])


def _container_status(view: ContainerView) -> Object:
    return {
        "name": view.name,
        "image": view.image,
        "imageID": view.image,
        "containerID": view.identifier,
        "state": view.state,
        "lastState": view.last_state,
        "restartCount": view.restarts,
        "ready": view.ready,
        "started": view.started,
    }


def _conditions(
    name: str, init: Sequence[ContainerView], main: Sequence[ContainerView], current: Sequence[Object], now: str
) -> list[Object]:
    initialized = all(view.exit_code == 0 for view in init)
    unready = [view.name for view in main if not view.ready]
    done = "PodCompleted" if name == "Succeeded" else "PodFailed" if name == "Failed" else ""
    not_ready = (done or "ContainersNotReady", "" if done else f"containers with unready status: {unready}")
    wanted = [
        _condition("PodReadyToStartContainers", True),
        _condition("Initialized", initialized, *(("ContainersNotInitialized", "") if not initialized else ())),
        _condition("ContainersReady", not unready, *(not_ready if unready else ())),
        _condition("Ready", not unready, *(not_ready if unready else ())),
    ]
    since = {c["type"]: c.get("lastTransitionTime") for c in current if _same(c, wanted)}
    return [{**condition, "lastTransitionTime": since.get(condition["type"]) or now} for condition in wanted]


def _condition(kind: str, value: bool, reason: str = "", message: str = "") -> Object:
    # Empty texts are sent, too: merging would else keep an old reason.
    return {"type": kind, "status": str(value), "reason": reason or None, "message": message or None}


def _same(current: Object, wanted: Sequence[Object]) -> bool:
    return any(c["type"] == current["type"] and c["status"] == current["status"] for c in wanted)
