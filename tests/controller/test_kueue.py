"""Jobs in the queues of a real Kueue: the phase, the reason and the message at each of its decisions.

The ClusterQueue is that of docs/kueue.md: one GPU, which the node claims to have. The operator has the chart's rights.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.cluster import Object, TestCluster
from tests.controller.harness import OperatorHarness, condition
from tests.controller.test_rights import ACCOUNT, allowed, granted, kubeconfig_of_the_chart, requests_of, what
from tools.generate import ROOT
from tools.permissions import WITH_KUEUE

pytestmark = pytest.mark.cluster

ONE_GPU = {"limits": {"nvidia.com/gpu": 1}, "requests": {"cpu": "10m", "memory": "16Mi"}}
QUEUE = "kueue.x-k8s.io/queue-name"
RETRY = {"backoffBaseSeconds": 10, "backoffLimitCount": 1}
CONFIGURATION = {"waitForPodsReady": {"timeout": "25s", "recoveryTimeout": "60s", "requeuingStrategy": RETRY}}


def blocks_of_the_guide(number: int = 1) -> list[Object]:
    """The objects of a block of YAML: the first has the quota, the second the labels of a job."""
    text = (ROOT / "docs" / "kueue.md").read_text().split("```yaml\n")[number].split("```")[0]
    return list(YAML(typ="safe").load_all(text))


class Queued(OperatorHarness):
    """The namespace of the guide."""

    early: Object
    """The status of the job `early` before Kueue was installed."""

    def queue(self, name: str, env: Object | None = None, *, queue: str = "research", **more: Any) -> None:
        labels = {QUEUE: queue} if queue else {}
        given = {"resources": ONE_GPU, "preflight": "Disabled", "metadata": {"labels": labels}}
        self.submit(name, env, **given | more)

    def workload(self, name: str) -> Object:
        """The Workload of a job, by the name that its status has."""
        found: Object = self.get(
            "workload", self.cluster.until(lambda: self.status(name).get("queue", {}).get("workload"))
        )
        return found


@pytest.fixture(scope="module")
def kueue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Queued]:
    """The operator first, then Kueue: a job with the label waits for it."""
    folder = tmp_path_factory.mktemp("kueue")
    cluster = TestCluster(folder / "devcluster")
    try:
        cluster.up()
        cluster.serve_training_jobs()
        harness = Queued(cluster, "training", folder)
        harness.kubeconfig = kubeconfig_of_the_chart(harness, folder)
        harness.start_operator(pod={"POD_NAME": "operator", "POD_NAMESPACE": "training"})
        harness.queue("early", {"STEPS": 1})
        harness.early = harness.until("early", "Queued")
        (folder / "kueue.json").write_text(json.dumps(CONFIGURATION))
        cluster.up("--kueue", str(folder / "kueue.json"))
        cluster.apply(*blocks_of_the_guide())
        yield harness
        harness.stop_operator()
    finally:
        cluster.down()


@pytest.fixture(autouse=True)
def free_quota(kueue: Queued) -> Iterator[None]:
    """Each test leaves the quota free for the next one, also if it fails."""
    yield
    kueue.kubectl("delete", "trainingjob", "--all")
    kueue.cluster.until(lambda: not kueue.get("workloads"), "the quota is free")


def message(status: Object) -> str:
    text: str = condition(status, "Running")["message"]
    return text


def test_a_job_says_that_kueue_is_missing_and_runs_once_it_is_installed(kueue: Queued) -> None:
    assert condition(kueue.early, "Running")["reason"] == "KueueNotInstalled"
    assert "install Kueue" in message(kueue.early)
    status = kueue.until("early", "Succeeded")
    assert (status["queue"]["name"], status["queue"]["clusterQueue"]) == ("research", "gpus")
    assert condition(kueue.workload("early")["status"], "Finished")["reason"] == "Succeeded"


def test_jobs_wait_with_kueues_reason_and_their_place_in_line(kueue: Queued) -> None:
    kueue.queue("holder", {"STEPS": 1000})
    assert kueue.until("holder", "Running")["queue"]["admissionTime"]
    kueue.queue("next")
    first = kueue.until("next", "Queued", reason="Pending")
    assert "insufficient unused quota for nvidia.com/gpu in flavor gpu-nodes, 1 more needed" in message(first)
    created = datetime.fromisoformat(kueue.workload("next")["metadata"]["creationTimestamp"])
    kueue.cluster.until(lambda: datetime.now(UTC) >= created + timedelta(seconds=1))  # Kueue orders by whole seconds
    kueue.queue("last")
    kueue.cluster.until(lambda: kueue.status("last").get("queue", {}).get("position") == 2)
    assert "place 2 in line" in message(kueue.status("last"))
    kueue.annotate("holder", "model-garden.dev/cancel=true")
    kueue.until("holder", "Cancelled")
    kueue.until("next", "Succeeded")
    assert "position" not in kueue.until("last", "Succeeded")["queue"]


def test_a_preempted_job_keeps_its_progress_and_resumes(kueue: Queued) -> None:
    kueue.queue("low", {"STEPS": 30, "HANG_AT_STEP": 10})
    kueue.until_step("low", 10)
    [labeled] = blocks_of_the_guide(2)
    kueue.queue("high", {"STEPS": 10_000}, metadata=labeled["metadata"])
    stopped = kueue.until("low", "Queued", reason="Preempted")
    assert "Preempted to accommodate a workload" in message(stopped)
    assert stopped["progress"]["step"] == 10
    kueue.annotate("high", "model-garden.dev/stop=save")
    kueue.until("high", "Succeeded")
    first, second = kueue.until("low", "Succeeded")["attempts"]
    assert first["reason"] == "Preempted" and second["fromStep"] == 10


def test_spec_suspend_releases_the_quota_and_resumes_in_the_queue(kueue: Queued) -> None:
    kueue.queue("paused", {"STEPS": 10_000})
    kueue.until_step("paused", 5)
    kueue.patch("trainingjob", "paused", {"spec": {"suspend": True}})
    status = kueue.until("paused", "Suspended", reason="Suspended")
    assert "model-garden resume paused" in message(status)
    assert kueue.workload("paused")["spec"]["active"] is False
    kueue.queue("meanwhile", {"STEPS": 1})
    kueue.until("meanwhile", "Succeeded")
    kueue.patch("trainingjob", "paused", {"spec": {"suspend": False}})
    kueue.until("paused", "Running")
    assert kueue.workload("paused")["spec"]["active"] is True


def test_a_workload_that_somebody_deactivates_suspends_the_job_until_the_fix_is_run(kueue: Queued) -> None:
    kueue.queue("stopped", {"STEPS": 10, "HANG_AT_STEP": 1})
    kueue.until_step("stopped", 1)
    kueue.patch("workload", kueue.workload("stopped")["metadata"]["name"], {"spec": {"active": False}})
    told = message(kueue.until("stopped", "Suspended", reason="Deactivated"))
    command = told.partition("kubectl ")[2].replace("'", "")
    assert command.startswith("patch workload ")
    kueue.cluster.kubectl(*command.split())
    kueue.until("stopped", "Succeeded")


def test_a_queue_that_does_not_exist_is_named_and_may_be_created_later(kueue: Queued) -> None:
    kueue.queue("homeless", {"STEPS": 1}, queue="nowhere")
    assert "LocalQueue nowhere doesn't exist" in message(kueue.until("homeless", "Queued", reason="Inadmissible"))
    [_, _, local, _] = blocks_of_the_guide()
    kueue.cluster.apply(local | {"metadata": {"name": "nowhere", "namespace": "training"}})
    kueue.until("homeless", "Succeeded")


def test_a_stopped_cluster_queue_evicts_the_job_and_takes_it_back(kueue: Queued) -> None:
    kueue.queue("drained", {"STEPS": 10, "HANG_AT_STEP": 1})
    kueue.until_step("drained", 1)
    kueue.patch("clusterqueue", "gpus", {"spec": {"stopPolicy": "HoldAndDrain"}})
    try:
        assert "ClusterQueue" in message(kueue.until("drained", "Queued", reason="ClusterQueueStopped"))
    finally:
        kueue.patch("clusterqueue", "gpus", {"spec": {"stopPolicy": "None"}})
    kueue.until("drained", "Succeeded")


def test_an_admitted_job_without_a_pod_is_told_then_requeued_then_given_up(kueue: Queued) -> None:
    kueue.queue("astray", podTemplate={"nodeSelector": {"no": "such-node"}})
    told = message(kueue.until("astray", "Pending", reason="AdmittedNotRunning"))
    assert "Kueue admitted the job at" in told and "ClusterQueue gpus" in told and "no pod runs" in told
    kueue.cluster.until(lambda: "AdmittedNotRunning" in dict(kueue.events("astray")))
    kueue.until("astray", "Queued", reason="PodsReadyTimeout")
    assert "re-queuing" in message(kueue.until("astray", "Suspended", reason="DeactivatedDueToRequeuingLimitExceeded"))


def test_a_preflight_waits_for_no_quota(kueue: Queued) -> None:
    kueue.queue("holder-2", {"STEPS": 1000})
    kueue.until("holder-2", "Running")
    kueue.queue("checked", {"STEPS": 1}, preflight="Enabled")
    status = kueue.until("checked", "Queued", reason="Pending")
    assert status["preflightCompletionTime"]


def test_a_job_without_the_label_is_queued_where_the_namespace_has_a_default_queue(kueue: Queued) -> None:
    [_, _, local, _] = blocks_of_the_guide()
    kueue.cluster.apply(local | {"metadata": {"name": "default", "namespace": "training"}})
    kueue.queue("unlabeled", {"STEPS": 1}, queue="")
    assert kueue.until("unlabeled", "Succeeded")["queue"]["name"] == "default"
    kueue.kubectl("delete", "localqueue", "default")


def test_where_kueue_manages_every_job_a_preflight_stands_in_line_too(kueue: Queued) -> None:
    file = kueue.log.with_name("every-job.json")
    file.write_text(json.dumps({"manageJobsWithoutQueueName": True}))
    kueue.cluster.up("--kueue", str(file))
    kueue.queue("strict", {"STEPS": 1}, preflight="Enabled")
    kueue.until("strict", "Succeeded")
    assert kueue.get("job", "strict-preflight")["metadata"]["labels"][QUEUE] == "research"
    kueue.queue("nowhere-to-go", {"STEPS": 1}, queue="")
    assert "LocalQueue with the name default" in message(kueue.until("nowhere-to-go", "Queued", reason="NoQueue"))


def test_each_permission_with_kueue_was_used_and_none_was_missing(kueue: Queued) -> None:
    """By the requests of all tests above."""
    requests = requests_of(kueue.cluster, f"system:serviceaccount:training:{ACCOUNT}")
    assert [(*what(request), request["requestURI"]) for request in requests if not allowed(request)] == []
    assert granted(WITH_KUEUE) <= {what(request) for request in requests}
