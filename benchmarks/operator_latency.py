"""How fast the operator is and what it costs, on a devcluster brought up for this alone.

    python -m benchmarks.operator_latency [--write]

``--write`` puts the table into docs/benchmarks.md; run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.sections import machine, table, write_section
from model_garden.cluster import JOBS, TRAINING_JOBS, Change, Cluster, ClusterError, Snapshot, connect, list_and_watch
from model_garden.contract.names import API_VERSION, KIND, LABEL_JOB

HOW = """Latency: from the API server's answer to a TrainingJob's creation to the ADDED event of its Job in a watch; the
jobs are suspended, so that no pods take the machine. Writes: counted by the operator itself, over whole lives of
jobs with a scripted trainer. Memory: the operator's resident set. All processes share the machine: etcd, API server,
controllers, node, trainers, operator and the benchmark."""
ROOT = Path(__file__).parents[1]
NAMESPACE = "default"
PORT = 29_997
BURSTS = (1, 50, 200)
SINGLES = 30
LIVES = 5
RUNNING = 200
REPORTING = """
step=0
while true; do
  step=$((step + 1))
  echo '{"event":"progress","progress":{"step":'$step',"totalSteps":100000,"loss":1.5,"learningRate":0.0001}}'
  sleep 2
done
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with (
        tempfile.TemporaryDirectory(prefix="operator-latency-") as folder,
        devcluster(Path(folder) / "cluster") as config,
    ):
        os.environ["KUBECONFIG"] = str(config)
        rows = asyncio.run(measure(Path(folder)))
    where = f"{machine()}; load average of other work when it began {load:.1f}."
    text = f"## The operator\n\n{where} {HOW}\n\n{table(['what', 'measured', 'aim'], rows)}"
    print(text)
    if options.write:
        write_section("operator-latency", text)


@contextmanager
def devcluster(folder: Path) -> Iterator[Path]:
    """A cluster of its own, with the CRD; yields the kubeconfig."""
    command = [sys.executable, "-m", "devcluster"]
    try:
        subprocess.run([*command, "up", "--dir", str(folder)], check=True, cwd=ROOT)
        kubectl = [*command, "kubectl", "apply", "--server-side", "-f", "manifests/crd.yaml"]
        subprocess.run(kubectl, check=True, cwd=ROOT, env=os.environ | {"DEVCLUSTER_DIR": str(folder)})
        yield folder / "kubeconfig"
    finally:
        subprocess.run([*command, "down", "--delete", "--dir", str(folder)], check=True, cwd=ROOT)


@contextmanager
def operator(folder: Path, command: list[str], progress_seconds: float = 10) -> Iterator[None]:
    """The operator as a process, its trainers running ``command``."""
    environment = os.environ | {
        "MODEL_GARDEN_PORT": str(PORT),
        "MODEL_GARDEN_HEALTH_PORT": str(PORT + 1),
        "MODEL_GARDEN_NAMESPACES": NAMESPACE,
        "MODEL_GARDEN_TRAINER_COMMAND": json.dumps(command),
        "MODEL_GARDEN_PROGRESS_SECONDS": str(progress_seconds),
    }
    log = folder / "operator.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "model_garden.controller"], env=environment, stdout=output, stderr=output
        )
    try:
        while "serving TrainingJobs" not in log.read_text():
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(30)
        log.unlink()


async def measure(folder: Path) -> list[list[str]]:
    async with await connect() as cluster:
        await served(cluster)
        rows: list[list[str]] = []
        with operator(folder, ["true"]):
            await burst(cluster, 5, "warm")
            singles = [(await burst(cluster, 1, f"single-{n}"))[0] for n in range(SINGLES)]
            rows.append(["one TrainingJob → its Job, p50", ms(statistics.median(singles)), "< 30 ms"])
            rows.append(["one, p99", ms(quantile(singles, 0.99)), ""])
            for size in BURSTS[1:]:
                before, latencies = writes(), await burst(cluster, size, f"burst-{size}")
                await settled(cluster, "Suspended", size)
                each = (writes() - before) / size
                spread = f"{ms(statistics.median(latencies))} / {ms(quantile(latencies, 0.99))}"
                rows.append([f"burst of {size}, p50 / p99", spread, "p99 < 600 ms" if size == 200 else ""])
                rows.append([f"burst of {size}, writes until Job and status are there", f"{each:.1f} a job", "2"])
            rows.append([f"resident memory, {await count(cluster)} suspended jobs", mib(), "< 120 MiB with 200"])
        await clear(cluster)
        scripted = ["python", "-m", "tests.controller.scripted_trainer"]
        with operator(folder, scripted, progress_seconds=3600):
            await create(cluster, [job(f"life-{n}", ttlSecondsAfterFinished=3600) for n in range(LIVES)])
            await settled(cluster, "Succeeded", LIVES)
            await asyncio.sleep(1)
            lives, events = writes(), writes(events=True)
            rows.append(["writes in a job's life, TTL included", f"{lives / LIVES:.1f}", "≤ 6"])
            rows.append(["Events besides", f"{events / LIVES:.1f}", ""])
        await clear(cluster)
        with operator(folder, ["sh", "-c", REPORTING]):
            await create(cluster, [job(f"run-{n}") for n in range(RUNNING)])
            await settled(cluster, "Running", RUNNING)
            cpu, began = seconds_of_cpu(), time.monotonic()
            await asyncio.sleep(30)
            used = (seconds_of_cpu() - cpu) / (time.monotonic() - began)
            rows.append([f"resident memory, {RUNNING} jobs running and reporting", mib(), "< 120 MiB"])
            rows.append([f"CPU, {RUNNING} jobs running and reporting", f"{used:.0%} of a core", ""])
        await clear(cluster)
        return rows


