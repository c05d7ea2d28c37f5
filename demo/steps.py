"""The demo's steps, each as a user would do it with kubectl; the end-to-end tests take the same ones."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
NAMESPACE = "model-garden"
OPERATOR = "deployment/model-garden-operator"
PORTS = ("8080", "8081")
MIN_HISTORY = 10
MIN_EXACT = {"vision": 0.9, "text": 0.0}
"""The share of the rows that each example's model must answer word for word; the text model is trained too shortly."""
PATIENCE_SECONDS = 300
SHOWN_ANSWERS = 4

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


def step(text: str) -> None:
    """Say what comes next."""
    console.print(f"\n[bold]» {text}[/bold]", soft_wrap=True)


def install(kubectl: Kubectl, ports: list[str] | None = None) -> None:
    """Apply ``manifests/operator.yaml`` and wait until the operator is ready.

    Args:
        kubectl: of the cluster.
        ports: of the operator's metrics and health, in place of 8080 and 8081; devcluster's pods share the machine's.
    """
    step("The operator, as users install it: kubectl apply -f manifests/operator.yaml")
    manifest = (ROOT / "manifests" / "operator.yaml").read_text()
    for default, port in zip(PORTS, ports or PORTS, strict=True):
        manifest = manifest.replace(f'"{default}"', f'"{port}"').replace(f": {default}", f": {port}")
    if ports:  # the next pod can listen only once the last one has ended
        manifest = manifest.replace("{maxSurge: 1, maxUnavailable: 0}", "{maxSurge: 0, maxUnavailable: 1}")
    kubectl("apply", "--server-side", "-f", "-", stdin=manifest)
    kubectl("rollout", "status", OPERATOR, "-n", NAMESPACE, f"--timeout={PATIENCE_SECONDS}s")
    console.print("the operator is ready")


def free_ports(kubectl: Kubectl) -> list[str]:
    """The ports of the operator that is installed already, else two that are free on this machine."""
    ports = "jsonpath={.spec.template.spec.containers[0].ports[*].containerPort}"
    installed = kubectl("get", OPERATOR, "-n", NAMESPACE, "-o", ports, "--ignore-not-found").split()
    if len(installed) == len(PORTS):
        return installed
    with socket.socket() as one, socket.socket() as another:
        for probe in (one, another):
            probe.bind(("127.0.0.1", 0))
        return [str(probe.getsockname()[1]) for probe in (one, another)]


MATERIAL = """
made() { test -e "$1" && echo "$1 is there"; }
rows=data/vision_test_dataset.jsonl
made $rows || model-garden create-vision-dataset --output $rows --num-examples 10
rows=data/text_test_dataset.jsonl
made $rows || model-garden create-dataset --output $rows --num-examples 16
made models/tiny-qwen2.5-vl || python demo/tiny_models.py models/tiny-qwen2.5-vl --kind qwen2_5_vl
made models/tiny-qwen2 || python demo/tiny_models.py models/tiny-qwen2 --kind qwen2
"""


def material(kubectl: Kubectl, example: str) -> None:
    """Fill the claims with what is not there yet; what an earlier run of ``example`` trained goes."""
    kubectl("delete", "trainingjob", example, "--ignore-not-found", "--cascade=foreground", "--wait")
    step("Two tiny models and ten pictures of shapes and colors, into the claims")
    kubectl("apply", "-f", str(ROOT / "demo" / "manifests" / "storage.yaml"))
    scripts = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "demo-scripts"},
        "data": {
            "tiny_models.py": (ROOT / "testing" / "tiny_models.py").read_text(),
            "load_back.py": (ROOT / "demo" / "load_back.py").read_text(),
        },
    }
    kubectl("apply", "-f", "-", stdin=json.dumps(scripts))
    said = run_job(kubectl, "demo-material", f"{MATERIAL}rm -rf models/{example}")
    console.print(said, soft_wrap=True, markup=False)


def train(kubectl: Kubectl, example: str) -> dict[str, Any]:
    """Apply the example, watch it to its end, and return its status."""
    path = f"manifests/examples/{example}.yaml"
    step(f"The job: kubectl apply -f {path}, then model-garden watch {example}")
    console.print(kubectl("apply", "-f", str(ROOT / path)).strip(), markup=False)
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


def answers(kubectl: Kubectl, status: dict[str, Any]) -> None:
    """Show how the base model and the trained one answer the rows: ``samples.json``, which the run left."""
    scored, path = status["output"]["samples"]["train"], status["output"]["path"]
    step("What it answers: before and after training, as the run wrote it into samples.json")
    printed = run_job(kubectl, "demo-answers", f"cat {shlex.quote(path)}/samples.json")
    table = Table("row", "expected", "before", "after", box=None, pad_edge=False)
    for number, sample in enumerate(json.loads(printed)["samples"][:SHOWN_ANSWERS], 1):
        right = sample["after"] == sample["expected"]
        after = Text(sample["after"], style="green" if right else "red", no_wrap=True, overflow="ellipsis")
        before = Text(repr(sample["before"])[:24], style="dim", no_wrap=True, overflow="ellipsis")
        table.add_row(str(number), Text(sample["expected"], no_wrap=True, overflow="ellipsis"), before, after)
    console.print(table)
    console.print(
        f"exact answers of {scored['rows']} rows: {scored['exactMatchBefore']:.0%} before, "
        f"{scored['exactMatchAfter']:.0%} after"
    )


def load_back(kubectl: Kubectl, example: str, status: dict[str, Any]) -> dict[str, float]:
    """In a pod of its own, by transformers and peft alone: the answers' mean loss, base model and tuned."""
    step("The model, loaded back by transformers and peft alone")
    adapter = status["output"]["adapterPath"]
    dataset = status["effectiveSpec"]["datasetPath"]
    command = f"python demo/load_back.py {shlex.quote(adapter)} {shlex.quote(dataset)}"
    printed = run_job(kubectl, "demo-load-back", command)
    scores: dict[str, float] = json.loads(printed.splitlines()[-1])
    console.print(
        f"mean loss of {scores['rows']} answers: {scores['base']:.2f} by the base model, {scores['tuned']:.2f} now"
    )
    if not scores["tuned"] < scores["base"]:
        raise DemoError(f"{example}: the tuned model is no better than its base; its adapter is at {adapter}")
    return scores


def run_job(kubectl: Kubectl, name: str, command: str) -> str:
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
        time.sleep(1)
    log = kubectl("logs", f"job/{name}").strip()
    if "Complete" not in done:
        raise DemoError(f"job {name} failed:\n{log}")
    return log


def check(example: str, status: dict[str, Any]) -> None:
    """What the status of a finished job must say."""
    progress, history = status["progress"], status["history"]
    first, last = history[0], history[-1]
    exact = status["output"]["samples"]["train"]["exactMatchAfter"]
    for holds, words in (
        (progress["step"] == progress["totalSteps"], f"step {progress['step']} of {progress['totalSteps']}"),
        (len(history) >= MIN_HISTORY, f"{len(history)} points of history, {MIN_HISTORY} expected"),
        (last["loss"] < first["loss"], f"loss went from {first['loss']} to {last['loss']}"),
        (status["output"].get("verified") is True, "the output was not verified"),
        (exact >= MIN_EXACT[example], f"{exact:.0%} of the answers are exact, {MIN_EXACT[example]:.0%} expected"),
    ):
        if not holds:
            raise DemoError(f"{example}: {words}")
