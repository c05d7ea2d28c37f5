"""The model card of an output: its base model, its data, its settings, and how to load it."""

from __future__ import annotations

from typing import Any

from model_garden.contract.adapter_rules import DOUBLES_RANK
from model_garden.contract.addresses import is_remote
from model_garden.contract.options import EffectiveLoraConfig
from model_garden.contract.spec import EffectiveSpec, is_on_hub
from model_garden.contract.status import (
    DatasetStatus,
    EvaluationScore,
    EvaluationStatus,
    OutputStatus,
    Samples,
    SampleScores,
)
from model_garden.contract.trainer_config import TrainerConfig
from model_garden.serving import uses
from model_garden_trainer.exports.sample_answers import NEW_TOKENS


def model_card(config: TrainerConfig, dataset: DatasetStatus, output: OutputStatus, record: dict[str, Any]) -> str:
    """The card as Markdown with the Hub's metadata on top."""
    spec, h = config.spec, config.spec.hyperparameters
    lora, tokens, whole = spec.lora_config, dataset.tokens, spec.adapter == "none"
    metadata = [
        "---",
        *(
            [f"base_model: {spec.base_model}"] if is_on_hub(spec.base_model) else []
        ),  # the Hub accepts only ids of its own models
        f"library_name: {'transformers' if whole else 'peft'}",
        f"pipeline_tag: {'image-text-to-text' if spec.vision else 'text-generation'}",
        f"tags: [{'full-fine-tuning' if whole else 'lora'}, model-garden]",
        "---",
    ]
    figures = {
        **_method(spec, record),
        "Base model": spec.base_model + (f" at {spec.base_model_revision}" if spec.base_model_revision else ""),
        "Data set": f"{spec.dataset_path}: {dataset.rows} rows"
        + (f", {dataset.validation_rows} for validation" if dataset.validation_rows else "")
        + (f", {dataset.images} images" if dataset.images else ""),
        "Tokens a row": f"median {tokens.median}, 95th percentile {tokens.p95}, longest {tokens.maximum}"
        if tokens
        else "-",
        "Steps": f"{output.trained_steps} of {h.batch_size} x {h.gradient_accumulation_steps} rows"
        + (f" in each of {processes} processes" if (processes := record["batch"]["processes"]) > 1 else ""),
        "Final loss": f"{output.final_loss:.4f}" if output.final_loss is not None else "-",
        **_weights(output),
        "Learning rate": f"{h.learning_rate:g}, {h.lr_scheduler_type}, {h.optim}",
        **({"Trained on": "answers" if spec.train_on == "responses" else "all text"} if spec.method == "sft" else {}),
        **({"Trained": _sides(lora)} if whole else {"LoRA": ", ".join(_lora(lora))}),
        "Quantization": _quantization(spec, record["verification"]),
        **({"Continued from": spec.adapter_path} if spec.adapter_path else {}),
        "Backend": f"{record['backend']['name']} ({record['backend']['reason']})",
    }
    for tracker in output.trackers or ():
        figures[tracker.name] = tracker.url or f"`{tracker.path}`"
    if spec.vision and spec.image_options:
        figures["Image area"] = f"{spec.image_options.min_pixels} to {spec.image_options.max_pixels} pixels"
    table = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in figures.items())]
    return "\n".join(
        [
            *metadata,
            "",
            f"# {config.name}",
            "",
            f"{spec.base_model}, fine-tuned {'as a whole' if whole else 'with LoRA'} by Model Garden.",
            "",
            *table,
            "",
            *_evaluation(record.get("evaluation"), spec, record["verification"]),
            *_during_training(record.get("evaluationDuringTraining"), spec),
            *_samples(record["verification"], output.samples),
            "## Load it",
            "",
            "```python",
            *_loading(config, output),
            "```",
            "",
            *_loaded_otherwise(record["verification"]),
            *_serving(config, output),
            "The licence of the base model applies; see its page. All settings and versions are in "
            "`training_config.json`, the course of the training in `metrics.jsonl`.",
            "",
        ]
    )


def _weights(output: OutputStatus) -> dict[str, str]:
    """Which step's weights these are, where they need not be the last one's."""
    if output.best_step is None:
        return {}
    chosen = f"of step {output.best_step} of {output.trained_steps}, the lowest validation loss"
    return {"Weights": f"{chosen} ({output.best_eval_loss:.4f})"}


