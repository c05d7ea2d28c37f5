"""Fixtures of the operator's tests: the CRD, and one operator that most tests share."""

from collections.abc import Iterator

import pytest

from tests.cluster import TestCluster
from tests.controller.harness import OperatorHarness


@pytest.fixture(scope="session")
def crd(cluster: TestCluster) -> TestCluster:
    """The cluster, with the CRD served."""
    cluster.serve_training_jobs()
    return cluster


@pytest.fixture(scope="session")
def harness(crd: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorHarness]:
    """A namespace whose operator runs for the whole session."""
    harness = OperatorHarness(crd, "garden", tmp_path_factory.mktemp("garden"))
    harness.start_operator()
    yield harness
    harness.stop_operator()
