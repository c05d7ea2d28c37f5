"""Brings a cluster up and takes it down. `up` looks at what is there and does only what is missing.

Order of `up`: binaries -> settings and ports -> certificates -> etcd and API server -> controllers, scheduler, node
-> default objects -> node Ready and default ServiceAccount. Order of `down`: node, its pods, then the rest. Which
processes the node is made of depends on its kind: control_plane.order.
"""

import base64
import fcntl
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from devcluster import certificates, control_plane, kueue
from devcluster.cluster import KUBELET, NODE_NAME, PROCESSES, Cluster, choose_ports, is_free, load, write_whole
from devcluster.defaults import AUDIT_POLICY, DEFAULT_OBJECTS
from devcluster.kubelet import images, machine, settings
from devcluster.node.leftovers import kill_pods
from devcluster.processes import Process, start, stop

Say = Callable[[str], None]

HEALTHY_WITHIN = 60.0
"""Seconds a process has to become well on a busy two-core machine; 3 are usual."""

STUCK_AFTER = 10.0
"""Seconds a process found running has to answer before it counts as stuck and is replaced."""


PORT_FREE_WITHIN = 10.0
"""Seconds the kernel may take to free the port of a process that was killed a moment ago: its other threads end too."""


class ClusterError(RuntimeError):
    """The cluster did not come up; the message names the part, its log and what it said last."""


def up(directory: Path, binaries: Path, gpus: int | None, say: Say, kubelet: Path | None = None) -> Cluster:
    """Brings the cluster of a folder to full health, whatever state it is in; data and settings are kept.

    With `kubelet`, the folder of its programs, the node is a kubelet.
    """
    with _only_one(directory):
        cluster = _settle(directory, gpus, KUBELET if kubelet else PROCESSES)
        certificates.ensure_certificates(cluster.pki)
        certificates.write_kubeconfigs(cluster)
        write_whole(cluster.audit_policy, json.dumps(AUDIT_POLICY))
        wanted = control_plane.commands(cluster, binaries, kubelet)
        for name in ("etcd", "kube-apiserver"):
            _ensure_running(cluster, name, wanted[name], say)
        _wait_healthy(cluster, ["etcd", "kube-apiserver"], say)
        if kubelet:
            _start_containerd(cluster, kubelet, wanted["containerd"], say)
        later = [name for name in control_plane.order(cluster) if name not in ("etcd", "kube-apiserver", "containerd")]
        for name in later:
            _ensure_running(cluster, name, wanted[name], say)
        kubectl = Kubectl(binaries, cluster)
        kubectl.apply(DEFAULT_OBJECTS)
        _wait_healthy(cluster, later, say)
        _wait_usable(kubectl, say)
    return cluster


def _start_containerd(cluster: Cluster, programs: Path, command: list[str], say: Say) -> None:
    """Everything that a kubelet needs to be there before it starts."""
    machine.prepare(cluster)
    for name, content in settings.files(cluster).items():
        path = settings.folder(cluster) / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(path, content)
    _ensure_running(cluster, "containerd", command, say)
    _wait_healthy(cluster, ["containerd"], say)
    images.ensure_pause(cluster, programs)


def add_kueue(directory: Path, binaries: Path, program: Path, more: dict[str, object] | None, say: Say) -> None:
    """Runs Kueue beside the cluster of a folder; `more` goes into Kueue's configuration, None leaves that as it is."""
    with _only_one(directory):
        cluster = load(directory)
        assert cluster is not None, "the cluster is up"
        folder, kubectl = kueue.folder(cluster), Kubectl(binaries, cluster)
        (folder / "certificates").mkdir(parents=True, exist_ok=True, mode=0o700)
        settings = folder / "config.json"
        before = json.loads(settings.read_text()) if settings.exists() else {}
        wanted = kueue.configuration(cluster, before, more)
        if wanted != before:
            _stop(cluster, [control_plane.KUEUE])
            write_whole(settings, json.dumps(wanted))
        kubectl.apply(kueue.objects(cluster, program.parent / "config"))
        _ensure_running(cluster, control_plane.KUEUE, kueue.command(cluster, program), say, folder)
        _mount_certificates(kubectl, folder / "certificates")
        _wait_healthy(cluster, [control_plane.KUEUE], say)
        visibility = f"/apis/{kueue.VISIBILITY_GROUP}/v1beta2"
        if not any(kubectl.run("get", "--raw", visibility).returncode == 0 for _ in _until(HEALTHY_WITHIN)):
            raise ClusterError(f"Kueue does not serve {visibility}; {_last_words(cluster, control_plane.KUEUE)}")


