"""Evaluation by generation: a tiny model that learned its rows scores 1 where the base model scores 0."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rapidfuzz.distance import Indel
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from model_garden.contract.defaults import merge
from model_garden.contract.progress import CheckpointEvent, EvaluationEvent, ProgressEvent, StageEvent, WarningEvent
from model_garden.contract.status import EvaluationStatus, Progress
from model_garden_trainer.errors import Stopped, TrainingError
from model_garden_trainer.evaluation import evaluate
from tests.trainer.preferences import assert_a_resumed_run_equals, write_rows
from tests.trainer.workspace import TEXT, VISION, Told, Workspace, config

LEARN: dict[str, Any] = {
    "datasetPath": "./data/cities.jsonl",
    "hyperparameters": {
        "learningRate": 1e-2, "batchSize": 2, "gradientAccumulationSteps": 1, "maxSteps": 70, "warmupSteps": 1,
        "lrSchedulerType": "cosine", "saveSteps": 100,
    },
}  # fmt: skip
RANK = {"loraConfig": {"r": 64, "loraAlpha": 64}}
WHOLE = {"adapter": "none", "hyperparameters": {"learningRate": 3e-3, "maxSteps": 40}}
ASKED = {"datasetPath": "./data/held.jsonl", "metrics": ["exact_match"], "maxNewTokens": 64}


def turns(prompt: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]}


def write_cities(folder: Path) -> None:
    """Two rows to train on, and the same in another file to evaluate with: what is learned is known."""
    answers = [json.dumps({"city": name, "at": {"row": number}}) for number, name in enumerate(("Rome", "Oslo"))]
    rows = [turns("Rome?", answers[0]), turns("And where in the world is Oslo?", answers[1])]
    write_rows(folder / "data/cities.jsonl", rows)
    write_rows(folder / "data/held.jsonl", rows)


def evaluations(told: Told) -> list[EvaluationStatus]:
    return [event.evaluation for event in told.events if isinstance(event, EvaluationEvent)]


def progress(told: Told) -> list[Progress]:
    return [event.progress for event in told.events if isinstance(event, ProgressEvent)]


def scores(found: EvaluationStatus) -> dict[str, tuple[float | None, float]]:
    return {f"{one.metric} {one.field or ''}".strip(): (one.base_value, one.value) for one in found.scores}


@pytest.mark.train
def test_a_model_that_learned_its_rows_scores_one_and_its_base_model_zero(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[str] = []

    def counted(expected: str, answer: str) -> float:
        compared.append(expected)
        return original(expected, answer)

    original = Indel.normalized_similarity
    monkeypatch.setattr(Indel, "normalized_similarity", counted)
    write_cities(workspace.folder)
    asked = ASKED | {"metrics": ["exact_match", "json_fields", "anls", "similarity"], "everyEvaluations": 2}
    learn = merge(LEARN, {"validationDatasetPath": "./data/held.jsonl", "hyperparameters": {"evalSteps": 35}})
    outcome, told = workspace.train(config("job", TEXT, learn, RANK, {"evaluation": asked}))
    assert outcome.result == "Succeeded" and outcome.output and outcome.output.verified
    [status] = evaluations(told)
    found = scores(status)
    assert found["exact_match"] == found["anls"] == found["json_fields_f1"] == (0, 1)
    assert found["json_fields_invalid"] == (1, 0), "no answer of the base model is JSON"
    assert found["json_fields_accuracy city"] == found["json_fields_accuracy at.row"] == (0, 1)
    assert (status.rows, status.total_rows, status.dataset_path) == (2, 2, "./data/held.jsonl")
    details = [event.detail for event in told.events if isinstance(event, StageEvent) and event.stage == "verifying"]
    assert "evaluating the trained model: 2 of 2 answers" in details
    assert "scoring the base model: 2 of 2 answers" in details
    oslo = json.dumps({"city": "Oslo", "at": {"row": 1}})  # no sample answer is of this row
    assert compared.count(oslo) == 3, "each model's answers are scored once each time: it may take seconds"

    folder = workspace.folder / "models/job"
    lines = [json.loads(line) for line in (folder / "evaluation.jsonl").read_text().splitlines()]
    assert status.path == "./models/job/evaluation.jsonl" and [line["row"] for line in lines] == [
        f"data/held.jsonl row {number}" for number in (1, 2)
    ]
    assert all([line["answer"]] == line["expected"] and not line["cut"] for line in lines)
    assert all(line["scores"]["exact_match"] == 1 and line["baseScores"]["exact_match"] == 0 for line in lines)
    assert lines[0]["prompt"] == "Rome?"
    card = (folder / "README.md").read_text()
    assert (
        "| exact_match | 0.0000 | 1.0000 |" in card and "| json_fields_accuracy of `at.row` | 0.0000 | 1.0000 |" in card
    )
    assert any(line.get("evaluation", {}).get("exact_match") == 1 for line in workspace.metrics("job"))
    during = [one.to_dict() for one in progress(told) if "eval_exact_match" in (one.metrics or {})]
    at_the_end = {one.metric: one.value for one in status.scores if one.field is None}
    assert [(one["step"], one["metrics"]) for one in during] == [
        (70, {f"eval_{name}": value for name, value in at_the_end.items()})
    ], "the model scores in training as its saved files do, at the second evaluation of two"
    assert (
        "### During training" in card
        and "| 70 | 1.0000 | 1.0000 | 1.0000 | 1.0000 | 0.0000 | 1.0000 | 1.0000 |" in card
    )

    _, again = workspace.train(config("job", TEXT, learn, RANK, {"evaluation": asked}))
    assert evaluations(again) == [status], "a pod that comes back tells the scores that the first one wrote down"

    asked = ASKED | {"metrics": ["anls"], "compareBase": False}
    _, other = workspace.train(config("job", TEXT, learn, RANK, {"evaluation": asked}))
    assert [scores(one) for one in evaluations(other)] == [{"anls": (None, 1)}]
    assert workspace.record("job")["evaluationDuringTraining"] == [{"step": 70, "scores": {"anls": 1}}]
    workspace.train(config("job", TEXT, learn, RANK, {"evaluation": asked | {"maxRows": 1}}))
    assert workspace.record("job")["evaluationDuringTraining"] is None, "these scores are of two rows"
    assert not [event for event in other.events if isinstance(event, CheckpointEvent)], "it is not trained again"


@pytest.mark.train
def test_boxes_of_a_vision_model_are_scored(workspace: Workspace) -> None:
    pictures = sorted((workspace.folder / "data/vision_test_dataset_images").glob("*.png"))[:2]
    rows = [
        {"text": "Where?", "image": f"vision_test_dataset_images/{picture.name}", "response": answer, "boxes": boxes}
        for picture, answer, boxes in zip(
            pictures,
            ("[10, 20, 30, 40]", "[50, 60, 70, 80]"),
            (["[10, 20, 30, 40]"], ["[50, 60, 70, 70]"]),
            strict=True,
        )
    ]
    write_rows(workspace.folder / "data/cities.jsonl", rows)
    write_rows(workspace.folder / "data/held.jsonl", rows)
    asked = ASKED | {"metrics": ["iou"], "answerColumn": "boxes"}
    outcome, told = workspace.train(
        config("boxes", VISION, LEARN, WHOLE, {"evaluation": asked, "reportTo": ["tensorboard"]})
    )
    assert outcome.result == "Succeeded"
    [status] = evaluations(told)
    assert scores(status)["iou"] == (0, 0.75)  # the second expected box is half as high
    assert scores(status)["iou_accuracy_at_0.5"] == (0, 1)
    curves = EventAccumulator(str(workspace.folder / "models/boxes/runs"))
    curves.Reload()
    assert [(point.step, point.value) for point in curves.Scalars("evaluation/iou")] == [(40, 0.75)]


@pytest.mark.train
def test_answers_during_training_change_nothing_and_a_resumed_run_gives_the_same(workspace: Workspace) -> None:
    pictures = sorted((workspace.folder / "data/vision_test_dataset_images").glob("*.png"))[:4]
    rows = [{"text": "Where?", "image": f"{one.parent.name}/{one.name}", "response": "Here."} for one in pictures]
    write_rows(workspace.folder / "data/cities.jsonl", rows)
    write_rows(workspace.folder / "data/held.jsonl", rows[:2])
    five = {"trainOn": "all", "hyperparameters": {"maxSteps": 5, "evalSteps": 1, "learningRate": 1e-3}}
    held = {"validationDatasetPath": "./data/held.jsonl", "loraConfig": {"loraDropout": 0.1}}
    asked = {"metrics": ["similarity"], "maxNewTokens": 8, "compareBase": False, "everyEvaluations": 2}
    quiet, answering, broken = (
        config(name, VISION, LEARN, five, held, {"evaluation": more})
        for name, more in (("quiet", asked | {"everyEvaluations": 9}), ("answering", asked), ("broken", asked))
    )
    _, without = workspace.train(quiet)
    _, told = workspace.train(answering)
    assert told.losses == without.losses and told.eval_losses == without.eval_losses
    points = [one for one in progress(told) if one.metrics]
    assert [one.step for one in points] == [2, 4], "the fifth evaluation has no answers"
    assert {(event.stage, event.detail) for event in told.events if isinstance(event, StageEvent)} >= {
        ("evaluating", "evaluating the model: 2 of 2 answers")
    }
    assert progress(told)[-2].answering_seconds and not progress(without)[-2].answering_seconds
    assert_a_resumed_run_equals(workspace, "answering", broken)


@pytest.mark.train
def test_a_run_that_is_asked_to_stop_leaves_the_answers_out_and_writes_its_checkpoint(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from model_garden_trainer.engine.stopping import StopRequests
    from model_garden_trainer.evaluation import answering

    requests, tokens, original = StopRequests(), [], answering.generate

    def generate(model: Any, tokenizer: Any, *rest: Any) -> list[answering.Answer]:
        requests.stop = True
        [answer] = original(model, tokenizer, *rest)
        tokens.append(len(tokenizer.encode(answer.text)))
        return [answer]

    monkeypatch.setattr(answering, "generate", generate)
    write_cities(workspace.folder)
    asked = ASKED | {"everyEvaluations": 1, "batchSize": 1}
    more = {"validationDatasetPath": "./data/held.jsonl", "evaluation": asked, "hyperparameters": {"evalSteps": 2}}
    events: list[Any] = []
    with pytest.raises(Stopped) as stopped:
        workspace.train(config("job", TEXT, LEARN, more), requests=requests, on_event=events.append)
    assert stopped.value.checkpoint_step == 2
    assert (workspace.folder / "models/job/checkpoints/checkpoint-2/complete.json").is_file()
    assert len(tokens) == 1 and tokens[0] < 9, "the first batch is cut short, and there is no second"
    warnings = [event.message for event in events if isinstance(event, WarningEvent)]
    assert "step 2: the rows of evaluation are not answered, because the run was asked to stop" in warnings


@pytest.mark.train
def test_long_answers_and_slow_scores_are_no_hang(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from model_garden_trainer.engine.watchdog import Watchdog
    from model_garden_trainer.evaluation import answering

    beats, generated, scoring, original = 0, [], [], answering.generate

    def beat(self: Watchdog) -> None:
        nonlocal beats
        beats += 1

    def generate(*options: Any) -> list[answering.Answer]:
        before = beats
        answers = original(*options)
        generated.append(beats - before)
        return answers

    def note(event: Any) -> None:
        if isinstance(event, StageEvent) and "scoring" in str(event.detail) and event.stage == "evaluating":
            scoring.append(beats)

    monkeypatch.setattr(Watchdog, "beat", beat)
    monkeypatch.setattr(answering, "generate", generate)
    monkeypatch.setattr(evaluate, "REPORT_SECONDS", 0.0)
    write_cities(workspace.folder)
    asked = ASKED | {"everyEvaluations": 1, "compareBase": False}
    more = {"validationDatasetPath": "./data/held.jsonl", "evaluation": asked, "hyperparameters": {"maxSteps": 1}}
    workspace.train(config("job", TEXT, LEARN, more), on_event=note)
    assert generated[0] >= 64, "one of 64 tokens each"
    assert len(scoring) == 3 and scoring[0] < scoring[1] < scoring[2], "one of each of two scores"


@pytest.mark.train
def test_an_evaluation_that_fails_is_a_warning(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from model_garden_trainer import verify
    from model_garden_trainer.engine import answers

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no kernel image")

    monkeypatch.setattr(verify, "evaluate", broken)
    monkeypatch.setattr(answers, "answer_all", broken)
    write_cities(workspace.folder)
    more = {"validationDatasetPath": "./data/held.jsonl", "evaluation": ASKED | {"everyEvaluations": 1}}
    job = config("job", TEXT, LEARN, more, {"hyperparameters": {"maxSteps": 1}})
    outcome, told = workspace.train(job)
    assert outcome.result == "Succeeded" and outcome.output and outcome.output.verified and not evaluations(told)
    warned = "the model is saved, but its answers could not be evaluated: RuntimeError: no kernel image"
    assert warned in told.warnings
    assert "step 1: the rows of evaluation could not be answered: RuntimeError: no kernel image" in told.warnings


def test_a_batch_that_needs_too_much_memory_is_halved_and_reasoning_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    from model_garden_trainer.evaluation import answering

    tried: list[int] = []

    def generate(model: Any, tokenizer: Any, prompts: list[int], new_tokens: int, ended: Any) -> list[Any]:
        tried.append(len(prompts))
        if len(prompts) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return [answering.Answer(f"<think>\nhm\n</think>\n\n{prompt}", cut=False) for prompt in prompts]

    monkeypatch.setattr(answering, "generate", generate)
    asked: list[Any] = [SimpleNamespace(example=number) for number in range(5)]
    encoder: Any = SimpleNamespace(tokenizer=None, prompts=list)
    found = answering.answer_all(asked, None, encoder, new_tokens=8, batch_size=8)
    assert [one.text for one in found] == ["0", "1", "2", "3", "4"]
    assert tried == [5, 4, 2, 2, 1]


@pytest.mark.train
def test_unwanted_answers_of_kto_are_neither_checked_nor_counted(workspace: Workspace) -> None:
    from model_garden_trainer.batches.splits import open_data
    from model_garden_trainer.evaluation.questions import questions

    rows = [
        {"prompt": f"Name {number}.", "completion": text, "label": wanted}
        for number in range(3)
        for text, wanted in (("I cannot.", False), (json.dumps({"a": number}), True))
    ]
    write_rows(workspace.folder / "data/rows.jsonl", rows[::-1])
    write_rows(workspace.folder / "data/held.jsonl", rows)
    asked = ASKED | {"metrics": ["json_fields"], "maxRows": 3}
    spec = config("job", TEXT, {"method": "kto", "datasetPath": "./data/rows.jsonl", "evaluation": asked}).spec
    found = questions(spec, open_data(spec, 1))
    assert [one.accepted for one in found] == [('{"a": 0}',), ('{"a": 1}',), ('{"a": 2}',)]


@pytest.mark.train
@pytest.mark.parametrize(
    ("rows", "asked", "words"),
    [
        (
            [turns("Hi", "no JSON")],
            {"metrics": ["json_fields"]},
            "held.jsonl row 1: the expected answer 'no JSON' is no",
        ),
        ([turns("Hi", "no box")], {"metrics": ["iou"]}, "held.jsonl row 1: the expected answer 'no box' has no box"),
        ([turns("Hi", "a"), {"messages": 3}], {}, "held.jsonl row 2"),
        ([{"text": "Once upon a time."}], {}, "held.jsonl row 1: is plain text, which has no prompt"),
        ([{"text": "Once", "gold": "x"}], {"answerColumn": "gold"}, "held.jsonl row 1: is plain text, which has no"),
        (
            [turns("Hi", "a")],
            {"answerColumn": "truth"},
            "held.jsonl row 1: has no expected answer to compare with; add",
        ),
        ([turns("Hi", "a")], {"datasetPath": "data/../data/cities.jsonl"}, "whose rows spec.datasetPath trains on"),
    ],
)
def test_rows_that_cannot_be_scored_are_named_before_training(
    workspace: Workspace, rows: list[dict[str, Any]], asked: dict[str, Any], words: str
) -> None:
    write_cities(workspace.folder)
    write_rows(workspace.folder / "data/held.jsonl", rows)
    with pytest.raises(TrainingError, match=words) as raised:
        workspace.train(config("job", TEXT, LEARN, {"evaluation": ASKED | asked}))
    assert raised.value.reason == "InvalidDataset"
