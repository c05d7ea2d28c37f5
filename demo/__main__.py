"""The whole idea in one run: a cluster, the operator, a job that trains a tiny model, and the model loaded back.

Everything happens as it would in a real cluster: ``manifests/operator.yaml`` is applied, the operator runs as its own
Deployment under its own rights, and the job is ``manifests/examples/vision.yaml`` (or ``--example text``), unchanged.
The cluster is a devcluster unless KUBE_CONTEXT names one of yours; there, the two images must be at hand.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
CLUSTER_NAME = "demo"
NAMESPACE = "model-garden"
MIN_HISTORY = 10
PATIENCE_SECONDS = 300

console = Console(highlight=False)


class DemoError(Exception):
    """A step of the demo did not come out as it should; the message says which and where to look."""


@dataclass(frozen=True)
class Kubectl:
    """kubectl for the demo's cluster, and the environment in which ``model-garden`` finds the same one."""

    command: list[str]
    environment: dict[str, str]

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl and return what it printed; raises DemoError with its own words."""
        done = subprocess.run(
            [*self.command, *arguments], input=stdin, capture_output=True, text=True, env=self.environment, check=False
        )
        if done.returncode:
            raise DemoError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def get(self, *arguments: str) -> dict[str, Any]:
        """One object."""
        found: dict[str, Any] = json.loads(self("get", *arguments, "-o", "json"))
        return found


def main(arguments: list[str]) -> int:
    """Run the demo; 0 only if the job succeeded, its loss fell and its model loads back."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--example", default="vision", choices=["vision", "text"], help="which of manifests/examples")
    parser.add_argument("--down", action="store_true", help="stop the demo's cluster and remove what it wrote")
    options = parser.parse_args(arguments)
    if options.down:
        return _devcluster("down", "--delete")
    began = time.monotonic()
    try:
        kubectl = _cluster()
        _install(kubectl)
        _material(kubectl)
        status = _train(kubectl, options.example)
        _check(options.example, status)
        _load_back(kubectl, options.example, status)
    except DemoError as error:
        console.print(f"[red]The demo failed:[/red] {error}", markup=True)
        return 1
    _summary(kubectl, options.example, status, time.monotonic() - began)
    return 0


def _step(text: str) -> None:
    console.print(f"\n[bold]» {text}[/bold]", soft_wrap=True)


def _devcluster(*arguments: str) -> int:
    return subprocess.run(
        [sys.executable, "-m", "devcluster", "--name", CLUSTER_NAME, *arguments], check=False
    ).returncode


def _cluster() -> Kubectl:
    """The user's cluster if KUBE_CONTEXT names one, else the demo's own devcluster, brought up if need be."""
    context = os.environ.get("KUBE_CONTEXT")
    if context:
        _step(f"The cluster of context {context}")
        return Kubectl(["kubectl", "--context", context], dict(os.environ))
    _step("A Kubernetes on this machine: real etcd, API server, controllers and scheduler; pods run as processes")
    if _devcluster("up"):
        raise DemoError("the cluster did not come up; see the lines above")
    devcluster = [sys.executable, "-m", "devcluster", "--name", CLUSTER_NAME]
    printed = subprocess.run([*devcluster, "kubeconfig"], check=True, capture_output=True, text=True).stdout
    return Kubectl([*devcluster, "kubectl"], os.environ | {"KUBECONFIG": printed.strip()})


def _install(kubectl: Kubectl) -> None:
    _step("The operator, as users install it: kubectl apply -f manifests/operator.yaml")
    kubectl("apply", "--server-side", "-f", str(ROOT / "manifests" / "operator.yaml"))
    kubectl("wait", "--for=condition=Established", "crd/trainingjobs.model-garden.dev", "--timeout=60s")
    kubectl("rollout", "status", "deployment/model-garden-operator", "-n", NAMESPACE, f"--timeout={PATIENCE_SECONDS}s")
    console.print("the operator is ready")


MATERIAL = """
made() { test -e "$1" && echo "$1 is there"; }
rows=data/vision_test_dataset.jsonl
made $rows || model-garden create-vision-dataset --output $rows --num-examples 10
rows=data/text_test_dataset.jsonl
made $rows || model-garden create-dataset --output $rows --num-examples 16
made models/tiny-qwen2.5-vl || python demo/tiny_models.py models/tiny-qwen2.5-vl --kind qwen2_5_vl
made models/tiny-qwen2 || python demo/tiny_models.py models/tiny-qwen2 --kind qwen2
"""


def _material(kubectl: Kubectl) -> None:
    _step("Two tiny models and ten pictures of shapes and colours, into the claims")
    kubectl("apply", "-f", str(ROOT / "demo" / "manifests" / "storage.yaml"))
    scripts = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "demo-scripts"},
        "data": {name: (ROOT / "demo" / name).read_text() for name in ("tiny_models.py", "load_back.py")},
    }
    kubectl("apply", "-f", "-", stdin=json.dumps(scripts))
    console.print(_run_job(kubectl, "demo-material", MATERIAL), soft_wrap=True)


