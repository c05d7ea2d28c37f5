"""A cluster as the documentation expects one: the operator of the README's ``helm install``, claims, jobs and a model.

The trainer is the scripted one, so that each job takes a second and needs neither a model nor data.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from devcluster.binaries import ensure_binaries, ensure_kueue
from tests.api.conftest import serving
from tests.cluster import Object, TestCluster
from tests.controller.harness import TRAINER, free_port
from tests.docs.blocks import ROOT, blocks
from tests.docs.objects import JOBS
from tests.web.conftest import hub

__all__ = ["hub"]

NAMESPACES = ("model-garden", JOBS, "training", "vision", "team-a", "argocd")
CLAIMS = ("data", "models", "cache")
EXISTING = ("finished", "receipts-v1")
PROGRAMS = ("kubectl", "helm", "model-garden", "curl", "make", "pip", "python", "python3", "hf")


@dataclass(frozen=True)
class World:
    """The cluster, and the folder in which commands run: the checkout, a data set, and the programs of tests."""

    cluster: TestCluster
    folder: Path
    environment: dict[str, str]

    def log(self) -> str:
        """What was done with each command of the page."""
        path = Path(self.environment["DOCS_LOG"])
        return path.read_text() if path.exists() else ""

    def prepare(self) -> None:
        """Put a model into the claim, and remove the jobs of other pages."""
        Path(self.environment["DOCS_LOG"]).unlink(missing_ok=True)
        self.cluster.kubectl("delete", "trainingjobs", "-A", "-l", "!existing")
        claim = next((self.cluster.directory / "volumes").glob(f"{JOBS}-model-garden-models-*"))
        (claim / "receipts").mkdir(exist_ok=True)
        (claim / "receipts" / "adapter_model.safetensors").write_bytes(b"weights")

    def bash(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a script in the folder."""
        return subprocess.run(
            ["/usr/bin/timeout", "300", "/bin/bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestCluster]:
    """A cluster with the CRDs of this project, of Kueue, and those of the chart's tests."""
    cluster = TestCluster(tmp_path_factory.mktemp("docs") / "devcluster")
    try:
        cluster.up()
        cluster.serve_training_jobs()
        cluster.kubectl("apply", "--server-side", "-f", str(ROOT / "tests" / "chart" / "crds"))
        queues = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(_kueue())})
        cluster.kubectl("apply", "--server-side", "-f", "-", content=queues)
        cluster.apply(*(_object("v1", "Namespace", name) for name in NAMESPACES))
        cluster.until(lambda: cluster.try_kubectl("get", "workloads.kueue.x-k8s.io").returncode == 0)
        yield cluster
    finally:
        cluster.down()