def _mount_certificates(kubectl: "Kubectl", folder: Path) -> None:
    """Writes the Secret of Kueue's certificates into files once Kueue has made them."""
    for _ in _until(HEALTHY_WITHIN):
        answer = kubectl.run("get", "secret", kueue.SECRET, f"--namespace={kueue.NAMESPACE}", "-o", "json")
        data = json.loads(answer.stdout).get("data") if answer.returncode == 0 else None
        if data:
            for name, content in data.items():
                write_whole(folder / name, base64.b64decode(content))
            return
    raise ClusterError(f"Kueue wrote no certificates into the Secret {kueue.SECRET}")


def down(directory: Path, say: Say, delete: bool = False) -> None:
    """Stops every process of the cluster, its pods' too. The folder stays, for the next `up`, unless `delete`."""
    cluster = load(directory)
    if cluster is None:
        say(f"no cluster in {directory}")
        return
    with _only_one(directory):
        _stop(cluster, (*control_plane.order(cluster), control_plane.KUEUE))
        machine.restore(cluster)
    if delete:
        shutil.rmtree(directory)
    say(f"stopped and deleted {directory}" if delete else f"stopped; its data stays in {directory}")


def status(cluster: Cluster) -> dict[str, str]:
    """Process name -> "ok", "not running" or "not healthy"."""
    kueue_too = (control_plane.KUEUE,) if kueue.has_kueue(cluster.directory) else ()
    return {name: _state(cluster, name) for name in (*control_plane.order(cluster), *kueue_too)}


class Kubectl:
    """kubectl with the administrator's credentials."""

    def __init__(self, binaries: Path, cluster: Cluster) -> None:
        self.command = [str(binaries / "kubectl"), "--kubeconfig", str(cluster.kubeconfig)]

    def run(self, *arguments: str, content: str = "") -> subprocess.CompletedProcess[str]:
        """Runs it and returns what it said, whatever its exit code."""
        return subprocess.run([*self.command, *arguments], input=content, capture_output=True, text=True, check=False)

    def apply(self, objects: Sequence[dict[str, object]]) -> None:
        """Applies objects, trying again while the API server still settles."""
        document = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        answer = None
        for _ in _until(HEALTHY_WITHIN):
            answer = self.run("apply", "--server-side", "--force-conflicts", "-f", "-", content=document)
            if answer.returncode == 0:
                return
        raise ClusterError(f"cannot apply the default objects: {answer.stderr.strip() if answer else 'no answer'}")


def _settle(directory: Path, gpus: int | None, node: str) -> Cluster:
    """The cluster as it shall be: kept ports where they can be kept, else everything stops and new ones are chosen."""
    found = load(directory)
    if found is None:
        cluster = Cluster(directory, choose_ports(), 1 if gpus is None else gpus, node)
    else:
        cluster = Cluster(directory, found.ports, found.gpus if gpus is None else gpus, node)
        idle = [cluster.ports[name] for name in control_plane.ORDER if not _process(cluster, name)]
        if not any(all(map(is_free, idle)) for _ in _until(PORT_FREE_WITHIN)):
            _stop(cluster, (*control_plane.order(cluster), control_plane.KUEUE))
            cluster = Cluster(directory, choose_ports(), cluster.gpus, node)
    cluster.save()
    return cluster


