"""Where the cluster's programs come from: KUBE_BIN_DIR, else the cache, else the release sites, else a build.

Settings (environment): KUBE_BIN_DIR, a folder that holds all of them; DEVCLUSTER_RELEASE_BASE and
DEVCLUSTER_ETCD_RELEASE_BASE, see download.py; XDG_CACHE_HOME.
"""

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from devcluster import download, gobuild
from devcluster.versions import CLUSTER, KUEUE_MANIFESTS, KUEUE_MODULE, cache_key

Say = Callable[[str], None]


class BinariesError(RuntimeError):
    """KUBE_BIN_DIR does not hold what is needed."""


def cache_folder(environment: Mapping[str, str] = os.environ, module: Path | None = None) -> Path:
    """The folder of this version's programs, whether it exists or not."""
    cache = environment.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "model-garden" / "bin" / cache_key(module)


def ensure_binaries(
    say: Say,
    names: Sequence[str] = CLUSTER,
    keep_go_cache: bool = False,
    environment: Mapping[str, str] = os.environ,
    module: Path | None = None,
) -> Path:
    """The folder that holds the programs `names` of a module, after fetching or building what is not there yet."""
    given = environment.get("KUBE_BIN_DIR")
    if given:
        return _given_folder(Path(given).expanduser().resolve(), names)
    folder = cache_folder(environment, module)
    if not missing(folder, names):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    with _only_one(folder / ".lock", say):
        lacking = missing(folder, names)
        if lacking:
            lacking = download.download(lacking, folder, say, environment)
        if lacking:
            gobuild.build(lacking, folder, say, keep_go_cache, module)
    return folder


def ensure_kueue(say: Say, keep_go_cache: bool = False, environment: Mapping[str, str] = os.environ) -> Path:
    """The folder that holds Kueue's program, and in `config` its manifests, after building what is not there yet."""
    folder = cache_folder(environment, KUEUE_MODULE)
    if not missing(folder, ["kueue"]):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    with _only_one(folder / ".lock", say):
        if missing(folder, ["kueue"]):
            gobuild.copy_manifests("kueue", KUEUE_MODULE, KUEUE_MANIFESTS, folder / "config")
            gobuild.build(["kueue"], folder, say, keep_go_cache, KUEUE_MODULE)
    return folder


def missing(folder: Path, names: Sequence[str]) -> list[str]:
    """Those of `names` that the folder does not hold as programs."""
    return [name for name in names if not os.access(folder / name, os.X_OK)]


def _given_folder(folder: Path, names: Sequence[str]) -> Path:
    lacking = missing(folder, names)
    if lacking:
        raise BinariesError(f"KUBE_BIN_DIR={folder} lacks {', '.join(lacking)}: add them, or unset KUBE_BIN_DIR")
    return folder


@contextmanager
def _only_one(lock: Path, say: Say) -> Iterator[None]:
    """Two `up` at once share one build: the second waits and finds the programs there."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another devcluster that fetches or builds the binaries")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
