"""The Node object: capacity, addresses, Ready, and the lease that says every ten seconds that the node lives."""

import asyncio
import datetime
import logging
import os
import platform
from typing import Any

from devcluster.cluster import NODE_NAME, Cluster
from devcluster.node.api import UNREACHABLE, Api, ApiError
from devcluster.node.status import timestamp
from devcluster.versions import KUBERNETES, go_platform

Object = dict[str, Any]

HEARTBEAT_SECONDS = 10
LEASE_SECONDS = 40
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"

log = logging.getLogger(__name__)


def capacity(gpus: int) -> dict[str, str]:
    """What the node claims to have: the machine's processors and memory, and GPUs that exist on paper only."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": str(os.cpu_count() or 1),
        "memory": f"{memory // 1024}Ki",
        "ephemeral-storage": "100Gi",
        "pods": "500",
        "nvidia.com/gpu": str(gpus),
    }


async def keep_registered(api: Api, cluster: Cluster, resources: dict[str, str]) -> None:
    """Registers the node and keeps it Ready, for ever and whatever happens to the API server meanwhile."""
    while True:
        try:
            await _register(api, cluster, resources)
            await _renew_lease(api)
            pause = float(HEARTBEAT_SECONDS)
        except (ApiError, *UNREACHABLE) as error:
            log.warning("cannot register: %s", error)
            pause = 0.3
        await asyncio.sleep(pause)


async def _register(api: Api, cluster: Cluster, resources: dict[str, str]) -> None:
    """Creates the Node if there is none, and writes its status unless it is as it should be."""
    path = f"/api/v1/nodes/{NODE_NAME}"
    try:
        node = await api.get(path)
    except ApiError as error:
        if error.status != 404:
            raise
        node = await api.create("/api/v1/nodes", _node())
    status = node_status(cluster, resources)
    if _is_as(node.get("status", {}), status):
        return
    await api.patch(f"{path}/status", {"status": status})
    log.info("node %s is Ready with %s", NODE_NAME, resources)


def _node() -> Object:
    system, architecture = go_platform()
    labels = {
        "kubernetes.io/hostname": NODE_NAME,
        "kubernetes.io/os": system,
        "kubernetes.io/arch": architecture,
    }
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE_NAME, "labels": labels}}


def node_status(cluster: Cluster, resources: dict[str, str]) -> Object:
    """The status of a node that is well."""
    now = timestamp(datetime.datetime.now().timestamp())
    conditions = [
        {"type": "Ready", "status": "True", "reason": "ProcessNodeReady", "message": "pods run as processes"},
        *(
            {"type": kind, "status": "False", "reason": "NotMeasured", "message": "devcluster does not measure this"}
            for kind in ("MemoryPressure", "DiskPressure", "PIDPressure")
        ),
    ]
    system, architecture = go_platform()
    return {
        "capacity": resources,
        "allocatable": resources,
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": NODE_NAME}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": cluster.ports["node"]}},
        "conditions": [{**each, "lastHeartbeatTime": now, "lastTransitionTime": now} for each in conditions],
        "nodeInfo": {
            "kubeletVersion": KUBERNETES,
            "operatingSystem": system,
            "architecture": architecture,
            "osImage": platform.platform(),
            "kernelVersion": platform.release(),
            "containerRuntimeVersion": "process://1",
            "machineID": "",
            "systemUUID": "",
            "bootID": "",
            "kubeProxyVersion": "",
        },
    }


def _is_as(current: Object, wanted: Object) -> bool:
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in current.get("conditions", []))
    same = all(current.get(key) == wanted[key] for key in ("capacity", "allocatable", "daemonEndpoints"))
    return ready and same


async def _renew_lease(api: Api) -> None:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {"holderIdentity": NODE_NAME, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now}
    try:
        await api.patch(f"{LEASES}/{NODE_NAME}", {"spec": spec})
    except ApiError as error:
        if error.status != 404:
            raise
        metadata = {"name": NODE_NAME, "namespace": "kube-node-lease"}
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
        await api.create(LEASES, lease)
