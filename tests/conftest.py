"""Fixtures for the whole project."""

import inspect
import os
import sys
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import settings
from xdist.remote import Producer

from tests.cluster import TestCluster
from tests.scheduling import Scheduling, rank

# As in the Makefile, for tests that are run without it: hundreds of processes import the training stack.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Before torch is imported: a tiny model gains nothing from threads, and loses a lot beside other work.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# For the Go programs of clusters, which would else collect garbage for a tenth of their time: memory is not short here.
os.environ.setdefault("GOGC", "400")

# Where no timeout is given, httpx waits 5 s: too little for a server on a busy two-core machine.
for phase in ("connect", "read", "write", "pool"):
    setattr(inspect.signature(httpx.get).parameters["timeout"].default, phase, 60.0)

settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling | None:
    return Scheduling(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: rank(item.nodeid))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestCluster]:
    """A devcluster of this test session. The first use brings it up (seconds; minutes where binaries must be built)."""
    cluster = TestCluster(tmp_path_factory.mktemp("cluster") / "devcluster")
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()
