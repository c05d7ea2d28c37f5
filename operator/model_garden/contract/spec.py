"""TrainingJobSpec: the one schema of a fine-tuning job, for YAML, REST, the web form and the command line.

Enum values: what decides how the model is trained is lower snake case, as in the Hugging Face libraries
(``adamw_torch``, ``merged_16bit``); a policy of the operator is CamelCase, as in the Kubernetes API (``Enabled``,
``Fail``). No value is one that YAML 1.1 reads as a boolean (``on``, ``off``, ``yes``, ``no``).

No field has a default here but the few that Kubernetes itself would show: defaults stand in ``defaults.py`` and are
shown in ``status.effectiveSpec``. A rule that spans fields stands here once, with its CEL twin in ``crd.py``.
"""

from __future__ import annotations

import posixpath
import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from model_garden.contract.model import ContractModel
from model_garden.contract.pod import GPU_RESOURCE, ObjectName, PodTemplate, Resources

Quantization = Literal["4bit", "8bit", "16bit", "none"]
SaveMethod = Literal["lora", "merged_16bit", "merged_4bit", "gguf"]
Backend = Literal["auto", "unsloth", "transformers"]
SelectiveLoss = Literal["none", "conservative", "moderate", "aggressive"]
LrSchedulerType = Literal[
    "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt"
]
Optim = Literal[
    "adamw_torch", "adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit", "adafactor", "sgd", "lion_8bit", "lion_32bit"
]
GgufQuantization = Literal["f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q3_k_m", "q2_k"]

HUB_DATASET = "hf://datasets/"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")

Text = Annotated[str, StringConstraints(min_length=1, max_length=1024)]


def is_path(model: str) -> bool:
    """Whether ``baseModel`` names a folder (``./…``, ``/…``, ``models/…``) rather than a Hub id."""
    return model.startswith((".", "/", "~", "models/", "cache/")) or model.count("/") > 1


def _check_base_model(value: str) -> str:
    if not is_path(value) and not _HUB_ID.fullmatch(value):
        raise ValueError(f"{value!r} is neither a Hub id (ORG/NAME) nor a path (./models/…)")
    return value


def _check_dataset(value: str) -> str:
    if "://" in value and not value.startswith(HUB_DATASET):
        raise ValueError(
            f"{value!r}: only {HUB_DATASET}ORG/NAME is read from elsewhere; copy the data to the data claim"
        )
    return value


class HubTokenSecret(ContractModel):
    """The Secret that holds a Hugging Face token, for gated models and for pushing."""

    name: ObjectName = Field(description="name of the Secret")
    key: Text = Field(description="key inside the Secret, such as token")


class Hyperparameters(ContractModel):
    """How the training runs. Names follow the Hugging Face Trainer where it has one."""

    learning_rate: float | None = Field(
        None, gt=0, le=1, description="peak learning rate; text 2e-4, vision 2e-5, 72B vision 1e-5"
    )
    num_epochs: float | None = Field(None, gt=0, le=10_000, description="passes over the data; 3")
    max_steps: int | None = Field(None, ge=-1, description="optimizer steps; -1 lets numEpochs decide; -1")
    batch_size: int | None = Field(None, ge=1, le=4096, description="rows a device takes at once; text 2, vision 1")
    gradient_accumulation_steps: int | None = Field(
        None, ge=1, le=65_536, description="its batches that make one optimizer step; text 4, vision 8, 72B vision 16"
    )
    auto_batch_size: bool | None = Field(
        None,
        description="find the largest batch that fits and keep batchSize x gradientAccumulationSteps; true on a GPU",
    )
    warmup_steps: float | None = Field(None, ge=0, description="steps of warm-up; below 1 a share of all steps; 0.03")
    weight_decay: float | None = Field(None, ge=0, le=1, description="decay of the weights at each step; 0.01")
    lr_scheduler_type: LrSchedulerType | None = Field(
        None, description="how the learning rate falls; text linear, vision cosine"
    )
    optim: Optim | None = Field(None, description="the optimizer; adamw_8bit on a GPU, else adamw_torch")
    max_seq_length: int | None = Field(
        None, ge=16, le=4_194_304, description="longest example in tokens, images included; text 2048, vision 4096"
    )
    seed: int | None = Field(None, ge=0, le=4_294_967_295, description="of shuffling, dropout and new weights; 42")
    logging_steps: int | None = Field(None, ge=1, description="steps between two reports; 1")
    save_steps: int | None = Field(None, ge=1, description="steps between two checkpoints; 100")
    save_total_limit: int | None = Field(None, ge=1, le=1000, description="checkpoints kept; 2")
    eval_steps: int | None = Field(
        None, ge=1, description="steps between two evaluations; 100 when there is validation data"
    )
    early_stopping_patience: int | None = Field(
        None, ge=1, description="evaluations without a better loss before training ends early; off"
    )
    max_grad_norm: float | None = Field(
        None, ge=0, description="gradients are clipped to this norm; 0 turns it off; 1.0"
    )
    packing: bool | None = Field(None, description="several samples in one row, each seeing only itself; false")

    @field_validator("max_steps")
    @classmethod
    def _some_steps(cls, value: int | None) -> int | None:
        if value == 0:
            raise ValueError("0 would train nothing; use -1 to let numEpochs decide, or a positive number")
        return value


