"""Fixtures for the whole project."""

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.cluster import TestCluster

# As in the Makefile, for tests that are run without it: hundreds of processes import the training stack.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestCluster]:
    """A devcluster of this test session. The first use brings it up (seconds; minutes where binaries must be built)."""
    cluster = TestCluster(tmp_path_factory.mktemp("cluster") / "devcluster")
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()
