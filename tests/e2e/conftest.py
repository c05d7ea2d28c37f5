"""The demo, run once as a user runs it; the other tests go on in its cluster, with its operator, models and data."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.steps import NAMESPACE, OPERATOR, ROOT
from tests.cluster import TestCluster


class Demo:
    """The demo's cluster, in a state folder of the tests' own."""

    def __init__(self, state: Path) -> None:
        self.environment = {key: value for key, value in os.environ.items() if key != "KUBE_CONTEXT"} | {
            "XDG_STATE_HOME": str(state)
        }
        self.printed = ""
        self.cluster = TestCluster(state / "model-garden" / "devcluster" / "demo")

    def run(self, *arguments: str) -> str:
        """Run the demo to its end; fails the test, with all it printed, unless its exit code is 0."""
        command = [sys.executable, "-m", "demo", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def model_garden(self, *arguments: str) -> str:
        """Run the command line against the demo's cluster."""
        command = [str(Path(sys.executable).with_name("model-garden")), *arguments]
        environment = self.environment | {"KUBECONFIG": str(self.cluster.kubeconfig)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="package")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    demo = Demo(tmp_path_factory.mktemp("state"))
    try:
        demo.printed = demo.run()
        demo.cluster.up()
        yield demo
    finally:
        demo.run("--down")


@pytest.fixture(scope="package")
def prompt_demo(demo: Demo) -> Demo:
    """The demo with an operator that reports progress twice a second, so that a test sees where a run stands."""
    demo.cluster.kubectl("set", "env", "-n", NAMESPACE, OPERATOR, "MODEL_GARDEN_PROGRESS_SECONDS=0.5")
    demo.cluster.kubectl("rollout", "status", "-n", NAMESPACE, OPERATOR, "--timeout=120s")
    return demo
