"""TrainingJobs without a cluster: the same phases, words and controls, and a server that may be restarted."""

from __future__ import annotations

import asyncio
import fcntl
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model_garden.cluster import TRAINING_JOBS, ClusterError
from model_garden.local import process, runner
from model_garden.local.home import FolderInUse, local_home
from model_garden.local.process import Attempt
from model_garden.services.actions import change_job, delete_job
from model_garden.services.errors import Conflict, NotFound
from model_garden.services.logs import follow_job_log, read_log
from model_garden.services.manifest import job_from_spec
from model_garden.services.queries import find_job, list_jobs, watch_job
from model_garden.services.submission import create_job
from tests.local.conftest import Home, Scenario

Serve = Callable[[Scenario], None]
ENDLESS = "100000"
"""Steps of a job that the test ends; the next attempt reads the variable anew."""


def attempts(home: Home) -> list[Attempt]:
    """The attempts of the only job."""
    [folder] = (home.workspace / ".model-garden" / "runs").iterdir()
    return process.attempts(folder)


def test_a_job_trains_to_its_end_and_its_status_is_the_operators(serve: Serve) -> None:
    async def scenario(home: Home) -> None:
        await home.submit("first")
        status = await home.phase("first", "Succeeded")
        assert status["progress"]["step"] == 5 and [point["step"] for point in status["history"]] == [1, 2, 3, 4, 5]
        assert status["output"]["path"] == "models/first" and status["output"]["verified"] is True
        [attempt] = status["attempts"]
        assert (attempt["reason"], attempt["exitCode"]) == ("Completed", 0)
        assert (attempt["fromStep"], attempt["toStep"]) == (0, 5)
        assert {c["type"] for c in status["conditions"] if c["status"] == "True"} == {"Complete", "Finished"}
        assert status["effectiveSpec"]["backend"] == "transformers"

    serve(scenario)


