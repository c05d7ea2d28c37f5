import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.cluster import TestCluster


@pytest.fixture
def unique() -> str:
    """A name no other test uses."""
    return f"t-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def run(cluster: TestCluster) -> Iterator[Callable[..., None]]:
    """Applies objects and deletes them at the end of the test."""
    made: list[tuple[str, str]] = []

    def apply(*objects: Any) -> None:
        made.extend((thing["kind"], thing["metadata"]["name"]) for thing in objects)
        cluster.apply(*objects)

    yield apply
    for kind, name in reversed(made):
        cluster.kubectl("delete", kind, name, "--ignore-not-found", "--wait=false", "--grace-period=1")
