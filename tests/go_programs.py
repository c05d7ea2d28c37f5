"""Programs in Go that the tests use, built from a module beside them on first use and kept in the user's cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from devcluster.gobuild import find_go

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")  # before a test sets another
_FLAGS = ("-trimpath", "-gcflags=all=-dwarf=false -l", "-ldflags=-s -w")
"""Those of devcluster: the shortest build, and packages that several programs have are compiled once."""
_FIXED = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOTOOLCHAIN": "local"}


def built(name: str, module: Path, kind: str, sources: Sequence[str], *build: str) -> Path:
    """The program ``name``; of several processes that ask at once, one builds it.

    Args:
        name: the program's file.
        module: folder of its go.mod.
        kind: folder of the cache.
        sources: files of the module; other content makes another program.
        build: further flags of ``go build``, and the package.
    """
    content = b"".join((module / source).read_bytes() for source in sources)
    folder = _CACHE / "model-garden" / kind / hashlib.sha256(content).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / name).exists():
            partial = folder / f"{name}.partial"
            command = [str(find_go()), "build", "-o", str(partial), *_FLAGS, *build]
            subprocess.run(command, cwd=module, env=os.environ | _FIXED, check=True)
            partial.replace(folder / name)
    return folder / name
