"""``python -m model_garden_trainer verify``: a fresh process that loads what a run saved, and answers some of its rows.

A process of its own: nothing that the run loaded or patched can hide a fault. It prints one line of JSON:
what was found, or a text with the cause of its failure.
"""

from __future__ import annotations

import gc
import json
import math
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from model_garden.contract.spec import EffectiveSpec
from model_garden.contract.status import EvaluationScore, EvaluationStatus
from model_garden.contract.time import timestamp
from model_garden.contract.trainer_config import TrainerConfig
from model_garden.datasets import Example
from model_garden.datasets.pictures import decode
from model_garden_trainer.batches.collator import Batch, Collator
from model_garden_trainer.batches.splits import Data, open_data
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.evaluation import harness
from model_garden_trainer.evaluation.answering import BaseModel
from model_garden_trainer.evaluation.evaluate import evaluate, fitting
from model_garden_trainer.events import EventPrinter, Report
from model_garden_trainer.exports import gguf
from model_garden_trainer.exports.outputs import Exports
from model_garden_trainer.exports.sample_answers import (
    Question,
    ask,
    first_exchange,
    questions,
    scores,
)
from model_garden_trainer.models import auto_classes, peft_adapter
from model_garden_trainer.models.quantized import comes_quantized, precision, quantization_config

TOLERANCE = 0.05
"""Largest distance between merged and adapted logits, as a share of their norm: 16-bit rounding stays well below it."""
COARSE_TOLERANCE = 0.5
"""The same for a merged model in 4 bit, whose rounding is a share of the weights themselves."""


def verify(config: TrainerConfig, base: Path, output: Path, made: Exports, report: Report) -> dict[str, Any]:
    """Load adapter and exports from disk, let each answer a row, and compare them.

    Args:
        config: the job's.
        base: the folder of its base model.
        output: the output folder.
        made: the exports.
        report: gets the progress of an evaluation.

    Returns:
        ``row``, ``answer`` and the ``precision`` of the weights that gave this and all other answers; ``difference``
        between merged and adapted logits and ``ggufAnswer`` where there are such outputs; ``samples``, their ``scores``
        and ``thumbnails``, or ``samplesFailed``, which is no fault of an output; ``evaluation`` or ``evaluationFailed``
        where the spec asks for one.

    Raises:
        TrainingError: ExportFailed, saying which output is at fault.
    """
    spec = config.spec
    data = open_data(spec, _seed(config))
    example = (data.validation if len(data.validation) else data.training)[0]
    encoder = _encoder(spec, base, output)
    saved = _Saved(spec, base, output, made, data, encoder, example, Question.of(example, encoder), report)
    if spec.adapter == "none":
        result, logits, change = _verify_model(saved)
    else:
        result, logits, change = _verify_adapter(saved)
    _free()
    if made.merged:
        result["difference"] = _compare(spec, made.merged, example, logits, change=change)
    if made.gguf:
        result["ggufAnswer"] = _answer_by_llama_cpp(spec, made, example, encoder, saved.question)
    return result


@dataclass(frozen=True)
class _Saved:
    """What a run saved, the row that it answers first, and who is told of the progress."""

    spec: EffectiveSpec
    base: Path
    output: Path
    made: Exports
    data: Data
    encoder: Collator
    example: Example
    question: Question
    report: Report

    def first_answer(self, model: Any) -> dict[str, Any]:
        """The row and its answer by ``model``, and in what precision that holds its weights."""
        answer = self.question.answer(model, self.encoder.tokenizer)
        return {"row": self.question.origin, "answer": answer, "precision": precision(model)}


def _verify_adapter(saved: _Saved) -> tuple[dict[str, Any], torch.Tensor, float]:
    """What base model and adapter answer, their logits of the row, and how far the adapter changes those."""
    spec, row = saved.spec, saved.encoder([saved.example])
    in_4_bit = saved.made.merged is None and spec.lora_config.init_lora_weights != "loftq"  # its adapter is for 16 bit
    model = peft_adapter.load(_load(spec, saved.base, as_trained=in_4_bit), saved.output).eval()

    @contextmanager
    def without_adapters() -> Iterator[Any]:
        with model.disable_adapter():
            yield model

    adapted = _logits(model, row, saved.output)
    with without_adapters() as plain:
        change = _distance(_logits(plain, row, saved.base), adapted)
    return saved.first_answer(model) | _answers(saved, model, without_adapters), adapted, change


def _verify_model(saved: _Saved) -> tuple[dict[str, Any], torch.Tensor, float]:
    """The same for a model that was trained whole, which an export must not change."""
    model = _load(saved.spec, saved.output).eval()

    @contextmanager
    def untrained() -> Iterator[Any]:
        yield _load(saved.spec, saved.base).eval()

    trained = _logits(model, saved.encoder([saved.example]), saved.output)
    return saved.first_answer(model) | _answers(saved, model, untrained), trained, 0.0


