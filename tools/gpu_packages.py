"""The folder of packages that ``tools.gpu_check`` needs on a machine that has PyTorch, and no network.

    make gpu-wheels                      writes dist/gpu-packages: x86-64 Linux, Python 3.12

The machine must have torch built for CUDA 13.0, transformers, accelerate and what these need. The versions are those
of uv.lock, and the same lock makes the same bytes. The folder is put on PYTHONPATH as it is; nothing is installed.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = (
    *("annotated-types", "pydantic", "pydantic-core", "typing-inspection"),  # the contract
    *("datasets", "dill", "multiprocess"),  # rows
    "rapidfuzz",  # the similarity of answers
    *("bitsandbytes", "peft", "trl", "unsloth", "unsloth-zoo"),  # training
)
PYTHON = "3.12"
CUDA = "130"
"""The CUDA version whose bitsandbytes library stays; the others are 20 times as large together."""
UNUSED = ("unsloth/studio", "studio", "unsloth_cli", "bin")
"""Unsloth's own application, and the commands of all packages."""


def requirements(exported: str) -> list[str]:
    """Of what ``uv export`` printed, the packages that the folder holds, each with its hashes.

    Raises:
        SystemExit: the lock lacks one of them.
    """
    blocks = exported.replace("\\\n", " ").splitlines()
    found = {block.split("==")[0]: " ".join(block.split()) for block in blocks if "==" in block}
    missing = [name for name in PACKAGES if name not in found]
    if missing:
        sys.exit(f"error: uv.lock has no {', '.join(missing)}")
    return [found[name] for name in PACKAGES]


def is_unused(path: Path) -> bool:
    """Whether the machine does without a file of the folder, by its path in it."""
    name = path.as_posix()
    if name.startswith("bitsandbytes/libbitsandbytes_"):
        return name not in (f"bitsandbytes/libbitsandbytes_cuda{CUDA}.so", "bitsandbytes/libbitsandbytes_cpu.so")
    return path.suffix == ".pyc" or any(name.startswith(f"{folder}/") for folder in UNUSED)


def trim(folder: Path) -> None:
    """Remove what the machine does without, also from the lists of files that each package carries."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif is_unused(path.relative_to(folder)) or path.name in ("INSTALLER", "REQUESTED", "uv_cache.json"):
            path.unlink()
    for record in folder.glob("*.dist-info/RECORD"):  # importlib.metadata reads it to tell which package a module is
        lines = record.read_text(encoding="utf-8").splitlines()
        kept = sorted(line for line in lines if (folder / line.split(",")[0]).is_file())
        record.write_text("\n".join(kept) + "\n", encoding="utf-8")


def digest(folder: Path) -> str:
    """SHA-256 over the names and the contents of all files."""
    total = hashlib.sha256()
    for path in _files(folder):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{content}  {path.relative_to(folder).as_posix()}\n".encode())
    return total.hexdigest()


def build(uv: Path, folder: Path) -> None:
    """Write the folder anew.

    Raises:
        SystemExit: uv could not read the lock or download a package.
    """
    shutil.rmtree(folder, ignore_errors=True)
    export = ["export", "--frozen", "--quiet", "--extra", "trainer-gpu", "--no-emit-project", "--no-annotate"]
    wanted = requirements(_said(uv, export))
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(wanted) + "\n")
        file.flush()
        target = ["--target", str(folder), "--python-version", PYTHON, "--python-platform", "x86_64-manylinux_2_28"]
        only = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--link-mode", "copy", "--quiet"]
        _said(uv, ["pip", "install", *target, *only, "--requirements", file.name])
    trim(folder)


def _said(uv: Path, arguments: Iterable[str]) -> str:
    done = subprocess.run([str(uv), *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: uv {next(iter(arguments))} failed:\n{done.stderr.strip()}")
    return done.stdout


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def main() -> None:
    """``--uv PATH [--out FOLDER]``."""
    parser = argparse.ArgumentParser(prog="python -m tools.gpu_packages", description=__doc__.splitlines()[0])
    parser.add_argument("--uv", type=Path, required=True, help="the uv program")
    parser.add_argument("--out", type=Path, default=ROOT / "dist" / "gpu-packages", help="folder to write")
    options = parser.parse_args()
    build(options.uv.absolute(), options.out.absolute())
    files = _files(options.out)
    size = sum(path.stat().st_size for path in files)
    print(f"{options.out}: {size / 1e6:.1f} MB in {len(files)} files, sha256 {digest(options.out)}")


if __name__ == "__main__":
    main()