class LoraConfig(ContractModel):
    """The low-rank adapters, named as in peft."""

    r: int | None = Field(None, ge=1, le=1024, description="rank; 16, 72B vision 32")
    lora_alpha: int | None = Field(None, ge=1, le=4096, description="scale is loraAlpha / r; 16, 72B vision 32")
    lora_dropout: float | None = Field(None, ge=0, lt=1, description="share of adapter inputs left out at random; 0")
    target_modules: list[Text] | None = Field(
        None, min_length=1, max_length=64, description="module names; all attention and MLP projections"
    )
    use_rslora: bool | None = Field(None, description="scale by loraAlpha / sqrt(r); false")
    finetune_vision_layers: bool | None = Field(None, description="adapt the vision tower too; false")
    finetune_language_layers: bool | None = Field(None, description="adapt the language model; true")
    finetune_attention_modules: bool | None = Field(None, description="adapt the attention projections; true")
    finetune_mlp_modules: bool | None = Field(None, description="adapt the MLP projections; true")


class ImageOptions(ContractModel):
    """Bounds for a picture's area in pixels; a picture outside them is resized, its shape kept."""

    min_pixels: int | None = Field(None, ge=1, description="smallest area; 3136 (56 x 56)")
    max_pixels: int | None = Field(
        None, ge=784, description="largest area, smaller is faster; 1003520 (about 1000 x 1000)"
    )


class PushToHub(ContractModel):
    """Where the finished model goes on the Hugging Face Hub."""

    repo: Annotated[str, StringConstraints(pattern=r"^[\w.-]+/[\w.-]+$", max_length=200)] = Field(
        description="repository on the Hub, ORG/NAME"
    )
    private: bool | None = Field(None, description="keep the repository private; true")


class Health(ContractModel):
    """When a run counts as hung or broken: rules on the trainer's structured progress."""

    first_step_seconds: int | None = Field(None, ge=1, description="longest wait for the first step; 3600")
    step_seconds: int | None = Field(None, ge=1, description="longest time for a later step; 1800")
    non_finite_loss: Literal["Fail", "Skip"] | None = Field(
        None, description="what a loss of NaN or infinity does: end the run, or skip the update; Fail"
    )


class Storage(ContractModel):
    """The PersistentVolumeClaims mounted at data (read-only), models and cache; the operator's settings by default."""

    data_claim: ObjectName | None = Field(None, description="claim mounted read-only at data")
    models_claim: ObjectName | None = Field(None, description="claim mounted at models")
    cache_claim: ObjectName | None = Field(None, description="claim mounted at cache: downloads and compiled code")


