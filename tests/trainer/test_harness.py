"""evaluation.harnessTasks: the real lm-evaluation-harness on a task of one's own, in a folder of the data claim."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from model_garden.contract.names import CONFIG_ENV
from model_garden.contract.progress import EvaluationEvent, StageEvent, parse_event, parse_outcome
from model_garden.contract.status import MAX_SCORES, EvaluationScore
from model_garden.contract.trainer_config import TrainerConfig
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.evaluation import harness
from model_garden_trainer.evaluation.evaluate import fitting
from tests.trainer.preferences import write_rows
from tests.trainer.workspace import TEXT, Workspace, config

HARNESS_PYTHON = Path(__file__).parents[2] / ".venv-harness" / "bin" / "python"
COLORS = {"one": "blue", "two": "red", "six": "red"}
TASK = """
task: colors
dataset_path: json
dataset_kwargs: {data_files: ./data/tasks/colors.jsonl}
test_split: train
output_type: multiple_choice
doc_to_text: "{{name}} is"
doc_to_choice: [red, blue]
doc_to_target: "{{color}}"
metric_list: [{metric: acc}]
"""
CHECKS = """
import json, sys
from model_garden.contract.trainer_config import TrainerConfig
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.evaluation import harness
for text in sys.argv[1:]:
    try:
        harness.check(TrainerConfig.model_validate_json(text).spec, print)
    except TrainingError as error:
        print("refused:", error.reason, error, flush=True)
assert "torch" not in sys.modules, "the preflight needs no torch"
"""

UNREACHABLE = """
import sys, time
from model_garden.contract.progress import WarningEvent
from model_garden.contract.trainer_config import TrainerConfig
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.evaluation import harness
time.sleep, warned = lambda seconds: None, []
spec = TrainerConfig.model_validate_json(sys.argv[1]).spec
try:
    harness.check(spec, lambda event: None)
except TrainingError as error:
    print("refused:", error.reason, error, flush=True)
