"""Kueue beside a cluster: the objects that its controller needs, its configuration and its command line. All pure.

The API server reaches the process through Services of the type ExternalName, which name this machine. Kueue makes its
own certificates and writes them into a Secret; lifecycle.py mounts that Secret, as a kubelet would.
"""

import json
from pathlib import Path
from typing import Any

from devcluster.cluster import Cluster

Object = dict[str, Any]

NAMESPACE = "kueue-system"
SECRET = "kueue-webhook-server-cert"
WEBHOOKS = "kueue-webhook-service"
VISIBILITY = "kueue-visibility-server"
VISIBILITY_GROUP = "visibility.kueue.x-k8s.io"

_HANDLED = {"kueue.x-k8s.io", "batch"}
"""API groups whose webhooks are registered: one of a kind that Kueue is not to manage would be called for nothing."""


def folder(cluster: Cluster) -> Path:
    """The controller's working directory: its configuration and its certificates. Where it exists, `up` runs Kueue."""
    return cluster.directory / "kueue"


def command(cluster: Cluster, program: Path) -> list[str]:
    """The command line of the controller, which runs in `folder`."""
    return [
        str(program),
        f"--config={folder(cluster) / 'config.json'}",
        f"--kubeconfig={cluster.kubeconfig}",
        "--zap-log-level=2",
    ]


def has_kueue(directory: Path) -> bool:
    """Whether the cluster of a folder was brought up with Kueue: its Jobs cannot be created without it any more."""
    return (directory / "kueue" / "config.json").exists()


def configuration(cluster: Cluster, before: Object, more: Object | None) -> Object:
    """Kueue's own configuration: batch Jobs alone, all on loopback, and `more`; without it, what `before` had."""
    base = {
        "apiVersion": "config.kueue.x-k8s.io/v1beta2",
        "kind": "Configuration",
        "health": {"healthProbeBindAddress": f"127.0.0.1:{cluster.ports['kueue']}"},
        "metrics": {"bindAddress": "0"},
        "webhook": {
            "host": "127.0.0.1",
            "port": cluster.ports["kueue-webhook"],
            "certDir": str(folder(cluster) / "certificates"),
        },
        "visibilityServer": {"bindAddress": "127.0.0.1", "bindPort": cluster.ports["kueue-visibility"]},
        "leaderElection": {"leaderElect": False},
        "clientConnection": {"qps": 500, "burst": 1000},
        "integrations": {"frameworks": ["batch/job"]},
    }
    return base | ({key: before[key] for key in before.keys() - base.keys()} if more is None else more)


def objects(cluster: Cluster, manifests: Path) -> list[Object]:
    """What an installation of Kueue creates, but for the Deployment and its rights: the process is an administrator."""
    found: list[Object] = [item for path in sorted(manifests.glob("*.json")) for item in json.loads(path.read_text())]
    here: Object = {"type": "ExternalName", "externalName": "localhost"}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        *({"apiVersion": "v1", "kind": "Service", "metadata": _named(name), "spec": here} for name in _SERVICES),
        {"apiVersion": "v1", "kind": "Secret", "metadata": _named(SECRET)},
        *(_crd(item, cluster) for item in found if item["kind"] == "CustomResourceDefinition"),
        *(_webhooks(item, cluster) for item in found if item["kind"].endswith("WebhookConfiguration")),
        *(_api_service(version, cluster) for version in ("v1beta1", "v1beta2")),
    ]


_SERVICES = (WEBHOOKS, VISIBILITY)


def _named(name: str) -> Object:
    return {"name": name, "namespace": NAMESPACE}


def _service(cluster: Cluster, path: str) -> Object:
    return {**_named(WEBHOOKS), "path": path, "port": cluster.ports["kueue-webhook"]}


def _crd(item: Object, cluster: Cluster) -> Object:
    """The CRD; one of several versions is converted by Kueue."""
    if len(item["spec"]["versions"]) > 1:
        webhook = {"clientConfig": {"service": _service(cluster, "/convert")}, "conversionReviewVersions": ["v1"]}
        item["spec"]["conversion"] = {"strategy": "Webhook", "webhook": webhook}
    return item


def _webhooks(item: Object, cluster: Cluster) -> Object:
    kept = [hook for hook in item["webhooks"] if _HANDLED.issuperset(hook["rules"][0]["apiGroups"])]
    for hook in kept:
        hook["clientConfig"]["service"] = _service(cluster, hook["clientConfig"]["service"]["path"])
    return item | {"metadata": {"name": f"kueue-{item['metadata']['name']}"}, "webhooks": kept}


def _api_service(version: str, cluster: Cluster) -> Object:
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"{version}.{VISIBILITY_GROUP}"},
        "spec": {
            "group": VISIBILITY_GROUP,
            "version": version,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "insecureSkipTLSVerify": True,
            "service": {**_named(VISIBILITY), "port": cluster.ports["kueue-visibility"]},
        },
    }
