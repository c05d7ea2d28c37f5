"""Two pods that train one model together, with the operator as it is installed."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from tests.e2e.conftest import Demo
from tests.e2e.test_demo import checkpointed, job, succeeded, wait

pytestmark = [pytest.mark.cluster, pytest.mark.train]

STEPS = 60
CHECKPOINT_EVERY = 10


def pods_of(demo: Demo, name: str, index: int) -> list[dict[str, Any]]:
    selector = f"model-garden.dev/training-job={name},batch.kubernetes.io/job-completion-index={index}"
    return list(demo.cluster.get("pods", selector=selector))


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_two_pods_train_together_and_one_that_dies_costs_no_step_but_those_since_the_checkpoint(
    prompt_demo: Demo,
) -> None:
    demo = prompt_demo
    pair = job("pair", vision=False, maxSteps=STEPS, saveSteps=CHECKPOINT_EVERY)
    # pods of a devcluster share the machine's network, where no name leads to a pod
    env = [{"name": "MASTER_ADDR", "value": "127.0.0.1"}, {"name": "MASTER_PORT", "value": free_port()}]
    pair["spec"] |= {"numNodes": 2, "podTemplate": {"env": env}}
    demo.cluster.apply(pair)
    checkpoint = wait(demo, "pair", checkpointed)["lastCheckpointStep"]
    service = demo.cluster.get("service", "pair-train")
    assert service["metadata"]["ownerReferences"][0]["name"] == "pair"
    (follower,) = pods_of(demo, "pair", 1)
    demo.cluster.kubectl("delete", "pod", follower["metadata"]["name"], "--grace-period=0", "--force")

    found = wait(demo, "pair", succeeded)
    leaders = [attempt for attempt in found["attempts"] if "-train-0-" in attempt["pod"]]
    assert [attempt["exitCode"] for attempt in leaders] == [8, 0]
    # The processes may write further checkpoints between the report and their end.
    assert checkpoint <= leaders[1]["fromStep"]
    assert leaders[0]["toStep"] - leaders[1]["fromStep"] <= CHECKPOINT_EVERY
    assert leaders[1]["toStep"] == found["progress"]["step"] == STEPS
    assert found["output"]["verified"] is True
    steps = [point["step"] for point in found["history"]]
    assert steps == sorted(set(steps))
