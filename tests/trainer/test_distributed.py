"""Two processes that train one model together, on a CPU: as in a pod with two GPUs. Two pods: tests/e2e."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from typing import Any

import psutil
import pytest

from model_garden.contract.defaults import effective_spec
from model_garden.contract.progress import (
    CheckpointEvent,
    Event,
    Outcome,
    ProgressEvent,
    ResumedEvent,
    StageEvent,
    parse_outcome,
)
from model_garden.contract.resource import parse_spec
from model_garden.contract.spec import EffectiveSpec
from model_garden_trainer.distributed.launch import verdict, world_of
from model_garden_trainer.errors import TrainingError
from tests.trainer.test_process import until
from tests.trainer.workspace import QUICK, TEXT, VISION, Workspace, config

TWO = {"NPROC_PER_NODE": "2"}
ONE_AT_A_TIME = {"hyperparameters": {"batchSize": 1, "gradientAccumulationSteps": 2}}
LIFE = {
    "hyperparameters": {"maxSteps": 20, "evalSteps": 7, "saveSteps": 12, "loggingSteps": 2},
    "loraConfig": {"loraDropout": 0.1},
    "validationFraction": 0.25,
}


def reached(step: int) -> Any:
    return lambda event: isinstance(event, ProgressEvent) and event.progress.step >= step


def losses(events: Iterable[Event]) -> list[float]:
    told = [event.progress.loss for event in events if isinstance(event, ProgressEvent)]
    return [loss for loss in told if loss is not None]


def scores_in(events: Iterable[Event]) -> list[float]:
    told = [event.progress.metrics or {} for event in events if isinstance(event, ProgressEvent)]
    return [metrics["eval_similarity"] for metrics in told if "eval_similarity" in metrics]


def outcome_of(workspace: Workspace) -> Outcome:
    outcome = parse_outcome((workspace.folder / "termination-log").read_text())
    assert outcome is not None, workspace.said()
    return outcome


def train(workspace: Workspace, name: str, *parts: dict[str, Any]) -> list[Event]:
    with workspace.process(config(name, *parts), **TWO) as process:
        events = until(process, lambda _: False)
    assert process.returncode == 0, workspace.said()
    return events


@pytest.mark.train
def test_two_processes_learn_what_one_learns_of_the_same_rows(workspace: Workspace) -> None:
    rows = (workspace.folder / "data/vision_test_dataset.jsonl").read_text().splitlines(keepends=True)
    (workspace.folder / "data/three.jsonl").write_text("".join(rows[:3]))  # which two processes cannot share evenly
    steps: dict[str, Any] = {
        "hyperparameters": {"maxSteps": 5, "evalSteps": 2},
        "validationDatasetPath": "./data/three.jsonl",
    }
    steps["evaluation"] = {"metrics": ["similarity"], "maxNewTokens": 16, "compareBase": False, "everyEvaluations": 1}
    events = train(workspace, "two", VISION, QUICK, ONE_AT_A_TIME, steps)
    two = losses(events)
    four = {"hyperparameters": {"batchSize": 1, "gradientAccumulationSteps": 4}}
    _, one = workspace.train(config("one", VISION, QUICK, four, steps))
    evaluated = [event.progress.eval_loss for event in events if isinstance(event, ProgressEvent)]
    assert next(loss for loss in evaluated if loss is not None) == pytest.approx(one.eval_losses[2], abs=1e-4)
    scored = [scores_in(told) for told in (events, one.events)]
    assert scored[0][0] == scored[1][0] > 0, "each process answers a share of the rows"
    assert two[:2] == pytest.approx(list(one.losses.values())[:2], abs=1e-4)  # then an epoch's last step is filled up
    outcome = outcome_of(workspace)
    assert outcome.output is not None and outcome.output.verified
    assert workspace.record("two")["batch"] == {"microBatch": 1, "accumulation": 2, "processes": 2}


@pytest.mark.train
@pytest.mark.parametrize(
    ("kind", "how"), [(TEXT, {"packing": True}), (VISION, {"autoBatchSize": True})], ids=["text", "vision"]
)
def test_stop_and_resume_equal_an_unbroken_run_exactly(
    workspace: Workspace, kind: dict[str, Any], how: dict[str, Any]
) -> None:
    parts = (kind, QUICK, LIFE, {"hyperparameters": how})
    whole = train(workspace, "whole", *parts)
    assert losses(whole)[-1] < losses(whole)[0]
    with workspace.process(config("broken", *parts), **TWO) as process:
        until(process, reached(5))
        process.send_signal(signal.SIGTERM)
        last = until(process, lambda _: False)[-1]
    assert process.returncode == 143, workspace.said()
    assert isinstance(last, CheckpointEvent) and 5 < last.step < 20
    assert outcome_of(workspace).result == "Stopped" and outcome_of(workspace).checkpoint_step == last.step
    rest = train(workspace, "broken", *parts)
    assert [event.step for event in rest if isinstance(event, ResumedEvent)] == [last.step]

    def figures(name: str) -> list[tuple[Any, ...]]:
        lines = [line for line in workspace.metrics(name) if "samples" not in line]
        return [(line["step"], line.get("loss"), line.get("evalLoss"), line.get("gradNorm")) for line in lines]

    assert figures("broken") == figures("whole")
    one, other = workspace.adapter("whole"), workspace.adapter("broken")
    assert all((one[key] == other[key]).all() for key in one) and one.keys() == other.keys()


@pytest.mark.train
def test_one_process_that_is_asked_to_stop_while_rows_are_answered_stops_all(workspace: Workspace) -> None:
    asked = {"metrics": ["similarity"], "maxNewTokens": 1000, "batchSize": 1, "everyEvaluations": 1}
    often = {"hyperparameters": {"maxSteps": 9, "evalSteps": 1}, "validationFraction": 0.5, "evaluation": asked}
    with workspace.process(config("job", TEXT, QUICK, often), **TWO) as process:
        until(process, lambda event: isinstance(event, StageEvent) and "evaluating the model" in str(event.detail))
        second = next(p for p in psutil.Process(process.pid).children() if p.environ().get("RANK") == "1")
        second.send_signal(signal.SIGTERM)
        rest = until(process, lambda _: False)
    assert process.returncode == 143, workspace.said()
    assert [event.step for event in rest if isinstance(event, CheckpointEvent)] == [1]
    assert "step 1: the rows of evaluation are not answered" in workspace.said()


@pytest.mark.train
def test_a_broken_row_ends_all_and_is_told_once(workspace: Workspace) -> None:
    rows = workspace.folder / "data/text_test_dataset.jsonl"
    rows.write_text(rows.read_text() + '{"messages": []}\n')
    with workspace.process(config("bad", TEXT, QUICK), **TWO) as process:
        until(process, lambda _: False)
    assert process.returncode == 3, workspace.said()
    outcome = outcome_of(workspace)
    assert outcome.reason == "InvalidDataset" and "text_test_dataset.jsonl" in str(outcome.message)


@pytest.mark.train
def test_a_process_that_is_killed_takes_the_others_along_to_be_retried(workspace: Workspace) -> None:
    job = config("killed", TEXT, QUICK, {"hyperparameters": {"maxSteps": 9000, "saveSteps": 2}})
    with workspace.process(job, **TWO) as process:
        until(process, reached(3))
        second = next(p for p in psutil.Process(process.pid).children() if p.environ().get("RANK") == "1")
        second.kill()
        until(process, lambda _: False)
    assert process.returncode == 128 + signal.SIGKILL
    outcome = outcome_of(workspace)
    assert "rank 1 was killed by signal 9" in str(outcome.message)
    assert outcome.checkpoint_step is not None and outcome.checkpoint_step >= 2
    assert not [p for p in psutil.process_iter(["environ"]) if _of(workspace, p.info["environ"])]


def _of(workspace: Workspace, environment: dict[str, str] | None) -> bool:
    return bool(environment) and "RANK" in environment and environment.get("PWD") == str(workspace.folder)


@pytest.mark.parametrize(
    ("ended", "local", "code"),
    [
        ([(1, 0), (0, 0)], 0, 0),
        ([(0, 8), (1, 5)], 1, 5),
        ([(0, 1), (1, 3)], 1, 3),
        ([(0, 8), (1, 137)], 1, 137),
        ([(1, 143), (0, 143)], 1, 143),
        ([(1, 8), (0, 8)], 1, 8),
        ([(1, 0), (0, 7)], 0, 7),
    ],
    ids=["all is well", "memory", "a broken row", "killed", "asked to stop", "another pod ended", "export failed"],
)
def test_one_ending_counts_for_all(ended: list[tuple[int, int]], local: int, code: int) -> None:
    assert verdict(ended) == (local, code)


def spec(gpus: int) -> EffectiveSpec:
    limits = {"limits": {"nvidia.com/gpu": gpus}}
    return effective_spec(parse_spec({"baseModel": "a/b", "datasetPath": "./data/x.jsonl", "resources": limits}), "x")


def test_a_process_for_each_gpu_of_each_node() -> None:
    environment = {"NNODES": "3", "NODE_RANK": "2", "MASTER_ADDR": "job-0.job", "MASTER_PORT": "29500"}
    world = world_of(spec(gpus=4), environment)
    assert (world.size, world.per_node) == (12, 4)
    assert world.environment(1) == {
        "RANK": "9", "LOCAL_RANK": "1", "WORLD_SIZE": "12", "LOCAL_WORLD_SIZE": "4",
        "MASTER_ADDR": "job-0.job", "MASTER_PORT": "29500",
    }  # fmt: skip
    assert world_of(spec(gpus=0), {}).size == 1
    assert world_of(spec(gpus=0), TWO).size == 2


@pytest.mark.parametrize("environment", [{"NNODES": "two"}, {"NPROC_PER_NODE": "0"}, {"NNODES": "2"}])
def test_a_world_that_is_told_wrong_is_refused(environment: dict[str, str]) -> None:
    with pytest.raises(TrainingError) as raised:
        world_of(spec(gpus=1), environment)
    assert raised.value.exit_code == 2
