"""A namespace with an operator of its own, run as users run it: a process with a kubeconfig."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from tests.cluster import PATIENCE, Object, TestCluster

TRAINER = ("python", "-m", "tests.controller.scripted_trainer")  # no path: a pod's /tmp is its own
CLAIMS = {"DATA": "garden-data", "MODELS": "garden-models", "CACHE": "garden-cache"}


class OperatorHarness:
    """The namespace, its TrainingJobs and its operator. The operator is not started by itself."""

    def __init__(self, cluster: TestCluster, namespace: str, folder: Path) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.kubeconfig = cluster.kubeconfig  # the operator's; a test may give it one with fewer rights
        self.log = folder / f"operator-{namespace}.log"
        self.port, self.health_port = free_port(), free_port()
        self._operator: subprocess.Popen[bytes] | None = None
        namespaced = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        cluster.apply(namespaced, *(claim(name, namespace) for name in CLAIMS.values()))

    def second_operator(self, folder: Path) -> "OperatorHarness":
        """The same namespace with a second operator."""
        return OperatorHarness(self.cluster, self.namespace, folder)

    def start_operator(self, pod: dict[str, str] | None = None, **settings: str) -> None:
        """Start it; ``pod`` are the variables that a Deployment would give, ``settings`` those of the project."""
        environment = {
            **os.environ,
            **(pod or {}),
            "KUBECONFIG": str(self.kubeconfig),
            "MODEL_GARDEN_NAMESPACES": self.namespace,
            "MODEL_GARDEN_PORT": str(self.port),
            "MODEL_GARDEN_HEALTH_PORT": str(self.health_port),
            "MODEL_GARDEN_PROGRESS_SECONDS": "0.5",
            "MODEL_GARDEN_MISSING_SECONDS": "6",
            "MODEL_GARDEN_TRAINER_COMMAND": json.dumps(TRAINER),
            **{f"MODEL_GARDEN_{kind}_CLAIM": name for kind, name in CLAIMS.items()},
            **{f"MODEL_GARDEN_{name}": value for name, value in settings.items()},
        }
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "model_garden.controller"]
            self._operator = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def kill_operator(self) -> None:
        """As a lost node does: without a graceful end."""
        assert self._operator
        self._operator.kill()
        self._operator.wait()

    def stop_operator(self) -> None:
        """As Kubernetes does; the operator must end well."""
        assert self._operator
        self._operator.send_signal(signal.SIGTERM)
        assert self._operator.wait(PATIENCE) == 0, self.log.read_text()[-3000:]

    def wait_for_operator(self) -> int:
        """The exit code of an operator that ends of itself."""
        assert self._operator
        return self._operator.wait(PATIENCE)

    def health(self) -> Object:
        """What ``/healthz`` shows of the operator; None while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}/healthz", timeout=5) as answer:
                health: Object = json.load(answer)["operator"]
        except OSError:
            return {"leads": None}
        return health

    def metrics(self) -> str:
        """The operator's page of metrics."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=PATIENCE) as answer:
            page: str = answer.read().decode()
        return page

    def submit(self, name: str, env: dict[str, object] | None = None, **more: Any) -> None:
        """Create a TrainingJob that asks for no GPU, little memory, and runs the scripted trainer with ``env``."""
        metadata = {"name": name, "namespace": self.namespace, **more.pop("metadata", {})}
        spec = {
            "baseModel": "tiny/model",
            "datasetPath": "./data/rows.jsonl",
            "resources": {"limits": {"nvidia.com/gpu": 0}, "requests": {"cpu": "10m", "memory": "16Mi"}},
            "podTemplate": {"env": [{"name": key, "value": str(value)} for key, value in (env or {}).items()]},
            **more,
        }
        self.cluster.apply(
            {"apiVersion": "model-garden.dev/v1alpha1", "kind": "TrainingJob"} | {"metadata": metadata, "spec": spec}
        )

    def annotate(self, name: str, annotation: str) -> None:
        self.kubectl("annotate", "trainingjob", name, annotation)

    def patch(self, kind: str, name: str, change: Object) -> None:
        self.kubectl("patch", kind, name, "--type=merge", "-p", json.dumps(change))

    def kubectl(self, *arguments: str) -> str:
        return self.cluster.kubectl(*arguments, "-n", self.namespace)

    def get(self, kind: str, name: str = "", selector: str = "") -> Any:
        return self.cluster.get(kind, name, self.namespace, selector)

    def status(self, name: str) -> Object:
        """What the operator wrote: empty until then, whatever default the CRD has."""
        found: Object = self.get("trainingjob", name).get("status") or {}
        return found if "phase" in found else {}

    def until(self, name: str, phase: str, reason: str = "", seconds: float = PATIENCE) -> Object:
        """Wait for a phase, and a reason of the ``Running`` condition; return the status."""
        seen: list[Object] = [{}]

        def reached() -> Object | None:
            seen[0] = self.status(name)
            if seen[0].get("phase") != phase or (reason and condition(seen[0], "Running")["reason"] != reason):
                return None
            return seen[0]

        try:
            status: Object = self.cluster.until(reached, seconds=seconds)
        except AssertionError as error:
            log = self.log.read_text()[-3000:]
            found = json.dumps(seen[0], indent=1)
            raise AssertionError(f"{name} is not {phase} {reason} but {found}\n{log}") from error
        return status

    def until_step(self, name: str, step: int) -> Object:
        """Wait until the status reports a step."""

        def reached() -> Object | None:
            status = self.status(name)
            return status if (status.get("progress") or {}).get("step", 0) >= step else None

        status: Object = self.cluster.until(reached, f"step {step} of {name}: {self.log}")
        return status

    def job(self, name: str) -> Object | None:
        job: Object | None = self.get("job", f"{name}-train")
        return job

    def pods(self, name: str) -> list[Object]:
        return self.get("pods", selector=f"model-garden.dev/training-job={name}") or []

    def events(self, name: str) -> list[tuple[str, str]]:
        """Reason and message of each Event about a TrainingJob."""
        found = self.get("events")
        about = [
            e for e in found if e["involvedObject"]["kind"] == "TrainingJob" and e["involvedObject"]["name"] == name
        ]
        return [(event["reason"], event["message"]) for event in about]


def condition(status: Object, kind: str) -> Object:
    return next(c for c in status["conditions"] if c["type"] == kind)


def assert_in_order(harness: OperatorHarness, name: str, *phases: str) -> None:
    """The Events of a job that has ended tell its phases in this order, each once.

    A phase that is over before the operator looks has no Event, unless training and its end.
    """
    harness.cluster.until(lambda: phases[-1] in dict(harness.events(name)), f"the Event of the end of {name}")
    told = [reason for reason, _ in harness.events(name)]
    assert told == [phase for phase in phases if phase in (*told, "Running")]


def claim(name: str, namespace: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
