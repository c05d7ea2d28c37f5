"""PURE: the form of a new job. Values typed are text; empty means: take the default, which the field shows.

Each field is read from the declarations of the spec and is called as the REST API calls it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import StringIO
from typing import Any, Literal, get_args, get_origin

from ruamel.yaml import YAML

from model_garden.contract.declaration import shown
from model_garden.contract.defaults import defaults, merge
from model_garden.contract.fields import SpecField, snake_case, spec_fields
from model_garden.contract.methods import Method
from model_garden.contract.pod import GPU_RESOURCE
from model_garden.contract.resource import InvalidResource
from model_garden.contract.spec import TrainingJobSpec
from model_garden.services.manifest import parse_document, plain
from model_garden.web.advice import ADVICE
from model_garden.web.catalog import OTHER_MODEL

Values = Mapping[str, str]
Kind = Literal["text", "integer", "number", "boolean", "choice", "list"]

SIMPLE = (
    "method",
    "hyperparameters.num_epochs",
    "hyperparameters.learning_rate",
    "hyperparameters.batch_size",
    "hyperparameters.gradient_accumulation_steps",
    "lora_config.r",
    "lora_config.lora_alpha",
    "hyperparameters.max_steps",
    "quantization",
    "gpus",
)
"""Settings that most people look at."""
GROUPS = {
    "": "Job",
    "hyperparameters": "Hyperparameters",
    "lora_config": "LoRA",
    "image_options": "Images",
    "column_mapping": "Columns of the data set",
    "dpo": "DPO",
    "kto": "KTO",
    "orpo": "ORPO",
    "grpo": "GRPO",
    "rewards": "Rewards",
    "evaluation": "Evaluation",
    "push_to_hub": "Hugging Face Hub",
    "hub_token_secret": "Hugging Face Hub",
    "tracking": "Tracking",
    "health": "Health",
    "storage": "Storage",
    "resources": "Resources",
}
OWN_INPUTS = ("is_vision", "model_type", "base_model", "dataset_path", "suspend")
"""Fields with an input of their own, or that a job is not created with."""
WRITTEN_AS_YAML = ("resources", "pod_template")
LABELS = {
    "method": "Training method",
    "chat_template": "Chat template",
    "column_mapping.messages": "Turns column",
    "column_mapping.prompt": "Prompt column",
    "column_mapping.response": "Response column",
    "column_mapping.system": "System prompt column",
    "column_mapping.image": "Image column",
    "column_mapping.images": "Images column",
    "column_mapping.reasoning": "Reasoning column",
    "column_mapping.tools": "Tools column",
    "column_mapping.chosen": "Chosen column",
    "column_mapping.rejected": "Rejected column",
    "column_mapping.label": "Label column",
    "base_model_revision": "Model revision",
    "dataset_split": "Data set split",
    "validation_dataset_path": "Validation data set",
    "evaluation.metrics": "Metrics",
    "evaluation.dataset_path": "Evaluation data set",
    "evaluation.dataset_split": "Evaluation split",
    "evaluation.max_rows": "Most rows",
    "evaluation.max_new_tokens": "Longest answer (tokens)",
    "evaluation.batch_size": "Rows at once",
    "evaluation.compare_base": "Compare with base model",
    "evaluation.harness_tasks": "Tasks of lm-evaluation-harness",
    "evaluation.harness_limit": "Most rows of each task",
    "evaluation.harness_tasks_path": "Folder of own tasks",
    "evaluation.every_evaluations": "During training, at every ... evaluations",
    "output_dir": "Output folder",
    "num_nodes": "Pods",
    "ttl_seconds_after_finished": "Keep finished Job (seconds)",
    "active_deadline_seconds": "Deadline (seconds)",
    "hyperparameters.warmup_steps": "Warmup",
    "hyperparameters.lr_scheduler_type": "Learning rate schedule",
    "hyperparameters.optim": "Optimizer",
    "hyperparameters.max_seq_length": "Longest row (tokens)",
    "hyperparameters.save_total_limit": "Checkpoints to keep",
    "hyperparameters.max_grad_norm": "Gradient clipping",
    "lora_config.finetune_vision_layers": "Adapt vision tower",
    "lora_config.finetune_language_layers": "Adapt language model",
    "lora_config.finetune_attention_modules": "Adapt attention",
    "lora_config.finetune_mlp_modules": "Adapt MLP",
    "lora_config.r": "LoRA rank",
    "lora_config.lora_alpha": "LoRA alpha",
    "lora_config.lora_dropout": "LoRA dropout",
    "lora_config.use_rslora": "Rank-stabilized LoRA",
    "adapter_path": "Continue from adapter",
    "lora_config.use_dora": "DoRA",
    "lora_config.init_lora_weights": "Adapter initialization",
    "lora_config.loraplus_lr_ratio": "LoRA+ ratio",
    "lora_config.modules_to_save": "Modules to train whole",
    "hyperparameters.num_epochs": "Epochs",
    "hyperparameters.gradient_accumulation_steps": "Gradient accumulation",
    "gguf_quantization": "GGUF quantization",
    "push_to_hub.repo": "Push to repository",
    "push_to_hub.private": "Private repository",
    "push_to": "Push to bucket",
    "storage.endpoint_url": "Endpoint URL",
    "report_to": "Experiment trackers",
    "tracking.uri": "Server URL",
    "tracking.secret": "Credentials Secret",
    "hub_token_secret.name": "Token Secret",
    "hub_token_secret.key": "Key in the Secret",
}
RESOURCES = {
    "gpus": ("limits", GPU_RESOURCE, "GPUs", "GPUs of each pod; 0 trains on CPUs.", "1"),
    "cpu": ("requests", "cpu", "CPU request", "CPUs of each pod.", "the operator's setting"),
    "memory": ("requests", "memory", "Memory request", "Memory of each pod, such as 32Gi.", "the operator's setting"),
}
"""Inputs for amounts in ``resources``: where each stands, its label, meaning and default."""
YAML_FIELD = "more"


@dataclass
class FormField:
    """One input.

    ``name`` is the field's path in the REST API, ``default`` what an empty input means, ``advice`` when to change it.
    """

    name: str
    label: str
    meaning: str
    kind: Kind
    group: str
    default: str
    advice: str
    value: str = ""
    choices: tuple[str, ...] = ()
    problems: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        """The input's id in the page."""
        return "field-" + self.name.replace(".", "-")

    @property
    def is_changed(self) -> bool:
        """Whether the value differs from the default."""
        kinds: dict[Kind, Any] = {"integer": int, "number": float}
        kind = kinds.get(self.kind, str)
        return bool(self.value.strip()) and _read(self.value.strip(), kind) != _read(self.default, kind)