@pytest.fixture(scope="module")
def world(served: TestCluster, hub: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The cluster with the operator, and what the commands of the pages name."""
    folder = tmp_path_factory.mktemp("work")
    _install(served, folder)
    served.apply(
        *(_claim(kind) for kind in CLAIMS),
        *(_job(name) for name in EXISTING),
        _object("v1", "ConfigMap", "argocd-cm", "argocd"),
        _workload(),
    )
    _write_files(folder)
    for name in EXISTING:
        served.until(lambda name=name: _phase(served, name) == "Succeeded", f"{name} has trained")
    config = _kubeconfig(served, folder)
    with serving(config) as server:
        yield World(served, folder, _environment(folder, config, server) | {"HF_ENDPOINT": hub})


def _install(cluster: TestCluster, folder: Path) -> None:
    """Run the README's ``helm install``, with free ports and the scripted trainer."""
    block = next(b for b in blocks(ROOT / "README.md") if "helm install" in b.text)
    command = block.text[block.text.index("helm install") :].replace("\\\n", " ")
    values = {
        "trainer": {"command": TRAINER},
        "port": free_port(),
        "healthPort": free_port(),
        "progressIntervalSeconds": 0.5,
        "resources": {},
    }
    file = folder / "values.json"
    file.write_text(json.dumps(values))
    more = ["--values", str(file), "--kubeconfig", str(cluster.kubeconfig), "--take-ownership", "--force-conflicts"]
    helm = str(ensure_binaries(print, ["helm"]) / "helm")
    subprocess.run([helm, *shlex.split(command)[1:], *more], cwd=ROOT, check=True)


def _write_files(folder: Path) -> None:
    """The checkout as links, a data set with images, and a file with a job."""
    for path in ROOT.iterdir():
        if not path.name.startswith(".") and path.name != "data":
            (folder / path.name).symlink_to(path)
    for name in ("receipts/receipts.jsonl", "data/my_vision_dataset.jsonl"):
        command = [sys.executable, "-m", "model_garden.cli", "create-vision-dataset", "--output", name]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (folder / "my-project").mkdir()
    (folder / "images").mkdir()
    image = next((folder / "receipts" / "receipts_images").iterdir())
    (folder / "images" / "1.png").write_bytes(image.read_bytes())
    (folder / "receipts.jsonl").write_text(
        '{"text": "What is it?", "image": "images/1.png", "response": "A circle."}\n'
    )
    rows = [{"question": "What is it?", "best_answer": "A circle.", "photo": "images/1.png"}]
    pq.write_table(pa.Table.from_pylist(rows), folder / "quiz.parquet")
    (folder / "prompts.jsonl").write_text('{"prompt": "2 + 2?"}\n')
    for name in ("job", "my-vision-model"):
        spec = {"isVision": True, "baseModel": "tiny/model", "datasetPath": "./data/my_vision_dataset.jsonl"}
        job = _object("model-garden.dev/v1alpha1", "TrainingJob", name, spec=spec)
        (folder / f"{name}.yaml").write_text(json.dumps(job))


def _environment(folder: Path, config: Path, server: str) -> dict[str, str]:
    programs = folder / ".programs"
    programs.mkdir()
    for name in PROGRAMS:
        program = programs / name
        program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m tests.docs.programs {name} "$@"\n')
        program.chmod(0o755)
    binaries = ensure_binaries(print, ["helm", "kubectl"])
    return {
        "PATH": f"{programs}:/usr/bin:/bin",
        "HOME": str(folder),
        "KUBECONFIG": str(config),
        "OMP_NUM_THREADS": "1",
        "DOCS_HELM": str(binaries / "helm"),
        "DOCS_KUBECTL": str(binaries / "kubectl"),
        "DOCS_LOG": str(folder / ".log"),
        "DOCS_SERVER": server,
    }


def _kubeconfig(cluster: TestCluster, folder: Path) -> Path:
    """The administrator's kubeconfig with the namespace of the jobs."""
    config = json.loads(cluster.kubectl("config", "view", "--raw", "-o", "json"))
    config["contexts"][0]["context"]["namespace"] = JOBS
    path = folder / ".kubeconfig"
    path.write_text(json.dumps(config))
    return path


def _phase(cluster: TestCluster, name: str) -> str:
    return str((cluster.get("trainingjob", name, JOBS).get("status") or {}).get("phase"))


def _object(api: str, kind: str, name: str, namespace: str | None = None, **more: Object) -> Object:
    place = {"namespace": namespace} if namespace else {}
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name} | place} | more


def _claim(kind: str) -> Object:
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "200Gi"}}}
    return _object("v1", "PersistentVolumeClaim", f"model-garden-{kind}", JOBS, spec=spec)


def _job(name: str) -> Object:
    spec = {
        "baseModel": "tiny/model",
        "datasetPath": "./data/rows.jsonl",
        "preflight": "Disabled",
        "evaluation": {"datasetPath": "./data/held-out.jsonl", "metrics": ["exact_match"]},
        "resources": {"limits": {"nvidia.com/gpu": 0}, "requests": {"cpu": "10m", "memory": "16Mi"}},
        "podTemplate": {"env": [{"name": "STEPS", "value": "1"}]},
    }
    job = _object("model-garden.dev/v1alpha1", "TrainingJob", name, JOBS, spec=spec)
    job["metadata"]["labels"] = {"existing": "true"}
    return job


def _workload() -> Object:
    """A Workload of Kueue that somebody has deactivated."""
    container = {"name": "trainer", "image": "model-garden/trainer"}
    pods = {"name": "main", "count": 1, "template": {"spec": {"containers": [container], "restartPolicy": "Never"}}}
    spec = {"active": False, "queueName": "none", "podSets": [pods]}
    return _object("kueue.x-k8s.io/v1beta2", "Workload", "deactivated", JOBS, spec=spec)


def _kueue() -> Iterator[Object]:
    """The CRDs of Kueue, which does not run here: without its conversion of versions."""
    for path in (ensure_kueue(print) / "config").glob("kueue.x-k8s.io_*.json"):
        for definition in json.loads(path.read_text()):
            definition["spec"].pop("conversion", None)
            yield definition
