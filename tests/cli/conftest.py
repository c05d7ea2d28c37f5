"""The command line as people call it: a process of its own, in a folder of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tiny import tiny_model

__all__ = ["tiny_model"]

ROOT = Path(__file__).parents[2]
COMMAND = str(Path(sys.executable).parent / "model-garden")
Done = subprocess.CompletedProcess[str]

JOB = """\
apiVersion: model-garden.dev/v1alpha1
kind: TrainingJob
metadata:
  name: receipts
spec:
  baseModel: Qwen/Qwen2.5-VL-3B-Instruct
  isVision: true
  datasetPath: ./data/receipts.jsonl
  hyperparameters:
    learningRate: 2e-5
"""


def environment(**more: str) -> dict[str, str]:
    """This process's environment without a cluster, and with one thread: the tests' machine is small."""
    kept = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
    return kept | {"OMP_NUM_THREADS": "1", "COLUMNS": "100"} | more


@pytest.fixture
def cli(tmp_path: Path) -> Callable[..., Done]:
    """A function that runs ``model-garden`` in ``tmp_path`` and returns what it printed and its exit code."""

    def run(*arguments: str, given: str = "", folder: Path | None = None, **more: str) -> Done:
        return subprocess.run(
            [COMMAND, *arguments],
            input=given,
            cwd=folder or tmp_path,
            env=environment(HOME=str(tmp_path), **more),
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    """A TrainingJob in a file, with ten lines."""
    path = tmp_path / "job.yaml"
    path.write_text(JOB)
    return path
