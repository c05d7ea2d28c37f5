"""TrainingJobs on a real API server. No operator runs here: a test writes the status that it would write."""

import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from model_garden.contract.progress import ProgressEvent, event_line
from model_garden.contract.status import Progress
from testing.model_configs import LLAMA_3_1_8B
from tests.cli.conftest import COMMAND, ROOT, Done, environment
from tests.cluster import TestCluster

pytestmark = pytest.mark.cluster
NAMESPACE = "cli"
HISTORY = [{"step": 1, "loss": 5.0}, {"step": 5, "loss": 3.0}, {"step": 10, "loss": 2.0}]
PROGRESS = {"step": 10, "totalSteps": 20, "loss": 2.0, "secondsPerStep": 1.5}
OUTPUT = {"path": "./models/a", "sizeBytes": 2048, "trainedSteps": 20, "finalLoss": 1.0, "verified": True}


@pytest.fixture(scope="module")
def garden(cluster: TestCluster) -> TestCluster:
    """A cluster that knows TrainingJobs, with a namespace for these tests."""
    cluster.serve_training_jobs()
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    cluster.until(lambda: cluster.get("serviceaccount", "default", NAMESPACE))
    return cluster


@pytest.fixture
def jobs(garden: TestCluster) -> Iterator[TestCluster]:
    """The cluster without any TrainingJob, before and after."""
    yield garden
    garden.kubectl("delete", "trainingjobs", "--all", "-n", NAMESPACE)


@pytest.fixture
def mg(cli: Callable[..., Done], garden: TestCluster) -> Callable[..., Done]:
    """``model-garden`` in the tests' namespace."""

    def run(command: str, *arguments: str) -> Done:
        return cli(command, *arguments, "-n", NAMESPACE, KUBECONFIG=str(garden.kubeconfig))

    return run


def start(garden: TestCluster, *arguments: str) -> "subprocess.Popen[str]":
    """A command that goes on while the test changes the cluster."""
    return subprocess.Popen(
        [COMMAND, *arguments, "-n", NAMESPACE],
        env=environment(KUBECONFIG=str(garden.kubeconfig)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until_said(process: "subprocess.Popen[str]", what: str) -> str:
    """All lines of stderr up to the one that holds ``what``."""
    said = ""
    assert process.stderr
    for line in process.stderr:
        said += line
        if what in line:
            return said
    raise AssertionError(f"{what!r} was never said:\n{said}")


def submit(mg: Callable[..., Done], name: str = "a", *more: str) -> None:
    done = mg("submit", "--name", name, "--base-model", "a/b", "--dataset", "./data/x.jsonl", *more)
    assert done.returncode == 0, done.stderr


def set_status(garden: TestCluster, name: str, **status: Any) -> None:
    patch = json.dumps({"status": status})
    garden.kubectl(
        *("patch", "trainingjob", name, "-n", NAMESPACE, "--subresource=status", "--type=merge", "--patch", patch)
    )


def test_a_job_is_submitted_listed_shown_and_deleted(jobs: TestCluster, mg: Callable[..., Done]) -> None:
    done = mg("submit", str(ROOT / "manifests" / "examples" / "qwen2.5-vl-3b.yaml"), "--max-steps", "7")
    assert (done.returncode, done.stdout) == (0, "trainingjob.model-garden.dev/receipts created\n")
    assert jobs.get("trainingjob", "receipts", NAMESPACE)["spec"]["hyperparameters"] == {"maxSteps": 7}
    header, row = mg("list").stdout.splitlines()
    assert header.split() == ["NAME", "PHASE", "STEP", "LOSS", "LEFT", "AGE"]
    assert row.split()[:2] == ["receipts", "Pending"]
    assert "the operator has not seen this job yet" in mg("get", "receipts").stdout
    assert mg("delete", "receipts").stdout == "trainingjob.model-garden.dev/receipts deleted\n"
    assert mg("list").stderr == f"no TrainingJobs in namespace {NAMESPACE}\n"


def test_an_estimate_names_the_nodes_that_fit(jobs: TestCluster, cli: Callable[..., Done], tmp_path: Path) -> None:
    for name, memory in (("amd-small", "4G"), ("amd-large", "64G")):
        labels = {"amd.com/gpu.vram": memory}
        jobs.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}})
        status = json.dumps({"status": {"allocatable": {"amd.com/gpu": "8"}, "capacity": {"amd.com/gpu": "8"}}})
        jobs.kubectl("patch", "node", name, "--subresource=status", "--type=merge", "--patch", status)
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_3_1_8B))
    command = ("estimate", "--base-model", "a/b", "--dataset", "./data/x.jsonl", "--model-config", "config.json")
    try:
        done = cli(*command, "--set", "resources.limits={amd.com/gpu: 8}", KUBECONFIG=str(jobs.kubeconfig))
        assert done.returncode == 0, done.stderr
        assert re.search(r"^node amd-large +8 x GPU of 64 GiB: fits$", done.stdout, re.MULTILINE)
        assert re.search(r"^node amd-small +8 x GPU of 4 GiB: too small$", done.stdout, re.MULTILINE)
        more = ("--set", "resources.limits={amd.com/gpu: 16}")
        assert cli(*command, *more, KUBECONFIG=str(jobs.kubeconfig)).returncode == 1
    finally:
        jobs.kubectl("delete", "node", "amd-small", "amd-large")


