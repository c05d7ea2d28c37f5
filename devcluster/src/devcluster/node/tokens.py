"""ServiceAccount tokens of a pod, and the kubeconfig that lets its processes use them."""

import dataclasses
import time
from pathlib import Path
from typing import Any

from devcluster.certificates import kubeconfig
from devcluster.cluster import Cluster, write_whole
from devcluster.node.api import Api

Object = dict[str, Any]

MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where the API server's admission mounts the token of a pod that may have one."""

LIFETIME = 3607
"""Seconds a token is asked for, as a kubelet does; the API server may shorten it."""


@dataclasses.dataclass
class Tokens:
    """Asks for the tokens of one pod."""

    api: Api
    renew_at: float = float("inf")
    """When the oldest of the tokens given out has used up four fifths of its life (seconds since 1970)."""

    async def token(self, pod: Object, audience: str | None = None) -> str:
        """A token of the pod's ServiceAccount, bound to the pod: it ends with it."""
        metadata = pod["metadata"]
        account = pod["spec"].get("serviceAccountName") or "default"
        bound = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
        spec: Object = {"expirationSeconds": LIFETIME, "boundObjectRef": bound}
        if audience:
            spec["audiences"] = [audience]
        path = f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{account}/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        answer = await self.api.for_pod("POST", path, request)
        seconds = answer["spec"]["expirationSeconds"]
        self.renew_at = min(self.renew_at, time.time() + 0.8 * seconds)
        return str(answer["status"]["token"])


def mounts_token(container: Object) -> bool:
    """Whether the container is one that can reach the API server."""
    return any(mount["mountPath"] == MOUNT_PATH for mount in container.get("volumeMounts", []))


def token_volume(pod: Object) -> str | None:
    """The name of the volume with the pod's token, or None where no container mounts one."""
    for container in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]:
        for mount in container.get("volumeMounts", []):
            if mount["mountPath"] == MOUNT_PATH:
                return str(mount["name"])
    return None


def write_kubeconfig(path: Path, cluster: Cluster, namespace: str, token_file: Path) -> None:
    """A kubeconfig with the token, and with its file for clients that read it anew when it is renewed."""
    credentials = {"token": token_file.read_text(), "tokenFile": str(token_file)}
    write_whole(path, kubeconfig(cluster.server, cluster.pki / "ca.crt", credentials, namespace))
