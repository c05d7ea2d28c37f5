"""The adapter that training continues from (``adapterPath``): found or fetched, and checked by its config. No torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from model_garden.contract.addresses import is_remote
from model_garden.contract.spec import EffectiveSpec, is_path
from model_garden.contract.trainer_config import TrainerConfig
from model_garden_trainer import fetched
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.events import Report, log
from model_garden_trainer.hub_retry import patiently

CONFIG, WEIGHTS, TEMPLATE = "adapter_config.json", "adapter_model.safetensors", "chat_template.jinja"
_OF_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
_TWIN = ("-unsloth-bnb-4bit", "-bnb-4bit")
_SAME = {
    "r": "r",
    "loraAlpha": "lora_alpha",
    "useRslora": "use_rslora",
    "useDora": "use_dora",
    "targetModules": "target_modules",
    "modulesToSave": "modules_to_save",
}
"""Fields of ``loraConfig`` that the adapter decides, by peft's name."""


def fetch(config: TrainerConfig, report: Report) -> None:
    """Fetch an adapter of remote storage, for ``locate``.

    Raises:
        TrainingError: as ``fetched.fetch_model``.
    """
    address = config.spec.adapter_path
    if address and is_remote(address):
        fetched.fetch_model(config, (CONFIG, WEIGHTS, TEMPLATE), report, field="adapterPath")


def locate(spec: EffectiveSpec, warn: Any = log) -> Path | None:
    """The folder of the adapter, downloaded from the Hub if it is there; None if training starts from a fresh one.

    Raises:
        TrainingError: ModelNotFound.
    """
    given = spec.adapter_path
    if given is None:
        return None
    if not is_path(given) and not is_remote(given):
        return _from_hub(given, warn)
    folder = Path(fetched.local(given)).expanduser().resolve()
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        raise TrainingError(
            "ModelNotFound",
            f"spec.adapterPath: {given} is not the folder of a LoRA adapter: it has no {CONFIG} or no {WEIGHTS}",
        )
    return folder


def check(spec: EffectiveSpec, adapter: Path, base: Path) -> list[str]:
    """See that the adapter belongs to the base model and does not contradict ``loraConfig``; warnings.

    Args:
        spec: the job's.
        adapter: the adapter's folder.
        base: the base model's folder.

    Raises:
        TrainingError: InvalidSpec or InvalidModel, naming the field.
    """
    config = read(spec, adapter)
    kind = config.get("init_lora_weights")
    if config.get("peft_type") != "LORA" or (isinstance(kind, str) and kind.startswith(_OF_BASE)):
        raise TrainingError(
            "InvalidModel",
            f"spec.adapterPath: {spec.adapter_path} is an adapter of kind {config.get('peft_type')}, initialized by "
            f"{kind}; use a LoRA adapter of the unchanged base model",
        )
    for field, name in _SAME.items():
        wanted, found = spec.lora_config.to_dict().get(field), config.get(name)
        if isinstance(wanted, list):
            wanted, found = sorted(wanted), sorted(found or ()) if not isinstance(found, str) else found
        if wanted is not None and wanted != found:
            raise TrainingError(
                "InvalidSpec",
                f"spec.loraConfig.{field}: {wanted}, but the adapter {spec.adapter_path} has {found}; remove the field",
            )
    return [*_other_base(spec, str(config.get("base_model_name_or_path"))), *_other_template(spec, adapter, base)]


def read(spec: EffectiveSpec, adapter: Path) -> dict[str, Any]:
    """The adapter's config.

    Raises:
        TrainingError: InvalidModel if it cannot be read.
    """
    try:
        content: dict[str, Any] = json.loads((adapter / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(
            "InvalidModel", f"spec.adapterPath: {CONFIG} of {spec.adapter_path} cannot be read: {error}"
        ) from error
    return content


def adopted(spec: EffectiveSpec, adapter: Path | None) -> EffectiveSpec:
    """``spec`` with the adapter's rank, scale and modules in ``loraConfig``, for the estimate and the model card."""
    if adapter is None:
        return spec
    config = read(spec, adapter)
    targets = config.get("target_modules")
    values = {name: config.get(name) for name in _SAME.values()} | {
        "target_modules": targets if isinstance(targets, list) else None,
        "lora_dropout": spec.lora_config.lora_dropout or config.get("lora_dropout") or 0.0,
    }
    return spec.model_copy(update={"lora_config": spec.lora_config.model_copy(update=values)})


def digest(adapter: Path) -> str:
    """The digest of the adapter's config and weights (SHA-256, hexadecimal)."""
    found = hashlib.sha256()
    for name in (CONFIG, WEIGHTS):
        with (adapter / name).open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()


def _other_base(spec: EffectiveSpec, trained_on: str) -> list[str]:
    """A warning if the adapter names its base model differently, such as by another folder.

    Raises:
        TrainingError: InvalidSpec for another model.
    """
    if trained_on == spec.base_model:
        return []
    if _bare(trained_on) != _bare(spec.base_model):
        raise TrainingError(
            "InvalidSpec",
            f"spec.adapterPath: {spec.adapter_path} is an adapter of {trained_on}, not of {spec.base_model}; set "
            f"baseModel: {trained_on}, or choose another adapter",
        )
    return [
        f"spec.adapterPath: the adapter names its base model {trained_on}; it must be the same as {spec.base_model}"
    ]


def _bare(model: str) -> str:
    """The last part of a model's name or path; that of a quantized copy is the model's own."""
    name = model.rstrip("/").rpartition("/")[2].lower()
    for ending in _TWIN:
        name = name.removesuffix(ending)
    return name


def _other_template(spec: EffectiveSpec, adapter: Path, base: Path) -> list[str]:
    one, other = adapter / TEMPLATE, base / TEMPLATE
    if not one.is_file() or not other.is_file() or one.read_bytes() == other.read_bytes():
        return []
    return [
        f"spec.adapterPath: {spec.adapter_path} was trained with another chat template than that of {spec.base_model}; "
        "training uses the base model's"
    ]


def _from_hub(name: str, warn: Any) -> Path:
    from huggingface_hub import errors, snapshot_download

    def download() -> str:
        folder: str = snapshot_download(name, allow_patterns=[CONFIG, WEIGHTS, TEMPLATE])
        return folder

    try:
        folder = Path(patiently(download, f"spec.adapterPath {name}", warn)).resolve()
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, OSError) as error:
        raise TrainingError(
            "ModelNotFound",
            f"spec.adapterPath: {name} cannot be downloaded from the Hub: {str(error).splitlines()[0]}; use a folder "
            "(./models/NAME), or check the name and hubTokenSecret",
        ) from error
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        raise TrainingError("ModelNotFound", f"spec.adapterPath: {name} on the Hub has no {CONFIG} or no {WEIGHTS}")
    return folder
