"""Whether a job fits a GPU of the cluster: its memory estimate compared with the labels of the nodes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from model_garden.cluster import NODES, Cluster, ClusterError
from model_garden.contract.memory_estimate import Estimate
from model_garden.contract.spec import EffectiveSpec
from model_garden.estimate.estimate import explain
from model_garden.estimate.gpus import Node, gpu_memory_gib, nodes_that_fit

_log = logging.getLogger(__name__)

Object = dict[str, Any]


async def gpu_nodes(cluster: Cluster) -> list[Node]:
    """The nodes that have GPUs; none where the operator may not list nodes, as when it serves only some namespaces.

    Listed once a job, after its preflight, so nothing is cached.
    """
    try:
        listing = await cluster.list(NODES, trim=trim_node)
    except ClusterError as error:
        if error.status != 403:
            raise
        _log.warning("the memory estimate is not compared with the cluster's GPUs: %s", error)
        return []
    return [node for node in map(Node.read, listing.items) if node.gpus]


def trim_node(node: Object) -> Object:
    """What ``Node.read`` looks at."""
    metadata = {key: node["metadata"].get(key) for key in ("name", "labels")}
    return {"metadata": metadata, "status": {"allocatable": node["status"].get("allocatable")}}


def does_not_fit(spec: EffectiveSpec, needed: Estimate, nodes: Sequence[Node]) -> str | None:
    """Why no node can run the job, with the parts of its estimate and the fix; None if one may.

    Only nodes with as many GPUs as it asks for, and with the labels of its ``nodeSelector``, count. The job waits
    where there is none, or one without a label for its memory: it fails only if no node can ever run it. The devices of
    claims are not compared.
    """
    resource = spec.gpu_resource
    if resource is None:
        return None
    selector = (spec.pod_template and spec.pod_template.node_selector) or {}
    candidates = [
        node
        for node in nodes
        if node.gpus.get(resource, 0) >= spec.gpus and selector.items() <= dict(node.labels).items()
    ]
    if not candidates or nodes_that_fit(needed, candidates, gpus=spec.gpus, resource=resource):
        return None
    largest = max(gpu_memory_gib(node.labels, resource) or 0 for node in candidates)
    parts = "\n".join(f"  {line}" for line in explain(needed))
    return (
        f"the job needs at least {needed.min_gib:.1f} GiB of GPU memory, and the largest {resource} available to it "
        f"has {largest:.1f} GiB; {_fix(spec, needed)}. The estimate:\n{parts}"
    )


def _fix(spec: EffectiveSpec, needed: Estimate) -> str:
    advice = [] if spec.quantization == "4bit" else ["use quantization: 4bit"]
    advice.append("lower hyperparameters.maxSeqLength" + (" or imageOptions.maxPixels" if spec.vision else ""))
    gpu = f"a GPU of {needed.smallest_gpu} GB or more" if needed.smallest_gpu else "a larger GPU"
    advice += [
        "choose a smaller model",
        f"add {gpu} (preflight: Disabled skips this check where a cluster autoscaler adds nodes)",
    ]
    return ", ".join(advice[:-1]) + f", or {advice[-1]}"