def _train(kubectl: Kubectl, example: str) -> dict[str, Any]:
    """Apply the example, watch it to its end, and return its status."""
    path = f"manifests/examples/{example}.yaml"
    _step(f"The job: kubectl apply -f {path}, then model-garden watch {example}")
    kubectl("delete", "trainingjob", example, "--ignore-not-found", "--cascade=foreground", "--wait")
    console.print(kubectl("apply", "-f", str(ROOT / path)).strip())
    watch = [str(Path(sys.executable).parent / "model-garden"), "watch", example]
    if context := os.environ.get("KUBE_CONTEXT"):
        watch += ["--context", context]
    code = subprocess.run(watch, env=kubectl.environment, check=False).returncode
    status: dict[str, Any] = kubectl.get("trainingjob", example).get("status", {})
    if code or status.get("phase") != "Succeeded":
        failure = status.get("failure") or {}
        raise DemoError(
            f"{example} is {status.get('phase')}: {failure.get('message', 'see model-garden get ' + example)}"
        )
    return status


def _load_back(kubectl: Kubectl, example: str, status: dict[str, Any]) -> dict[str, float]:
    """In a pod of its own, by transformers and peft alone: the answers' mean loss, base model and tuned."""
    _step("The model, loaded back by transformers and peft alone")
    adapter = status["output"]["adapterPath"]
    dataset = status["effective"]["datasetPath"]
    command = f"python demo/load_back.py {shlex.quote(adapter)} {shlex.quote(dataset)}"
    printed = _run_job(kubectl, "demo-load-back", command)
    scores: dict[str, float] = json.loads(printed.splitlines()[-1])
    console.print(
        f"mean loss of {scores['rows']} answers: {scores['base']:.2f} by the base model, {scores['tuned']:.2f} now"
    )
    if not scores["tuned"] < scores["base"]:
        raise DemoError(f"{example}: the tuned model is no better than its base; its adapter is at {adapter}")
    return scores


def _run_job(kubectl: Kubectl, name: str, command: str) -> str:
    """Run a shell command in the trainer's image with the claims mounted and return its log.

    Raises:
        DemoError: with the log, if the command fails.
    """
    job = YAML(typ="safe").load(ROOT / "demo" / "manifests" / "job.yaml")
    job["metadata"]["name"] = name
    job["spec"]["template"]["spec"]["containers"][0]["command"] = ["sh", "-ec", command]
    kubectl("delete", "job", name, "--ignore-not-found", "--cascade=foreground", "--wait")
    kubectl("apply", "-f", "-", stdin=json.dumps(job))
    end = 'jsonpath={.status.conditions[?(@.status=="True")].type}'
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not {"Complete", "Failed"} & set(done := kubectl("get", "job", name, "-o", end).split()):
        if time.monotonic() > deadline:
            raise DemoError(f"job {name} has not ended after {PATIENCE_SECONDS} s; see: kubectl describe job {name}")
        time.sleep(0.2)
    log = kubectl("logs", f"job/{name}").strip()
    if "Complete" not in done:
        raise DemoError(f"job {name} failed:\n{log}")
    return log


def _check(example: str, status: dict[str, Any]) -> None:
    """What the status of a finished job must say."""
    progress, history = status["progress"], status["history"]
    first, last = history[0], history[-1]
    for holds, words in (
        (progress["step"] == progress["totalSteps"], f"step {progress['step']} of {progress['totalSteps']}"),
        (len(history) >= MIN_HISTORY, f"{len(history)} points of history, {MIN_HISTORY} expected"),
        (last["loss"] < first["loss"], f"loss went from {first['loss']} to {last['loss']}"),
        (status["output"].get("verified") is True, "the output was not verified"),
    ):
        if not holds:
            raise DemoError(f"{example}: {words}")


def _summary(kubectl: Kubectl, example: str, status: dict[str, Any], seconds: float) -> None:
    progress, history, output = status["progress"], status["history"], status["output"]
    _step(f"{example} is done")
    for name, value in (
        ("phase", status["phase"]),
        ("steps", f"{progress['step']} of {progress['totalSteps']}"),
        ("first loss", f"{history[0]['loss']:.3f}"),
        ("last loss", f"{history[-1]['loss']:.3f}"),
        ("output", output["path"]),
        ("size", f"{output['sizeBytes'] / 1e6:.1f} MB"),
        ("took", f"{seconds:.0f} s"),
    ):
        console.print(f"  [dim]{name:12}[/dim]{value}", soft_wrap=True)
    console.print("\n[bold]Try next[/bold]")
    if "KUBE_CONTEXT" not in os.environ:
        console.print(
            f"  export KUBECONFIG={kubectl.environment['KUBECONFIG']} PATH=$PWD/.venv/bin:$PATH", soft_wrap=True
        )
    for command, purpose in (
        ("model-garden list", "all jobs"),
        (f"model-garden get {example}", "progress, attempts, output of this one"),
        (f"model-garden logs {example}", "what the trainer printed"),
        ("model-garden submit manifests/examples/text.yaml --watch", "a text model"),
        ("make demo-down", "stop it all and remove what it wrote"),
    ):
        console.print(f"  {command:58} [dim]{purpose}[/dim]", soft_wrap=True)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
