"""An operator with jobs in several phases, and a Prometheus that reads its metrics: one of each for all tests here."""

from collections.abc import Iterator

import pytest

from tests.cluster import TestCluster
from tests.controller.harness import OperatorHarness
from tests.monitoring.programs import Prometheus, prometheus
from tools.generate import CHART

ONE_GPU = {"limits": {"nvidia.com/gpu": 1}, "requests": {"cpu": "10m", "memory": "16Mi"}}


@pytest.fixture(scope="session")
def garden(cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorHarness]:
    """A namespace whose operator runs for the whole session. Its price is so high that a second costs something."""
    cluster.serve_training_jobs()
    garden = OperatorHarness(cluster, "watched", tmp_path_factory.mktemp("watched"))
    garden.start_operator(GPU_HOUR_PRICE="3600", LOG_FORMAT="json", WEBHOOKS="true", WEBHOOK_LOCAL_ADDRESSES="true")
    yield garden
    garden.stop_operator()


@pytest.fixture(scope="session")
def watched(garden: OperatorHarness, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus, with the chart's alerts, before, while and after these jobs ran."""
    rules = CHART / "files" / "alerts.yaml"
    with prometheus(tmp_path_factory.mktemp("prometheus"), [garden.port], rules) as server:
        garden.submit("trains", {"STEPS": 1000, "STEP_SECONDS": 0.2}, resources=ONE_GPU, quantization="16bit")
        garden.submit("retries", {"STEPS": 2, "EXIT_CODE": 1}, backoffLimit=20)
        garden.submit("fails", {"STEPS": 2, "EXIT_CODE": 1}, backoffLimit=0)
        garden.submit("works", {"STEPS": 2})
        garden.submit("paused", suspend=True)
        garden.until("fails", "Failed")
        garden.until("works", "Succeeded")
        garden.until_step("trains", 20)
        yield server
        garden.kubectl("delete", "trainingjob", "--all")
