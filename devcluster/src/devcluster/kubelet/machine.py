"""What a kubelet node changes on the machine outside the cluster's folder, and how `down` restores it.

`prepare` writes down what was there before anything is changed; `restore` reads it, and does nothing where nothing was
prepared. So a `down` after a crash, or a second one, is safe.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from devcluster.cluster import Cluster, write_whole
from devcluster.kubelet.requirements import CGROUPS, RequirementsError
from devcluster.kubelet.settings import API_ADDRESS, BRIDGE, BRIDGE_ADDRESS, BRIDGE_MAC, folder, socket

SYSCTLS = (
    *("kernel.keys.root_maxbytes", "kernel.keys.root_maxkeys", "kernel.panic", "kernel.panic_on_oops"),
    *("vm.overcommit_memory", "vm.panic_on_oom"),
)
"""What a kubelet sets."""

FOLDERS = ("/run/containerd", "/var/lib/kubelet", "/var/log/containers")
"""Where kubelet and containerd write, whatever their settings say."""

CGROUP = "kubepods"

GONE_WITHIN = 20.0
"""Seconds that the kernel may take to end killed processes."""


def prepare(cluster: Cluster) -> None:
    """Makes the bridge between pods and machine. Raises RequirementsError where another cluster has one."""
    before = _before(cluster)
    if not before.exists():
        taken = [str(path) for path in [Path("/sys/class/net") / BRIDGE, *_cgroups()] if path.exists()]
        if taken:
            raise RequirementsError(
                f"another kubelet runs on this machine, or has left {', '.join(taken)}: one machine runs one cluster "
                "with --node=kubelet; run `devcluster down` for the other one"
            )
        sysctls = {name: _sysctl(name).read_text().strip() for name in SYSCTLS if _sysctl(name).exists()}
        made = [path for path in FOLDERS if not Path(path).exists()]
        before.parent.mkdir(parents=True, exist_ok=True)
        write_whole(before, json.dumps({"sysctls": sysctls, "made": made}))
    if not (Path("/sys/class/net") / BRIDGE).exists():
        # Without an own address it has that of one of its ports, and changes it as pods come and go. A pod that knows
        # the former one reaches nothing for about half a minute.
        _ip("link", "add", BRIDGE, "address", BRIDGE_MAC, "type", "bridge")
        _ip("address", "add", f"{BRIDGE_ADDRESS}/24", "dev", BRIDGE)
        _ip("address", "add", f"{API_ADDRESS}/32", "dev", BRIDGE)
    _ip("link", "set", BRIDGE, "up")


def kill_pods(cluster: Cluster) -> None:
    """Ends every container and its shim, once the kubelet has stopped and before containerd does."""
    if not _before(cluster).exists():
        return
    deadline = time.monotonic() + GONE_WITHIN
    while pids := {*_processes_in_cgroups(), *_shims(cluster)}:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise RequirementsError(f"processes of pods do not end: {', '.join(map(str, sorted(pids)))}")
        time.sleep(0.05)


def restore(cluster: Cluster) -> None:
    """Takes back everything that `prepare`, the kubelet and containerd did outside the cluster's folder."""
    if not _before(cluster).exists():
        return
    before = json.loads(_before(cluster).read_text())
    _unmount(cluster)
    for cgroup in _cgroups():
        for path, _, _ in os.walk(cgroup, topdown=False):
            Path(path).rmdir()
    if (Path("/sys/class/net") / BRIDGE).exists():
        _ip("link", "delete", BRIDGE)
    for name, value in before["sysctls"].items():
        if _sysctl(name).read_text().strip() != value:
            _sysctl(name).write_text(value)
    for link in Path("/var/log/containers").glob("*.log"):
        if link.is_symlink() and link.readlink().is_relative_to(folder(cluster)):
            link.unlink()
    for path in before["made"]:
        shutil.rmtree(path, ignore_errors=True)
    _before(cluster).unlink()


def mounts_below(directory: Path, mountinfo: str) -> list[str]:
    r"""The mount points below a folder, the innermost first, from the text of /proc/self/mountinfo.

    >>> mounts_below(Path("/a"), "1 0 0:1 / /a/b rw - x y z\n2 1 0:1 / /a/b/c rw - x y z\n3 0 0:1 / /ab rw - x y z\n")
    ['/a/b/c', '/a/b']
    """
    points = [line.split()[4].replace("\\040", " ") for line in mountinfo.splitlines()]
    return sorted((point for point in points if point.startswith(f"{directory}/")), reverse=True)


def _unmount(cluster: Cluster) -> None:
    """A mount that stayed would let `down --delete` delete what it shows."""
    for _ in range(2):  # a mount may lie on another one
        for point in mounts_below(cluster.directory, Path("/proc/self/mountinfo").read_text()):
            subprocess.run(["umount", "--lazy", point], capture_output=True, check=False)
    left = mounts_below(cluster.directory, Path("/proc/self/mountinfo").read_text())
    if left:
        raise RequirementsError(f"cannot unmount {', '.join(left)}: unmount it and run `devcluster down` again")


def _before(cluster: Cluster) -> Path:
    return folder(cluster) / "machine.json"


def _sysctl(name: str) -> Path:
    return Path("/proc/sys", *name.split("."))


def _cgroups() -> list[Path]:
    """The kubelet's control groups: one folder with version 2, one for each controller with version 1."""
    return [path for path in (CGROUPS / CGROUP, *CGROUPS.glob(f"*/{CGROUP}")) if path.exists()]


def _processes_in_cgroups() -> Iterator[int]:
    for cgroup in _cgroups():
        for procs in cgroup.rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                yield from map(int, procs.read_text().split())


def _shims(cluster: Cluster) -> Iterator[int]:
    """The processes that containerd started to watch over containers: they outlive it."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if b"shim" in words[0] and str(socket(cluster)).encode() in words:
                yield int(process.name)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RequirementsError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
