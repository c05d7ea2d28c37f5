"""The other groups of fields of the spec: adapters, images, health, the Hub and storage."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import StringConstraints

from model_garden.contract.declaration import Default, declare
from model_garden.contract.model import ContractModel
from model_garden.contract.pod import ObjectName

Text = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
NonFiniteLoss = Literal["Fail", "Skip"]
InitLoraWeights = Literal[
    "default", "gaussian", "orthogonal", "olora", "pissa", "pissa_niter_4", "pissa_niter_16", "loftq"
]
Tracker = Literal["mlflow", "wandb", "tensorboard", "trackio"]
_RANK = Default(16, large_vision=32)


class HubTokenSecret(ContractModel):
    """The Secret that holds a Hugging Face token, for gated models and for pushing."""

    name: ObjectName = declare("Name of the Secret.", shapes_weights=False, required=True)
    key: Text = declare("Key in the Secret, such as token.", shapes_weights=False, required=True)


class LoraConfig(ContractModel):
    """The low-rank adapters, named as in peft."""

    r: int | None = declare("LoRA rank.", _RANK, shapes_weights=True, ge=1, le=1024)
    lora_alpha: int | None = declare(
        "LoRA alpha. Adapters are scaled by alpha / rank.", _RANK, shapes_weights=True, ge=1, le=4096
    )
    lora_dropout: float | None = declare("Dropout of the adapters' inputs.", 0.0, shapes_weights=True, ge=0, lt=1)
    target_modules: list[Text] | None = declare(
        "Names of the modules to adapt.",
        shapes_weights=True,
        default_words="all attention and MLP projections",
        min_length=1,
        max_length=64,
    )
    use_rslora: bool | None = declare("Scale adapters by alpha / sqrt(rank).", False, shapes_weights=True)
    use_dora: bool | None = declare(
        "Train the magnitude of each adapted weight too (DoRA). A step takes longer.", False, shapes_weights=True
    )
    init_lora_weights: InitLoraWeights | None = declare(
        "Initialization of the adapters, as in peft. pissa, pissa_niter_N and olora start from the base model's "
        "weights, loftq from what quantization: 4bit takes from them; they save an adapter of twice the rank.",
        "default",
        shapes_weights=True,
    )
    loraplus_lr_ratio: float | None = declare(
        "Learning rate of the adapters' B matrices as a multiple of learningRate (LoRA+).",
        shapes_weights=True,
        default_words="the same learning rate",
        ge=1,
        le=1000,
    )
    modules_to_save: list[Text] | None = declare(
        "Names of modules to train whole, without an adapter, such as lm_head and embed_tokens.",
        shapes_weights=True,
        default_words="none",
        min_length=1,
        max_length=64,
    )
    finetune_vision_layers: bool | None = declare("Adapt the vision tower.", False, shapes_weights=True)
    finetune_language_layers: bool | None = declare("Adapt the language model.", True, shapes_weights=True)
    finetune_attention_modules: bool | None = declare("Adapt the attention projections.", True, shapes_weights=True)
    finetune_mlp_modules: bool | None = declare("Adapt the MLP projections.", True, shapes_weights=True)


class EffectiveLoraConfig(LoraConfig):
    """The adapters with every default applied; with ``adapter: none`` or ``adapterPath``, some stay out."""

    finetune_vision_layers: bool
    finetune_language_layers: bool


class ImageOptions(ContractModel):
    """Bounds of an image's area in pixels. An image outside them is resized; its aspect ratio stays the same."""

    min_pixels: int | None = declare(
        "Smallest area of an image in pixels. A smaller image is scaled up.",
        Default(vision=3136),
        shapes_weights=True,
        ge=1,
    )
    max_pixels: int | None = declare(
        "Largest area of an image in pixels. A larger image is scaled down. A lower value trains faster.",
        Default(vision=1_003_520),
        shapes_weights=True,
        ge=784,
    )


class EffectiveImageOptions(ImageOptions):
    """The bounds with every default applied."""

    min_pixels: int
    max_pixels: int


class PushToHub(ContractModel):
    """The repository on the Hugging Face Hub to which the trained model is pushed."""

    repo: Annotated[str, StringConstraints(pattern=r"^[\w.-]+/[\w.-]+$", max_length=200)] = declare(
        "Repository on the Hub, ORG/NAME.", shapes_weights=False, required=True
    )
    private: bool | None = declare("Create the repository as private.", True, shapes_weights=False)


