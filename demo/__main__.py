"""The whole idea in one run: a cluster, the operator, a job that trains a tiny model, and the model loaded back.

Everything happens as it would in a real cluster: ``manifests/operator.yaml`` is applied, the operator runs as its own
Deployment under its own rights, and the job is ``manifests/examples/vision.yaml`` (or ``--example text``), unchanged.
The cluster is a devcluster unless KUBE_CONTEXT names one of yours; there, the two images must be at hand.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.markup import escape

from demo import page
from demo.steps import (
    DemoError,
    Kubectl,
    answers,
    check,
    console,
    free_ports,
    install,
    load_back,
    material,
    step,
    train,
)

DEVCLUSTER = [sys.executable, "-m", "devcluster", "--name", "demo"]


def main(arguments: list[str]) -> int:
    """Run the demo; 0 only if the job succeeded, its loss fell and its model loads back."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--example", default="vision", choices=["vision", "text"], help="which of manifests/examples")
    parser.add_argument("--down", action="store_true", help="stop the demo's cluster and remove what it wrote")
    options = parser.parse_args(arguments)
    if options.down:
        page.stop(_kubeconfig())
        return _devcluster("down", "--delete")
    began = time.monotonic()
    own = not os.environ.get("KUBE_CONTEXT")
    try:
        kubectl = _cluster()
        install(kubectl, free_ports(kubectl) if own else None)
        material(kubectl, options.example)
        address = page.serve(_kubeconfig(), options.example) if own else None
        status = train(kubectl, options.example)
        check(options.example, status)
        answers(kubectl, status)
        load_back(kubectl, options.example, status)
    except DemoError as error:
        console.print(f"[red]The demo failed:[/red] {escape(str(error))}")
        return 1
    _summary(kubectl, options.example, status, time.monotonic() - began)
    if address:
        console.print(f"\nThe page of the job: [bold]{address}[/bold]")
    return 0


def _devcluster(*arguments: str) -> int:
    return subprocess.run([*DEVCLUSTER, *arguments], check=False).returncode


def _cluster() -> Kubectl:
    """The user's cluster if KUBE_CONTEXT names one, else the demo's own devcluster, brought up if need be."""
    context = os.environ.get("KUBE_CONTEXT")
    if context:
        step(f"The cluster of context {context}")
        return Kubectl(["kubectl", "--context", context], dict(os.environ))
    step("A Kubernetes on this machine: real etcd, API server, controllers and scheduler; pods run as processes")
    if _devcluster("up"):
        raise DemoError("the cluster did not come up; see the lines above")
    return Kubectl([*DEVCLUSTER, "kubectl"], os.environ | {"KUBECONFIG": str(_kubeconfig())})


def _kubeconfig() -> Path:
    """The kubeconfig of the demo's devcluster, whether it is up or not."""
    printed = subprocess.run([*DEVCLUSTER, "kubeconfig"], check=True, capture_output=True, text=True).stdout
    return Path(printed.strip())


def _summary(kubectl: Kubectl, example: str, status: dict[str, Any], seconds: float) -> None:
    progress, history, output = status["progress"], status["history"], status["output"]
    step(f"{example} is done")
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
    flag, end = "", ("make demo-down", "stop it all and remove what it wrote")
    if context := os.environ.get("KUBE_CONTEXT"):
        console.print("  export PATH=$PWD/.venv/bin:$PATH")
        flag = f" --context {context}"
        written = "-f manifests/operator.yaml -f demo/manifests/storage.yaml"
        end = (f"kubectl{flag} delete {written}", "the operator, every TrainingJob, the claims")
    else:
        kubeconfig = kubectl.environment["KUBECONFIG"]
        console.print(f"  export KUBECONFIG={kubeconfig} PATH=$PWD/.venv/bin:$PATH", soft_wrap=True)
    for command, purpose in (
        (f"model-garden list{flag}", "all jobs"),
        (f"model-garden get {example}{flag}", "progress, attempts, output of this one"),
        (f"model-garden logs {example}{flag}", "what the trainer printed"),
        (f"model-garden submit manifests/examples/text.yaml --watch{flag}", "a text model"),
        end,
    ):
        console.print(f"  {command:58} [dim]{purpose}[/dim]", soft_wrap=True)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