def _free() -> None:
    """Free the memory of a model that is no longer used: one with adapters refers to itself."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _answers(saved: _Saved, model: Any, base: BaseModel) -> dict[str, Any]:
    """What base model and trained model answer: sample rows, and those of an evaluation."""
    found, asked = _samples(saved.data, saved.encoder, model, base), saved.spec.evaluation
    status = EvaluationStatus(scores=[])
    scored: list[EvaluationScore] = []
    if asked and asked.metrics:
        try:
            status, scored = evaluate(saved.spec, saved.data, model, base, saved.encoder, saved.output, saved.report)
        except Exception as error:  # the model is saved, and its check does not depend on how it scores
            found["evaluationFailed"] = f"{type(error).__name__}: {error}"
    if asked and asked.harness_tasks:
        try:
            scored += harness.scores(saved.spec, model, base, saved.encoder.tokenizer, saved.output, saved.report)
        except Exception as error:
            found["harnessFailed"] = f"{type(error).__name__}: {error}"
    if scored:
        status.scores = fitting(scored, saved.report)
        status.completion_time = timestamp()
        found["evaluation"] = status.to_dict()
    return found


def _samples(data: Data, encoder: Collator, model: Any, base: BaseModel) -> dict[str, Any]:
    try:
        asked = questions(data, encoder)
        samples = ask(asked, model, base, encoder.tokenizer)
        thumbnails = [question.thumbnail() for _, question in asked]
    except Exception as error:  # the outputs passed their check; this is only to look at
        return {"samplesFailed": f"{type(error).__name__}: {error}"}
    return {
        "samples": [sample.to_dict() for sample in samples],
        "scores": scores(samples).to_dict(),
        "thumbnails": thumbnails,
    }


def _compare(spec: EffectiveSpec, merged: Path, example: Example, adapted: torch.Tensor, *, change: float) -> float:
    """The distance between the logits of the merged model, loaded from its folder alone, and those of the adapted one.

    Args:
        spec: the job's.
        merged: the folder of the merged model.
        example: the row.
        adapted: logits of base model and adapter.
        change: what the adapter changes: their distance to those of the base model.

    Raises:
        TrainingError: ExportFailed.
    """
    encoder = _encoder(spec, merged, merged)
    model = _load(spec, merged).eval()
    fused = _logits(model, encoder([example]), merged)
    Question.of(example, encoder).answer(model, encoder.tokenizer)
    difference = _distance(fused, adapted)
    coarse = spec.save_method == "merged_4bit"
    lost = change > TOLERANCE and difference > change / 2 and not coarse
    if difference > (COARSE_TOLERANCE if coarse else TOLERANCE) or lost:
        raise TrainingError(
            "ExportFailed",
            f"{merged}: the merge failed: the merged model's logits differ by {difference:.1%} from those of base "
            f"model and adapter (the adapter itself changes them by {change:.1%}); the adapter is kept",
        )
    return difference


def _answer_by_llama_cpp(
    spec: EffectiveSpec, made: Exports, example: Example, encoder: Collator, question: Question
) -> str:
    room = 2 * question.prompt["input_ids"].shape[1] + question.new_tokens + 512  # its count of image tokens may differ
    exchange = first_exchange(example)
    if not spec.vision:
        rendered = encoder.render(exchange)
        prompt = rendered.prompt or rendered.text[: len(rendered.text) // 2]
        return gguf.answer(spec, made, prompt, (), room, question.new_tokens)
    asked = next((message for message in reversed(exchange.messages) if message.role == "user"), exchange.messages[0])
    prompt = "".join(part for part in asked.parts if isinstance(part, str))
    with tempfile.TemporaryDirectory() as folder:
        pictures = []
        for number, image in enumerate(exchange.images):
            pictures.append(Path(folder) / f"{number}.png")
            decode(image, encoder.min_pixels, encoder.max_pixels).save(pictures[-1])
        return gguf.answer(spec, made, prompt, pictures, room, question.new_tokens)


def _encoder(spec: EffectiveSpec, model: Path, output: Path) -> Collator:
    """A collator by the files of an output of ``model``. It labels every answer, whatever the run trained on, because a
    question ends where the labels begin."""
    plain = spec.model_copy(update={"train_on": "responses", "selective_loss": "none", "chat_template": None})
    return auto_classes.collator(plain, model, output)


def _load(spec: EffectiveSpec, folder: Path, *, as_trained: bool = False) -> Any:
    """A model from disk, on the GPU where there is one, as far as it fits.

    ``as_trained`` quantizes the base model as in training, in which it fits where training did; a merge is compared in
    16 bit, for quantizing changes logits more than a wrong merge might.
    """
    narrow = spec.quantization == "16bit" or comes_quantized(folder)  # what is not quantized there is in 16 bit
    wide = not torch.cuda.is_available() and not narrow
    options: dict[str, Any] = {"dtype": torch.float32 if wide else torch.bfloat16, "local_files_only": True}
    if torch.cuda.is_available():
        options["device_map"] = "auto"
        if as_trained and spec.quantization in ("4bit", "8bit"):
            options["quantization_config"] = quantization_config(spec.quantization)
    return auto_classes.model_class(spec, folder).from_pretrained(folder, **options)


def _logits(model: Any, batch: Batch, folder: Path) -> torch.Tensor:
    """Logits of the row's last 64 tokens (64, vocabulary), float32."""
    inputs = {key: value.to(model.device) for key, value in batch.items() if key != "labels"}
    with torch.inference_mode():
        logits: torch.Tensor = model(**inputs, use_cache=False).logits[0, -64:].float()
    if not bool(torch.isfinite(logits).all()):
        raise TrainingError("ExportFailed", f"{folder}: the model computes NaN or infinite logits; the adapter is kept")
    return logits


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


def _seed(config: TrainerConfig) -> int:
    h = config.spec.hyperparameters
    return (h.seed if h else None) or 0


def main(request: str, config: TrainerConfig) -> None:
    """Read the request that ``outputs.verify`` wrote, and print what was found."""
    places = {key: Path(path) for key, path in json.loads(request).items()}
    base, output = places.pop("base"), places.pop("output")
    found = verify(config, base, output, Exports(**places), EventPrinter(sys.stdout))
    assert math.isfinite(found.get("difference", 0.0))
    print(json.dumps(found), flush=True)
