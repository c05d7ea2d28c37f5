"""A job of several nodes: what is created, and which pod its status reports."""

from __future__ import annotations

from typing import Any

import pytest

from model_garden.builders import job as job_builder
from model_garden.builders import plan as plans
from model_garden.builders.settings import Settings
from model_garden.contract.progress import Outcome
from model_garden.contract.resource import InvalidResource
from model_garden.contract.status import Attempt, OutputStatus, Progress, TrainingJobStatus
from model_garden.controller.observed import Facts, derive_facts
from model_garden.controller.verdict import awaiting_job_conclusion
from tests.controller import builders as b
from tests.controller import test_status
from tests.controller.builders import Object

DONE = Outcome(
    result="Succeeded",
    exit_code=0,
    output=OutputStatus(path="models/receipts"),
    progress=Progress(step=9, total_steps=9),
)
FOLLOWED = Outcome(result="Failed", exit_code=8, reason="WorkerLost", message="another process of the job ended")
BAD = Outcome(result="Failed", exit_code=3, reason="InvalidDataset", message="rows.jsonl row 7: no answer")


def job(name: str = "receipts", **spec: Any) -> Object:
    plan = plans.plan(b.resource(name, numNodes=3, **spec), b.SETTINGS)
    return job_builder.job(plan, b.SETTINGS)


def variables(**spec: Any) -> dict[str, Any]:
    [container] = job(**spec)["spec"]["template"]["spec"]["containers"]
    return {variable["name"]: variable.get("value", variable.get("valueFrom")) for variable in container["env"]}


def of(index: int, pod: Object) -> Object:
    """The pod as one of an Indexed Job."""
    pod["metadata"]["annotations"] = {"batch.kubernetes.io/job-completion-index": str(index)}
    return pod


def facts(job: Object, *pods: Object) -> Facts:
    return derive_facts(b.resource()["metadata"], job, pods)


def status(job: Object, *pods: Object) -> TrainingJobStatus:
    return test_status.status(job, *pods, numNodes=2)


def test_each_pod_gets_the_address_of_the_first() -> None:
    spec = job()["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 3, 3)
    assert spec["template"]["spec"]["subdomain"] == "receipts-train"
    env = variables()
    assert (env["MASTER_ADDR"], env["MASTER_PORT"]) == ("receipts-train-0.receipts-train", "29500")
    assert env["NNODES"] == "3"
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    assert env["NODE_RANK"] == {"fieldRef": {"fieldPath": index}}


def test_a_job_may_set_the_address_of_the_first_pod() -> None:
    given = [{"name": "MASTER_ADDR", "value": "127.0.0.1"}, {"name": "MASTER_PORT", "value": "1234"}]
    env = variables(podTemplate={"env": given})
    assert (env["MASTER_ADDR"], env["MASTER_PORT"]) == ("127.0.0.1", "1234")


def test_the_service_has_no_address_of_its_own_and_names_pods_before_they_are_ready() -> None:
    plan = b.plan(numNodes=3)
    service = job_builder.service(plan)
    assert service is not None
    assert service["spec"]["clusterIP"] == "None" and service["spec"]["publishNotReadyAddresses"] is True
    labels = job_builder.job(plan, b.SETTINGS)["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    [owner] = service["metadata"]["ownerReferences"]
    assert (owner["uid"], owner["controller"]) == ("tj-uid", True)


def test_a_service_s_name_begins_with_a_letter() -> None:
    plan = plans.plan(b.resource("7b", numNodes=2), b.SETTINGS)
    service = job_builder.service(plan)
    assert service is not None and service["metadata"]["name"] == "job-7b-train"
    template = job_builder.job(plan, b.SETTINGS)["spec"]["template"]
    assert template["spec"]["subdomain"] == "job-7b-train"


def test_one_node_needs_none_of_it() -> None:
    plan = b.plan()
    assert job_builder.service(plan) is None
    plain = job_builder.job(plan, b.SETTINGS)["spec"]
    assert "completionMode" not in plain and "subdomain" not in plain["template"]["spec"]
    assert len(plain["podFailurePolicy"]["rules"]) == 2


def test_a_pod_that_ended_because_another_did_is_not_counted() -> None:
    *_, last = job()["spec"]["podFailurePolicy"]["rules"]
    assert last["action"] == "Ignore" and last["onExitCodes"]["values"] == [8]


def test_several_nodes_need_a_claim_that_all_can_mount() -> None:
    push = {"pushToHub": {"repo": "org/out"}, "hubTokenSecret": {"name": "hub", "key": "token"}}
    with pytest.raises(InvalidResource, match="ReadWriteMany"):
        made = plans.plan(b.resource(numNodes=2, **push), Settings(data_claim="data"))
        plans.check(made)


def test_the_first_pod_reports_progress_and_outcome() -> None:
    found = status(b.job("Complete"), of(0, b.ended(0, DONE, "one")), of(1, b.ended(0, name="two")))
    assert found.phase == "Succeeded" and found.pod_name == "one"
    assert found.output is not None and found.progress is not None and found.progress.step == 9
    assert [attempt.pod for attempt in found.attempts or ()] == ["one"]


def test_a_job_waits_for_the_pod_that_has_no_node() -> None:
    waiting = of(1, b.unscheduled("0/3 nodes are available: 3 Insufficient nvidia.com/gpu."))
    waiting["metadata"]["name"] = "two"
    found = status(b.job(), of(0, b.running("one")), waiting)
    assert found.phase in ("Queued", "Pending")
    assert any("GPU" in condition.message or "gpu" in condition.message for condition in found.conditions or ())


def test_a_failure_has_the_message_of_the_pod_that_caused_it() -> None:
    pods = of(1, b.ended(3, BAD, "two")), of(0, b.ended(8, FOLLOWED, "one"))
    found = status(b.job("Failed", reason="PodFailurePolicy"), *pods)
    assert found.failure is not None
    assert (found.failure.reason, found.failure.exit_code) == ("InvalidDataset", 3)
    assert [(attempt.pod, attempt.exit_code) for attempt in found.attempts or ()] == [("one", 8), ("two", 3)]


def test_pods_that_only_followed_do_not_use_up_the_retries() -> None:
    followed = [of(0, b.ended(8, FOLLOWED, f"one-{n}")) for n in range(3)]
    killed = of(1, b.ended(137, name="two"))
    plan = b.plan(numNodes=2, backoffLimit=1)
    assert not awaiting_job_conclusion(plan, facts(b.job(), *followed, killed), b.at(70))
    assert awaiting_job_conclusion(plan, facts(b.job(), *followed, killed, of(1, b.ended(137, name="three"))), b.at(70))


def test_a_healthy_worker_is_no_attempt() -> None:
    found = status(b.job(), of(0, b.running("one")), of(1, b.running("two")))
    assert found.phase == "Running"
    assert found.attempts == [Attempt(pod="one", node="node-1", start_time=b.time(5))]
