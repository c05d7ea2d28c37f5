"""What OpenTelemetry's exporter sends, without an operator."""

import asyncio
from uuid import UUID, uuid4

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from model_garden.controller import tracing
from model_garden.controller.tracing import JobTracer
from tests.cluster import PATIENCE
from tests.controller import builders as b
from tests.monitoring.receiver import receiver


def test_a_trainer_with_a_wrong_clock_costs_no_job_its_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """The times of all jobs are sent together, in 64 bits. The environment names the service."""
    far = {"pod": "a", "stage": "training", "enteredTime": "9999-12-31T23:59:59Z"}
    monkeypatch.setattr(tracing, "_CLOSE_SECONDS", PATIENCE)
    jobs = [ended(str(uuid4()), stages=[far]), ended(str(uuid4()))]
    with receiver() as server:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.url)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "ours")
        tracer = JobTracer()
        for job in jobs:
            tracer.job_ended(job)
        asyncio.run(tracer.close())
        sent = [ExportTraceServiceRequest.FromString(one.body).resource_spans for one in server.posted]
    resources = [resource for one in sent for resource in one]
    spans = [span for resource in resources for scope in resource.scope_spans for span in scope.spans]
    roots = {span.trace_id for span in spans if span.name == "TrainingJob"}
    assert roots == {UUID(job["metadata"]["uid"]).bytes for job in jobs}
    names = {one.key: one.value.string_value for resource in resources for one in resource.resource.attributes}
    assert names["service.name"] == "ours"


def ended(uid: str, **more: object) -> b.Object:
    attempts = [{"pod": "a", "startTime": b.time(10)}]
    status = {"phase": "Succeeded", "completionTime": b.time(100), "attempts": attempts, **more}
    job = b.resource() | {"status": status}
    job["metadata"]["uid"] = uid
    return job
