"""Fetches the programs as their projects release them, each checked against its published SHA-256.

Layout of the release sites: BASE/vX.Y.Z/bin/linux/ARCH/NAME with NAME.sha256 for Kubernetes, and
BASE/vX.Y.Z/etcd-vX.Y.Z-linux-ARCH.tar.gz with SHA256SUMS for etcd. A machine without a route to them goes on to
building within seconds; a setting that is empty skips the attempt.
"""

import hashlib
import io
import re
import tarfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from devcluster.versions import ETCD, KUBERNETES, go_platform

Say = Callable[[str], None]

KUBERNETES_BASE = "https://dl.k8s.io"
ETCD_BASE = "https://github.com/etcd-io/etcd/releases/download"

SHA256 = re.compile(r"[0-9a-f]{64}")

NOT_RELEASED = ("helm", "containerd", "containerd-shim-runc-v2", "ctr", "pause")
"""Programs that these sites do not have."""

ROUTE_TIMEOUT = 4.0
"""Seconds a release site has to answer its first, small request: name resolution, connection and all."""

READ_TIMEOUT = 30.0
"""Seconds a transfer may stand still."""


class ChecksumError(RuntimeError):
    """A fetched file is not the one that was published; nothing of it was installed."""


class Unavailable(Exception):
    """A release site cannot be reached or lacks the file."""


def download(names: Sequence[str], target: Path, say: Say, environment: Mapping[str, str]) -> list[str]:
    """Fetches what can be fetched of `names` into `target`; returns the names that are still missing.

    Each site gets one chance: after its first failure nothing more is asked of it.
    """
    system, architecture = go_platform()
    kubernetes = environment.get("DEVCLUSTER_RELEASE_BASE", KUBERNETES_BASE).rstrip("/")
    etcd = environment.get("DEVCLUSTER_ETCD_RELEASE_BASE", ETCD_BASE).rstrip("/")
    left, closed = [], set()
    for name in names:
        base, fetch = (etcd, _fetch_etcd) if name == "etcd" else (kubernetes, _fetch_kubernetes)
        if system != "linux" or name in NOT_RELEASED or not base or fetch in closed:
            left.append(name)
            continue
        try:
            _install(fetch(base, name, architecture, say), target / name)
        except Unavailable as error:
            say(f"{error}: building from source instead")
            closed.add(fetch)
            left.append(name)
    return left


def _fetch_kubernetes(base: str, name: str, architecture: str, say: Say) -> bytes:
    url = f"{base}/{KUBERNETES}/bin/linux/{architecture}/{name}"
    expected = _first_answer(f"{url}.sha256").decode(errors="replace").strip()
    if not SHA256.fullmatch(expected):  # the page of a proxy in between, as like as not
        raise Unavailable(f"{url}.sha256 is no SHA-256")
    say(f"fetching {url}")
    return _checked(url, expected)


def _fetch_etcd(base: str, name: str, architecture: str, say: Say) -> bytes:
    archive = f"etcd-{ETCD}-linux-{architecture}.tar.gz"
    url = f"{base}/{ETCD}/{archive}"
    lines = _first_answer(f"{base}/{ETCD}/SHA256SUMS").decode(errors="replace").splitlines()
    sums = {words[1]: words[0] for words in map(str.split, lines) if len(words) == 2}
    if archive not in sums:
        raise Unavailable(f"{base}/{ETCD}/SHA256SUMS names no {archive}")
    say(f"fetching {url}")
    with tarfile.open(fileobj=io.BytesIO(_checked(url, sums[archive]))) as content:
        member = content.extractfile(f"{archive.removesuffix('.tar.gz')}/{name}")
        assert member is not None, f"{archive} holds no {name}"
        return member.read()


def _first_answer(url: str) -> bytes:
    """A small file, or Unavailable after ROUTE_TIMEOUT whatever hangs: name resolution has no timeout of its own."""
    answer: list[bytes | Exception] = []

    def ask() -> None:
        try:
            answer.append(_read(url, ROUTE_TIMEOUT))
        except Exception as error:
            answer.append(error)

    worker = threading.Thread(target=ask, daemon=True)
    worker.start()
    worker.join(ROUTE_TIMEOUT)
    if not answer:
        raise Unavailable(f"no answer from {url} within {ROUTE_TIMEOUT:.0f} s")
    if isinstance(answer[0], Exception):
        raise Unavailable(f"cannot fetch {url}: {answer[0]}")
    return answer[0]


def _checked(url: str, expected: str) -> bytes:
    try:
        content = _read(url, READ_TIMEOUT)
    except OSError as error:
        raise Unavailable(f"cannot fetch {url}: {error}") from error
    actual = hashlib.sha256(content).hexdigest()
    if actual != expected:
        raise ChecksumError(
            f"{url} has SHA-256 {actual}, published is {expected}: nothing was installed. Try again, or set "
            "DEVCLUSTER_RELEASE_BASE= and DEVCLUSTER_ETCD_RELEASE_BASE= (empty) to build from source"
        )
    return content


def _read(url: str, timeout: float) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=timeout) as response:
            return bytes(response.read())
    except urllib.error.HTTPError as error:
        with error:  # it holds the connection
            raise OSError(f"HTTP {error.code} {error.reason}") from None


def _install(content: bytes, path: Path) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.chmod(0o755)
    part.replace(path)
