"""A workspace whose trainer is a script of the test's own: what it prints and how it ends."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from model_garden.cluster import Cluster, Object
from model_garden.local import process
from model_garden.local.home import local_home
from model_garden.services.manifest import job_from_spec
from model_garden.services.queries import find_job
from model_garden.services.submission import create_job

SCRIPT = """
import json, os, pathlib, signal, sys, time
config = json.loads(os.environ["MODEL_GARDEN_CONFIG"])
name = config["name"]
kept = pathlib.Path("models") / name
kept.mkdir(parents=True, exist_ok=True)
checkpoint = kept / "step"
step = int(checkpoint.read_text()) if checkpoint.exists() else 0
wish = []
save = pathlib.Path(os.environ["MODEL_GARDEN_ANNOTATIONS"]).exists
while os.environ.get("STARTS_WITH") and not os.path.exists(os.environ["STARTS_WITH"]):
    time.sleep(0.01)
signal.signal(signal.SIGTERM, lambda *_: wish.append("stop"))
def tell(**event): print(json.dumps(event), flush=True)
def end(result, code, **more):
    outcome = {"result": result, "exitCode": code, **more}
    pathlib.Path(os.environ["MODEL_GARDEN_TERMINATION_LOG"]).write_text(json.dumps(outcome))
    sys.exit(code)
if step: tell(event="resumed", step=step)
tell(event="stage", stage="training")
print("a line for people", flush=True)
STEPS = int(os.environ.get("STEPS", "5"))
while step < STEPS and not save():
    if "stop" in wish:
        checkpoint.write_text(str(step))
        end("Stopped", 143, checkpointStep=step)
    time.sleep(float(os.environ.get("STEP_SECONDS", "0.02")))
    step += 1
    tell(event="progress", progress={"step": step, "totalSteps": STEPS, "loss": 4 / step})
    if str(step) in os.environ.get("FAIL_AT", "").split(","):
        checkpoint.write_text(str(step))
        end("Failed", int(os.environ["EXIT_CODE"]), message="it was told to fail")
output = {"path": f"models/{name}", "adapterPath": f"models/{name}", "trainedSteps": step, "verified": True}
end("Succeeded", 0, output=output, stoppedEarly=save())
"""


class Home:
    """The client, and calls that wait."""

    def __init__(self, cluster: Cluster, workspace: Path) -> None:
        self.cluster, self.workspace = cluster, workspace

    async def submit(self, name: str, **spec: Any) -> Object:
        given = {"baseModel": "./models/tiny", "datasetPath": "./data/rows.jsonl"} | spec
        return await create_job(self.cluster, job_from_spec(given, name), "default")

    async def until(self, name: str, condition: Callable[[Object], Any]) -> Object:
        """The status once ``condition`` holds of it."""
        seen: Object = {}
        with suppress(TimeoutError):
            async with asyncio.timeout(60):
                while True:
                    seen = (await find_job(self.cluster, "default", name)).get("status") or {}
                    if condition(seen):
                        return seen
                    await asyncio.sleep(0.05)
        raise AssertionError(f"{name} stays {seen}")

    async def phase(self, name: str, phase: str) -> Object:
        return await self.until(name, lambda status: status.get("phase") == phase)

    async def step(self, name: str, step: int) -> Object:
        return await self.until(name, lambda status: (status.get("progress") or {}).get("step", 0) >= step)


Scenario = Callable[[Home], Awaitable[None]]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-c", SCRIPT))
    yield tmp_path
    for folder in (tmp_path / ".model-garden" / "runs").glob("*"):
        for attempt in process.attempts(folder):
            if attempt.exit_code is None:
                attempt.kill()


@pytest.fixture
def serve(workspace: Path) -> Callable[[Scenario], None]:
    """Run a scenario while a runner works; a second call is a restart of the server."""

    async def main(scenario: Scenario) -> None:
        with local_home(workspace) as home:
            running = asyncio.create_task(home.runner.run())
            try:
                scenario_done = asyncio.ensure_future(scenario(Home(home.cluster, workspace)))
                await asyncio.wait((running, scenario_done), return_when=asyncio.FIRST_COMPLETED)
                for task in (running, scenario_done):
                    if task.done():
                        task.result()
            finally:
                running.cancel()
                await asyncio.wait((running,))

    return lambda scenario: asyncio.run(main(scenario))