harness.check(spec, lambda event: warned.append(event) if isinstance(event, WarningEvent) else None, begun=True)
print("warned:", warned[-1].message)
"""


def job(tasks: list[str], **more: Any) -> TrainerConfig:
    learn = {"learningRate": 1e-2, "batchSize": 3, "gradientAccumulationSteps": 1, "maxSteps": 40, "warmupSteps": 1}
    asked = {"harnessTasks": tasks, "harnessTasksPath": "./data/tasks"} | more
    rows = {"datasetPath": "./data/colors.jsonl", "hyperparameters": learn}
    return config("job", TEXT, rows, {"loraConfig": {"r": 64, "loraAlpha": 64}, "evaluation": asked})


def write_task(folder: Path) -> None:
    (folder / "data/tasks").mkdir()
    write_rows(folder / "data/colors.jsonl", [{"text": f"{name} is {color}"} for name, color in COLORS.items()])
    rows = [{"name": name, "color": color} for name, color in COLORS.items()]
    write_rows(folder / "data/tasks/colors.jsonl", rows)
    (folder / "data/tasks/colors.yaml").write_text(TASK)
    (folder / "data/tasks/unsafe.yaml").write_text(TASK.replace("task: colors", "task: unsafe") + "unsafe_code: true\n")
    broken = TASK.replace("task: colors", "task: broken").replace("colors.jsonl", "none.jsonl")
    (folder / "data/tasks/broken.yaml").write_text(broken)


def harness_python(workspace: Workspace, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    cache = {"HF_DATASETS_CACHE": str(workspace.folder / "cache"), "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        [str(HARNESS_PYTHON), *arguments],
        cwd=workspace.folder,
        env=os.environ | cache | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.train
@pytest.mark.skipif(not HARNESS_PYTHON.exists(), reason="needs the environment that `make test` makes for it")
def test_a_task_of_ones_own_is_done_by_the_trained_model_and_its_base_model(workspace: Workspace) -> None:
    write_task(workspace.folder)
    (workspace.folder / "termination-log").touch()
    text = job(["colors"], harnessLimit=2).model_dump_json(by_alias=True, exclude_none=True)
    done = harness_python(workspace, "-m", "model_garden_trainer", **{CONFIG_ENV: text})
    outcome = parse_outcome((workspace.folder / "termination-log").read_text())
    assert outcome and outcome.result == "Succeeded", done.stderr[-3000:]
    events = [event for line in done.stdout.splitlines() if (event := parse_event(line))]
    [told] = [event.evaluation for event in events if isinstance(event, EvaluationEvent)]
    details = {event.detail for event in events if isinstance(event, StageEvent)}
    assert {"colors of lm-evaluation-harness by the base model", "loading colors of lm-evaluation-harness"} <= details
    [score] = told.scores
    assert (score.task, score.metric, score.value) == ("colors", "acc", 1.0) and score.base_value == 0.0
    assert told.rows is None and told.path is None, "no rows are answered without metrics"
    folder = workspace.folder / "models/job"
    results = json.loads((folder / "harness.json").read_text())
    assert results["trained"]["n-samples"]["colors"] == {"original": 3, "effective": 2}
    card = (folder / "README.md").read_text()
    assert f"| colors: acc | {score.base_value:.4f} | 1.0000" in card
    assert any(line.get("evaluation") == {"colors/acc": 1.0} for line in workspace.metrics("job"))


@pytest.mark.train
@pytest.mark.skipif(not HARNESS_PYTHON.exists(), reason="needs the environment that `make test` makes for it")
def test_tasks_that_cannot_be_done_are_refused_before_training(workspace: Workspace) -> None:
    write_task(workspace.folder)
    jobs = [job([name]).model_dump_json(by_alias=True, exclude_none=True) for name in ("nope", "broken", "unsafe")]
    done = harness_python(workspace, "-c", CHECKS, *jobs)
    assert done.returncode == 0, done.stderr[-3000:]
    refused = [line for line in done.stdout.splitlines() if line.startswith("refused: InvalidSpec")]
    for line, words in zip(
        refused,
        (
            "nope is no task of lm-evaluation-harness and not in ./data/tasks",
            "broken cannot be loaded",
            "unsafe runs code",
        ),
        strict=True,
    ):
        assert f"spec.evaluation.harnessTasks: {words}" in line


@pytest.mark.train
@pytest.mark.skipif(not HARNESS_PYTHON.exists(), reason="needs the environment that `make test` makes for it")
def test_a_hub_that_does_not_answer_is_no_fault_of_the_spec_and_a_begun_run_goes_on(workspace: Workspace) -> None:
    write_task(workspace.folder)
    far = TASK.replace("task: colors", "task: far").replace("dataset_path: json", "dataset_path: org/far")
    (workspace.folder / "data/tasks/far.yaml").write_text(re.sub("dataset_kwargs.*", "", far))
    text = job(["far"]).model_dump_json(by_alias=True, exclude_none=True)
    done = harness_python(workspace, "-c", UNREACHABLE, text, HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 0, done.stderr[-3000:]
    first, again = done.stdout.splitlines()
    words = "spec.evaluation.harnessTasks far: the Hub did not answer"
    assert first.startswith(f"refused: HubUnreachable {words}")
    assert again.startswith(f"warned: {words}") and "training goes on" in again


@pytest.mark.train
def test_the_leading_process_alone_checks_the_evaluation_and_knows_of_a_checkpoint(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[bool] = []
    monkeypatch.setattr(harness, "check", lambda _spec, _report, *, begun: checked.append(begun))
    short = {"hyperparameters": {"maxSteps": 2}, "validationFraction": 0.2, "saveMethod": "lora"}
    asked = {"evaluation": {"metrics": ["exact_match"], "maxRows": 1, "maxNewTokens": 2}}
    workspace.train(config("job", TEXT, short, asked))
    (workspace.folder / "models/job/training_config.json").unlink()  # as if it had ended before the record
    workspace.train(config("job", TEXT, short, asked))
    monkeypatch.setenv("RANK", "1")
    workspace.train(config("other", TEXT, short, asked))
    assert checked == [False, True]


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is not None, reason="lm_eval is installed")
def test_a_trainer_without_the_package_refuses_before_training(workspace: Workspace) -> None:
    with pytest.raises(
        TrainingError, match=r"harnessTasks: needs the package lm_eval.*install model-garden\[harness\]"
    ):
        harness.check(job(["colors"]).spec, lambda _: None)


def test_scores_are_read_from_results() -> None:
    found = {"alias": "gsm8k", "exact_match,strict-match": 0.25, "exact_match_stderr,strict-match": 0.01, "acc,none": 1}
    old = {"exact_match,strict-match": 0.125, "acc,none": 0}
    results, before = {"results": {"gsm8k": found}}, {"results": {"gsm8k": old}}
    scores = list(harness.scores_of(results, before, ["gsm8k"], pytest.fail))
    assert [(one.metric, one.value, one.base_value, one.standard_error) for one in scores] == [
        ("exact_match (strict-match)", 0.25, 0.125, 0.01),
        ("acc", 1, 0, None),
    ]


def test_a_score_that_is_no_number_is_left_out_by_itself() -> None:
    after = {"results": {"a": {"acc,none": 0.5, "f1,none": float("nan"), "acc_stderr,none": float("nan")}}}
    before = {"results": {"a": {"acc,none": float("inf"), "f1,none": 1.0}}}
    told: list[str] = []
    [score] = harness.scores_of(after, before, ["a"], told.append)
    assert (score.value, score.base_value, score.standard_error) == (0.5, None, None)
    assert told == ["evaluation.harnessTasks: the score f1 of a is nan and is left out"]


def test_the_status_lists_what_was_asked_for_first_and_a_warning_counts_the_rest() -> None:
    subjects = {f"mmlu_{number}": {"acc,none": 0.5} for number in range(70)}
    results = subjects | {"mmlu_law": {"acc,none": 0.6}, "mmlu": {"acc,none": 0.7}}
    tasks = harness.scores_of({"results": results, "groups": {"mmlu_law": {}}}, None, ["mmlu"], pytest.fail)
    rows = [EvaluationScore(metric="f1", value=1.0), EvaluationScore(metric="f1", field="total", value=1.0)]
    events: list[Any] = []
    listed = fitting([*rows, *tasks], events.append)
    assert [one.task for one in listed[:4]] == [None, "mmlu", "mmlu_law", "mmlu_0"] and len(listed) == MAX_SCORES
    assert [event.message for event in events] == [
        "status.evaluation has room for 64 scores: 9 are in harness.json only",
        "status.evaluation has room for 64 scores: scores of 1 field(s) are left out; evaluation.jsonl has each answer",
    ]
