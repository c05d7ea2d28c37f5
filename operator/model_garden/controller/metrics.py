"""Prometheus metrics: how the operator works, and how each running job trains."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Sized
from datetime import datetime
from typing import Any, get_args

from prometheus_client import CollectorRegistry, Counter, GCCollector, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from model_garden.contract.status import Phase

Object = dict[str, Any]

_WRITES = {"POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}
_JOB_LABELS = ("namespace", "name")


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


class JobsCollector(Collector):
    """Jobs by phase, the queue's depth, for each running job its step, loss and ETA, and the GPU time of each job."""

    def __init__(self, training_jobs: Iterable[Object], queue: Sized) -> None:
        self._training_jobs = training_jobs
        self._queue = queue

    def collect(self) -> Iterator[Metric]:
        """Read the caches."""
        phases: Tally[str] = Tally()
        step = GaugeMetricFamily("model_garden_job_step", "Optimizer step of a running job.", labels=_JOB_LABELS)
        total = GaugeMetricFamily(
            "model_garden_job_total_steps", "Optimizer steps of a running job's whole run.", labels=_JOB_LABELS
        )
        loss = GaugeMetricFamily("model_garden_job_loss", "Latest training loss of a running job.", labels=_JOB_LABELS)
        eta = GaugeMetricFamily(
            "model_garden_job_estimated_completion_timestamp_seconds",
            "When a running job is expected to end.",
            labels=_JOB_LABELS,
        )
        held = CounterMetricFamily(
            "model_garden_job_gpu_seconds",
            "Seconds for which the GPUs of a job were held, times their number.",
            labels=_JOB_LABELS,
        )
        trained = CounterMetricFamily(
            "model_garden_job_training_gpu_seconds",
            "The part of model_garden_job_gpu_seconds_total in which the GPUs trained or evaluated.",
            labels=_JOB_LABELS,
        )
        cost = CounterMetricFamily(
            "model_garden_job_cost",
            "Cost of a job's GPU time at the operator's price.",
            labels=(*_JOB_LABELS, "currency"),
        )
        for resource in self._training_jobs:
            status = resource.get("status") or {}
            phases[status.get("phase") or "Pending"] += 1
            progress = status.get("progress")
            labels = (resource["metadata"]["namespace"], resource["metadata"]["name"])
            if usage := status.get("usage"):
                held.add_metric(labels, 3600 * usage["gpuHours"])
                trained.add_metric(labels, 3600 * usage["trainingGpuHours"])
                if "cost" in usage:
                    cost.add_metric((*labels, usage["currency"]), usage["cost"])
            if status.get("phase") != "Running" or not progress:
                continue
            step.add_metric(labels, progress["step"])
            total.add_metric(labels, progress["totalSteps"])
            if "loss" in progress:
                loss.add_metric(labels, progress["loss"])
            if "estimatedCompletionTime" in progress:
                eta.add_metric(labels, datetime.fromisoformat(progress["estimatedCompletionTime"]).timestamp())
        jobs = GaugeMetricFamily("model_garden_jobs", "TrainingJobs by phase.", labels=("phase",))
        for phase in get_args(Phase):
            jobs.add_metric((phase,), phases[phase])
        yield from (jobs, step, total, loss, eta, held, trained, cost)
        yield GaugeMetricFamily("model_garden_queue_depth", "Jobs waiting to be reconciled.", value=len(self._queue))
