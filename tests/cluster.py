"""A Kubernetes of its own for a test session: devcluster in a temporary folder, up on first use, gone at the end.

A test asks for the fixture `cluster` (tests/conftest.py):

    def test_something(cluster: TestCluster) -> None:
        cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", ...})
        cluster.kubectl("get", "pods", "-n", "default")
        cluster.until(lambda: cluster.get("pod", "x")["status"]["phase"] == "Running")
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from devcluster.processes import Process

Object = dict[str, Any]

CRD = Path(__file__).parents[1] / "manifests" / "crd.yaml"

PATIENCE = 60.0
"""Seconds a condition may take on a busy two-core machine."""


def devcluster(*arguments: str, environment: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """Runs the devcluster command as a user does."""
    command = [sys.executable, "-m", "devcluster", *arguments]
    variables = {key: value for key, value in os.environ.items() if key not in ("KUBECONFIG", "DEVCLUSTER_DIR")}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=variables | (environment or {}))


class TestCluster:
    """A running devcluster and the few calls tests need."""

    __test__ = False  # for pytest: the name begins with Test, the class holds none

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.kubeconfig = directory / "kubeconfig"
        self._kubectl: list[str] | None = None

    def up(self, *options: str) -> str:
        """Brings it up; returns what the command printed."""
        done = devcluster("up", "--dir", str(self.directory), *options)
        assert done.returncode == 0, f"devcluster up failed:\n{done.stdout}{done.stderr}"
        binaries = devcluster("build")
        self._kubectl = [str(Path(binaries.stdout.strip()) / "kubectl"), f"--kubeconfig={self.kubeconfig}"]
        return done.stdout

    def down(self) -> None:
        """Takes it down and removes its folder."""
        done = devcluster("down", "--delete", "--dir", str(self.directory))
        assert done.returncode == 0, f"devcluster down failed:\n{done.stdout}{done.stderr}"

    def command(self, *arguments: str) -> list[str]:
        """The command line of a kubectl call, for tests that start it themselves."""
        assert self._kubectl, "the cluster is not up"
        return [*self._kubectl, *arguments]

    def try_kubectl(self, *arguments: str, content: str = "") -> "subprocess.CompletedProcess[str]":
        """Runs kubectl as administrator, whatever its exit code."""
        return subprocess.run(self.command(*arguments), input=content, capture_output=True, text=True, check=False)

    def kubectl(self, *arguments: str, content: str = "") -> str:
        """Runs kubectl as administrator and returns what it printed; fails the test if it fails."""
        done = self.try_kubectl(*arguments, content=content)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def apply(self, *objects: Object) -> None:
        """Applies objects."""
        document = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "-f", "-", content=json.dumps(document))

    def get(self, kind: str, name: str = "", namespace: str = "default", selector: str = "") -> Any:
        """An object, or without a name the list of objects; None for an object that is not there."""
        words = ["get", kind, *([name] if name else []), "-n", namespace, "-o", "json", "--ignore-not-found"]
        printed = self.kubectl(*words, *(["-l", selector] if selector else []))
        found = json.loads(printed) if printed.strip() else None
        if name:
            return found
        return found["items"] if found else []

    def until(self, condition: Callable[[], Any], what: str = "", seconds: float = PATIENCE) -> Any:
        """Waits until the condition holds (is truthy) and returns its value; fails the test if it never does."""
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what or condition}"
            time.sleep(0.05)
        return value

    def kill_api_server(self) -> None:
        """As a lost node does; ``up`` starts it again."""
        server = Process.read(self.directory / "run" / "kube-apiserver.json")
        assert server
        server.signal(signal.SIGKILL)
        self.until(lambda: not server.alive)

    @contextmanager
    def silent_node(self) -> Iterator[None]:
        """Lets the node answer nothing, as one that hangs; at the end it goes on where it was."""
        node = Process.read(self.directory / "run" / "node.json")
        assert node
        node.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            node.signal(signal.SIGCONT)

    def serve_training_jobs(self) -> None:
        """Applies the CRD and waits until TrainingJobs are served."""
        self.kubectl("apply", "--server-side", "-f", str(CRD))
        self.until(lambda: self.try_kubectl("get", "trainingjobs").returncode == 0, "TrainingJobs are served")
