"""Fixtures of the GitOps tests: a namespace with an operator of its own."""

from collections.abc import Iterator

import pytest

from tests.cluster import TestCluster
from tests.controller.harness import OperatorHarness


@pytest.fixture(scope="session")
def garden(cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorHarness]:
    """A namespace whose operator runs for the whole session."""
    cluster.serve_training_jobs()
    garden = OperatorHarness(cluster, "gitops", tmp_path_factory.mktemp("gitops"))
    garden.start_operator()
    yield garden
    garden.stop_operator()