def test_a_server_dry_run_creates_nothing(jobs: TestCluster, mg: Callable[..., Done]) -> None:
    submit(mg, "a", "--dry-run", "server")
    assert not jobs.get("trainingjobs", namespace=NAMESPACE)


def test_a_name_that_is_taken_is_a_failure_with_a_way_out(jobs: TestCluster, mg: Callable[..., Done]) -> None:
    submit(mg)
    done = mg("submit", "--name", "a", "--base-model", "a/b", "--dataset", "./data/x.jsonl")
    assert done.returncode == 1
    assert "model-garden rerun a" in done.stderr


def test_the_server_s_refusal_names_the_field(jobs: TestCluster, mg: Callable[..., Done]) -> None:
    done = mg("submit", "--name", "Not_A_Name", "--base-model", "a/b", "--dataset", "./data/x.jsonl")
    assert done.returncode == 2
    assert done.stderr.startswith("error: metadata.name: ")


def test_what_is_not_there_is_a_failure(jobs: TestCluster, mg: Callable[..., Done]) -> None:
    submit(mg, "receipts")
    done = mg("get", "receipt")
    assert done.returncode == 1
    assert "did you mean receipts?" in done.stderr
    assert mg("delete", "receipts", "nothing").returncode == 1
    assert mg("get", "@latest").returncode == 1


def test_every_format_is_what_it_says(jobs: TestCluster, mg: Callable[..., Done]) -> None:
    submit(mg)
    assert json.loads(mg("get", "a", "-o", "json").stdout)["metadata"]["name"] == "a"
    assert json.loads(mg("list", "-o", "json").stdout)["items"][0]["kind"] == "TrainingJob"
    assert mg("list", "-o", "name").stdout == "trainingjob.model-garden.dev/a\n"
    assert "kind: TrainingJobList" in mg("list", "-o", "yaml").stdout
    assert mg("list", "-o", "wide").stdout.split("\n")[0].split()[6:8] == ["MODEL", "GPUS"]
    assert NAMESPACE in [line.split()[0] for line in mg("list", "-A").stdout.splitlines()[1:]]
    printed = mg("get", "a", "-o", "yaml").stdout
    jobs.kubectl("replace", "--dry-run=server", "-f", "-", content=printed)


def test_progress_attempts_and_failure_are_shown(jobs: TestCluster, mg: Callable[..., Done]) -> None:
    submit(mg)
    first = {"pod": "a-train-x", "node": "n1", "reason": "Preempted", "fromStep": 0, "toStep": 8}
    attempts = [first, {"pod": "a-train-y"}]
    set_status(jobs, "a", phase="Running", progress=PROGRESS, history=HISTORY, attempts=attempts)
    shown = mg("get", "a").stdout
    assert "step 10/20 (50%)  loss 2.0000  1.50 s/step  15s left" in shown
    assert "5.0000 → 2.0000" in shown
    assert "a-train-x on n1  steps 0 to 8  Preempted" in shown
    assert mg("list").stdout.splitlines()[1].split()[:5] == ["a", "Running", "10/20", "2.0000", "15s"]
    failure = {"reason": "OutOfMemory", "message": "lower maxPixels", "logTail": ["last line"]}
    set_status(jobs, "a", phase="Failed", failure=failure)
    shown = mg("get", "@latest").stdout
    assert "Failed: OutOfMemory: lower maxPixels" in shown
    assert "last line" in shown
    assert " left" not in shown


def test_changes_are_asked_for(jobs: TestCluster, mg: Callable[..., Done]) -> None:
    submit(mg)
    for command in ("suspend", "stop", "cancel"):
        assert mg(command, "a").returncode == 0
    job = jobs.get("trainingjob", "a", NAMESPACE)
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["annotations"] == {"model-garden.dev/stop": "save", "model-garden.dev/cancel": "true"}
    assert mg("resume", "a").returncode == 0
    assert jobs.get("trainingjob", "a", NAMESPACE)["spec"]["suspend"] is False


def test_a_job_that_has_ended_cannot_be_changed(jobs: TestCluster, mg: Callable[..., Done]) -> None:
    submit(mg)
    set_status(jobs, "a", phase="Succeeded")
    done = mg("cancel", "a")
    assert (done.returncode, done.stderr) == (1, "error: a has already ended: Succeeded\n")


