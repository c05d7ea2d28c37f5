"""Makes a folder and a PersistentVolume for each claim of the `local` StorageClass, and removes them with the claim.

The control plane's volume controller names the provisioner on the claim (an annotation) and binds what is made here.
"""

import asyncio
import contextlib
import logging
import shutil
from pathlib import Path
from typing import Any

from devcluster.cluster import NODE_NAME, Cluster
from devcluster.defaults import PROVISIONER
from devcluster.node.api import UNREACHABLE, Api, ApiError

Object = dict[str, Any]

CLAIMS, VOLUMES = "/api/v1/persistentvolumeclaims", "/api/v1/persistentvolumes"

ASKED_FOR = "volume.kubernetes.io/storage-provisioner"
MADE_BY = "pv.kubernetes.io/provisioned-by"

_HERE = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE_NAME]}

log = logging.getLogger(__name__)


async def provision(api: Api, cluster: Cluster) -> None:
    """Follows claims and volumes for ever."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_each(api, CLAIMS, lambda claim: _make(api, cluster.volumes, claim)))
        group.create_task(_each(api, VOLUMES, lambda volume: _remove(api, cluster.volumes, volume)))


async def _each(api: Api, path: str, act: Any) -> None:
    async for kind, found in api.follow(path):
        for thing in found if kind == "LIST" else [found]:
            if kind != "DELETED":
                await _insist(act, thing)


async def _insist(act: Any, thing: Object) -> None:
    for _ in range(50):
        try:
            await act(thing)
            return
        except (ApiError, *UNREACHABLE) as error:
            log.warning("%s: %s", thing["metadata"]["name"], error)
            await asyncio.sleep(0.3)


async def _make(api: Api, folder: Path, claim: Object) -> None:
    metadata = claim["metadata"]
    annotations = metadata.get("annotations", {})
    if annotations.get(ASKED_FOR) != PROVISIONER or claim["spec"].get("volumeName") or "deletionTimestamp" in metadata:
        return
    volume = volume_for(claim, folder)
    Path(volume["spec"]["local"]["path"]).mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        await _create(api, volume)


async def _create(api: Api, volume: Object) -> None:
    try:
        await api.create(VOLUMES, volume)
    except ApiError as error:
        if error.status == 409:
            raise FileExistsError(volume["metadata"]["name"]) from error
        raise


def volume_for(claim: Object, folder: Path) -> Object:
    """The PersistentVolume for a claim: a folder named so that a person finds it (pure)."""
    metadata, spec = claim["metadata"], claim["spec"]
    reference = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
    reference |= {key: metadata[key] for key in ("namespace", "name", "uid")}
    path = folder / f"{metadata['namespace']}-{metadata['name']}-{metadata['uid'][:8]}"
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"pvc-{metadata['uid']}", "annotations": {MADE_BY: PROVISIONER}},
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "volumeMode": spec.get("volumeMode", "Filesystem"),
            "storageClassName": spec["storageClassName"],
            "persistentVolumeReclaimPolicy": "Delete",
            "claimRef": reference,
            # Of kind local, a kubelet gives the folder to a pod's fsGroup; of kind hostPath it would not.
            "local": {"path": str(path)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [_HERE]}]}},
        },
    }


async def _remove(api: Api, folder: Path, volume: Object) -> None:
    """Removes a volume whose claim is gone, unless its reclaim policy was changed to Retain."""
    metadata, spec = volume["metadata"], volume["spec"]
    ours = metadata.get("annotations", {}).get(MADE_BY) == PROVISIONER
    released = volume.get("status", {}).get("phase") == "Released" and "deletionTimestamp" not in metadata
    if not (ours and released and spec["persistentVolumeReclaimPolicy"] == "Delete"):
        return
    path = Path(spec["local"]["path"])
    if path.parent == folder:  # an edited volume must not make us remove anything else
        await asyncio.to_thread(shutil.rmtree, path, True)
    await api.delete(f"{VOLUMES}/{metadata['name']}")
