"""The command line: `devcluster up | down | status | kubectl | build | kubeconfig | load-image`."""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from devcluster import lifecycle
from devcluster.binaries import BinariesError, ensure_binaries, ensure_kueue
from devcluster.cluster import KUBELET, PROCESSES, Cluster, cluster_folder, load, state_root
from devcluster.download import ChecksumError
from devcluster.gobuild import BuildError
from devcluster.kubelet import images, requirements
from devcluster.kueue import has_kueue
from devcluster.versions import CLUSTER, KUBELET_MODULE, KUBELET_NODE

EXPECTED = (
    *(BinariesError, BuildError, ChecksumError, lifecycle.ClusterError),
    *(images.ImageError, requirements.RequirementsError),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code. Expected failures print one message and no traceback."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # What follows `kubectl` is kubectl's own, whatever it looks like.
    end = words.index("kubectl") + 1 if "kubectl" in words else len(words)
    options, rest = _parser().parse_args(words[:end]), words[end:]
    try:
        return int(COMMANDS[options.command](options, rest))
    except EXPECTED as error:
        print(f"devcluster: {error}", file=sys.stderr)
        return 1


def _up(options: argparse.Namespace, _: list[str]) -> int:
    say, folder = Progress(), _folder(options)
    found = load(folder)
    node = options.node or (found.node if found else PROCESSES)
    if found and node != found.node:
        why = f"the cluster in {folder} has --node={found.node}, which cannot change"
        raise lifecycle.ClusterError(f"{why}: choose another --name, or run `devcluster down --delete` first")
    if node == KUBELET:
        requirements.check(folder)
    binaries = ensure_binaries(say)
    kubelet = _kubelet_programs(say) if node == KUBELET else None
    cluster = lifecycle.up(folder, binaries, options.gpus, say, kubelet)
    if options.kueue is not None or has_kueue(cluster.directory):
        more = json.loads(Path(options.kueue).read_text()) if options.kueue else None
        lifecycle.add_kueue(cluster.directory, binaries, ensure_kueue(say) / "kueue", more, say)
    say(f"ready: export KUBECONFIG={cluster.kubeconfig}")
    return 0


def _kubelet_programs(say: "Progress", keep_go_cache: bool = False) -> Path:
    return ensure_binaries(say, KUBELET_NODE, keep_go_cache, module=KUBELET_MODULE)


def _load_image(options: argparse.Namespace, _: list[str]) -> int:
    cluster = _cluster(options)
    if cluster.node != KUBELET:
        raise images.ImageError(f"the cluster in {cluster.directory} has --node={cluster.node}, which uses no images")
    programs = _kubelet_programs(Progress())
    for archive in options.archives:
        images.load(cluster, programs, archive)
        print(f"loaded {archive}")
    return 0


def _down(options: argparse.Namespace, _: list[str]) -> int:
    say = Progress()
    folders = {_folder(options)}
    if options.all and state_root().is_dir():
        folders |= {folder for folder in state_root().iterdir() if load(folder)}
    for folder in sorted(folders):
        lifecycle.down(folder, say, options.delete)
    return 0


def _status(options: argparse.Namespace, _: list[str]) -> int:
    cluster = _cluster(options)
    states = lifecycle.status(cluster)
    print(f"{cluster.directory}\n{cluster.server}")
    for name, state in states.items():
        print(f"  {name:24} {f'port {cluster.ports[name]}' if name in cluster.ports else '':10}  {state}")
    return 0 if set(states.values()) == {"ok"} else 1


def _kubectl(options: argparse.Namespace, rest: list[str]) -> int:
    cluster = _cluster(options)
    kubectl = ensure_binaries(Progress(), ["kubectl"]) / "kubectl"
    os.execve(kubectl, ["kubectl", *rest], dict(os.environ) | {"KUBECONFIG": str(cluster.kubeconfig)})


def _build(options: argparse.Namespace, _: list[str]) -> int:
    say = Progress(sys.stderr)
    names = [*CLUSTER, "helm"] if options.helm else list(CLUSTER)
    print(ensure_binaries(say, names, options.keep_go_cache))
    if options.kueue:
        print(ensure_kueue(say, options.keep_go_cache))
    if options.kubelet:
        print(_kubelet_programs(say, options.keep_go_cache))
    return 0


def _kubeconfig(options: argparse.Namespace, _: list[str]) -> int:
    print(_cluster(options).kubeconfig)
    return 0


COMMANDS = {
    "up": _up,
    "down": _down,
    "status": _status,
    "kubectl": _kubectl,
    "build": _build,
    "kubeconfig": _kubeconfig,
    "load-image": _load_image,
}


class Progress:
    """Prints one line for each step, led by the seconds since the command began."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.began = time.monotonic()
        self.stream = stream

    def __call__(self, message: str) -> None:
        """Prints the line."""
        print(f"{time.monotonic() - self.began:6.1f} s  {message}", file=self.stream, flush=True)


def _parser() -> argparse.ArgumentParser:
    which = argparse.ArgumentParser(add_help=False)
    which.add_argument("--name", default=argparse.SUPPRESS, help="which cluster, by name (default: default)")
    which.add_argument("--dir", default=argparse.SUPPRESS, help="which cluster, by its folder (or DEVCLUSTER_DIR)")
    parser = argparse.ArgumentParser(
        prog="devcluster", parents=[which], description="A Kubernetes on your own machine, for demo and tests."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", parents=[which], help="bring the cluster up, or back to health")
    up.add_argument("--gpus", type=int, help="how many nvidia.com/gpu the node claims to have (default: 1)")
    up.add_argument(
        "--kueue", nargs="?", const="", metavar="FILE", help="Kueue too; FILE (JSON) adds to Kueue's own configuration"
    )
    up.add_argument(
        "--node",
        choices=(PROCESSES, KUBELET),
        help="what runs the pods: processes (default), or a kubelet with containers (Linux, as root)",
    )
    down = commands.add_parser("down", parents=[which], help="stop the cluster and everything in it")
    down.add_argument("--all", action="store_true", help="every cluster of this user, not one")
    down.add_argument("--delete", action="store_true", help="remove the folder too, with all data in it")
    commands.add_parser("status", parents=[which], help="what runs; exit code 1 unless all is well")
    commands.add_parser("kubeconfig", parents=[which], help="print the path of the administrator's kubeconfig")
    commands.add_parser("kubectl", add_help=False, help="run kubectl: devcluster [--name NAME] kubectl ARGS...")
    build = commands.add_parser("build", help="fetch or build the binaries and print their folder")
    build.add_argument("--helm", action="store_true", help="helm too")
    build.add_argument("--kueue", action="store_true", help="Kueue too, in a folder of its own")
    build.add_argument(
        "--kubelet", action="store_true", help="the kubelet node's programs too, in a folder of their own"
    )
    build.add_argument("--keep-go-cache", action="store_true", help="use Go's own build cache and keep it (3 to 5 GB)")
    load_image = commands.add_parser("load-image", parents=[which], help="give images to a node that is a kubelet")
    load_image.add_argument("archives", nargs="+", type=Path, metavar="ARCHIVE", help="as `docker save` writes it")
    return parser


def _folder(options: argparse.Namespace) -> Path:
    return cluster_folder(getattr(options, "name", "default"), getattr(options, "dir", None))


def _cluster(options: argparse.Namespace) -> Cluster:
    folder = _folder(options)
    cluster = load(folder)
    if cluster is None:
        raise lifecycle.ClusterError(f"no cluster in {folder}: run `devcluster up` first")
    return cluster