def test_a_machine_without_the_packages_of_the_trainer_fails_a_job_at_once(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real trainer, on a machine that lacks PyTorch."""
    lacks = "import runpy, sys; sys.modules['torch'] = None; "
    trainer = "runpy.run_module('model_garden_trainer', run_name='__main__', alter_sys=True)"
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-c", lacks + trainer))

    async def scenario(home: Home) -> None:
        (home.workspace / "data").mkdir()
        (home.workspace / "data/rows.jsonl").write_text('{"text": "a"}\n')
        await home.submit("bare")
        status = await home.phase("bare", "Failed")
        assert (status["failure"]["reason"], len(status["attempts"])) == ("MissingPackages", 1)
        assert "the package torch is missing" in status["failure"]["message"]

    serve(scenario)


def test_jobs_run_one_after_the_other_and_the_waiting_one_says_for_which(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPS", ENDLESS)

    async def scenario(home: Home) -> None:
        await home.submit("one")
        await home.phase("one", "Running")
        monkeypatch.setenv("STEPS", "5")
        await home.submit("two")
        status = await home.phase("two", "Pending")
        condition = next(c for c in status["conditions"] if c["type"] == "Running")
        assert condition["reason"] == "WaitingForTurn" and condition["message"].endswith(
            "one job at a time; one is running now"
        )
        await change_job(home.cluster, "default", "one", "stop")
        second = await home.phase("two", "Succeeded")
        first = (await find_job(home.cluster, "default", "one"))["status"]
        assert first["completionTime"] <= second["startTime"]

    serve(scenario)


def test_a_running_trainer_survives_a_restart_of_the_server(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPS", "60")

    async def begin(home: Home) -> None:
        await home.submit("kept")
        await home.step("kept", 3)

    async def finish(home: Home) -> None:
        status = await home.phase("kept", "Succeeded")
        assert len(status["attempts"]) == 1
        assert [point["step"] for point in status["history"]] == list(range(1, 61))

    serve(begin)
    serve(finish)


def test_suspend_writes_a_checkpoint_and_resume_continues_from_it(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPS", ENDLESS)

    async def scenario(home: Home) -> None:
        await home.submit("paused", backoffLimit=0)
        await home.step("paused", 3)
        await change_job(home.cluster, "default", "paused", "suspend")
        status = await home.until("paused", lambda s: s["phase"] == "Suspended" and s["attempts"][0].get("endTime"))
        assert status["attempts"][0]["reason"] == "Stopped"
        stopped_at = status["lastCheckpointStep"]
        monkeypatch.setenv("STEPS", str(stopped_at + 5))
        await change_job(home.cluster, "default", "paused", "resume")
        status = await home.phase("paused", "Succeeded")
        assert [a["fromStep"] for a in status["attempts"]] == [0, stopped_at]

    serve(scenario)


def test_stop_saves_early_and_cancel_ends_without_a_model(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPS", ENDLESS)

    async def scenario(home: Home) -> None:
        await home.submit("stopped")
        await home.step("stopped", 2)
        await change_job(home.cluster, "default", "stopped", "stop")
        status = await home.phase("stopped", "Succeeded")
        assert 2 <= status["output"]["trainedSteps"] < int(ENDLESS)
        await home.submit("given-up")
        await home.step("given-up", 2)
        await change_job(home.cluster, "default", "given-up", "cancel")
        status = await home.phase("given-up", "Cancelled")
        assert "output" not in status
        with pytest.raises(Conflict, match="already ended"):
            await change_job(home.cluster, "default", "given-up", "stop")

    serve(scenario)


def test_a_trainer_that_is_asked_to_save_while_it_starts_saves(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPS", ENDLESS)
    monkeypatch.setenv("STARTS_WITH", "the-wish")

    async def scenario(home: Home) -> None:
        await home.submit("early", backoffLimit=0)
        await home.until("early", lambda status: status.get("attempts"))
        await change_job(home.cluster, "default", "early", "stop")
        await home.until("early", lambda _: any(one.save_requested for one in attempts(home)))
        (home.workspace / "the-wish").touch()
        status = await home.until("early", lambda status: status["phase"] in ("Succeeded", "Failed"))
        assert [attempt["exitCode"] for attempt in status["attempts"]] == [0]
        assert status["output"]["trainedSteps"] < int(ENDLESS)

    serve(scenario)


def test_a_trainer_whose_process_is_not_known_yet_is_asked_to_stop_once_it_is(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path)
    with (tmp_path / "lock").open("w") as lock, subprocess.Popen(["sleep", "600"]) as trainer:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as a trainer's shell holds it
        try:
            attempt.request_stop()
            (tmp_path / "pid").write_text(str(trainer.pid))
            attempt.request_stop()
            assert trainer.wait(60) == -signal.SIGTERM
        finally:
            trainer.kill()


@pytest.mark.parametrize(("code", "reason", "attempts"), [(3, "InvalidDataset", 1), (1, "TrainerError", 2)])
def test_a_failure_is_retried_only_where_that_may_help(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, code: int, reason: str, attempts: int
) -> None:
    monkeypatch.setenv("FAIL_AT", "2,4")
    monkeypatch.setenv("EXIT_CODE", str(code))
    monkeypatch.setattr(runner, "RETRY_SECONDS", 0.1)

    async def scenario(home: Home) -> None:
        await home.submit("failing", backoffLimit=1)
        status = await home.phase("failing", "Failed")
        assert status["failure"]["reason"] == reason
        assert status["failure"]["message"].startswith("it was told to fail")
        assert status["failure"]["logTail"] == ["a line for people"]
        assert [attempt["exitCode"] for attempt in status["attempts"]] == [code] * attempts

    serve(scenario)


def test_a_trainer_that_is_killed_is_resumed(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPS", ENDLESS)
    monkeypatch.setattr(runner, "RETRY_SECONDS", 0.1)

    async def scenario(home: Home) -> None:
        await home.submit("killed")
        await home.step("killed", 3)
        monkeypatch.setenv("STEPS", "5")
        attempts(home)[0].kill()
        status = await home.phase("killed", "Succeeded")
        assert [attempt["exitCode"] for attempt in status["attempts"]] == [137, 0]

    serve(scenario)


def test_the_log_is_followed_to_its_end_and_read_afterwards(serve: Serve) -> None:
    async def scenario(home: Home) -> None:
        job = await home.submit("logged")
        lines = [
            line async for line in follow_job_log(home.cluster, watch_job(home.cluster, job)) if isinstance(line, str)
        ]
        assert lines[1] == "a line for people" and len(lines) == 7
        log = await read_log(home.cluster, await find_job(home.cluster, "default", "logged"), tail=2)
        assert log.lines == lines[-2:]

    serve(scenario)


def test_a_watch_sees_each_state_and_a_deletion_ends_the_trainer(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPS", ENDLESS)

    async def scenario(home: Home) -> None:
        job = await home.submit("watched")
        phases = []
        with pytest.raises(NotFound, match="watched was deleted"):
            async for state in watch_job(home.cluster, job):
                phase = (state.get("status") or {}).get("phase")
                if phase == "Running" and phase not in phases:
                    await delete_job(home.cluster, "default", "watched")
                phases.append(phase)
        assert "Running" in phases
        await home.submit("next")
        await home.phase("next", "Running")
        assert [job["metadata"]["name"] for job in await list_jobs(home.cluster, "default")] == ["next"]

    serve(scenario)


def test_a_job_waits_until_the_trainer_of_a_deleted_one_has_ended(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEP_SECONDS", "600")  # it is deaf while it sleeps

    async def scenario(home: Home) -> None:
        await home.submit("deleted")
        await home.phase("deleted", "Running")
        [trainer] = attempts(home)
        await home.until("deleted", lambda _: "a line for people" in trainer.log.read_text())
        monkeypatch.delenv("STEP_SECONDS")
        await delete_job(home.cluster, "default", "deleted")
        await home.submit("next")
        status = await home.until("next", lambda status: status.get("phase"))
        condition = next(c for c in status["conditions"] if c["type"] == "Running")
        assert condition["reason"] == "WaitingForTurn" and condition["message"].endswith(
            "one job at a time; a deleted job is running now"
        )
        assert trainer.exit_code is None
        monkeypatch.setattr(process, "GRACE_SECONDS", 0)
        await home.phase("next", "Succeeded")

    serve(scenario)


def test_what_an_api_server_refuses_is_refused_here_too(serve: Serve) -> None:
    async def scenario(home: Home) -> None:
        from model_garden.cluster import TRAINING_JOBS

        job = await home.submit("same", suspend=True)
        with pytest.raises(Conflict, match="already has a TrainingJob same"):
            await home.submit("same")
        change = {"spec": {"baseModel": "./models/other"}}
        with pytest.raises(ClusterError, match=r"spec\.baseModel: cannot be changed") as refused:
            await home.cluster.patch(TRAINING_JOBS, "same", change, "default")
        assert refused.value.status == 422
        broken = {**job, "metadata": {"name": "broken"}, "spec": job["spec"] | {"trainOn": "questions"}}
        with pytest.raises(ClusterError, match="trainOn"):
            await home.cluster.create(TRAINING_JOBS, broken, "default")
        with pytest.raises(ClusterError, match="does not exist on this machine"):
            await home.cluster.get(TRAINING_JOBS, "same", "elsewhere")

    serve(scenario)


def test_a_folder_belongs_to_one_server(workspace: Path) -> None:
    with local_home(workspace), pytest.raises(FolderInUse, match="another model-garden serve"), local_home(workspace):
        pass


def test_a_path_outside_the_workspace_is_an_invalid_spec(serve: Serve) -> None:
    async def scenario(home: Home) -> None:
        from model_garden.cluster import TRAINING_JOBS

        spec: dict[str, Any] = {"baseModel": "./models/tiny", "datasetPath": "/etc/rows.jsonl"}
        body = {"apiVersion": "model-garden.dev/v1alpha1", "kind": "TrainingJob", "spec": spec}
        await home.cluster.create(TRAINING_JOBS, body | {"metadata": {"name": "outside"}}, "default")
        status = await home.phase("outside", "Failed")
        assert status["failure"]["reason"] == "InvalidSpec" and "datasetPath" in status["failure"]["message"]

    serve(scenario)


def test_pages_show_the_jobs_as_they_were_at_the_first_page(workspace: Path) -> None:
    async def scenario() -> None:
        with local_home(workspace) as opened:  # no runner: nothing else changes the jobs
            home = Home(opened.cluster, workspace)
            for name in ("a", "b", "c"):
                await home.submit(name)
            first = await home.cluster.page(TRAINING_JOBS, "default", limit=1)
            await delete_job(home.cluster, "default", "b")
            await change_job(home.cluster, "default", "c", "suspend")
            await home.submit("d")
            rest = await home.cluster.page(TRAINING_JOBS, "default", limit=5, token=first.token)
            assert [job["metadata"]["name"] for job in first.items + rest.items] == ["a", "b", "c"]
            assert "suspend" not in rest.items[-1]["spec"]
            before = await home.cluster.list(TRAINING_JOBS, "default", version=first.resource_version)
            assert before.items == first.items + rest.items
            assert [job["metadata"]["name"] for job in await list_jobs(home.cluster, "default")] == ["a", "c", "d"]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("team=vision", ["a"]),
        ("team==vision", ["a"]),
        ("team!=vision", ["b", "c"]),
        ("team", ["a", "b"]),
        ("!team", ["c"]),
        ("team,team!=text", ["a"]),
    ],
)
def test_labels_are_selected_as_in_a_cluster(workspace: Path, selector: str, names: list[str]) -> None:
    async def scenario() -> list[str]:
        with local_home(workspace) as opened:
            for name, labels in (("a", {"team": "vision"}), ("b", {"team": "text"}), ("c", {})):
                job = job_from_spec({"baseModel": "./models/tiny", "datasetPath": "./data/rows.jsonl"}, name)
                job.metadata["labels"] = labels
                await create_job(opened.cluster, job, "default")
            found = await opened.cluster.list(TRAINING_JOBS, "default", labels=selector)
            return [job["metadata"]["name"] for job in found.items]

    assert asyncio.run(scenario()) == names


def test_a_label_selector_that_is_not_understood_is_refused(workspace: Path) -> None:
    async def scenario() -> None:
        with local_home(workspace) as opened, pytest.raises(ClusterError, match="use KEY=VALUE, KEY!=VALUE"):
            await opened.cluster.list(TRAINING_JOBS, "default", labels="team in (vision, text)")

    asyncio.run(scenario())
