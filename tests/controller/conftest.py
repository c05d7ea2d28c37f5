"""Fixtures of the operator's tests: the CRD, and one operator that most tests share."""

from collections.abc import Iterator

import pytest

from tests.cluster import TestCluster
from tests.controller.garden import Garden


@pytest.fixture(scope="session")
def crd(cluster: TestCluster) -> TestCluster:
    """The cluster, with the CRD served."""
    cluster.serve_training_jobs()
    return cluster


@pytest.fixture(scope="session")
def garden(crd: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Garden]:
    """A namespace whose operator runs for the whole session."""
    garden = Garden(crd, "garden", tmp_path_factory.mktemp("garden"))
    garden.start_operator()
    yield garden
    garden.stop_operator()
