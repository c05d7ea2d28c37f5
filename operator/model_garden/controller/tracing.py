"""Sends the life of each TrainingJob that ends as one trace, over OTLP/HTTP.

OpenTelemetry's packages are imported only if an endpoint is set. They send from a thread of their own, and give up
after some tries, so no job waits for a collector.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from threading import Thread
from typing import TYPE_CHECKING, Any
from uuid import UUID

from model_garden import __version__
from model_garden.controller.trace_spans import Span, spans_of

if TYPE_CHECKING:
    from opentelemetry.context import Context

_log = logging.getLogger(__name__)

Object = dict[str, Any]

_CLOSE_SECONDS = 2


class JobTracer:
    """Traces of jobs that have ended. The id of a trace is the uid of its TrainingJob without dashes.

    Raises:
        ValueError: OpenTelemetry's packages are missing.
    """

    def __init__(self) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import OTELResourceDetector, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
        except ImportError as error:
            why = "OTEL_EXPORTER_OTLP_ENDPOINT is set, but the packages for traces are missing"
            raise ValueError(f"{why}; install them: pip install 'model-garden[tracing]'") from error

        class Ids(RandomIdGenerator):
            trace_id = 0

            def generate_trace_id(self) -> int:
                return self.trace_id

        self._ids = Ids()
        own = Resource.create({"service.name": "model-garden", "service.version": __version__})
        named = own.merge(OTELResourceDetector().detect())  # what the environment names wins
        self._provider = TracerProvider(resource=named, id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("model_garden", __version__)

    def job_ended(self, job: Object) -> None:
        """Send the trace of a job soon."""
        self._ids.trace_id = UUID(job["metadata"]["uid"]).int
        self._record(spans_of(job), None)

    async def close(self) -> None:
        """Send what waits, for at most two seconds: the process is ending."""
        sending = Thread(target=self._provider.force_flush, daemon=True)  # which ignores a limit of its own
        sending.start()
        await asyncio.to_thread(sending.join, _CLOSE_SECONDS)
        if sending.is_alive():
            _log.warning("the process ends, and the last traces are not sent")

    def _record(self, span: Span, parent: Context | None) -> None:
        from opentelemetry.context import Context
        from opentelemetry.trace import Status, StatusCode, set_span_in_context

        own = self._tracer.start_span(
            span.name, context=parent or Context(), start_time=_nanoseconds(span.start), attributes=span.attributes
        )
        if span.error:
            own.set_status(Status(StatusCode.ERROR, span.error))
        for child in span.children:
            self._record(child, set_span_in_context(own))
        own.end(end_time=_nanoseconds(span.end))


def _nanoseconds(time: datetime) -> int:
    return int(time.timestamp()) * 10**9
