"""The memory of a cluster's GPUs, by the labels of its nodes, and the nodes that can run a job.

Labels: ``nvidia.com/gpu.memory`` (MiB), ``nvidia.com/gpu.product`` and, for a MIG slice, such as
``nvidia.com/mig-1g.10gb.memory``, set by NVIDIA's GPU feature discovery
(https://github.com/NVIDIA/k8s-device-plugin/tree/main/docs/gpu-feature-discovery); ``amd.com/gpu.vram``, set by AMD's
node labeller (https://github.com/ROCm/k8s-device-plugin). Clouds set other labels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from model_garden.contract.memory_estimate import Estimate
from model_garden.contract.pod import GPU_RESOURCE, gpu_amounts
from model_garden.estimate.estimate import cannot_fit

MIG_PREFIX = "nvidia.com/mig-"
AMD_RESOURCE = "amd.com/gpu"
MEMORY_LABEL = "nvidia.com/gpu.memory"
AMD_MEMORY_LABEL = "amd.com/gpu.vram"
PRODUCT_LABELS = (
    "nvidia.com/gpu.product",
    "cloud.google.com/gke-accelerator",
    "karpenter.k8s.aws/instance-gpu-name",
)

_GB_IN_NAME = re.compile(r"(\d+)gb(?![a-z0-9])")
_AMD_GIB = re.compile(r"(\d+)G$")
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
"""GiB of a GPU by its name. For a GPU with two sizes, it is the smaller one, unless the name contains the size."""


@dataclass(frozen=True)
class Node:
    """A node: its name, its labels, and its allocatable GPUs by their resource's name."""

    name: str
    labels: Mapping[str, str]
    gpus: Mapping[str, int]

    @classmethod
    def read(cls, resource: Mapping[str, Any]) -> Node:
        """Read a core/v1 Node."""
        metadata = resource.get("metadata", {})
        allocatable = resource.get("status", {}).get("allocatable") or {}
        gpus = {name: count for name, count in gpu_amounts(allocatable).items() if count}
        return cls(metadata.get("name", ""), metadata.get("labels") or {}, gpus)


def gpu_memory_gib(labels: Mapping[str, str], resource: str = GPU_RESOURCE) -> float | None:
    """Memory of one GPU of a node in GiB, by the node's labels and the name of a MIG slice; None if they do not say.

    A time slice has the memory of the whole GPU, which it shares.
    """
    if resource == AMD_RESOURCE:
        vram = _AMD_GIB.match(labels.get(AMD_MEMORY_LABEL, ""))
        return int(vram[1]) if vram else None
    memory = labels.get(f"{resource}.memory" if resource.startswith(MIG_PREFIX) else MEMORY_LABEL, "")
    if memory.isdigit() and int(memory) > 0:
        return int(memory) / 1024
    if resource.startswith(MIG_PREFIX):
        return int(named[-1]) * _GIB_PER_GB if (named := _GB_IN_NAME.findall(resource)) else None
    product = next((labels[label] for label in PRODUCT_LABELS if label in labels), "").lower()
    if stated := _GB_IN_NAME.findall(product):
        return int(stated[-1]) * _GIB_PER_GB  # the last: NVIDIA-A100-SXM4-80GB-MIG-1g.10gb is a slice of 10
    parts = f"-{re.sub('[ _]', '-', product)}-"
    return next((gib for name, gib in _NAMED.items() if f"-{name}-" in parts), None)


def nodes_that_fit(
    estimate: Estimate, nodes: Iterable[Node], *, gpus: int = 1, resource: str = GPU_RESOURCE
) -> list[Node]:
    """The nodes that could run the job: they have enough GPUs, each with at least the estimate's minimum of memory.

    A job is refused only if it certainly cannot run. So the minimum is compared, not the expected peak, and a node
    whose labels do not say its memory is included.
    """
    if estimate.memory == "Host":
        return list(nodes)
    return [
        node
        for node in nodes
        if node.gpus.get(resource, 0) >= gpus
        and ((gib := gpu_memory_gib(node.labels, resource)) is None or not cannot_fit(estimate, gib))
    ]
