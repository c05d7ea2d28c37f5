"""A Kubernetes of its own for a test session: devcluster in a temporary folder, up on first use, gone at the end.

A test asks for the fixture `cluster` (tests/conftest.py):

    def test_something(cluster: TestCluster) -> None:
        cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", ...})
        cluster.kubectl("get", "pods", "-n", "default")
        cluster.until(lambda: cluster.get("pod", "x")["status"]["phase"] == "Running")
"""

import base64
import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
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


class Reader:
    """Reads objects as ``kubectl get`` does, in 2 ms of CPU time, not 85: a test that waits reads all the time."""

    def __init__(self, kubeconfig: Path) -> None:
        config = json.loads(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._server: str = cluster["server"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        context = ssl.create_default_context(cadata=authority)
        with NamedTemporaryFile() as pair:
            pair.write(b"".join(base64.b64decode(user[f"client-{part}-data"]) for part in ("key", "certificate")))
            pair.flush()
            context.load_cert_chain(pair.name)
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        self._collections: dict[str, tuple[str, bool]] = {}

    def get(self, kind: str, name: str, namespace: str, selector: str) -> Any:
        """An object, or without a name the list of objects; None for an object that is not there."""
        path, namespaced = self._collection(kind)
        if namespaced:
            group, _, plural = path.rpartition("/")
            path = f"{group}/namespaces/{namespace}/{plural}"
        if name:
            found = self._read(f"{path}/{name}")
            return found and _shown(found)
        found = self._read(f"{path}?{urllib.parse.urlencode({'labelSelector': selector})}")
        own = {"apiVersion": found["apiVersion"], "kind": found["kind"].removesuffix("List")}
        return [_shown(own | each) for each in found["items"]]

    def _collection(self, kind: str) -> tuple[str, bool]:
        """The path of a kind's collection, and whether it is one of a namespace."""
        if kind not in self._collections:  # nor is a kind whose definition was applied since
            versions = [group["preferredVersion"]["groupVersion"] for group in self._read("/apis")["groups"]]
            for path in ("/api/v1", *(f"/apis/{version}" for version in versions)):
                for each in (self._read(path) or {"resources": []})["resources"]:
                    names = (each["name"], each["singularName"], each["kind"].lower(), *each.get("shortNames", ()))
                    group = path.split("/")[2] if path.startswith("/apis/") else ""
                    if "/" not in each["name"]:
                        for known in (*names, f"{each['name']}.{group}"):
                            self._collections.setdefault(known, (f"{path}/{each['name']}", each["namespaced"]))
        assert kind in self._collections, f"the API server has no {kind}"
        return self._collections[kind]

    def _read(self, path: str) -> Any:
        """What a path answers; None if nothing is there. Waits for a server that asks to be asked again."""
        while True:
            try:
                with self._opener.open(self._server + path, timeout=PATIENCE) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                with error:
                    if error.code == 404:
                        return None
                    after = error.headers.get("Retry-After")
                    assert after, f"GET {path}: {error.code} {error.read().decode()}"
                time.sleep(float(after))


def _shown(found: Object) -> Object:
    """An object without what kubectl leaves out."""
    found["metadata"].pop("managedFields", None)
    return found


class TestCluster:
    """A running devcluster and the few calls tests need."""

    __test__ = False  # for pytest: the name begins with Test, the class holds none

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.kubeconfig = directory / "kubeconfig"
        self._kubectl: list[str] | None = None
        self._reader: Reader | None = None

    def up(self, *options: str) -> str:
        """Brings it up; returns what the command printed."""
        done = devcluster("up", "--dir", str(self.directory), *options)
        assert done.returncode == 0, f"devcluster up failed:\n{done.stdout}{done.stderr}"
        binaries = devcluster("build")
        self._reader = None
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
        if self._reader is None:
            self._reader = Reader(self.kubeconfig)
        return self._reader.get(kind, name, namespace, selector)

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
