"""How soon the REST API answers beside the API server behind it, and what many open pages cost its server.

    python -m benchmarks.front_doors [--write]

``--write`` puts the tables into docs/benchmarks.md; run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from benchmarks.operator_latency import devcluster, job, ms, quantile, served
from benchmarks.sections import machine, table, write_section
from model_garden.cluster import TRAINING_JOBS, Cluster, connect

HOW = """Each job has a status as a long run leaves it: 64 points of history and the usual conditions.
Both columns ask over one kept connection from the same client, one request after the other, {requests} times: the REST
API, and the API server for what the answer is made of. All processes share the machine."""
JOBS = 1000
REQUESTS = 100
PAGES = 200
UPDATES = 60
"""What an operator that reports every 10 s writes in ten minutes."""
STEP = 3200
NAMESPACE = "default"
REST = "/api/v1/training/jobs"
RAW = f"/apis/model-garden.dev/v1alpha1/namespaces/{NAMESPACE}/trainingjobs"
MODEL_GARDEN = str(Path(sys.executable).parent / "model-garden")


def main() -> None:
    """Measure, print, and with ``--write`` keep the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="front-doors-") as folder, devcluster(Path(folder) / "cluster") as config:
        os.environ["KUBECONFIG"] = str(config)
        asyncio.run(fill())
        with server() as (address, process):
            answers = latencies(address, config)
            memory = asyncio.run(open_pages(address, process.pid))
    where = f"{machine()}; load average of other work when it began {load:.1f}."
    how = HOW.format(requests=REQUESTS)
    header = ["request, with 1,000 jobs", "REST API, p50 / p99", "API server, p50 / p99"]
    text = f"## The REST API\n\n{where} {how}\n\n{table(header, answers)}\n\n{table(['pages', 'measured'], memory)}"
    print(text)
    if options.write:
        write_section("front-doors", text)