def _method(spec: EffectiveSpec, record: dict[str, Any]) -> dict[str, str]:
    """The training method with its settings, and its own figures at the end; nothing for supervised fine-tuning."""
    if spec.method == "sft":
        return {}
    settings = spec.to_dict().get(spec.method, {})
    listed = "".join(f", {name} {value}" for name, value in settings.items())
    figures = ", ".join(f"{name} {value:.4g}" for name, value in (record.get("metrics") or {}).items())
    return {"Method": f"{spec.method}{listed}"} | ({"Figures": figures} if figures else {})


def _sides(lora: EffectiveLoraConfig) -> str:
    """What a full fine-tuning trained."""
    sides = {"language model": lora.finetune_language_layers, "vision tower": lora.finetune_vision_layers}
    return f"all weights of the {' and the '.join(side for side, trained in sides.items() if trained)}"


def _lora(lora: EffectiveLoraConfig) -> list[str]:
    """The settings of the adapter, as a list of words."""
    words = [f"r {lora.r}", f"alpha {lora.lora_alpha}", f"dropout {lora.lora_dropout or 0:g}"]
    if lora.use_rslora:
        words.append("rank-stabilized")
    if lora.use_dora:
        words.append("DoRA")
    if lora.init_lora_weights not in (None, "default"):
        words.append(f"initialized by {lora.init_lora_weights}")
    if lora.init_lora_weights in DOUBLES_RANK:
        words.append(f"saved with r {2 * (lora.r or 0)}")
    if lora.loraplus_lr_ratio:
        words.append(f"LoRA+ ratio {lora.loraplus_lr_ratio:g}")
    if lora.modules_to_save:
        words.append(f"trained whole: {', '.join(lora.modules_to_save)}")
    return words


def _bits(quantization: str) -> str:
    """``4 bit`` for ``4bit``."""
    return f"{quantization.removesuffix('bit')} bit"


def _quantization(spec: EffectiveSpec, verification: dict[str, Any]) -> str:
    """In what precision the base model was trained on and answered."""
    answered = verification.get("precision")
    return f"{spec.quantization} in training" + (f"; {answered} for the answers below" if answered else "")


def _precision(spec: EffectiveSpec, verification: dict[str, Any]) -> list[str]:
    """What the scored answers were given by, which need not be the delivered file."""
    words = []
    if answered := verification.get("precision"):
        whose = "" if spec.adapter == "none" else " of the base model"
        words.append(f"The answers were given with the weights{whose} in {answered}.")
    if spec.save_method in ("merged_4bit", "gguf"):
        words.append(f"The export by {spec.save_method} holds its weights otherwise, and was not scored itself.")
    return [" ".join(words), ""] if words else []


def _evaluation(record: dict[str, Any] | None, spec: EffectiveSpec, verification: dict[str, Any]) -> list[str]:
    """The scores of the answers to held-out rows."""
    if record is None:
        return []
    found = EvaluationStatus.model_validate(record)
    of_rows = [one for one in found.scores if one.task is None]
    of_tasks = [one for one in found.scores if one.task is not None]
    lines = ["## Evaluation", ""]
    if of_rows:
        lines += [
            f"Scores of greedy answers to {found.rows} of {found.total_rows} rows of {found.dataset_path}, which it "
            "was not trained on:",
            "",
            *_scores(of_rows),
        ]
    if of_tasks:
        lines += ["Scores of tasks of lm-evaluation-harness:", "", *_scores(of_tasks)]
    return lines + _precision(spec, verification)


def _scores(scores: list[EvaluationScore]) -> list[str]:
    """Scores as a table."""
    rows = ["| score | base model | this model |", "|---|---|---|"]
    for one in scores:
        name = f"{f'{one.task}: ' if one.task else ''}{one.metric}{f' of {_cell(one.field)}' if one.field else ''}"
        error = "" if one.standard_error is None else f" ± {one.standard_error:.4f}"
        rows.append(
            f"| {name} | {'-' if one.base_value is None else f'{one.base_value:.4f}'} | {one.value:.4f}{error} |"
        )
    return [*rows, ""]