def is_vision(values: Values) -> bool:
    """Whether the form describes a vision-language model."""
    return values.get("model_type") == "vision"


def base_model(values: Values) -> str:
    """The model chosen from the list, else the one that was typed."""
    listed = values.get("base_model", OTHER_MODEL)
    return values.get("other_model", "") if listed == OTHER_MODEL else listed


def dataset(values: Values) -> str:
    """The data set's path or address."""
    return values.get("dataset_path", "").strip()


def is_elsewhere(path: str) -> bool:
    """Whether a data set is at an address, not in the workspace."""
    return "://" in path


def source(values: Values) -> str:
    """Where the form shows its data set to be: ``workspace``, ``upload``, ``hub`` or ``bucket``."""
    scheme, given = dataset(values).rpartition("://")[0], values.get("source", "workspace")
    return "hub" if scheme.startswith("hf") else "bucket" if scheme else given


def gpus(values: Values) -> int:
    """GPUs of a pod, as far as the input can be read."""
    typed = values.get("gpus", "")
    return int(typed) if typed.isdecimal() else 1


def form_fields(values: Values, problems: Mapping[str, list[str]] | None = None) -> list[FormField]:
    """Every input for a field of the spec, with the defaults of the type, size and GPUs that ``values`` describe."""
    vision = is_vision(values)
    plain_defaults = defaults(
        vision=vision, base_model=base_model(values), gpus=gpus(values), method=method_of(values) or "sft"
    )
    table = snake_case(plain_defaults, TrainingJobSpec)
    found = []
    for one in _inputs():
        if not _belongs(one, values):
            continue
        name = ".".join(one.path)
        default = _at(table, one.path)
        found.append(
            FormField(
                name,
                LABELS.get(name, one.path[-1].replace("_", " ").capitalize()),
                one.meaning,
                _kind(one.type),
                GROUPS[one.path[0] if len(one.path) > 1 else ""],
                shown(default) if default is not None else one.default_words,
                ADVICE.get(name, ""),
                choices=get_args(one.type) if get_origin(one.type) is Literal else (),
            )
        )
    for name, (_, _, label, meaning, words) in RESOURCES.items():
        found.append(FormField(name, label, meaning, "text", GROUPS["resources"], words, ADVICE.get(name, "")))
    for one_field in found:
        one_field.value = values.get(one_field.name, "")
        one_field.problems = list((problems or {}).get(one_field.name, []))
    return found


def method_of(values: Values) -> Method | None:
    """The chosen training method; None for the default, or for one that is not known."""
    return next((one for one in get_args(Method) if one == values.get("method")), None)


