"""Data in and models out on a cluster: speed, and that no process holds the file. On a devcluster of its own.

    python -m benchmarks.transfer [--gib 2] [--write]

``--write`` puts the table into docs/benchmarks.md; run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.operator_latency import devcluster
from benchmarks.sections import machine, table, write_section

HOW = """Upload: a data file of rows of 512 KiB, with `model-garden upload`, which reads it three times: it checks the
rows, computes the SHA-256, and sends; the pod checks the rows again. Download: a file of the same size, with
`model-garden download`. The storage pod runs before both. Memory: the highest resident set of each process during the
transfer, sampled ten times a second; in brackets what a process that ran before had then. All processes share the
machine and its disk. The first `data ls` starts the storage pod."""
MIB = 1024 * 1024
TEXT_BYTES = 512 * 1024
CLAIMS = """
apiVersion: v1
kind: List
items:
  - apiVersion: v1
    kind: PersistentVolumeClaim
    metadata: {name: model-garden-data}
    spec: &spec {accessModes: [ReadWriteOnce], resources: {requests: {storage: 10Gi}}}
  - apiVersion: v1
    kind: PersistentVolumeClaim
    metadata: {name: model-garden-models}
    spec: *spec
"""
PROCESSES = {
    "command": ("model-garden upload", "model-garden download"),
    "kube-apiserver": ("kube-apiserver --",),
    "node": ("devcluster.node",),
    "process in the pod": ("model_garden.storage upload", "model_garden.storage archive"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=2, help="size of the file")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="transfer-") as name, devcluster(Path(name) / "cluster") as config:
        os.environ["KUBECONFIG"] = str(config)
        rows = measure(Path(name), int(options.gib * 1024 * MIB))
    where = f"{machine()}; load average of other work when it began {load:.1f}."
    text = f"## Upload and download\n\n{where} {HOW}\n\n{table(['what', 'measured'], rows)}"
    print(text)
    if options.write:
        write_section("transfer", text)


def measure(folder: Path, size: int) -> list[list[str]]:
    kubectl = [sys.executable, "-m", "devcluster", "kubectl", "apply", "-f", "-"]
    environment = os.environ | {"DEVCLUSTER_DIR": str(folder / "cluster")}
    subprocess.run(kubectl, input=CLAIMS, text=True, check=True, env=environment)
    rows = [["first `data ls`: the pod starts", seconds(run("data", "ls"))]]
    rows.append(["`data ls` again, median of 5", seconds(sorted(run("data", "ls") for _ in range(5))[2])])
    file = folder / "big.jsonl"
    write_rows(file, size)
    with memory(folder) as seen:
        took = run("upload", str(file))
    rows.append([f"upload of {size / 1024 / MIB:g} GiB", speed(size, took)])
    rows += [[f"upload: memory of the {name}", text] for name, text in seen.items()]
    stored = next((folder / "cluster" / "volumes").glob("default-model-garden-models-*"))
    (stored / "big").mkdir()
    file.rename(stored / "big" / "model.safetensors")
    with memory(folder) as seen:
        took = run("download", "big", "-o", str(folder / "out"))
    rows.append([f"download of {size / 1024 / MIB:g} GiB", speed(size, took)])
    rows += [[f"download: memory of the {name}", text] for name, text in seen.items()]
    assert digest(folder / "out" / "model.safetensors") == digest(stored / "big" / "model.safetensors")
    return rows


def run(*arguments: str) -> float:
    began = time.monotonic()
    subprocess.run([str(Path(sys.executable).with_name("model-garden")), *arguments], check=True)
    return time.monotonic() - began


def write_rows(file: Path, size: int) -> None:
    """Rows of hexadecimal noise, which no layer can compress."""
    with file.open("w") as output:
        while output.tell() < size:
            text = os.urandom(TEXT_BYTES // 2).hex()
            output.write(
                f'{{"messages": [{{"role": "user", "content": "{text}"}}, {{"role": "assistant", "content": "ok"}}]}}\n'
            )


def digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


@contextmanager
def memory(folder: Path) -> Iterator[dict[str, str]]:
    """By process, the highest resident set while the context is open, and what it was before."""
    before, highest = resident(folder), defaultdict[str, int](int)
    over, found = threading.Event(), dict[str, str]()

    def sample() -> None:
        while not over.wait(0.1):
            for name, now in resident(folder).items():
                highest[name] = max(highest[name], now)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
        for name in PROCESSES:
            had = f" ({before[name] / MIB:.0f} MiB)" if before[name] else ""
            found[name] = f"{highest[name] / MIB:.0f} MiB{had}"


def resident(folder: Path) -> dict[str, int]:
    """Bytes of the resident set of each of PROCESSES that names or works in ``folder``; 0 for one that does not run."""
    found = dict.fromkeys(PROCESSES, 0)
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(folder) not in f"{words} {(process / 'cwd').readlink()}":
                continue
            for name, marks in PROCESSES.items():
                if any(mark in words for mark in marks):
                    pages = int((process / "statm").read_text().split()[1])
                    found[name] = max(found[name], pages * os.sysconf("SC_PAGE_SIZE"))
    return found


def seconds(value: float) -> str:
    return f"{value:.1f} s"


def speed(size: int, took: float) -> str:
    return f"{took:.0f} s, {size / MIB / took:.0f} MiB/s"


if __name__ == "__main__":
    main()
