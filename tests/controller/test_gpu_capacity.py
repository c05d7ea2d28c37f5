"""Whether a job is refused because no GPU of the cluster can hold it."""

from typing import Any

import pytest

from model_garden.contract.memory_estimate import Estimate, Part
from model_garden.controller.gpu_capacity import does_not_fit, trim_node
from model_garden.estimate.gpus import Node
from tests.controller import builders as b
from tests.controller.builders import Object

WEIGHTS = Part(name="weights", size_gib=20, min_gib=18, max_gib=22, detail="16 bit")
NEEDED = Estimate(
    memory="GPU", parts=[WEIGHTS], total_gib=20, min_gib=18, max_gib=22, reserved_gib=20, smallest_gpu=24, parameters=1,
    trained_parameters=1, batch_size=1, tokens_per_row=1, image_tokens_per_row=0, assumptions=[],
)  # fmt: skip


def node(gib: int | None, gpus: int = 1, **labels: str) -> Node:
    memory = {"nvidia.com/gpu.memory": str(gib * 1024)} if gib else {}
    return Node("n", memory | labels, {"nvidia.com/gpu": gpus})


def refused(*nodes: Node, **spec: Any) -> str | None:
    return does_not_fit(b.plan(**spec).spec, NEEDED, nodes)


@pytest.mark.parametrize(
    ("nodes", "spec", "refuse"),
    [
        ([], {}, False),
        ([node(16)], {}, True),
        ([node(16), node(24)], {}, False),
        ([node(16), node(None)], {}, False),
        ([node(16)], {"resources": {"limits": {"nvidia.com/gpu": 2}}}, False),
        ([node(16, pool="a"), node(80, pool="b")], {"podTemplate": {"nodeSelector": {"pool": "a"}}}, True),
    ],
    ids=["no node known", "too small", "one is large enough", "one is unknown", "no node has so many", "not selected"],
)
def test_a_job_is_refused_only_if_no_node_can_ever_run_it(nodes: list[Node], spec: Object, refuse: bool) -> None:
    assert (refused(*nodes, **spec) is not None) is refuse


MIG = {"resources": {"limits": {"nvidia.com/mig-1g.10gb": 1}}}


@pytest.mark.parametrize(
    ("gpus", "spec", "refuse"),
    [
        ({"nvidia.com/mig-1g.10gb": 7}, MIG, True),
        ({"nvidia.com/mig-3g.40gb": 2}, MIG, False),
        ({"nvidia.com/mig-3g.40gb": 2}, {"resources": {"limits": {"nvidia.com/mig-3g.40gb": 1}}}, False),
        ({"nvidia.com/gpu.shared": 4}, {"resources": {"limits": {"nvidia.com/gpu.shared": 1}}}, True),
        ({"amd.com/gpu": 1}, {"resources": {"limits": {"amd.com/gpu": 1}}}, False),
        ({"nvidia.com/gpu": 1}, {"resources": {"claims": [{"name": "gpu"}]}, "podTemplate": b.CLAIMS}, False),
    ],
    ids=["slice too small", "no such slice", "slice large enough", "time slice of a small GPU", "unknown AMD", "claim"],
)
def test_the_gpus_that_a_job_names_are_compared(gpus: dict[str, int], spec: Object, refuse: bool) -> None:
    shared = Node("n", {"nvidia.com/gpu.memory": "16384"}, gpus)
    assert (refused(shared, **spec) is not None) is refuse


def test_a_refusal_has_the_parts_of_the_estimate_and_the_fix() -> None:
    said = refused(node(16), quantization="16bit")
    assert said
    for words in ("at least 18.0 GiB", "16.0 GiB", "weights 20.00 GiB (16 bit)", "quantization: 4bit", "24 GB or more"):
        assert words in said


def test_a_trimmed_node_gives_the_same_facts() -> None:
    whole = {
        "metadata": {"name": "n", "labels": {"a": "b"}, "uid": "u"},
        "status": {"allocatable": {"nvidia.com/gpu": "4"}},
    }
    assert Node.read(trim_node(whole)) == Node.read(whole) == Node("n", {"a": "b"}, {"nvidia.com/gpu": 4})