def _ensure_running(cluster: Cluster, name: str, command: list[str], say: Say, folder: Path | None = None) -> None:
    """Starts a process, unless it already runs with this very command line and answers."""
    process = _process(cluster, name)
    if process and process.command == command and _answers(cluster, name, STUCK_AFTER):
        return
    if process:
        say(f"{name} (pid {process.pid}) is stuck or out of date: replacing it")
        stop([process], grace=2)
    process = start(command, cluster.log(name), _environment(), folder)
    process.write(cluster.record(name))
    say(f"{name} started (pid {process.pid})")


def _environment() -> dict[str, str]:
    """What the processes inherit: the user's own clusters are none of their business."""
    return {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}


def _wait_healthy(cluster: Cluster, names: Sequence[str], say: Say) -> None:
    for name in names:
        for _ in _until(HEALTHY_WITHIN):
            if _healthy(cluster, name):
                break
            if not _process(cluster, name):
                raise ClusterError(f"{name} ended by itself; {_last_words(cluster, name)}")
        else:
            raise ClusterError(f"{name} is not healthy after {HEALTHY_WITHIN:.0f} s; {_last_words(cluster, name)}")
    say(f"{', '.join(names)} healthy")


def _wait_usable(kubectl: Kubectl, say: Say) -> None:
    """Node Ready, and the default ServiceAccount, without which no pod can be created."""
    ready = ("get", "node", NODE_NAME, "-o", 'jsonpath={.status.conditions[?(@.type=="Ready")].status}')
    for _ in _until(HEALTHY_WITHIN):
        node = kubectl.run(*ready)
        account = kubectl.run("get", "serviceaccount", "default", "--namespace=default", "-o", "name")
        if node.stdout.strip() == "True" and account.stdout.strip():
            say("node Ready, default ServiceAccount there")
            return
    raise ClusterError(f"node not Ready or no default ServiceAccount: {node.stderr.strip()} {account.stderr.strip()}")


def _stop(cluster: Cluster, names: Sequence[str]) -> None:
    """Stops processes in the reverse order of starting; with the node go the processes of its pods."""
    for name in reversed(names):
        process = Process.read(cluster.record(name))
        if process:
            stop([process])
        cluster.record(name).unlink(missing_ok=True)
        if name == "node":
            kill_pods(cluster.pods)
            machine.kill_pods(cluster)


def _process(cluster: Cluster, name: str) -> Process | None:
    """The running process of this name, or None."""
    process = Process.read(cluster.record(name))
    return process if process and process.alive else None


def _state(cluster: Cluster, name: str) -> str:
    if not _process(cluster, name):
        return "not running"
    return "ok" if _healthy(cluster, name) else "not healthy"


def _answers(cluster: Cluster, name: str, seconds: float) -> bool:
    return any(_healthy(cluster, name) for _ in _until(seconds))


def _healthy(cluster: Cluster, name: str) -> bool:
    if name == "containerd":
        return _listens(settings.socket(cluster))
    context = ssl.create_default_context(cafile=cluster.pki / "ca.crt")
    if name in ("kube-apiserver", "node", "node-services"):
        context.load_cert_chain(cluster.pki / "admin.crt", cluster.pki / "admin.key")
    else:
        # Controllers and scheduler sign their own certificates; nothing secret is asked or told.
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with direct.open(control_plane.health_url(cluster, name), timeout=3) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def _last_words(cluster: Cluster, name: str) -> str:
    log = cluster.log(name)
    lines = log.read_text(errors="replace").splitlines()[-8:] if log.exists() else []
    return f"{log} ends with:\n" + "\n".join(lines)


def _until(seconds: float, pause: float = 0.1) -> Iterator[None]:
    """Yields at once and then every `pause` seconds until `seconds` are over."""
    deadline = time.monotonic() + seconds
    while True:
        yield
        if time.monotonic() > deadline:
            return
        time.sleep(pause)


@contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    """Only one command changes a cluster at a time."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