def _during_training(record: list[dict[str, Any]] | None, spec: EffectiveSpec) -> list[str]:
    """The scores of the same rows at steps of the training."""
    if not record:
        return []
    names = list(dict.fromkeys(name for one in record for name in one["scores"]))  # an attempt may have had others
    values = [
        (one["step"], *(f"{one['scores'][name]:.4f}" if name in one["scores"] else "-" for name in names))
        for one in record
    ]
    return [
        "### During training",
        "",
        *(
            [f"These answers were given with the weights of the base model in {_bits(spec.quantization)}.", ""]
            if spec.quantization in ("4bit", "8bit")
            else []
        ),
        f"| step | {' | '.join(names)} |",
        f"|{'---|' * (len(names) + 1)}",
        *(f"| {' | '.join(map(str, row))} |" for row in values),
        "",
    ]


def _samples(verification: dict[str, Any], samples: Samples | None) -> list[str]:
    if samples is None:
        return []
    columns = ("split", "row", "expected", "before", "after")
    return [
        "## What it answers",
        "",
        _score("rows that it was trained on", samples.train),
        *([_score("validation rows, which it was not trained on", samples.validation)] if samples.validation else []),
        f"Answers are greedy; of long ones the first {NEW_TOKENS} tokens are compared. Similarity is between 0 and 1.",
        "",
        f"| {' | '.join(columns)} |",
        "|---|---|---|---|---|",
        *("| " + " | ".join(_cell(sample[key]) for key in columns) + " |" for sample in verification["samples"]),
        "",
    ]


def _score(rows: str, scored: SampleScores) -> str:
    return (
        f"Of {scored.rows} {rows}, it answered exactly {scored.exact_match_before:.0%} before training and "
        f"{scored.exact_match_after:.0%} after; mean similarity was {scored.similarity_before:.2f}, then "
        f"{scored.similarity_after:.2f}."
    )


def _cell(text: str) -> str:
    """``text`` as code in one cell of a table."""
    short = text if len(text) <= 160 else text[:159] + "…"
    printable = "".join(letter if letter.isprintable() else "\ufffd" for letter in " ".join(short.split()))
    bare = printable.replace("|", "\\|").replace("`", "'")
    return f"`{bare}`" if bare else ""


def _base(model: str) -> str:
    return f"'./base-model')  # a copy of {model}" if is_remote(model) else f"{model!r})"


def _serving(config: TrainerConfig, output: OutputStatus) -> list[str]:
    """The text for the programs that serve the model, or why one does not."""
    lines = []
    for use in uses(config.name, config.spec.to_dict(), output.to_dict()):
        if use.id != "transformers":
            lines += [f"## {use.title}", "", *([use.note, ""] if use.note else [])]
            lines += ["```", use.text.rstrip(), "```", ""] if use.text else []
    return lines


def _loaded_otherwise(verification: dict[str, Any]) -> list[str]:
    """A hint where the code loads the base model in another precision than that of the answers."""
    if (answered := verification.get("precision")) not in ("4 bit", "8 bit"):
        return []
    return [
        f"This loads the base model in its own precision. The answers above were given with its weights in {answered}; "
        "with a `quantization_config`, it is loaded so.",
        "",
    ]


def _loading(config: TrainerConfig, output: OutputStatus) -> list[str]:
    auto = output.model_class
    processor = "AutoProcessor" if auto == "AutoModelForImageTextToText" else "AutoTokenizer"
    hub = config.spec.push_to_hub
    place = hub.repo if hub else output.path
    if config.spec.adapter == "none":
        return [
            f"from transformers import {auto}, {processor}",
            "",
            f"model = {auto}.from_pretrained({place!r})",
            f"processor = {processor}.from_pretrained({place!r})",
        ]
    lines = [
        "from peft import PeftModel",
        f"from transformers import {auto}, {processor}",
        "",
        f"base = {auto}.from_pretrained({_base(config.spec.base_model)}",
        f"model = PeftModel.from_pretrained(base, {place!r})",
        f"processor = {processor}.from_pretrained({place!r})",
    ]
    if output.merged_path:
        merged = f"{place!r}, subfolder='merged'" if hub else repr(output.merged_path)
        lines += ["", "# or the merged model, which needs no base model:", f"model = {auto}.from_pretrained({merged})"]
    return lines