def status(number: int) -> dict[str, Any]:
    """What the operator reports of a job in the middle of a long run."""
    history = [
        {"step": 50 * n, "loss": round(4 / n, 4), "evalLoss": round(5 / n, 4), "learningRate": 2e-05}
        for n in range(1, 65)
    ]
    return {
        "phase": ("Running", "Succeeded", "Failed", "Suspended")[number % 4],
        "observedGeneration": 1,
        "startTime": "2026-01-01T00:00:00Z",
        "progress": {"step": STEP, "totalSteps": 2 * STEP, "loss": 0.0625, "epoch": 3.2, "percent": 50},
        "history": history,
        "conditions": [
            {
                "type": kind,
                "status": "True",
                "reason": "Training",
                "message": "the trainer reports its progress",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
            for kind in ("Running", "Reconciling", "Complete", "Failed", "Finished")
        ],
    }


async def fill() -> None:
    """Create the jobs, each with its status; no operator runs."""
    async with await connect() as cluster:
        await served(cluster)
        limit = asyncio.Semaphore(20)

        async def one(number: int) -> None:
            name = f"job-{number:04}"
            async with limit:
                await cluster.create(TRAINING_JOBS, job(name), NAMESPACE)
                await report(cluster, name, status(number))

        await asyncio.gather(*map(one, range(JOBS)))


async def report(cluster: Cluster, name: str, found: dict[str, Any]) -> None:
    await cluster.patch(TRAINING_JOBS, name, {"status": found}, NAMESPACE, subresource="status")


@contextmanager
def server() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """``model-garden serve`` on a free port: its address and its process."""
    process = subprocess.Popen([MODEL_GARDEN, "serve", "--port", "0"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield process.stdout.readline().split()[-1].removesuffix("/api/v1"), process
    finally:
        process.terminate()
        process.wait(30)


def latencies(address: str, config: Path) -> list[list[str]]:
    """A row for each kind of request."""
    with httpx.Client(base_url=address, timeout=60) as rest, api_server(config) as raw:

        def everything() -> None:
            first = raw.get(RAW, params={"limit": 500}).raise_for_status().json()
            raw.get(RAW, params={"limit": 500, "continue": first["metadata"]["continue"]}).raise_for_status()

        def one() -> None:
            raw.get(f"{RAW}/job-0500").raise_for_status()

        def hundred() -> None:
            raw.get(RAW, params={"limit": 100}).raise_for_status()

        behind = {ask: spread(ask) for ask in (one, hundred, everything)}
        rows = []
        for what, path, made_of in (
            ("get one job", f"{REST}/job-0500", one),
            ("list 100 by name", REST, hundred),
            ("list 100, the newest first", f"{REST}?sort=-creation_timestamp", everything),
            ("list 100 that run", f"{REST}?phase=Running", everything),
            ("the queue", "/api/v1/training/queue", everything),
            ("the page of all jobs", "/training", everything),
            ("the page of one job", "/training/job-0500", one),
        ):
            rows.append([what, spread(partial(_get, rest, path)), behind[made_of]])
            print(*rows[-1], sep=" | ", flush=True)
        return rows


def _get(client: httpx.Client, path: str) -> None:
    client.get(path).raise_for_status()


def spread(ask: Callable[[], object]) -> str:
    for _ in range(5):
        ask()
    taken = []
    for _ in range(REQUESTS):
        began = time.perf_counter()
        ask()
        taken.append(time.perf_counter() - began)
    return f"{ms(statistics.median(taken))} / {ms(quantile(taken, 0.99))}"


def api_server(config: Path) -> httpx.Client:
    """A client of the API server with the kubeconfig's certificate."""
    view = [sys.executable, "-m", "devcluster", "kubectl", "config", "view", "--raw", "--flatten", "-o", "json"]
    environment = os.environ | {"DEVCLUSTER_DIR": str(config.parent)}
    found = json.loads(subprocess.run(view, check=True, capture_output=True, text=True, env=environment).stdout)
    cluster, user = found["clusters"][0]["cluster"], found["users"][0]["user"]
    from base64 import b64decode

    files = {}
    for key, value in {**cluster, **user}.items():
        if key.endswith("-data"):
            files[key] = config.parent / f"benchmark-{key}.pem"
            files[key].write_bytes(b64decode(value))
    context = ssl.create_default_context(cafile=files["certificate-authority-data"])
    context.load_cert_chain(files["client-certificate-data"], files["client-key-data"])
    return httpx.Client(base_url=cluster["server"], verify=context, timeout=60)


async def open_pages(address: str, pid: int) -> list[list[str]]:
    """What the server's memory is before and after many live pages, and after all their updates."""
    rows = [["resident memory of the server, no page open", mib(pid)]]
    limits = httpx.Limits(max_connections=None)
    async with (
        await connect() as cluster,
        httpx.AsyncClient(base_url=address, timeout=None, limits=limits) as client,
        AsyncExitStack() as streams,
    ):
        before = await watches(cluster)
        seen = [-1] * PAGES

        async def follow(number: int, answer: httpx.Response) -> None:
            async for line in answer.aiter_lines():
                if line.startswith("data: ") and "phase" in (found := json.loads(line.removeprefix("data: "))):
                    seen[number] = found["status"]["progress"]["step"]

        async def reached(step: int) -> None:
            deadline = time.monotonic() + 300
            while min(seen) < step:
                assert time.monotonic() < deadline, f"a page shows step {min(seen)} of {step}"
                await asyncio.sleep(0.1)

        following = []
        for number in range(PAGES):
            path = f"{REST}/job-{4 * number:04}/events"  # every fourth job runs
            answer = await streams.enter_async_context(client.stream("GET", path))
            following.append(asyncio.create_task(follow(number, answer)))
        await reached(0)
        rows.append([f"{PAGES} live pages open, each of another job", mib(pid)])
        rows.append(["watches of TrainingJobs that they add at the API server", str(await watches(cluster) - before)])
        for half in (1, 2):
            began = time.monotonic()
            last = half * UPDATES // 2
            for step in range(last - UPDATES // 2 + 1, last + 1):
                found = status(0) | {"progress": {"step": STEP + step, "totalSteps": 2 * STEP}}
                await asyncio.gather(*(report(cluster, f"job-{4 * number:04}", found) for number in range(PAGES)))
            await reached(STEP + last)
            rate = PAGES * UPDATES / 2 / (time.monotonic() - began)
            rows.append([f"after {last} updates of each job ({rate:.0f} a second), which every page shows", mib(pid)])
        for task in following:
            task.cancel()
    return rows


async def watches(cluster: Cluster) -> int:
    """The watches of TrainingJobs that the API server has open."""
    found = [
        line
        for line in (await cluster.raw("/metrics")).decode().splitlines()
        if line.startswith("apiserver_longrunning_requests{") and 'resource="trainingjobs"' in line
    ]
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in found if 'verb="WATCH"' in line)


def mib(pid: int) -> str:
    """The resident memory of a process."""
    (line,) = [one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmRSS")]
    return f"{int(line.split()[1]) / 1024:.0f} MiB"


if __name__ == "__main__":
    main()
