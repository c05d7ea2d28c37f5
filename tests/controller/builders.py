"""Kubernetes objects as the watches give them, for the tests of pure functions."""

from datetime import UTC, datetime, timedelta
from typing import Any

from model_garden.builders import plan as builders_plan
from model_garden.builders.plan import Plan
from model_garden.builders.settings import Settings
from model_garden.contract.progress import Outcome, termination_message
from model_garden.contract.status import OutputStatus, Progress, TrainingJobStatus
from model_garden.controller.observed import derive_facts
from model_garden.controller.status import next_status
from model_garden.controller.trainer_events import Training
from model_garden.controller.verdict import Now, Observation, judge

Object = dict[str, Any]

NEW = TrainingJobStatus()
AT_7 = Progress(step=7, total_steps=10, loss=1.0)
DONE = Outcome(result="Succeeded", exit_code=0, output=OutputStatus(path="models/receipts"), progress=AT_7)
BAD = Outcome(result="Failed", exit_code=3, reason="InvalidDataset", message="rows.jsonl row 7: no answer")

QUEUE = {"labels": {"kueue.x-k8s.io/queue-name": "gpus"}}
OURS = {"annotations": {"model-garden.dev/suspended-by-spec": "true"}}

CLAIMS = {"resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "one-gpu"}]}

START = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
SETTINGS = Settings(data_claim="data", models_claim="models", cache_claim="cache")


def at(seconds: float = 0) -> Now:
    return Now(START + timedelta(seconds=seconds), generation=1)


def time(seconds: float = 0) -> str:
    return at(seconds).text()


def resource(name: str = "receipts", **spec: Any) -> Object:
    """A TrainingJob; labels and annotations are given as such."""
    metadata = {"name": name, "namespace": "default", "uid": "tj-uid", "generation": 1, "creationTimestamp": time()}
    metadata |= {key: spec.pop(key) for key in ("labels", "annotations") if key in spec}
    return {"metadata": metadata, "spec": {"baseModel": "org/model", "datasetPath": "./data/rows.jsonl", **spec}}


def plan(settings: Settings = SETTINGS, **spec: Any) -> Plan:
    return builders_plan.plan(resource(**spec), settings)


def job(*conditions: str, owner: str = "tj-uid", suspend: bool = False, reason: str = "", **metadata: Any) -> Object:
    owners = [{"controller": True, "uid": owner, "kind": "TrainingJob", "name": "receipts"}] if owner else []
    return {
        "metadata": {
            "name": "receipts-train",
            "namespace": "default",
            "uid": "job-uid",
            "resourceVersion": "1",
            "creationTimestamp": time(),
            "ownerReferences": owners,
            **metadata,
        },
        "spec": {"suspend": suspend},
        "status": {
            "conditions": [
                {"type": kind, "status": "True", "reason": reason, "message": "", "lastTransitionTime": time(100)}
                for kind in conditions
            ]
        },
    }


def pod(name: str = "receipts-train-1", created: float = 0, node: str | None = "node-1", **status: Any) -> Object:
    """A pod without a container's state: on its way."""
    return {
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": f"{name}-uid",
            "resourceVersion": "1",
            "creationTimestamp": time(created),
            "ownerReferences": [{"kind": "Job", "name": "receipts-train", "uid": "job-uid"}],
        },
        "spec": {"nodeName": node, "containers": [{"name": "trainer", "resources": {"limits": {"memory": "8Gi"}}}]},
        "status": {"phase": "Pending", **status},
    }


def state(**state: Any) -> list[Object]:
    return [{"name": "trainer", "state": state}]


def scheduled(seconds: float) -> list[Object]:
    """The condition of a pod that a node took at that time."""
    return [{"type": "PodScheduled", "status": "True", "lastTransitionTime": time(seconds)}]


def running(name: str = "receipts-train-1", started: float = 5) -> Object:
    return pod(name, started, phase="Running", containerStatuses=state(running={"startedAt": time(started)}))


def ended(exit_code: int, outcome: Outcome | None = None, name: str = "receipts-train-1", **more: Any) -> Object:
    """A pod whose trainer ended after a minute."""
    terminated = {
        "exitCode": exit_code,
        "startedAt": time(5),
        "finishedAt": time(65),
        "reason": more.pop("reason", "Error"),
    }
    if outcome:
        terminated["message"] = termination_message(outcome)
    phase = "Succeeded" if exit_code == 0 else "Failed"
    return pod(name, 5, phase=phase, containerStatuses=state(terminated=terminated), **more)


def event(uid: str, reason: str, message: str, second: float = 0) -> Object:
    return {"involvedObject": {"uid": uid}, "reason": reason, "message": message, "lastTimestamp": time(second)}


def unscheduled(message: str) -> Object:
    said = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return pod(node=None, conditions=[said])


def waiting(reason: str, message: str = "", **status: Any) -> Object:
    return pod(**status, containerStatuses=state(waiting={"reason": reason, "message": message}))


def observation(
    job: Object | None,
    *pods: Object,
    before: TrainingJobStatus = NEW,
    training: Training = Training(),  # noqa: B008 - frozen
    seconds: float = 70,
    **spec: Any,
) -> Observation:
    facts = derive_facts(resource()["metadata"], job, pods)
    return Observation(plan(**spec), facts, training, before, at(seconds))


def status(*job_and_pods: Object | None, tail: tuple[str, ...] = (), **more: Any) -> TrainingJobStatus:
    seen = observation(*job_and_pods, **more)
    return next_status(seen, judge(seen, missing_seconds=300), tail)
