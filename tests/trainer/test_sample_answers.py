"""Rows answered before and after training: which rows, how they are scored, where they are told."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from model_garden.contract.progress import SampleEvent, event_line
from model_garden.datasets.example import Example, Message
from model_garden.datasets.origin import Origin
from model_garden_trainer.exports import sample_answers
from model_garden_trainer.exports.sample_answers import Question, Sample, first_exchange, scores
from tests.trainer.workspace import QUICK, TEXT, VISION, Workspace, config


def test_scores_are_means_of_exact_matches_and_of_likeness() -> None:
    rows = (("r1", "?", "red", "red", "red"), ("r2", "?", "blue", "", "blue"), ("r3", "?", "abcd", "xx", "abxd"))
    scored = scores([Sample("train", *row) for row in rows]).train
    assert scored.rows == 3
    assert (scored.exact_match_before, scored.exact_match_after) == (0.3333, 0.6667)
    assert (scored.similarity_before, scored.similarity_after) == (0.3333, 0.9167)


def test_training_rows_and_validation_rows_are_scored_apart() -> None:
    learned, unknown = Sample("train", "r1", "?", "red", "", "red"), Sample("validation", "r2", "?", "blue", "", "red")
    found = scores([learned, unknown])
    assert found.validation is not None
    assert (found.train.exact_match_after, found.validation.exact_match_after) == (1.0, 0.0)
    assert scores([learned]).validation is None


@pytest.mark.train
def test_the_expected_answer_is_what_follows_the_prompt(workspace: Workspace) -> None:
    from model_garden_trainer.models import auto_classes

    spec = config("job", TEXT, {"chatTemplate": "trl/qwen3_5_nothink_training"}).spec
    encoder = auto_classes.collator(spec, Path(spec.base_model))
    turns = (Message("user", ("A color?",)), Message("assistant", ("Blue.",)))
    question = Question.of(Example("chat", turns, Origin("rows.jsonl", 1)), encoder)
    assert encoder.tokenizer.decode(question.prompt["input_ids"][0]).endswith("assistant\n<think>\n\n</think>\n\n")
    assert question.expected == "Blue.", "the template marks <think> as part of the answer"


@pytest.mark.train
@pytest.mark.parametrize(
    ("kind", "held_out"), [(VISION, {"validationFraction": 0.3}), (TEXT, {})], ids=["vision", "text"]
)
def test_training_shows_in_the_answers(workspace: Workspace, kind: dict[str, Any], held_out: dict[str, Any]) -> None:
    part = {"hyperparameters": {"maxSteps": 40, "learningRate": 1e-2}}
    outcome, told = workspace.train(config("job", kind, QUICK, part, held_out), sample_rows=10)
    assert outcome.output is not None and outcome.output.samples is not None
    assert not [
        warning for warning in told.warnings if "answered" in warning
    ]  # a busy machine warns of waiting for data
    scored = outcome.output.samples
    assert scored.train.rows == (7 if held_out else 10)
    assert scored.validation is None if not held_out else scored.validation and scored.validation.rows == 3
    if kind is VISION:  # 40 steps move a random text model's answers in no certain direction
        assert scored.train.similarity_after > scored.train.similarity_before

    folder = workspace.folder / "models/job"
    written = json.loads((folder / "samples.json").read_text())
    assert written["scores"] == scored.to_dict() and len(written["samples"]) == 10
    assert all(sample["row"] and sample["expected"] for sample in written["samples"])
    shown = [event.sample for event in told.events if isinstance(event, SampleEvent)]
    assert [(one.row, one.after) for one in shown] == [(one["row"], one["after"]) for one in written["samples"]]
    assert all(len(event_line(SampleEvent(sample=one))) < 16_000 for one in shown), "containerd splits longer lines"
    for one in shown if kind is VISION else ():
        assert one.question and one.thumbnail
        assert Image.open(io.BytesIO(base64.b64decode(one.thumbnail))).format == "JPEG"
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 40 and last["samples"] == written["samples"]
    card = (folder / "README.md").read_text()
    assert "rows that it was trained on" in card and ("which it was not trained on" in card) is bool(held_out)
    assert all(f"`{sample['row']}`" in card for sample in written["samples"])


@pytest.mark.train
def test_rows_that_cannot_be_answered_are_a_warning(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no kernel image")

    from model_garden_trainer import verify

    monkeypatch.setattr(verify, "ask", broken)
    rows = workspace.folder / "data/plain.jsonl"
    rows.write_text('{"text": "Once upon a time there was a king."}\n' * 3)
    job = config("job", TEXT, QUICK, {"datasetPath": "./data/plain.jsonl", "hyperparameters": {"maxSteps": 1}})
    outcome, told = workspace.train(job)
    assert outcome.output is not None and outcome.output.verified and outcome.output.samples is None
    assert told.warnings == ["no rows were answered for comparison: RuntimeError: no kernel image"]


@pytest.mark.train
def test_what_is_asked_is_a_row_up_to_its_first_answer(workspace: Workspace) -> None:
    """Whatever is trained on; a row of plain text is continued from its middle, long answers are not waited for."""
    from model_garden_trainer.batches.splits import open_data
    from model_garden_trainer.verify import _encoder

    rows = [
        {"messages": [{"role": r, "content": c} for r, c in (("user", "A?"), ("assistant", "b"), ("user", "C?"))]},
        {"prompt": "One:", "completion": "two " * 200},
        {"text": "alpha beta gamma delta epsilon zeta"},
    ]
    rows[0]["messages"].append({"role": "assistant", "content": "d"})  # type: ignore[attr-defined]
    (workspace.folder / "data/mixed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = config("job", TEXT, {"datasetPath": "./data/mixed.jsonl", "trainOn": "all"}).spec
    model = workspace.folder / "models/qwen2"
    encoder = _encoder(spec, model, model)
    splits, asked = zip(*sample_answers.questions(open_data(spec, 0), encoder), strict=True)
    prompts = [encoder.tokenizer.decode(question.prompt["input_ids"][0]) for question in asked]
    assert set(splits) == {"train"} and asked[0].expected == "b" and "C?" not in prompts[0]
    assert prompts[0].rstrip().endswith("assistant")
    assert prompts[1] == "One:" and asked[1].new_tokens == sample_answers.NEW_TOKENS
    assert asked[1].expected.startswith("two two") and len(asked[1].expected) < 800
    assert prompts[2] + asked[2].expected in "alpha beta gamma delta epsilon zeta" and len(prompts[2]) > 8
    assert len(first_exchange(open_data(spec, 0).training[0]).messages) == 2