def job(name: str, **spec: Any) -> dict[str, Any]:
    body = {
        "baseModel": "org/model",
        "datasetPath": "hf://datasets/org/rows",
        "pushToHub": {"repo": "org/out"},
        "hubTokenSecret": {"name": "hub", "key": "token"},
        "podTemplate": {"env": [{"name": "HF_TOKEN", "value": "none"}]},
        "resources": {"limits": {"nvidia.com/gpu": 0}, "requests": {"cpu": "1m", "memory": "1Mi"}},
    }
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": body | spec}


async def create(cluster: Cluster, jobs: list[dict[str, Any]]) -> dict[str, float]:
    """Create all at once; when the API server answered, by name."""

    async def one(body: dict[str, Any]) -> tuple[str, float]:
        await cluster.create(TRAINING_JOBS, body, NAMESPACE)
        return body["metadata"]["name"], time.monotonic()

    return dict(await asyncio.gather(*map(one, jobs)))


async def burst(cluster: Cluster, size: int, prefix: str) -> list[float]:
    """Seconds from each answer to the Job's ADDED event."""
    added: dict[str, float] = {}
    ready, all_there = asyncio.Event(), asyncio.Event()

    async def watch() -> None:
        async for seen in list_and_watch(cluster, JOBS, NAMESPACE, labels=LABEL_JOB):
            if isinstance(seen, Snapshot):
                ready.set()
            elif isinstance(seen, Change) and seen.type == "ADDED":
                added[seen.object["metadata"]["labels"][LABEL_JOB]] = time.monotonic()
                if len(added) == size:
                    all_there.set()

    watching = asyncio.create_task(watch())
    await ready.wait()
    answered = await create(cluster, [job(f"{prefix}-{n}", suspend=True) for n in range(size)])
    await asyncio.wait_for(all_there.wait(), 60)
    watching.cancel()
    return [max(0.0, added[name] - answered[name]) for name in answered]


async def settled(cluster: Cluster, phase: str, least: int) -> None:
    """Wait until so many TrainingJobs are in a phase, and none is in another."""
    deadline = time.monotonic() + 400
    while True:
        found = Counter((item.get("status") or {}).get("phase") for item in (await cluster.list(TRAINING_JOBS)).items)
        if found[phase] >= least and len(found) == 1:
            return
        assert time.monotonic() < deadline, f"not all are {phase}: {found}"
        await asyncio.sleep(0.5)


async def served(cluster: Cluster) -> None:
    """Wait until the API server knows TrainingJobs."""
    while True:
        try:
            await cluster.list(TRAINING_JOBS)
        except ClusterError as error:
            assert error.status == 404 or error.retryable, error
            await asyncio.sleep(0.1)
        else:
            return


async def count(cluster: Cluster) -> int:
    return len((await cluster.list(TRAINING_JOBS)).items)


async def clear(cluster: Cluster) -> None:
    for item in (await cluster.list(TRAINING_JOBS, NAMESPACE)).items:
        await cluster.delete(TRAINING_JOBS, item["metadata"]["name"], NAMESPACE)
    while (await cluster.list(JOBS, NAMESPACE)).items:
        await asyncio.sleep(0.5)


def metrics() -> str:
    text: str = urllib.request.urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=10).read().decode()
    return text


def writes(*, events: bool = False) -> float:
    """Requests that changed something, Events or all others."""
    found = re.findall(r'model_garden_api_writes_total\{.*resource="(\w+)".*\} ([\d.e+]+)', metrics())
    return sum(float(number) for resource, number in found if (resource == "events") is events)


def sample(name: str) -> float:
    match = re.search(rf"^{name} ([\d.e+]+)$", metrics(), re.MULTILINE)
    assert match, name
    return float(match[1])


def mib() -> str:
    return f"{sample('process_resident_memory_bytes') / 2**20:.0f} MiB"


def seconds_of_cpu() -> float:
    return sample("process_cpu_seconds_total")


def ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


if __name__ == "__main__":
    main()
