"""An operator with jobs in several phases, and a Prometheus that reads its metrics: one of each for all tests here."""

from collections.abc import Iterator

import pytest

from tests.cluster import TestCluster
from tests.controller.harness import OperatorHarness
from tests.monitoring.programs import Prometheus, prometheus
from tests.monitoring.receiver import Receiver, receiver
from tools.generate import CHART

ONE_GPU = {"limits": {"nvidia.com/gpu": 1}, "requests": {"cpu": "10m", "memory": "16Mi"}}


@pytest.fixture(scope="session")
def collector() -> Iterator[Receiver]:
    """Where the operator sends traces."""
    with receiver() as found:
        yield found


def start(garden: OperatorHarness, collector: Receiver) -> None:
    """Start the operator. Its price is so high that a second costs something."""
    tracing = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    webhooks = {"WEBHOOKS": "true", "WEBHOOK_LOCAL_ADDRESSES": "true"}
    garden.start_operator(tracing, GPU_HOUR_PRICE="3600", LOG_FORMAT="json", **webhooks)


@pytest.fixture(scope="session")
def garden(
    cluster: TestCluster, collector: Receiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorHarness]:
    """A namespace whose operator runs for the whole session."""
    cluster.serve_training_jobs()
    garden = OperatorHarness(cluster, "watched", tmp_path_factory.mktemp("watched"))
    start(garden, collector)
    yield garden
    garden.stop_operator()


@pytest.fixture(scope="module")
def watched(garden: OperatorHarness, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus, with the chart's alerts, before, while and after these jobs ran. One holds the GPU of the cluster."""
    rules = CHART / "files" / "alerts.yaml"
    with prometheus(tmp_path_factory.mktemp("prometheus"), [garden.port], rules) as server:
        garden.submit("trains", {"STEPS": 100_000, "STEP_SECONDS": 0.2}, resources=ONE_GPU, quantization="16bit")
        garden.submit("retries", {"STEPS": 2, "EXIT_CODE": 1}, backoffLimit=20)
        garden.submit("fails", {"STEPS": 2, "EXIT_CODE": 1}, backoffLimit=0)
        garden.submit("works", {"STEPS": 2})
        garden.submit("paused", suspend=True)
        garden.until("fails", "Failed")
        garden.until("works", "Succeeded")
        garden.until_step("trains", 20)
        yield server
        garden.kubectl("delete", "trainingjob", "--all")
