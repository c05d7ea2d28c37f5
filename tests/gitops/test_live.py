"""TrainingJobs as GitOps tools apply, watch, change and prune them, on a real API server with the real operator."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from devcluster.binaries import ensure_binaries
from model_garden.contract.defaults import effective_spec
from model_garden.contract.resource import parse_spec
from tests.controller.harness import OperatorHarness
from tests.gitops.tools import Object, judge

pytestmark = pytest.mark.cluster

SERVER_SIDE = ("--server-side", "--field-manager=gitops")
ON_CPU = {"limits": {"nvidia.com/gpu": 0}, "requests": {"cpu": "10m", "memory": "16Mi"}}
ON_GPU = {"limits": {"nvidia.com/gpu": 1}, "requests": {"cpu": "10m", "memory": "16Mi"}}


def manifest(name: str, env: dict[str, object], **spec: Any) -> Object:
    """What Git holds: the fewest fields, and the environment of the scripted trainer."""
    variables = [{"name": key, "value": str(value)} for key, value in env.items()]
    return {
        "apiVersion": "model-garden.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": name, "labels": {"app": "receipts"}},
        "spec": {
            "baseModel": "tiny/model",
            "datasetPath": "./data/rows.jsonl",
            "resources": ON_CPU,
            "podTemplate": {"env": variables},
            **spec,
        },
    }


def full(name: str, env: dict[str, object]) -> Object:
    """The same with every default written out, and every mutable field."""
    brief = manifest(name, env, resources=ON_GPU, quantization="16bit")
    spec = effective_spec(parse_spec(brief["spec"]), name).to_dict()
    more = {"suspend": False, "ttlSecondsAfterFinished": 3600, "storage": {"dataClaim": "garden-data"}}
    return brief | {"spec": spec | more}


def sync(garden: OperatorHarness, wanted: Object) -> Object:
    """Apply as a GitOps tool does; return the object."""
    content = json.dumps(wanted)
    garden.cluster.kubectl("apply", *SERVER_SIDE, "-n", garden.namespace, "-f", "-", content=content)
    return live(garden, wanted["metadata"]["name"])


def live(garden: OperatorHarness, name: str) -> Object:
    found: Object = garden.get("trainingjob", name)
    return found


def no_drift(garden: OperatorHarness, wanted: Object) -> None:
    """Wait until ``kubectl diff`` finds no difference: it finds one if the status is written between its two reads."""
    words = ("diff", *SERVER_SIDE, "-n", garden.namespace, "-f", "-")

    def same() -> bool:
        done = garden.cluster.try_kubectl(*words, content=json.dumps(wanted))
        return done.returncode == 0 and done.stdout == ""

    garden.cluster.until(same, "no difference from Git")


@pytest.mark.parametrize("form", [manifest, full])
def test_no_difference_from_git_before_during_and_after_the_job(garden: OperatorHarness, form: Any) -> None:
    wanted = form(f"drift-{form.__name__}", {"STEPS": 60, "STEP_SECONDS": 0.1})
    name = wanted["metadata"]["name"]
    created = sync(garden, wanted)
    no_drift(garden, wanted)
    garden.until_step(name, 2)
    no_drift(garden, wanted)
    garden.until(name, "Succeeded")
    no_drift(garden, wanted)
    end = live(garden, name)
    assert end["spec"] == created["spec"] and end["metadata"]["generation"] == 1
    written = {entry["manager"]: entry for entry in json.loads(managed(garden, name))}
    (operator,) = [entry for manager, entry in written.items() if manager != "gitops"]
    assert operator["subresource"] == "status" and set(operator["fieldsV1"]) == {"f:status"}


def managed(garden: OperatorHarness, name: str) -> str:
    shown = ("get", "trainingjob", name, "-o", "jsonpath={.metadata.managedFields}", "--show-managed-fields")
    return garden.kubectl(*shown)


def test_a_finished_job_is_synced_again_without_a_change_and_a_changed_spec_is_refused(
    garden: OperatorHarness,
) -> None:
    wanted = manifest("done", {"STEPS": 1}, ttlSecondsAfterFinished=0)
    sync(garden, wanted)
    garden.until("done", "Succeeded")
    garden.cluster.until(lambda: garden.job("done") is None, "the TTL deletes the Job")
    before = live(garden, "done")
    assert sync(garden, wanted) == before
    changed = wanted | {"spec": wanted["spec"] | {"baseModel": "tiny/other"}}
    flags = (*SERVER_SIDE, "-n", garden.namespace, "-f", "-")
    refused = garden.cluster.try_kubectl("apply", *flags, content=json.dumps(changed))
    assert refused.returncode == 1
    assert "spec.baseModel: Invalid value" in refused.stderr
    assert "field is immutable" in refused.stderr  # Flux looks for this
    assert "give the changed job another metadata.name" in refused.stderr
    later = wanted | {"spec": wanted["spec"] | {"ttlSecondsAfterFinished": 5}}
    assert sync(garden, later)["metadata"]["generation"] == 2
    observed = ("wait", "trainingjob/done", "--for=condition=Complete", "--timeout=60s")
    garden.kubectl(*observed)  # kubectl waits until the condition's observedGeneration is the latest
    [found] = judge([live(garden, "done")])
    assert (found.kstatus, found.flux, found.health) == ("Current", "Current", "Healthy")
    assert garden.job("done") is None
    assert live(garden, "done")["status"]["completionTime"] == before["status"]["completionTime"]


def test_a_pruned_job_takes_its_jobs_and_pods_along(garden: OperatorHarness) -> None:
    sync(garden, manifest("pruned", {"STEPS": 1000}))
    garden.until_step("pruned", 1)
    garden.kubectl("delete", "trainingjob", "pruned", "--wait=false")
    garden.cluster.until(lambda: live(garden, "pruned") is None and garden.job("pruned") is None)
    garden.cluster.until(lambda: not garden.pods("pruned"), "no pod is left")


def act(garden: OperatorHarness, name: str, action: str) -> None:
    """Run an action of Argo CD, first as a dry run."""
    [found] = judge([live(garden, name)])
    patch = ("patch", "trainingjob", name, "--type=merge", "-p", json.dumps(found.actions[action]))
    garden.kubectl(*patch, "--dry-run=server")
    garden.kubectl(*patch)


def test_the_actions_of_argo_cd_suspend_resume_and_stop(garden: OperatorHarness) -> None:
    sync(garden, manifest("acted", {"STEPS": 2000, "STEP_SECONDS": 0.05}))
    garden.until_step("acted", 1)
    act(garden, "acted", "suspend")
    garden.until("acted", "Suspended")
    assert health(garden, "acted") == "Suspended"
    act(garden, "acted", "resume")
    garden.until("acted", "Running")
    assert health(garden, "acted") == "Progressing"
    act(garden, "acted", "stop")
    end = garden.until("acted", "Succeeded")
    assert end["progress"]["step"] < 2000
    assert health(garden, "acted") == "Healthy"


def test_the_action_cancel_of_argo_cd(garden: OperatorHarness) -> None:
    sync(garden, manifest("dropped", {"STEPS": 2000}))
    garden.until_step("dropped", 1)
    act(garden, "dropped", "cancel")
    garden.until("dropped", "Cancelled")
    assert health(garden, "dropped") == "Degraded"


def health(garden: OperatorHarness, name: str) -> str:
    [found] = judge([live(garden, name)])
    return found.health


def helm(garden: OperatorHarness, *arguments: str) -> subprocess.CompletedProcess[str]:
    binary = ensure_binaries(print, ["helm"]) / "helm"
    environment = os.environ | {"KUBECONFIG": str(garden.cluster.kubeconfig)}
    command = [str(binary), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def chart(folder: Path, job: Object) -> str:
    """A chart that holds one TrainingJob."""
    (folder / "templates").mkdir(parents=True)
    (folder / "Chart.yaml").write_text("apiVersion: v2\nname: jobs\nversion: 1.0.0\n")
    (folder / "templates" / "job.yaml").write_text(json.dumps(job))
    return str(folder)


def test_helm_waits_until_a_job_has_begun_and_reports_one_that_cannot(garden: OperatorHarness, tmp_path: Path) -> None:
    good = chart(tmp_path / "good", manifest("helmed", {"STEPS": 2000}))
    bad = chart(tmp_path / "bad", manifest("homeless", {}, storage={"dataClaim": "no-such-claim"}))
    begun = helm(garden, "install", "good", good, "-n", garden.namespace, "--wait", "--timeout", "60s")
    assert begun.returncode == 0, begun.stderr
    assert garden.status("helmed")["jobName"] == "helmed-train"
    assert garden.status("helmed")["phase"] in ("Starting", "Running"), "it does not wait for the end of training"
    failed = helm(garden, "install", "bad", bad, "-n", garden.namespace, "--wait", "--timeout", "60s")
    assert failed.returncode == 1
    assert "no-such-claim" in failed.stderr
    assert helm(garden, "uninstall", "good", "-n", garden.namespace, "--wait").returncode == 0
    garden.cluster.until(lambda: garden.job("helmed") is None)


def test_helm_waits_for_an_operator_that_does_not_run(garden: OperatorHarness, tmp_path: Path) -> None:
    """A job without a status is not yet as wanted, although kstatus calls an unknown object current."""
    garden.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "unwatched"}})
    alone = chart(tmp_path / "alone", manifest("alone", {}))
    waited = helm(garden, "install", "alone", alone, "-n", "unwatched", "--wait", "--timeout", "8s")
    assert waited.returncode == 1
    assert "InProgress" in waited.stderr