def test_a_rerun_is_a_new_job_with_the_changes(jobs: TestCluster, mg: Callable[..., Done]) -> None:
    submit(mg, "a", "--output-dir", "./models/a", "--set", "podTemplate.labels.team=x")
    done = mg("rerun", "a", "--set", "hyperparameters.learningRate=1e-5")
    assert done.stdout == "trainingjob.model-garden.dev/a-2 created\n"
    spec = jobs.get("trainingjob", "a-2", NAMESPACE)["spec"]
    assert spec["hyperparameters"] == {"learningRate": 1e-5}
    assert spec["podTemplate"] == {"labels": {"team": "x"}}
    assert spec["outputDir"] == "./models/a-2"
    assert mg("rerun", "a", "--set", "hyperparameters.learningrate=1").returncode == 2


def test_watch_follows_a_job_to_its_success(jobs: TestCluster, mg: Callable[..., Done]) -> None:
    submit(mg)
    watching = start(jobs, "watch", "a")
    until_said(watching, "the operator has not seen this job yet")
    waits = {"type": "Running", "status": "False", "reason": "Waiting", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    set_status(jobs, "a", phase="Pending", conditions=[waits | {"message": "no node has a free GPU"}])
    until_said(watching, "Pending: no node has a free GPU")
    set_status(jobs, "a", phase="Running", progress=PROGRESS, history=HISTORY)
    until_said(watching, "step 10/20 (50%)")
    times = {"startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:02:05Z"}
    set_status(jobs, "a", phase="Succeeded", progress=PROGRESS | {"step": 20}, output=OUTPUT, **times)
    printed, _ = watching.communicate(timeout=60)
    assert watching.returncode == 0
    assert printed.splitlines()[:4] == [
        "result  Succeeded in 2m 5s",
        "steps   20 of 20",
        "loss    5.0000 → 1.0000",
        "output  ./models/a  (2.0 KiB, verified)",
    ]


@pytest.mark.parametrize("how", ["--wait", "--watch", "--logs"])
def test_submit_that_waits_fails_when_the_job_does(jobs: TestCluster, how: str) -> None:
    waiting = start(jobs, "submit", how, "--name", "a", "--base-model", "a/b", "--dataset", "./data/x.jsonl")
    jobs.until(lambda: jobs.get("trainingjob", "a", NAMESPACE))
    set_status(
        jobs,
        "a",
        phase="Failed",
        failure={
            "reason": "ModelNotFound",
            "message": "check baseModel",
            "logTail": ["ModelNotFound: check baseModel"],
        },
    )
    printed, said = waiting.communicate(timeout=60)
    assert waiting.returncode == 1
    assert printed == "trainingjob.model-garden.dev/a created\n"
    assert said.count("check baseModel") == 1
    assert "error: a failed: ModelNotFound: check baseModel" in said


def test_leaving_a_watch_leaves_the_job_alone(jobs: TestCluster, mg: Callable[..., Done]) -> None:
    submit(mg)
    watching = start(jobs, "watch", "a")
    until_said(watching, "Pending")
    watching.send_signal(signal.SIGINT)
    _, said = watching.communicate(timeout=60)
    assert watching.returncode == 130
    assert said.endswith("This command ended; the job a continues. Show it again with: model-garden watch a\n")
    assert jobs.get("trainingjob", "a", NAMESPACE)


def test_watching_a_job_that_is_deleted_ends(jobs: TestCluster, mg: Callable[..., Done]) -> None:
    submit(mg)
    watching = start(jobs, "watch", "a")
    until_said(watching, "Pending")
    assert mg("delete", "a").returncode == 0
    _, said = watching.communicate(timeout=60)
    assert watching.returncode == 1
    assert "was deleted" in said


def test_logs_are_for_people_unless_raw(jobs: TestCluster, mg: Callable[..., Done], tmp_path: Path) -> None:
    submit(mg)
    assert mg("logs", "a").returncode == 1
    event = event_line(ProgressEvent(progress=Progress(step=3, total_steps=9, loss=1.5)))
    jobs.apply(pod("a-train-x", [event, "step 3/9  loss 1.5", "done"]))
    set_status(jobs, "a", phase="Running", podName="a-train-x")
    jobs.until(lambda: jobs.get("pod", "a-train-x", NAMESPACE)["status"].get("phase") == "Succeeded")
    assert mg("logs", "a").stdout == "step 3/9  loss 1.5\ndone\n"
    assert mg("logs", "a", "--raw").stdout == f"{event}\nstep 3/9  loss 1.5\ndone\n"
    assert mg("logs", "a", "--tail", "1").stdout == "done\n"
    following = start(jobs, "logs", "a", "--follow")
    assert following.stdout
    assert [following.stdout.readline() for _ in range(2)] == ["step 3/9  loss 1.5\n", "done\n"]
    set_status(jobs, "a", phase="Succeeded")
    assert following.communicate(timeout=60) == ("", "")
    assert following.returncode == 0


def pod(name: str, lines: list[str]) -> dict[str, Any]:
    """A pod of the job ``a`` whose trainer prints ``lines``."""
    container = {
        "name": "trainer",
        "image": "any",
        "command": ["python", "-c", f"print({chr(10).join(lines)!r})"],
        "securityContext": {"allowPrivilegeEscalation": False},
    }
    metadata = {"name": name, "namespace": NAMESPACE, "labels": {"model-garden.dev/training-job": "a"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }
