"""Prometheus metrics: how the operator works, and where each TrainingJob is."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Sized
from datetime import datetime
from typing import Any, NamedTuple, get_args

from prometheus_client import CollectorRegistry, Counter, GCCollector, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from model_garden.contract.status import Phase

Object = dict[str, Any]

_WRITES = {"POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}
_JOB_LABELS = ("namespace", "name")
_HOUR = 3600


class Metrics:
    """The operator's own counters, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.reconcile_seconds = Histogram(
            "model_garden_reconcile_seconds",
            "Time of one reconcile.",
            registry=self.registry,
            buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5, 30),
        )
        self.reconcile_errors = Counter(
            "model_garden_reconcile_errors", "Reconciles that failed and are retried.", registry=self.registry
        )
        self._writes = Counter(
            "model_garden_api_writes",
            "Requests to the API server that write.",
            ("verb", "resource", "code"),
            registry=self.registry,
        )

    def count_request(self, method: str, plural: str, status: int) -> None:
        """Note an answered request, if it is a write."""
        if verb := _WRITES.get(method):
            self._writes.labels(verb, plural, str(status)).inc()

    def show(self, training_jobs: Iterable[Object], queue: Sized) -> None:
        """Add what is read at each scrape: the jobs, and the depth of the queue."""
        self.registry.register(JobsCollector(training_jobs, queue))


class _Family(NamedTuple):
    """A metric of each TrainingJob: its meaning, its labels beside namespace and name, and its type."""

    meaning: str
    labels: tuple[str, ...] = ()
    type: type[GaugeMetricFamily | CounterMetricFamily] = GaugeMetricFamily


_FAMILIES = {
    "model_garden_job_phase": _Family("1 for the phase of a job, with the reason of its status.", ("phase", "reason")),
    "model_garden_job_completion_timestamp_seconds": _Family("When a job ended."),
    "model_garden_job_attempts": _Family(
        "Pods that trained, of the last ten of a job, by why they ended; Running for the one that trains.", ("reason",)
    ),
    "model_garden_job_stage": _Family("1 for the stage of a running job's trainer.", ("stage",)),
    "model_garden_job_step": _Family("Optimizer step of a running job."),
    "model_garden_job_total_steps": _Family("Optimizer steps of a running job's whole run."),
    "model_garden_job_loss": _Family("Latest training loss of a running job."),
    "model_garden_job_estimated_completion_timestamp_seconds": _Family("When a running job is expected to end."),
    "model_garden_job_gpu_seconds": _Family(
        "Seconds for which the GPUs of a job were held, times their number.", type=CounterMetricFamily
    ),
    "model_garden_job_training_gpu_seconds": _Family(
        "The part of model_garden_job_gpu_seconds_total in which the GPUs trained or evaluated.",
        type=CounterMetricFamily,
    ),
    "model_garden_job_cost": _Family(
        "Cost of a job's GPU time at the operator's price.", ("currency",), CounterMetricFamily
    ),
}


class JobsCollector(Collector):
    """Jobs by namespace and phase, the depth of the queue, and the metrics of each TrainingJob."""

    def __init__(self, training_jobs: Iterable[Object], queue: Sized) -> None:
        self._training_jobs = training_jobs
        self._queue = queue

    def collect(self) -> Iterator[Metric]:
        """Read the caches."""
        families = {
            name: family.type(name, family.meaning, labels=(*_JOB_LABELS, *family.labels))
            for name, family in _FAMILIES.items()
        }
        tally: Tally[tuple[str, str]] = Tally()
        for resource in self._training_jobs:
            metadata, status = resource["metadata"], resource.get("status") or {}
            tally[metadata["namespace"], _phase(status)] += 1
            for name, labels, value in _samples(status):
                families[name].add_metric((metadata["namespace"], metadata["name"], *labels), value)
        jobs = GaugeMetricFamily("model_garden_jobs", "TrainingJobs by phase.", labels=("namespace", "phase"))
        for namespace in sorted({namespace for namespace, _ in tally}):
            for phase in get_args(Phase):
                jobs.add_metric((namespace, phase), tally[namespace, phase])
        yield from (jobs, *families.values())
        yield GaugeMetricFamily("model_garden_queue_depth", "Jobs waiting to be reconciled.", value=len(self._queue))


def _samples(status: Object) -> Iterator[tuple[str, tuple[str, ...], float]]:
    """Metric, labels beside namespace and name, and value, of the status of one TrainingJob."""
    reason = next((one["reason"] for one in status.get("conditions") or () if one["type"] == "Running"), "")
    yield "model_garden_job_phase", (_phase(status), reason), 1
    if ended := status.get("completionTime"):
        yield "model_garden_job_completion_timestamp_seconds", (), _seconds(ended)
    attempts = Tally(attempt.get("reason") or "Running" for attempt in status.get("attempts") or ())
    for reason, number in attempts.items():
        yield "model_garden_job_attempts", (reason,), number
    if usage := status.get("usage"):
        yield "model_garden_job_gpu_seconds", (), _HOUR * usage["gpuHours"]
        yield "model_garden_job_training_gpu_seconds", (), _HOUR * usage["trainingGpuHours"]
        if "cost" in usage:
            yield "model_garden_job_cost", (usage["currency"],), usage["cost"]
    if status.get("phase") == "Running":
        yield from _samples_of_running(status)


def _samples_of_running(status: Object) -> Iterator[tuple[str, tuple[str, ...], float]]:
    if stages := status.get("stages"):
        yield "model_garden_job_stage", (stages[-1]["stage"],), 1
    if progress := status.get("progress"):
        yield "model_garden_job_step", (), progress["step"]
        yield "model_garden_job_total_steps", (), progress["totalSteps"]
        if "loss" in progress:
            yield "model_garden_job_loss", (), progress["loss"]
        if "estimatedCompletionTime" in progress:
            eta = _seconds(progress["estimatedCompletionTime"])
            yield "model_garden_job_estimated_completion_timestamp_seconds", (), eta


def _phase(status: Object) -> str:
    return status.get("phase") or "Pending"


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()