class Tracking(ContractModel):
    """Where the trackers of ``reportTo`` keep the run, and the Secret that holds their credentials."""

    project: Text | None = declare(
        "Experiment of MLflow, and project of W&B and Trackio.", shapes_weights=False, default_words="the namespace"
    )
    run_name: Text | None = declare("Name of the run.", shapes_weights=False, default_words="the job's name")
    uri: Annotated[str, StringConstraints(pattern=r"^https?://[^?#@\s]+$", max_length=1024)] | None = declare(
        "URL of the tracking server, if reportTo names one tracker that has a server. With several, set "
        "MLFLOW_TRACKING_URI, WANDB_BASE_URL and TRACKIO_SERVER_URL in the Secret.",
        shapes_weights=False,
        default_words="none for mlflow, api.wandb.ai for wandb, and the output folder for trackio",
    )
    secret: ObjectName | None = declare(
        "Secret whose keys become environment variables of the pods: MLFLOW_TRACKING_TOKEN, WANDB_API_KEY, "
        "TRACKIO_WRITE_TOKEN, or any other variable of the trackers.",
        shapes_weights=False,
        default_words="none",
    )


class Health(ContractModel):
    """Limits after which a run fails: time without a step, and a loss that is not a number."""

    first_step_seconds: int | None = declare(
        "Seconds within which the first step must end, model loading included.", 3600, shapes_weights=False, ge=1
    )
    step_seconds: int | None = declare(
        "Seconds within which each later step must end.", 1800, shapes_weights=False, ge=1
    )
    non_finite_loss: NonFiniteLoss | None = declare(
        "What to do when the loss is NaN or infinite: fail the job, or skip the update.", "Fail", shapes_weights=False
    )


class EffectiveHealth(Health):
    """The rules with every default applied."""

    first_step_seconds: int
    step_seconds: int
    non_finite_loss: NonFiniteLoss


class ColumnMapping(ContractModel):
    """The data set's own columns, by their meaning. Other columns are ignored."""

    messages: Text | None = declare("Column with a list of turns.", shapes_weights=True, default_words="none")
    prompt: Text | None = declare("Column with the question.", shapes_weights=True, default_words="none")
    response: Text | None = declare("Column with the answer.", shapes_weights=True, default_words="none")
    system: Text | None = declare("Column with the system prompt.", shapes_weights=True, default_words="none")
    image: Text | None = declare("Column with one image.", shapes_weights=True, default_words="none")
    images: Text | None = declare("Column with a list of images.", shapes_weights=True, default_words="none")
    reasoning: Text | None = declare(
        "Column with the reasoning before the answer.", shapes_weights=True, default_words="none"
    )
    tools: Text | None = declare("Column with definitions of tools.", shapes_weights=True, default_words="none")
    chosen: Text | None = declare("Column with the preferred answer.", shapes_weights=True, default_words="none")
    rejected: Text | None = declare("Column with the other answer.", shapes_weights=True, default_words="none")
    label: Text | None = declare(
        "Column that says whether the answer is wanted. Only for method: kto.",
        shapes_weights=True,
        default_words="none",
    )


class Storage(ContractModel):
    """The PersistentVolumeClaims of a job. The operator's settings name those that the job does not."""

    data_claim: ObjectName | None = declare(
        "PersistentVolumeClaim mounted read-only at data.",
        shapes_weights=False,
        default_words="the operator's setting",
    )
    models_claim: ObjectName | None = declare(
        "PersistentVolumeClaim mounted at models.", shapes_weights=False, default_words="the operator's setting"
    )
    cache_claim: ObjectName | None = declare(
        "PersistentVolumeClaim mounted at cache, for downloads and compiled code.",
        shapes_weights=False,
        default_words="the operator's setting",
    )
    credentials_secret: ObjectName | None = declare(
        "Secret whose keys become environment variables of the pods, for s3:// and gs:// addresses: "
        "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, or GOOGLE_SERVICE_ACCOUNT_KEY.",
        shapes_weights=False,
        default_words="none; the pod's own identity",
    )
    endpoint_url: Annotated[str, StringConstraints(pattern=r"^https?://[^/?#@]+/?$", max_length=1024)] | None = declare(
        "URL of the server for s3:// and gs:// addresses, such as https://minio.example.com:9000.",
        shapes_weights=False,
        default_words="that of AWS or Google",
    )
