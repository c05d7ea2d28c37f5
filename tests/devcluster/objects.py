"""Small objects for the tests of devcluster: pods that run a Python script."""

import os
from pathlib import Path
from typing import Any

from tests.cluster import TestCluster

Object = dict[str, Any]

WAIT_FOR_FILE = """
import os, sys, time
def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.02)
"""
"""Gives a script `wait_for(path)`: how a test tells a container to go on."""


def container(script: str = "", name: str = "main", **more: Any) -> Object:
    return {"name": name, "image": "example/python:1", "command": ["python", "-c", WAIT_FOR_FILE + script], **more}


def pod(
    name: str, *containers: Object, policy: str = "Never", annotations: Object | None = None, **spec: Any
) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "annotations": annotations or {}},
        "spec": {"restartPolicy": policy, "terminationGracePeriodSeconds": 5, "containers": list(containers), **spec},
    }


def job(name: str, *containers: Object, **spec: Any) -> Object:
    template = {"spec": {"restartPolicy": "Never", "containers": list(containers)}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"backoffLimit": 0, "template": template, **spec},
    }


def claim(name: str) -> Object:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def state(pod: Object | None, index: int = 0) -> Object:
    """The state of a container of a pod, empty while it has none."""
    statuses = ((pod or {}).get("status") or {}).get("containerStatuses") or [{}]
    return statuses[index].get("state") or {}


def processes_in(directory: Path) -> list[str]:
    """Command lines of all processes that work in the folder or name it: a cluster's and its pods'."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            folder = str((process / "cwd").readlink())
        except OSError:
            continue
        inside = folder.startswith(str(directory)) or str(directory) in words
        if words and inside and int(process.name) != os.getpid():
            found.append(words)
    return found


def ended(cluster: TestCluster, name: str) -> Any:
    """How the container of a pod ended, once it has."""
    return cluster.until(lambda: state(cluster.get("pod", name)).get("terminated"), f"pod {name} ends")


def waiting(cluster: TestCluster, name: str, reason: str) -> Any:
    """What the container of a pod waits for, once it waits with a reason."""

    def found() -> Object | None:
        wait: Object = state(cluster.get("pod", name)).get("waiting", {})
        return wait if wait.get("reason") == reason else None

    return cluster.until(found, f"pod {name} waits with {reason}")
