"""Fixtures of the operator's tests: the CRD, and one operator that most tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import TestCluster
from tests.controller.garden import Garden

CRD = Path(__file__).parents[2] / "manifests/crd.yaml"


@pytest.fixture(scope="session")
def crd(cluster: TestCluster) -> TestCluster:
    """The cluster, with the CRD served."""
    cluster.kubectl("apply", "--server-side", "-f", str(CRD))
    cluster.until(lambda: cluster.try_kubectl("get", "trainingjobs").returncode == 0, "the CRD is served")
    return cluster


@pytest.fixture(scope="session")
def garden(crd: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Garden]:
    """A namespace whose operator runs for the whole session."""
    garden = Garden(crd, "garden", tmp_path_factory.mktemp("garden"))
    garden.start_operator()
    yield garden
    garden.stop_operator()
