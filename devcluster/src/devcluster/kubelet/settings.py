"""The configuration of the kubelet node's programs, as texts. Pure.

Everything lies in the cluster's folder and listens on loopback, but for the bridge that joins pods and machine.
"""

import json
import shutil
from pathlib import Path

from devcluster.cluster import NODE_NAME, Cluster
from devcluster.kubelet.requirements import CNI_PLUGINS

BRIDGE = "devcluster0"
BRIDGE_ADDRESS = "10.96.1.1"
BRIDGE_MAC = "02:00:0a:60:01:01"
POD_NETWORK = "10.96.1.0/24"
API_ADDRESS = "10.96.0.1"
"""The address of the Service `kubernetes`: the first of the API server's service range."""

PAUSE_IMAGE = "localhost/pause:1"


def folder(cluster: Cluster) -> Path:
    """The folder of containerd and of the kubelet."""
    return cluster.directory / "kubelet"


def socket(cluster: Cluster) -> Path:
    """Where containerd listens."""
    return folder(cluster) / "containerd.sock"


def files(cluster: Cluster) -> dict[str, str]:
    """File name in the folder -> content."""
    return {
        "containerd.toml": _containerd(cluster),
        "network/10-pods.conflist": json.dumps(_network(cluster), indent=2),
        "kubelet.json": json.dumps(_kubelet(cluster), indent=2),
        "resolv.conf": "nameserver 127.0.0.1\n",
    }


def commands(cluster: Cluster, programs: Path) -> dict[str, list[str]]:
    """Process name -> command line; `node` is the kubelet."""
    here = folder(cluster)
    return {
        "containerd": [str(programs / "containerd"), f"--config={here / 'containerd.toml'}"],
        "node": [
            str(programs / "kubelet"),
            f"--config={here / 'kubelet.json'}",
            f"--kubeconfig={cluster.pki / 'node.kubeconfig'}",
            f"--hostname-override={NODE_NAME}",
            f"--node-ip={BRIDGE_ADDRESS}",
            f"--root-dir={here / 'root'}",
            f"--cert-dir={here / 'certificates'}",
        ],
    }


def _containerd(cluster: Cluster) -> str:
    here = folder(cluster)
    return f"""\
version = 3
root = '{here / "containerd"}'
state = '{here / "state"}'
disabled_plugins = ['io.containerd.nri.v1.nri']

[grpc]
address = '{socket(cluster)}'

[ttrpc]
address = '{socket(cluster)}.ttrpc'

[plugins.'io.containerd.internal.v1.opt']
path = '{here / "opt"}'

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '{PAUSE_IMAGE}'

[plugins.'io.containerd.cri.v1.runtime']
disable_apparmor = true
# Without the right CAP_SYS_RESOURCE no pod would start: a kubelet asks for less than 0.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = '{shutil.which("runc") or "runc"}'
Root = '{here / "runc"}'
SystemdCgroup = false

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['{CNI_PLUGINS}']
conf_dir = '{here / "network"}'
"""


def _network(cluster: Cluster) -> dict[str, object]:
    """A bridge with a route to the address of the API server, and to nothing else outside."""
    addresses = {
        "type": "host-local",
        "dataDir": str(folder(cluster) / "addresses"),
        "ranges": [[{"subnet": POD_NETWORK, "gateway": BRIDGE_ADDRESS}]],
        "routes": [{"dst": f"{API_ADDRESS}/32", "gw": BRIDGE_ADDRESS}],
    }
    bridge = {"type": "bridge", "bridge": BRIDGE, "isGateway": False, "ipMasq": False, "ipam": addresses}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge]}


def _kubelet(cluster: Cluster) -> dict[str, object]:
    here, pki = folder(cluster), cluster.pki
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "127.0.0.1",
        "port": cluster.ports["node"],
        "healthzPort": 0,
        "readOnlyPort": 0,
        "tlsCertFile": str(pki / "node-server.crt"),
        "tlsPrivateKeyFile": str(pki / "node-server.key"),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{socket(cluster)}",
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        "makeIPTablesUtilChains": False,
        "resolvConf": str(here / "resolv.conf"),
        "podLogsDir": str(here / "logs"),
        "volumePluginDir": str(here / "volume-plugins"),
        # Images come from archives: none that was removed could be pulled again.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
            "nodefs.inodesFree": "1%",
        },
    }
