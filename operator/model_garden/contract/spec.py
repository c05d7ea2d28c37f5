"""TrainingJobSpec: the schema of a fine-tuning job for YAML, REST, the web form and the command line.

Enum values of training are lower snake case, as in the Hugging Face libraries (``adamw_torch``, ``merged_16bit``).
Those of a policy of the operator are CamelCase, as in the Kubernetes API (``Enabled``, ``Fail``). None is a boolean in
YAML 1.1 (``on``, ``off``, ``yes``, ``no``).

``TrainingJobSpec`` is what a user gives. ``EffectiveSpec`` is the same with every default applied (``defaults.py``), as
the trainer and ``status.effectiveSpec`` have it. Rules on several fields are in ``rules.py``.
"""

from __future__ import annotations

import posixpath
import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, StringConstraints, ValidationInfo, model_validator

from model_garden.contract import rules
from model_garden.contract.addresses import HUB_DATASET, TARGET, is_remote
from model_garden.contract.declaration import Default, declare
from model_garden.contract.evaluation import EffectiveEvaluation, Evaluation
from model_garden.contract.hyperparameters import EffectiveHyperparameters, Hyperparameters
from model_garden.contract.methods import (
    Dpo,
    EffectiveDpo,
    EffectiveGrpo,
    EffectiveKto,
    EffectiveOrpo,
    Grpo,
    Kto,
    Method,
    Orpo,
    Rewards,
)
from model_garden.contract.model import ContractModel
from model_garden.contract.names import WORKSPACE
from model_garden.contract.options import (
    ColumnMapping,
    EffectiveHealth,
    EffectiveImageOptions,
    EffectiveLoraConfig,
    Health,
    HubTokenSecret,
    ImageOptions,
    LoraConfig,
    PushToHub,
    Storage,
    Text,
    Tracker,
    Tracking,
)
from model_garden.contract.pod import PodTemplate, Resources, gpu_resource, gpus_of

ModelType = Literal["text", "vision"]
Quantization = Literal["4bit", "8bit", "16bit", "none"]
TrainOn = Literal["responses", "all"]
SelectiveLoss = Literal["none", "conservative", "moderate", "aggressive"]
SaveMethod = Literal["lora", "merged_16bit", "merged_4bit", "gguf"]
GgufQuantization = Literal["f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q3_k_m", "q2_k"]
Adapter = Literal["lora", "none"]
Backend = Literal["auto", "unsloth", "transformers"]
Preflight = Literal["Enabled", "Disabled"]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def is_path(model: str) -> bool:
    """Whether ``baseModel`` names a folder (``./…``, ``/…``, ``models/…``) rather than a Hub id or an address."""
    if is_remote(model):
        return False
    return model.startswith((".", "/", "~", "models/", "cache/")) or model.count("/") > 1


def is_on_hub(model: str) -> bool:
    """Whether ``baseModel`` is a Hub id."""
    return not is_path(model) and not is_remote(model)


def _check_base_model(value: str) -> str:
    if is_on_hub(value) and not _HUB_ID.fullmatch(value):
        raise ValueError(f"{value!r} is neither a Hub id (ORG/NAME), a path (./models/…) nor an address (s3://…)")
    return value


def _check_adapter_path(value: str) -> str:
    if is_on_hub(value) and not _HUB_ID.fullmatch(value):
        raise ValueError(
            f"{value!r} is neither a path (./models/…), a Hub id (ORG/NAME), an address (s3://…) nor the name of a job"
        )
    return value


ACCEPTED = "accepted"
"""The context in which a spec is validated that was accepted before: rules that came since do not apply to it."""


