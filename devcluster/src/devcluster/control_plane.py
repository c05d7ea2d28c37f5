"""The command line of each of the cluster's processes (pure), and how each is asked whether it is well."""

import sys
from pathlib import Path

from devcluster.cluster import KUBELET, Cluster
from devcluster.kubelet import settings

ORDER = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "node")
"""The order of starting; stopping goes the other way."""

KUBELET_ORDER = (*ORDER[:-1], "containerd", "node", "node-services")
"""The same with the kubelet node; `node` is the kubelet."""

KUEUE = "kueue"
"""The one process that a cluster has on request only."""

QUICK = ("--kube-api-qps=500", "--kube-api-burst=1000")
"""The default of 20 requests a second makes the controllers' own start-up take most of 10 seconds."""


def order(cluster: Cluster) -> tuple[str, ...]:
    """The names of the cluster's processes in the order of starting."""
    return KUBELET_ORDER if cluster.node == KUBELET else ORDER


def commands(cluster: Cluster, binaries: Path, kubelet: Path | None = None) -> dict[str, list[str]]:
    """Process name -> command line. `kubelet` is the folder of the kubelet node's programs."""
    control_plane = {
        "etcd": [str(binaries / "etcd"), *_etcd(cluster)],
        "kube-apiserver": [str(binaries / "kube-apiserver"), *_api_server(cluster)],
        "kube-controller-manager": [str(binaries / "kube-controller-manager"), *_controller_manager(cluster)],
        "kube-scheduler": [str(binaries / "kube-scheduler"), *_scheduler(cluster)],
    }
    arguments = [str(cluster.directory), f"--gpus={cluster.gpus}"]
    if cluster.node != KUBELET:
        return control_plane | {"node": [sys.executable, "-m", "devcluster.node", *arguments]}
    assert kubelet is not None, "the kubelet node's programs are needed"
    services = [sys.executable, "-m", "devcluster.kubelet", *arguments]
    return control_plane | settings.commands(cluster, kubelet) | {"node-services": services}


def health_url(cluster: Cluster, name: str) -> str:
    """What answers 200 when the process `name` is well; containerd has no such address."""
    if name == "node-services":
        return f"https://{settings.API_ADDRESS}/readyz"
    port = cluster.ports[name]
    asked = {"etcd": ("http", "health"), "kueue": ("http", "readyz"), "kube-apiserver": ("https", "readyz")}
    scheme, path = asked.get(name, ("https", "healthz"))
    return f"{scheme}://127.0.0.1:{port}/{path}"


def _etcd(cluster: Cluster) -> list[str]:
    client, peer = (f"http://127.0.0.1:{cluster.ports[name]}" for name in ("etcd", "etcd-peer"))
    return [
        "--name=devcluster",
        f"--data-dir={cluster.directory / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=devcluster={peer}",
        # A machine's crash may cost the last writes of a cluster for demo and tests; every write is quicker for it.
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def _api_server(cluster: Cluster) -> list[str]:
    pki = cluster.pki
    return [
        f"--etcd-servers=http://127.0.0.1:{cluster.ports['etcd']}",
        f"--secure-port={cluster.ports['kube-apiserver']}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        # Loopback is refused as an endpoint of the `kubernetes` Service: publish none.
        "--endpoint-reconciler-type=none",
        "--service-cluster-ip-range=10.96.0.0/24",
        "--allow-privileged=true",
        "--authorization-mode=Node,RBAC",
        # OpenShift checks owner references too: who names an owner must have the right to `update` its finalizers.
        "--enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement",
        f"--audit-policy-file={cluster.audit_policy}",
        f"--audit-log-path={cluster.log('audit')}",
        "--audit-log-maxsize=50",  # MB
        "--audit-log-maxbackup=1",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--client-ca-file={pki / 'ca.crt'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={pki / 'service-accounts.pub'}",
        f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
        f"--kubelet-client-certificate={pki / 'apiserver-to-node.crt'}",
        f"--kubelet-client-key={pki / 'apiserver-to-node.key'}",
        f"--kubelet-certificate-authority={pki / 'ca.crt'}",
        "--kubelet-preferred-address-types=Hostname",
        # With these an API server of somebody else, such as Kueue's, serves a part of the API.
        f"--requestheader-client-ca-file={pki / 'ca.crt'}",
        "--requestheader-allowed-names=front-proxy",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki / 'front-proxy.crt'}",
        f"--proxy-client-key-file={pki / 'front-proxy.key'}",
    ]


def _controller_manager(cluster: Cluster) -> list[str]:
    return [
        *_client(cluster, "kube-controller-manager"),
        # Without credentials of its own for each controller, pods with claims are never scheduled.
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={cluster.pki / 'service-accounts.key'}",
        f"--root-ca-file={cluster.pki / 'ca.crt'}",
    ]


def _scheduler(cluster: Cluster) -> list[str]:
    return _client(cluster, "kube-scheduler")


def _client(cluster: Cluster, name: str) -> list[str]:
    kubeconfig = cluster.pki / f"{name}.kubeconfig"
    return [
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        f"--secure-port={cluster.ports[name]}",
        f"--cert-dir={cluster.pki / name}",
        "--leader-elect=false",
        *QUICK,
    ]
