"""What a machine must have for the kubelet node. Everything that is missing is named at once, with the fix."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

PACKAGES = {"runc": "runc", "ip": "iproute2"}
"""Program -> the Debian package that holds it."""

CNI_PLUGINS = Path("/usr/lib/cni")
"""Where the Debian package containernetworking-plugins puts the plugins."""

CGROUPS = Path("/sys/fs/cgroup")

_OVERLAY = (
    "mkdir lower upper work merged"
    " && mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged"
    " && touch merged/file"
)
"""What containerd does for each container."""

CONTROLLERS = ("cpu", "cpuset", "memory", "pids")

LONGEST_FOLDER = 80
"""Characters: the path of a Unix socket has 107 at most."""


class RequirementsError(RuntimeError):
    """The machine lacks something; the message says what, and how to get it."""


def check(directory: Path) -> None:
    """Raises RequirementsError unless a kubelet can run here with the cluster's folder `directory`."""
    found = list(_problems(directory))
    if found:
        told = "\n".join(f"  - {problem}" for problem in found)
        raise RequirementsError(
            f"--node=kubelet cannot run here:\n{told}\nThe default node, --node=processes, needs none of it"
        )


def _problems(directory: Path) -> Iterator[str]:
    if sys.platform != "linux":
        yield f"this is {sys.platform}; a kubelet needs Linux"
        return
    if os.geteuid() != 0:
        yield f"user {os.geteuid()} may not create namespaces and control groups; run as root"
    lacking = [package for program, package in PACKAGES.items() if not shutil.which(program)]
    if not all((CNI_PLUGINS / plugin).exists() for plugin in ("bridge", "host-local", "loopback")):
        lacking.append("containernetworking-plugins")
    if lacking:
        yield f"programs are missing; run: apt-get install --no-install-recommends {' '.join(lacking)}"
    if problem := cgroup_problem(CGROUPS):
        yield problem
    if os.geteuid() == 0 and (problem := _mount_problem(directory)):
        yield problem
    if len(str(directory)) > LONGEST_FOLDER:
        yield f"the cluster's folder {directory} is longer than {LONGEST_FOLDER} characters; choose another with --dir"


def _mount_problem(directory: Path) -> str | None:
    """Why a container cannot be made here; None if it can. Tries namespaces, and an overlay in the cluster's folder."""
    existing = next(folder for folder in (directory, *directory.parents) if folder.exists())
    with tempfile.TemporaryDirectory(dir=existing, prefix="overlay-") as place:
        done = subprocess.run(
            ["unshare", "--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "sh", "-c", _OVERLAY],
            cwd=place,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode == 0:
        return None
    return (
        f"a container cannot be made in {existing}: {done.stderr.strip()}; root needs all capabilities (in a "
        "container: --privileged), and a file system that holds an overlay, such as ext4 (another folder: --dir)"
    )


def cgroup_problem(cgroups: Path) -> str | None:
    """Why the control groups cannot hold pods; None if they can. Version 2 has one folder, version 1 several."""
    if (cgroups / "cgroup.controllers").exists():
        held = (cgroups / "cgroup.controllers").read_text().split()
        lacking, folders = [name for name in CONTROLLERS if name not in held], [cgroups]
    else:
        lacking = [name for name in CONTROLLERS if not (cgroups / name / "cgroup.procs").exists()]
        folders = [cgroups / name for name in CONTROLLERS]
    if lacking:
        return f"{cgroups} has no controller {', '.join(lacking)}; mount the control groups there"
    read_only = [str(folder) for folder in folders if not os.access(folder, os.W_OK)]
    return (
        f"{', '.join(read_only)} cannot be written; mount it with rw (in a container: --privileged)"
        if read_only
        else None
    )
