"""The operator's process: what a person reads when it cannot start."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from model_garden.cluster import ClusterError, Resource, connect
from model_garden.controller.operator import wait_until_served
from tests.cluster import TestCluster
from tests.controller.harness import free_port


def run_operator(tmp_path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "KUBECONFIG": str(tmp_path / "none"),
        "MODEL_GARDEN_PORT": str(free_port()),
        **variables,
    }
    command = [sys.executable, "-m", "model_garden.controller"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_without_a_cluster_it_ends_with_one_sentence(tmp_path: Path) -> None:
    ended = run_operator(tmp_path)
    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()
    assert line.startswith(f"error: no cluster is configured: KUBECONFIG={tmp_path}/none cannot be used")
    assert "Traceback" not in ended.stdout


@pytest.mark.cluster
def test_a_kind_that_is_not_served_is_named_with_the_fix(cluster: TestCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))

    async def scenario() -> None:
        async with await connect() as client:
            await wait_until_served(client, None, Resource("no-such.dev/v1", "things", "Thing"), seconds=2)

    with pytest.raises(ClusterError, match=r"does not serve things of no-such.dev/v1; install the CRD: kubectl apply"):
        asyncio.run(scenario())


def test_a_port_that_is_taken_is_named_with_its_variable(tmp_path: Path) -> None:
    with socket.create_server(("", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = run_operator(tmp_path, MODEL_GARDEN_PORT=port)
    assert ended.returncode == 1
    why = "cannot serve /metrics (Address already in use); set it to a free port"
    assert ended.stderr == f"error: MODEL_GARDEN_PORT: {port} {why}\n"


@pytest.mark.parametrize(("name", "value"), [("WORKERS", "many"), ("LEADER_ELECTION", "maybe")])
def test_a_setting_that_cannot_be_read_is_named(tmp_path: Path, name: str, value: str) -> None:
    ended = run_operator(tmp_path, **{f"MODEL_GARDEN_{name}": value})
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"error: MODEL_GARDEN_{name}: {value!r}")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_signal_while_it_starts_ends_it_well(tmp_path: Path, log_format: str) -> None:
    """The signal comes as soon as the process can handle it, long before kopf does."""
    environment = {**os.environ, "KUBECONFIG": str(tmp_path / "none"), "MODEL_GARDEN_LOG_FORMAT": log_format}
    command = [sys.executable, "-m", "model_garden.controller"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:
        while not handles_sigterm(process.pid):
            assert process.poll() is None
        process.terminate()
        said, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    [line] = said.splitlines()
    if log_format == "json":
        line = json.loads(line)["message"]
    assert line.endswith("stopped by SIGTERM before the operator started")


def handles_sigterm(pid: int) -> bool:
    """Whether a process has a handler of its own for SIGTERM (proc(5): SigCgt)."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt:")).split()[1], 16)
    return bool(caught & 1 << (signal.SIGTERM - 1))
