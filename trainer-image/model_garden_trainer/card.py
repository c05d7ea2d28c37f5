"""The model card that lies beside every output: what it was made from, with what, and how to load it."""

from __future__ import annotations

from typing import Any

from model_garden.contract.spec import Hyperparameters, LoraConfig
from model_garden.contract.status import DatasetStatus, OutputStatus
from model_garden.contract.trainer_config import TrainerConfig


def model_card(config: TrainerConfig, dataset: DatasetStatus, output: OutputStatus, record: dict[str, Any]) -> str:
    """The card as Markdown with the Hub's metadata on top."""
    spec, h = config.spec, config.spec.hyperparameters or Hyperparameters()
    lora, tokens = spec.lora_config or LoraConfig(), dataset.tokens
    metadata = [
        "---",
        f"base_model: {spec.base_model}",
        "library_name: peft",
        f"pipeline_tag: {'image-text-to-text' if spec.vision else 'text-generation'}",
        "tags: [lora, model-garden]",
        "---",
    ]
    figures = {
        "Base model": spec.base_model + (f" at {spec.base_model_revision}" if spec.base_model_revision else ""),
        "Data set": f"{spec.dataset_path}: {dataset.rows} rows"
        + (f", {dataset.validation_rows} for validation" if dataset.validation_rows else "")
        + (f", {dataset.images} pictures" if dataset.images else ""),
        "Tokens a row": f"median {tokens.median}, 95th percentile {tokens.p95}, longest {tokens.maximum}"
        if tokens
        else "-",
        "Steps": f"{output.trained_steps} of {h.batch_size} x {h.gradient_accumulation_steps} rows",
        "Final loss": f"{output.final_loss:.4f}" if output.final_loss is not None else "-",
        "Learning rate": f"{h.learning_rate:g}, {h.lr_scheduler_type}, {h.optim}",
        "LoRA": f"r {lora.r}, alpha {lora.lora_alpha}, dropout {lora.lora_dropout:g}",
        "Trained on": "answers" if spec.train_on == "responses" else "all text",
        "Backend": f"{record['backend']['name']} ({record['backend']['reason']})",
    }
    if spec.vision and spec.image_options:
        figures["Picture area"] = f"{spec.image_options.min_pixels} to {spec.image_options.max_pixels} pixels"
    table = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in figures.items())]
    return "\n".join(
        [
            *metadata,
            "",
            f"# {config.name}",
            "",
            f"{spec.base_model}, fine-tuned with LoRA by Model Garden.",
            "",
            *table,
            "",
            "## Load it",
            "",
            "```python",
            *_loading(config, output),
            "```",
            "",
            "The licence of the base model applies; see its page. All settings and versions are in "
            "`training_config.json`, the course of the training in `metrics.jsonl`.",
            "",
        ]
    )


def _loading(config: TrainerConfig, output: OutputStatus) -> list[str]:
    auto = "AutoModelForImageTextToText" if config.spec.vision else "AutoModelForCausalLM"
    processor = "AutoProcessor" if config.spec.vision else "AutoTokenizer"
    lines = [
        "from peft import PeftModel",
        f"from transformers import {auto}, {processor}",
        "",
        f"base = {auto}.from_pretrained({config.spec.base_model!r})",
        f"model = PeftModel.from_pretrained(base, {output.path!r})",
        f"processor = {processor}.from_pretrained({output.path!r})",
    ]
    if output.merged_path:
        lines += [
            "",
            "# or the merged model, which needs no base model:",
            f"model = {auto}.from_pretrained({output.merged_path!r})",
        ]
    return lines