class TrainingJobSpec(ContractModel):
    """One fine-tuning job. Only ``baseModel`` and ``datasetPath`` are required."""

    base_model: Annotated[Text, AfterValidator(_check_base_model)] = Field(
        description="Hub id (ORG/NAME) or a path below the workspace"
    )
    base_model_revision: Text | None = Field(None, description="branch, tag or commit on the Hub; main")
    hub_token_secret: HubTokenSecret | None = None
    is_vision: bool | None = Field(None, description="true for a vision-language model; false")
    model_type: Literal["text", "vision"] | None = Field(None, description="the same as isVision, in a word")
    dataset_path: Annotated[Text, AfterValidator(_check_dataset)] = Field(
        description="file or folder below the workspace (jsonl, json, csv, parquet), or hf://datasets/ORG/NAME"
    )
    dataset_split: Text | None = Field(None, description="split of a Hub data set; train")
    validation_dataset_path: Annotated[Text, AfterValidator(_check_dataset)] | None = Field(
        None, description="rows to evaluate on, in the formats of datasetPath; none"
    )
    validation_fraction: float | None = Field(
        None, gt=0, lt=1, description="share of the rows held out for evaluation; none"
    )
    output_dir: Text | None = Field(None, description="where the model goes; ./models/NAME")
    hyperparameters: Hyperparameters | None = None
    lora_config: LoraConfig | None = None
    quantization: Quantization | None = Field(None, description="how the base model is held; 4bit on a GPU, else none")
    image_options: ImageOptions | None = None
    train_on: Literal["responses", "all"] | None = Field(None, description="which tokens carry loss; responses")
    selective_loss: SelectiveLoss | None = Field(
        None, description="leave the JSON structure of answers out of the loss; none"
    )
    save_method: SaveMethod | None = Field(None, description="what is written at the end; lora")
    gguf_quantization: GgufQuantization | None = Field(
        None, description="type of the GGUF file; q4_k_m when saveMethod is gguf"
    )
    push_to_hub: PushToHub | None = None
    backend: Backend | None = Field(None, description="auto: unsloth on a GPU, else transformers")
    image: Text | None = Field(None, description="image that trains; the operator's setting")
    preflight: Literal["Enabled", "Disabled"] | None = Field(
        None, description="check data and fetch the model before a GPU is asked for; Enabled"
    )
    health: Health | None = None
    num_nodes: int | None = Field(None, ge=1, le=1024, description="pods that train together, each with its GPUs; 1")
    resources: Resources | None = None
    pod_template: PodTemplate | None = None
    storage: Storage | None = None
    suspend: bool | None = Field(None, description="stop the pods and keep the job; true to pause, false to go on")
    ttl_seconds_after_finished: int | None = Field(
        None, ge=0, description="seconds until the finished Job is deleted; kept"
    )
    active_deadline_seconds: int | None = Field(None, ge=1, description="longest time the Job may run; no limit")
    backoff_limit: int | None = Field(None, ge=0, le=1000, description="failed pods before the job fails; 3")

    @property
    def vision(self) -> bool:
        """Whether the job trains a vision-language model, by either of its two spellings."""
        return self.model_type == "vision" if self.is_vision is None else self.is_vision

    @property
    def datasets(self) -> list[tuple[str, str]]:
        """The data set to train on, and the one to evaluate on where there is one: each a path and its split.

        ``datasetSplit`` is of ``datasetPath`` alone. Rows to evaluate on are the split ``train`` of another data set,
        and of the same one its split ``validation``.
        """
        found = [(self.dataset_path, self.dataset_split or "train")]
        if path := self.validation_dataset_path:
            found.append((path, "validation" if path == self.dataset_path else "train"))
        return found

    @property
    def gpus(self) -> int:
        """GPUs a pod asks for: the limit, else the request, else one."""
        for amounts in (self.resources and self.resources.limits, self.resources and self.resources.requests):
            if amounts and GPU_RESOURCE in amounts:
                return int(amounts[GPU_RESOURCE])
        return 1

    @model_validator(mode="after")
    def _contradictions(self) -> Self:
        for broken, message in contradictions(self):
            if broken:
                raise ValueError(message)
        return self