class TrainingJobSpec(ContractModel):
    """One fine-tuning job. Only ``baseModel`` and ``datasetPath`` are required."""

    base_model: Annotated[Text, AfterValidator(_check_base_model)] = declare(
        "Base model: a Hub id (ORG/NAME) or a path in the workspace, such as ./models/NAME. The workspace is "
        "/workspace in a pod, and the current folder on your machine. Or the address of a folder: s3://BUCKET/FOLDER, "
        "gs://BUCKET/FOLDER or https://HOST/FOLDER.",
        shapes_weights=True,
        required=True,
    )
    base_model_revision: Text | None = declare(
        "Branch, tag or commit of the base model on the Hub.", shapes_weights=True, default_words="main"
    )
    hub_token_secret: HubTokenSecret | None = None
    is_vision: bool | None = declare(
        "Train on images and text. false: train on text, with any model; an image encoder stays as it is.",
        Default(False, vision=True),
        shapes_weights=True,
        default_words="false",
    )
    model_type: ModelType | None = declare(
        "Another way to set isVision: vision means true, text means false.",
        Default("text", vision="vision"),
        shapes_weights=False,
        default_words="text",
    )
    method: Method | None = declare(
        "Training method: sft trains on answers; dpo and orpo on a chosen and a rejected answer to the same prompt; "
        "kto on answers that are wanted or not; grpo on answers that the model writes, by reward functions.",
        "sft",
        shapes_weights=True,
    )
    dpo: Dpo | None = None
    kto: Kto | None = None
    orpo: Orpo | None = None
    grpo: Grpo | None = None
    rewards: Rewards | None = None
    dataset_path: Text = declare(
        "Data set: a file or folder in the workspace (jsonl, json, csv, parquet), hf://datasets/ORG/NAME, "
        "s3://BUCKET/KEY, gs://BUCKET/KEY or https://HOST/FILE.",
        shapes_weights=True,
        required=True,
    )
    dataset_split: Text | None = declare(
        "Split to read, of a Hub data set or of a folder whose file names contain splits.", "train", shapes_weights=True
    )
    column_mapping: ColumnMapping | None = None
    fetch_pictures: bool | None = declare(
        "Fetch the images that rows name by http:// and https:// addresses before training, each once, into the cache. "
        "false: such rows are refused.",
        False,
        shapes_weights=False,
    )
    validation_dataset_path: Text | None = declare(
        "Data set to evaluate on, in the formats of datasetPath. It must not hold rows that are trained on.",
        shapes_weights=True,
        default_words="none",
    )
    validation_fraction: float | None = declare(
        "Share of the rows to hold out for evaluation.", shapes_weights=True, default_words="none", gt=0, lt=1
    )
    evaluation: Evaluation | None = None
    output_dir: Text | None = declare(
        "Folder of the model in the workspace.",
        shapes_weights=False,
        default_words="./models/NAME, where NAME is the job's name (for train and train-vision: the data file's name)",
    )
    hyperparameters: Hyperparameters | None = None
    adapter: Adapter | None = declare(
        "What is trained: LoRA adapters beside frozen weights, or with none all weights of the language model.",
        "lora",
        shapes_weights=True,
    )
    adapter_path: Annotated[Text, AfterValidator(_check_adapter_path)] | None = declare(
        "Adapter to continue from: a folder in the workspace, a Hub id (ORG/NAME), an s3://, gs:// or https:// "
        "address, or the name of a job, which means ./models/NAME. Its rank and modules are kept.",
        shapes_weights=True,
        default_words="none; adapters start fresh",
    )
    lora_config: LoraConfig | None = None
    quantization: Quantization | None = declare(
        "Precision of the base model's weights.", Default("none", gpu="4bit"), shapes_weights=True
    )
    image_options: ImageOptions | None = None
    train_on: TrainOn | None = declare(
        "Tokens to train on: those of responses, or all.", "responses", shapes_weights=True
    )
    chat_template: Text | None = declare(
        "Chat template: a name of one of the model's own templates, such as tool_use; the path of a .jinja file in the "
        "workspace; or trl/NAME for one of the TRL library, such as trl/qwen3_training. The trained model has it too.",
        shapes_weights=True,
        default_words="the model's own",
    )
    selective_loss: SelectiveLoss | None = declare(
        "How much of the JSON structure of answers to exclude from the loss.", "none", shapes_weights=True
    )
    save_method: SaveMethod | None = declare(
        "Format of the saved model.", Default("lora", full="merged_16bit"), shapes_weights=False
    )
    gguf_quantization: GgufQuantization | None = declare(
        "Quantization of the GGUF file.", shapes_weights=False, default_words="q4_k_m when saveMethod is gguf"
    )
    push_to_hub: PushToHub | None = None
    push_to: Annotated[str, StringConstraints(pattern=rf"^{TARGET}$", max_length=1024)] | None = declare(
        "Bucket to which the trained model is uploaded: s3://BUCKET/PREFIX or gs://BUCKET/PREFIX.", shapes_weights=False
    )
    report_to: list[Tracker] | None = declare(
        "Experiment trackers that get the figures of the run. A tracker that does not answer is a warning and does not "
        "delay training.",
        shapes_weights=False,
        default_words="none",
        min_length=1,
        max_length=4,
    )
    tracking: Tracking | None = None
    backend: Backend | None = declare(
        "Training backend. auto chooses the default.",
        Default("transformers", gpu="unsloth", methods=dict.fromkeys(("dpo", "kto", "orpo", "grpo"), "transformers")),
        shapes_weights=True,
    )
    image: Text | None = declare(
        "Trainer container image.", shapes_weights=False, default_words="the operator's setting"
    )
    preflight: Preflight | None = declare(
        "Check the data and download the model in a Job without a GPU, before the Job that trains requests one.",
        "Enabled",
        shapes_weights=False,
    )
    health: Health | None = None
    num_nodes: int | None = declare(
        "Pods that train together, each with its GPUs.", 1, shapes_weights=False, ge=1, le=1024
    )
    resources: Resources | None = None
    pod_template: PodTemplate | None = None
    storage: Storage | None = None
    suspend: bool | None = declare(
        "Pause the job: save a checkpoint and stop the pods. false resumes it.", False, shapes_weights=False
    )
    ttl_seconds_after_finished: int | None = declare(
        "Seconds after the end until the Kubernetes Job and its pods are deleted. The TrainingJob stays.",
        shapes_weights=False,
        default_words="never",
        ge=0,
    )
    active_deadline_seconds: int | None = declare(
        "Seconds that the Job may run.", shapes_weights=False, default_words="no limit", ge=1
    )
    backoff_limit: int | None = declare(
        "Retries after a failed pod, before the job fails.", 3, shapes_weights=False, ge=0, le=1000
    )

    @property
    def vision(self) -> bool:
        """Whether the job trains a vision-language model, by either of its two spellings."""
        return self.model_type == "vision" if self.is_vision is None else self.is_vision

    @property
    def datasets(self) -> list[tuple[str, str]]:
        """The path and split of the data set to train on, and of the one to evaluate on, if any.

        ``datasetSplit`` applies to ``datasetPath`` alone. Rows to evaluate on are the split ``train`` of another data
        set, or the split ``validation`` of the same one.
        """
        found = [(self.dataset_path, self.dataset_split or "train")]
        if path := self.validation_dataset_path:
            found.append((path, "validation" if path == self.dataset_path else "train"))
        return found

    @property
    def evaluation_dataset(self) -> tuple[str, str] | None:
        """The path and split of ``evaluation.datasetPath``; None where the validation rows are answered, or none."""
        asked = self.evaluation
        return (asked.dataset_path, asked.dataset_split or "train") if asked and asked.dataset_path else None

    @property
    def all_datasets(self) -> list[tuple[str, str]]:
        """The path and split of every data set that the job reads: ``datasets``, and ``evaluation_dataset`` if any."""
        return self.datasets + ([self.evaluation_dataset] if self.evaluation_dataset else [])

    @property
    def columns(self) -> dict[str, str]:
        """``columnMapping``; empty without one."""
        return self.column_mapping.to_dict() if self.column_mapping else {}

    @property
    def gpus(self) -> int:
        """GPUs per pod: the limit, else the request, else one for each claim, else 1."""
        return gpus_of(self.resources.to_dict() if self.resources else None)

    @property
    def gpu_resource(self) -> str | None:
        """The name of the resource that the GPUs are; None for those of claims."""
        return gpu_resource(self.resources.to_dict() if self.resources else None)

    @model_validator(mode="after")
    def _contradictions(self, info: ValidationInfo) -> Self:
        if info.context != ACCEPTED:
            for problem in rules.problems(self.to_dict()):
                raise ValueError(problem)
        return self


