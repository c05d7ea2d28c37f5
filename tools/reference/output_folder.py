"""docs/reference/output-folder.md: every file that a run writes into its output folder.

tests/trainer/test_output_folder.py trains a tiny model and fails where a file has no row here.
"""

from __future__ import annotations

from model_garden_trainer.engine.checkpoints import PREFIX, SEAL
from model_garden_trainer.evaluation.answered import FILE as EVALUATION
from model_garden_trainer.evaluation.harness import FILE as HARNESS
from model_garden_trainer.events import METRICS_FILE
from model_garden_trainer.exports.merged import FOLDER as MERGED
from model_garden_trainer.exports.outputs import CHECKPOINTS, RECORD, SAMPLES, TRACKERS
from tools.reference.markdown import page, table

ALWAYS = "always"
VISION = "vision"
INTRODUCTION = """
A run writes these files below `spec.outputDir`. Small files of the base model that are not in the table (vocabulary,
license, code) are copied too. `peft` and `AutoProcessor` load the folder as it is. A file that ends in `.partial`, or a
folder that begins with `merging-`, was left by a process that was killed; it can be deleted.
"""
FILES: dict[str, tuple[str, str]] = {
    "adapter_model.safetensors": (ALWAYS, "Weights of the LoRA adapter."),
    "adapter_config.json": (ALWAYS, "Configuration of the adapter, with the base model's name and revision."),
    "tokenizer*": (ALWAYS, "The base model's tokenizer."),
    "chat_template*": (ALWAYS, "The base model's chat template, where it is a file of its own."),
    "*processor_config.json": (VISION, "The base model's image processor."),
    "generation_config.json": (ALWAYS, "The base model's settings for generation, such as its end tokens."),
    RECORD: (
        ALWAYS,
        "Record of the run: spec, data set, batch, versions, fingerprint, verification and `status.output`. It is "
        "written last: a folder that has it holds a finished run.",
    ),
    METRICS_FILE: (
        ALWAYS,
        "The complete curve. Each line is a JSON object as in [`status.progress`](status.md).",
    ),
    SAMPLES: (ALWAYS, "A few rows, answered before and after training, and their scores."),
    EVALUATION: ("`evaluation`", "Rows with the answers of the base model and the trained model, and their scores."),
    HARNESS: (
        "`evaluation.harnessTasks`",
        "Results of lm-evaluation-harness, of the base model and the trained model.",
    ),
    "README.md": (ALWAYS, "Model card."),
    f"{CHECKPOINTS}/{PREFIX}*/*": (ALWAYS, "Checkpoints of transformers' Trainer. At most `saveTotalLimit` are kept."),
    f"{CHECKPOINTS}/{PREFIX}*/{SEAL}": (ALWAYS, "Seal of a checkpoint: size and digest of its files. Written last."),
    "runs/events.out.tfevents.*": ("`reportTo: tensorboard`", "Event files of TensorBoard."),
    f"{TRACKERS}/*.json": ("`reportTo`", "Of each tracker its run, which a resumed job continues, and what it got."),
    f"{TRACKERS}/wandb/*": ("`reportTo: wandb`", "Runs of W&B. `wandb sync` uploads those that were kept offline."),
    f"{TRACKERS}/trackio/*": ("`reportTo: trackio` without a server", "Database of Trackio."),
    f"{MERGED}/*": ("`saveMethod: merged_16bit` or `merged_4bit`", "The whole model with its processor."),
    "*.gguf": ("`saveMethod: gguf`", "The whole model as `NAME-TYPE.gguf`."),
    "Modelfile": ("`saveMethod: gguf`", "Modelfile for Ollama, with the model's chat template."),
    "mmproj-*.gguf": ("`saveMethod: gguf`, vision", "The image encoder for llama.cpp."),
}
"""Each file, as a pattern of fnmatch below the output folder, with when it is written and what it holds."""


def output_folder_reference() -> str:
    """The page as Markdown."""
    rows = [(f"`{pattern}`", when, meaning) for pattern, (when, meaning) in FILES.items()]
    return page(
        "Output folder", "tools/reference/output_folder.py", INTRODUCTION, table(["file", "written", "meaning"], rows)
    )