def outside_workspace(spec: TrainingJobSpec) -> list[str]:
    """What a job in a cluster may not name: paths that leave ``/workspace``. On one's own machine any path will do."""
    paths = {
        "spec.datasetPath": spec.dataset_path,
        "spec.validationDatasetPath": spec.validation_dataset_path,
        "spec.outputDir": spec.output_dir,
        "spec.baseModel": spec.base_model if is_path(spec.base_model) else None,
    }
    return [
        f"{field}: {path!r} leaves the workspace; give a path below it, such as ./data/… or ./models/…"
        for field, path in paths.items()
        if path is not None and not path.startswith(HUB_DATASET) and _leaves_workspace(path)
    ]


def _leaves_workspace(path: str) -> bool:
    inside = path.removeprefix("/workspace/")
    return inside.startswith(("/", "~")) or posixpath.normpath(inside).split("/")[0] == ".."


def contradictions(spec: TrainingJobSpec) -> list[tuple[bool, str]]:
    """Every rule that spans fields: whether ``spec`` breaks it, and the words for it; ``crd.py`` has the CEL twins."""
    h = spec.hyperparameters or Hyperparameters()
    lora = spec.lora_config or LoraConfig()
    image = spec.image_options or ImageOptions()
    validated = spec.validation_dataset_path is not None or spec.validation_fraction is not None
    tuned = (lora.finetune_vision_layers, lora.finetune_language_layers)
    return [
        (
            spec.is_vision is not None
            and spec.model_type is not None
            and spec.is_vision != (spec.model_type == "vision"),
            f"spec.modelType: {spec.model_type} contradicts isVision: {str(spec.is_vision).lower()}; give one of them",
        ),
        (
            spec.validation_dataset_path is not None and spec.validation_fraction is not None,
            "spec.validationFraction: contradicts validationDatasetPath; give one of them",
        ),
        (
            h.early_stopping_patience is not None and not validated,
            "spec.hyperparameters.earlyStoppingPatience: needs validationDatasetPath or validationFraction",
        ),
        (
            h.eval_steps is not None and not validated,
            "spec.hyperparameters.evalSteps: needs validationDatasetPath or validationFraction",
        ),
        (
            spec.image_options is not None and not spec.vision,
            "spec.imageOptions: only for a vision model; set isVision: true or leave it out",
        ),
        (
            bool(image.min_pixels and image.max_pixels and image.min_pixels > image.max_pixels),
            f"spec.imageOptions.minPixels: {image.min_pixels} is above maxPixels {image.max_pixels}",
        ),
        (
            spec.gguf_quantization is not None and spec.save_method != "gguf",
            "spec.ggufQuantization: only for saveMethod: gguf",
        ),
        (
            lora.finetune_vision_layers is True and not spec.vision,
            "spec.loraConfig.finetuneVisionLayers: only for a vision model; set isVision: true or leave it out",
        ),
        (
            tuned[1] is False and tuned[0] is not True,
            "spec.loraConfig.finetuneLanguageLayers: false leaves nothing to train; set finetuneVisionLayers: true",
        ),
        (
            lora.finetune_attention_modules is False and lora.finetune_mlp_modules is False,
            "spec.loraConfig.finetuneMlpModules: false with finetuneAttentionModules: false leaves nothing to train",
        ),
        (
            spec.push_to_hub is not None and spec.hub_token_secret is None,
            "spec.pushToHub: needs hubTokenSecret, the Secret that holds a token with write access",
        ),
        (
            spec.backend == "unsloth" and spec.gpus == 0,
            "spec.backend: unsloth needs a GPU; ask for one in resources.limits or use backend: transformers",
        ),
        (
            spec.quantization in ("4bit", "8bit") and spec.gpus == 0,
            f"spec.quantization: {spec.quantization} needs a GPU; ask for one in resources.limits or use none",
        ),
        (
            spec.train_on == "all" and spec.selective_loss not in (None, "none"),
            "spec.selectiveLoss: works on answers; use trainOn: responses or leave selectiveLoss out",
        ),
    ]
