"""The GPU time of a job."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from model_garden.contract.progress import Outcome
from model_garden.contract.status import Progress, StageTime
from model_garden.controller.status import next_status
from model_garden.controller.trainer_events import Training
from model_garden.controller.usage import Price
from model_garden.controller.verdict import judge
from tests.controller import builders as b

TWO_GPUS = {"resources": {"limits": {"nvidia.com/gpu": 2}}}


def trained(pod: str, seconds: float) -> Training:
    """Training that began 20 seconds after the job was created and was reported last after ``seconds``."""
    stages = (
        StageTime(pod=pod, stage="model", entered_time=b.time(10), seconds=10),
        StageTime(pod=pod, stage="training", entered_time=b.time(20)),
    )
    return Training(progress=Progress(step=3, total_steps=9, last_report_time=b.time(seconds)), stages=stages)


def bound(pod: b.Object, seconds: float) -> b.Object:
    pod["status"]["conditions"] = b.scheduled(seconds)
    return pod


def test_gpus_are_held_from_the_binding_of_the_pod_and_counted_with_each_report() -> None:
    pod = bound(b.running(), 4)

    found = b.status(b.job(), pod, training=trained("receipts-train-1", 50), seconds=900, **TWO_GPUS)

    assert found.usage
    assert found.usage.to_dict() == {"gpuHours": round(2 * 46 / 3600, 6), "trainingGpuHours": round(2 * 30 / 3600, 6)}
    again = b.status(b.job(), pod, training=trained("receipts-train-1", 50), seconds=950, before=found, **TWO_GPUS)
    assert again.usage == found.usage  # no report, no change


def test_many_reports_do_not_add_up_the_rounding_of_each() -> None:
    pod = bound(b.running(), 4)
    found = b.status(b.job(), pod, **TWO_GPUS)
    for seconds in range(50, 1000, 10):
        training = trained("receipts-train-1", seconds)
        found = b.status(b.job(), pod, training=training, seconds=seconds, before=found, **TWO_GPUS)
    assert found.usage
    assert found.usage.to_dict() == {"gpuHours": round(2 * 986 / 3600, 6), "trainingGpuHours": round(2 * 970 / 3600, 6)}


def test_the_time_of_an_attempt_is_kept_when_its_pod_is_gone_and_that_of_the_next_is_added() -> None:
    first = bound(b.ended(1), 4)
    status = b.status(b.job(), first, training=trained("receipts-train-1", 50), **TWO_GPUS)
    assert status.usage and status.usage.gpu_hours == round(2 * 61 / 3600, 6)  # the trainer ended after 65 seconds

    second = bound(b.running("receipts-train-2", started=105), 104)
    stages = (StageTime(pod="receipts-train-2", stage="training", entered_time=b.time(110)),)
    later = Training(progress=Progress(step=4, total_steps=9, last_report_time=b.time(140)), stages=stages)
    status = b.status(b.job(), second, training=later, before=status, seconds=150, **TWO_GPUS)

    assert status.usage and status.usage.gpu_hours == round(2 * (61 + 36) / 3600, 6)


def test_more_than_ten_attempts_are_all_counted_once() -> None:
    pods = []
    for number in range(13):
        pod = bound(b.ended(1, name=f"receipts-train-{number}"), 100 * number)
        pod["metadata"]["creationTimestamp"] = b.time(100 * number)
        ended: dict[str, Any] = pod["status"]["containerStatuses"][0]["state"]["terminated"]
        ended |= {"startedAt": b.time(100 * number + 1), "finishedAt": b.time(100 * number + 60)}
        pods.append(pod)
    status = b.status(b.job(), *pods[:11])
    for count in (12, 13, 13):
        status = b.status(b.job(), *pods[:count], before=status)

    assert status.usage and status.usage.gpu_hours == pytest.approx(13 * 60 / 3600, abs=1e-5)
    assert [attempt.pod for attempt in status.attempts or ()] == [f"receipts-train-{number}" for number in range(3, 13)]


def test_the_cost_is_the_time_at_the_operator_s_price() -> None:
    pod = bound(b.ended(0, Outcome(result="Succeeded", exit_code=0)), 5 - 3600)
    seen = replace(b.observation(b.job(), pod, **TWO_GPUS), price=Price(2.5, "EUR"))

    found = next_status(seen, judge(seen, missing_seconds=300)).usage

    assert found and (found.cost, found.currency) == (round(2 * (3660 / 3600) * 2.5, 2), "EUR")


def test_a_worker_that_failed_first_is_an_attempt_and_its_gpus_are_counted_with_the_leader_s() -> None:
    def of(index: int, pod: b.Object) -> b.Object:
        pod["metadata"]["annotations"] = {"batch.kubernetes.io/job-completion-index": str(index)}
        return bound(pod, 4)

    leader, worker = of(0, b.ended(8, name="receipts-train-0")), of(1, b.ended(1, name="receipts-train-1"))
    found = b.status(b.job(), leader, worker, numNodes=2, **TWO_GPUS)

    assert found.usage and found.usage.gpu_hours == round(4 * 61 / 3600, 6)


def test_a_job_without_a_gpu_has_no_gpu_time() -> None:
    none = {"resources": {"limits": {"nvidia.com/gpu": 0}}}
    assert b.status(b.job(), bound(b.ended(0, Outcome(result="Succeeded", exit_code=0)), 4), **none).usage is None