def _belongs(one: SpecField, values: Values) -> bool:
    """Whether a job of the chosen type and method has the field."""
    group = one.path[0]
    if group == "image_options":
        return is_vision(values)
    if group == "rewards":
        return method_of(values) == "grpo"
    return group not in get_args(Method) or group == method_of(values)


def _inputs() -> Iterator[SpecField]:
    for one in spec_fields():
        if one.path[0] not in OWN_INPUTS and one.path[0] not in WRITTEN_AS_YAML:
            yield one


def _kind(kind: Any) -> Kind:
    if get_origin(kind) is Literal:
        return "choice"
    if get_origin(kind) is list:
        return "list"
    kinds: dict[Any, Kind] = {bool: "boolean", int: "integer", float: "number"}
    return kinds.get(kind, "text")


def _at(table: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = table
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


NAMES = frozenset(
    (*(".".join(one.path) for one in _inputs()), *RESOURCES, "name", "model_type", "base_model", "other_model")
) | {"dataset_path", "source", YAML_FIELD}
"""The names of all inputs."""
SETTINGS = NAMES - {"name", "model_type", "base_model", "other_model", "dataset_path", "source"}
"""Those that have a default."""


def without(values: Values, action: str) -> dict[str, str]:
    """The values after ``undo`` of one setting, or after the action ``reset`` of all."""
    emptied = SETTINGS if action == "reset" else {values.get("undo", "")}
    return {name: value for name, value in values.items() if name not in emptied and name != "undo"}


def document(values: Values) -> dict[str, Any]:
    """The job as the REST API takes it. A value that is not of its field's type stays text, which the schema refuses.

    Raises:
        InvalidResource: the YAML of further fields cannot be read.
    """
    result: dict[str, Any] = {"model_type": "vision" if is_vision(values) else "text"}
    given = {"name": values.get("name"), "base_model": base_model(values), "dataset_path": values.get("dataset_path")}
    result |= {key: value.strip() for key, value in given.items() if value and value.strip()}
    for one in _inputs():
        if (text := values.get(".".join(one.path), "").strip()) and _belongs(one, values):
            _put(result, one.path, _read(text, one.type))
    for name, (group, resource, *_) in RESOURCES.items():
        if text := values.get(name, "").strip():
            _put(result, ("resources", group, resource), int(text) if text.isdecimal() else text)
    return merge(result, _read_yaml(values.get(YAML_FIELD, "")))


def _read_yaml(text: str) -> dict[str, Any]:
    if not text.strip():
        return {}
    read = plain(parse_document(text, f"spec.{YAML_FIELD}"))
    if not isinstance(read, dict):
        raise InvalidResource([f"spec.{YAML_FIELD}: give fields of the spec, such as podTemplate:"])
    result: dict[str, Any] = snake_case(read, TrainingJobSpec)
    return result


def _put(result: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        result = result.setdefault(key, {})
    result[path[-1]] = value


def _read(text: str, kind: Any) -> Any:
    if kind == list[float]:
        return [_read(part.strip(), float) for part in text.split(",") if part.strip()]
    if get_origin(kind) is list:
        return [part.strip() for part in text.replace("\n", ",").split(",") if part.strip()]
    if kind is bool:
        return {"true": True, "false": False}.get(text, text)
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            return text
    return text


def values_of(spec: Mapping[str, Any]) -> dict[str, str]:
    """The form's values for a spec in camelCase: what no input shows stands in the YAML field."""
    rest: dict[str, Any] = snake_case({key: value for key, value in spec.items() if key != "suspend"}, TrainingJobSpec)
    vision = rest.pop("is_vision", False) or rest.pop("model_type", "text") == "vision"
    rest.pop("model_type", None)
    values = {"model_type": "vision" if vision else "text"}
    values |= {key: str(rest.pop(key)) for key in ("base_model", "dataset_path") if key in rest}
    paths = {".".join(one.path): one.path for one in _inputs()}
    paths |= {name: ("resources", group, key) for name, (group, key, *_) in RESOURCES.items()}
    for name, path in paths.items():
        if (value := _take(rest, path)) is not None:
            values[name] = ", ".join(value) if isinstance(value, list) else shown(value)
    if rest:
        stream = StringIO()
        YAML().dump(rest, stream)
        values[YAML_FIELD] = stream.getvalue()
    return values


def _take(table: dict[str, Any], path: tuple[str, ...]) -> Any:
    """Remove the value at ``path`` and every mapping that is empty without it."""
    key, *below = path
    if not below:
        return table.pop(key, None)
    inner = table.get(key)
    found = _take(inner, tuple(below)) if isinstance(inner, dict) else None
    if inner == {}:
        del table[key]
    return found