class EffectiveSpec(TrainingJobSpec):
    """A spec with every default applied. A vision model has ``imageOptions``."""

    is_vision: bool
    model_type: ModelType
    method: Method
    dpo: EffectiveDpo | None = None
    kto: EffectiveKto | None = None
    orpo: EffectiveOrpo | None = None
    grpo: EffectiveGrpo | None = None
    evaluation: EffectiveEvaluation | None = None
    dataset_split: Text
    fetch_pictures: bool
    output_dir: Text
    hyperparameters: EffectiveHyperparameters
    adapter: Adapter
    lora_config: EffectiveLoraConfig
    quantization: Quantization
    image_options: EffectiveImageOptions | None = None
    train_on: TrainOn
    selective_loss: SelectiveLoss
    save_method: SaveMethod
    backend: Literal["unsloth", "transformers"]
    preflight: Preflight
    health: EffectiveHealth
    num_nodes: int
    suspend: bool
    backoff_limit: int

    @property
    def pixel_bounds(self) -> tuple[int | None, int | None]:
        """The smallest and largest area of an image in pixels; None for both in a text model."""
        options = self.image_options
        return (options.min_pixels, options.max_pixels) if options else (None, None)


def outside_workspace(spec: TrainingJobSpec) -> list[str]:
    """One line for each path outside ``/workspace``, which no pod can see. A local run accepts any path."""
    paths = {
        "spec.datasetPath": spec.dataset_path,
        "spec.validationDatasetPath": spec.validation_dataset_path,
        "spec.evaluation.datasetPath": spec.evaluation.dataset_path if spec.evaluation else None,
        "spec.outputDir": spec.output_dir,
        "spec.chatTemplate": spec.chat_template,
        "spec.baseModel": spec.base_model if is_path(spec.base_model) else None,
        "spec.adapterPath": spec.adapter_path if spec.adapter_path and is_path(spec.adapter_path) else None,
    }
    return [
        f"{field}: {path!r} is outside the workspace {WORKSPACE}; use a path in it, such as ./data/… or ./models/…"
        for field, path in paths.items()
        if path is not None and not path.startswith(HUB_DATASET) and not is_remote(path) and _is_outside(path)
    ]


def _is_outside(path: str) -> bool:
    inside = path.removeprefix("/workspace/")
    return inside.startswith(("/", "~")) or posixpath.normpath(inside).split("/")[0] == ".."
