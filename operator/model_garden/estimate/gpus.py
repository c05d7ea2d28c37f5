"""What memory a cluster's GPUs have, as the labels of its nodes say, and which nodes a job can run on.

Labels: ``nvidia.com/gpu.memory`` (MiB) and ``nvidia.com/gpu.product``, set by NVIDIA's GPU feature discovery
(https://github.com/NVIDIA/k8s-device-plugin/tree/main/docs/gpu-feature-discovery); clouds have labels of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from model_garden.contract.memory_estimate import Estimate
from model_garden.contract.pod import GPU_RESOURCE
from model_garden.estimate.estimate import cannot_fit

MEMORY_LABEL = "nvidia.com/gpu.memory"
PRODUCT_LABELS = (
    "nvidia.com/gpu.product",
    "cloud.google.com/gke-accelerator",
    "karpenter.k8s.aws/instance-gpu-name",
)

_GB_IN_NAME = re.compile(r"(\d+)gb(?![a-z0-9])")
_GIB_PER_GB = 0.97  # an "80GB" H100 shows 79.6 GiB, a "10gb" slice of one 9.6, a "141GB" H200 140.4
_NAMED: dict[str, float] = {
    "b200": 179,
    "h200": 140,
    "h100-nvl": 93,
    "h100": 79,
    "a100": 39.5,
    "l40s": 45,
    "l40": 45,
    "rtx-6000-ada": 48,
    "a6000": 48,
    "a40": 45,
    "a10g": 22.5,
    "a10": 22.5,
    "l4": 22.5,
    "rtx-4090": 24,
    "rtx-3090": 24,
    "v100": 15.9,
    "t4": 14.6,
    "p100": 15.9,
}
"""GiB that a GPU of this name shows a process; of a GPU sold in two sizes the smaller, unless its name says which."""


@dataclass(frozen=True)
class Node:
    """A node's name, its labels, and the GPUs it can hand out."""

    name: str
    labels: Mapping[str, str]
    gpus: int

    @classmethod
    def read(cls, resource: Mapping[str, Any]) -> Node:
        """From a core/v1 Node as plain values."""
        metadata = resource.get("metadata", {})
        allocatable = resource.get("status", {}).get("allocatable") or {}
        return cls(metadata.get("name", ""), metadata.get("labels") or {}, int(allocatable.get(GPU_RESOURCE, 0)))


def gpu_memory_gib(labels: Mapping[str, str]) -> float | None:
    """Memory of one GPU of a node in GiB, from its labels; None where they do not tell."""
    memory = labels.get(MEMORY_LABEL, "")
    if memory.isdigit() and int(memory) > 0:
        return int(memory) / 1024
    product = next((labels[label] for label in PRODUCT_LABELS if label in labels), "").lower()
    if stated := _GB_IN_NAME.findall(product):
        return int(stated[-1]) * _GIB_PER_GB  # the last: NVIDIA-A100-SXM4-80GB-MIG-1g.10gb is a slice of 10
    parts = f"-{re.sub('[ _]', '-', product)}-"
    return next((gib for name, gib in _NAMED.items() if f"-{name}-" in parts), None)


def nodes_that_fit(estimate: Estimate, nodes: Iterable[Node], *, gpus: int = 1) -> list[Node]:
    """The nodes that could run the job: enough GPUs, and none of them hopelessly small.

    A node whose labels do not tell its memory counts: a job is refused only where it is known that it cannot run. For
    the same reason the estimate's least is compared, not its total.
    """
    if estimate.memory == "Host":
        return list(nodes)
    return [
        node
        for node in nodes
        if node.gpus >= gpus and ((gib := gpu_memory_gib(node.labels)) is None or not cannot_fit(estimate, gib))
    ]
