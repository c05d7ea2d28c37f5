"""One trace of each job's life, received over OTLP/HTTP from a real operator."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.controller.harness import OperatorHarness
from tests.monitoring.receiver import Receiver

pytestmark = pytest.mark.cluster


def spans(collector: Receiver) -> Iterator[tuple[dict[str, str], Any]]:
    """The attributes of the resource, and each span, of all that was received."""
    for posted in collector.at("/v1/traces"):
        for resource in ExportTraceServiceRequest.FromString(posted.body).resource_spans:
            named = {one.key: one.value.string_value for one in resource.resource.attributes}
            for scope in resource.scope_spans:
                yield from ((named, span) for span in scope.spans)


def trace_of(collector: Receiver, uid: str) -> dict[str, Any]:
    """The spans of a TrainingJob by name; empty until its root has come."""
    found = {span.name: span for _, span in spans(collector) if span.trace_id == UUID(uid).bytes}
    return found if "TrainingJob" in found else {}


def attributes(span: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


def test_a_job_that_ends_is_one_trace(garden: OperatorHarness, collector: Receiver) -> None:
    garden.submit("traced", {"STEPS": 3, "STEP_SECONDS": 0.5})
    garden.until("traced", "Succeeded")
    job = garden.get("trainingjob", "traced")
    found = garden.cluster.until(lambda: trace_of(collector, job["metadata"]["uid"]))
    # Times are in whole seconds: a trainer that starts in the second in which its job was created has no "starting".
    assert set(found) | {"starting"} == {"TrainingJob", "starting", "attempt", "dataset", "training"}
    root, attempt = found["TrainingJob"], found["attempt"]
    assert root.parent_span_id == b""
    assert {found[name].parent_span_id for name in ("starting", "attempt") if name in found} == {root.span_id}
    assert {found[name].parent_span_id for name in ("dataset", "training")} == {attempt.span_id}
    assert attributes(root)["k8s.namespace.name"] == "watched"
    assert attributes(root)["model_garden.training_job.name"] == "traced"
    assert attributes(attempt)["k8s.pod.name"] == job["status"]["attempts"][0]["pod"]
    for child in found.values():
        assert root.start_time_unix_nano <= child.start_time_unix_nano <= child.end_time_unix_nano
        assert child.end_time_unix_nano <= root.end_time_unix_nano
    assert {resource["service.name"] for resource, _ in spans(collector)} == {"model-garden"}


def test_a_failed_job_is_an_error_with_its_reason(garden: OperatorHarness, collector: Receiver) -> None:
    garden.submit("traced-failure", {"STEPS": 1, "EXIT_CODE": 3})
    garden.until("traced-failure", "Failed")
    uid = garden.get("trainingjob", "traced-failure")["metadata"]["uid"]
    found = garden.cluster.until(lambda: trace_of(collector, uid))
    assert attributes(found["TrainingJob"])["error.type"] == "InvalidDataset"
    assert (found["TrainingJob"].status.code, found["TrainingJob"].status.message) == (2, "it was asked to fail")
    assert found["attempt"].status.code == 2


def test_opentelemetry_is_imported_only_if_traces_are_sent() -> None:
    code = "import sys, model_garden.controller.process; sys.exit('opentelemetry.sdk' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
