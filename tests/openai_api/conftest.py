"""The OpenAI API as people use it: the real ``openai`` package against ``model-garden serve``."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from tests.api.conftest import NAMESPACE, address, garden, kubeconfig, token
from tests.cluster import TestCluster

__all__ = ["address", "garden", "kubeconfig"]


@pytest.fixture(scope="session")
def api_key(garden: TestCluster) -> str:
    """The token of somebody who may use TrainingJobs."""
    return token(garden, "openai-user", "create", "get", "list", "patch")


@pytest.fixture
def client(garden: TestCluster, address: str, api_key: str) -> Iterator[openai.OpenAI]:
    """A client, and no TrainingJob before and after."""
    with openai.OpenAI(base_url=f"{address}/v1", api_key=api_key) as found:
        yield found
    garden.kubectl("delete", "trainingjobs", "--all", "-n", NAMESPACE)
