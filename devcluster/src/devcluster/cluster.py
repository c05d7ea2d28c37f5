"""What one cluster is: its folder, the files in it, its settings and ports. No process is touched here."""

import dataclasses
import json
import os
import random
import socket
from collections.abc import Mapping
from pathlib import Path

PORT_NAMES = (
    *("etcd", "etcd-peer", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "node"),
    *("kueue", "kueue-webhook", "kueue-visibility"),
)

PORT_RANGE = range(20000, 32000)
"""Below what Linux and macOS give to outgoing connections, so that a restarted server finds its port free."""

PROCESSES, KUBELET = "processes", "kubelet"
"""The two kinds of node: pods are processes of the user, or containers of a kubelet."""

NODE_NAME = "localhost"
"""The API server reaches the node's log endpoint by this name: it resolves to loopback everywhere."""


def state_root(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder below which clusters live that were given a name and no folder."""
    state = environment.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "model-garden" / "devcluster"


def cluster_folder(name: str, folder: str | None, environment: Mapping[str, str] = os.environ) -> Path:
    """The cluster's folder: `--dir`, else DEVCLUSTER_DIR, else the one of its name."""
    chosen = folder or environment.get("DEVCLUSTER_DIR")
    return Path(chosen).expanduser().resolve() if chosen else state_root(environment) / name


@dataclasses.dataclass(frozen=True)
class Cluster:
    """One cluster's folder and settings; `settings.json` in the folder holds all but the folder itself."""

    directory: Path
    ports: Mapping[str, int]
    gpus: int = 1
    node: str = PROCESSES

    @property
    def server(self) -> str:
        """Address of the API server."""
        return f"https://127.0.0.1:{self.ports['kube-apiserver']}"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.directory / "kubeconfig"

    @property
    def pki(self) -> Path:
        """Certificates and keys."""
        return self.directory / "pki"

    @property
    def pods(self) -> Path:
        """One folder for each pod, named by the pod's uid."""
        return self.directory / "pods"

    @property
    def volumes(self) -> Path:
        """One folder for each PersistentVolume made by the `local` StorageClass."""
        return self.directory / "volumes"

    @property
    def audit_policy(self) -> Path:
        """Which requests the API server writes to the log `audit`."""
        return self.directory / "audit-policy.json"

    def log(self, name: str) -> Path:
        """Log file of one of the cluster's own processes."""
        return self.directory / "log" / f"{name}.log"

    def record(self, name: str) -> Path:
        """Where the process `name` is written down; see processes.py."""
        return self.directory / "run" / f"{name}.json"

    def save(self) -> None:
        """Writes the settings to the folder, whole or not at all."""
        for part in (self.directory, self.pki, self.pods, self.volumes, self.log("x").parent, self.record("x").parent):
            part.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(self.directory / "settings.json", json.dumps(self._settings()))

    def _settings(self) -> dict[str, object]:
        return {"ports": dict(self.ports), "gpus": self.gpus, "node": self.node}


def load(directory: Path) -> Cluster | None:
    """The cluster of a folder, or None where there is none (or only the remains of a half-made one)."""
    try:
        settings = json.loads((directory / "settings.json").read_text())
        ports = {name: int(settings["ports"][name]) for name in PORT_NAMES}
        return Cluster(directory, ports, int(settings["gpus"]), str(settings["node"]))
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None


def choose_ports() -> dict[str, int]:
    """A free loopback port for each name."""
    candidates = random.sample(PORT_RANGE, len(PORT_RANGE))
    free = (port for port in candidates if is_free(port))
    return {name: next(free) for name in PORT_NAMES}


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def write_whole(path: Path, content: str | bytes, mode: int = 0o600) -> None:
    """Writes a file so that a reader sees the old content or the new, never a part."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
    part.replace(path)
