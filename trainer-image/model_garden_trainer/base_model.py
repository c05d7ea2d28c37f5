"""The base model's folder: found or fetched, and read for what it is before any weight is loaded. No torch here."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from model_garden.contract.spec import TrainingJobSpec, is_path
from model_garden_trainer.errors import TrainingError

_VISION_KEYS = ("vision_config", "vision_tower", "mm_vision_tower", "vit_config")
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
_SMALL_FILES = ("*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken", "*.py", "LICENSE*", "README.md")
_NOT_CARRIED = ("config.json", "adapter_config.json", "training_config.json", "README.md")


def locate(spec: TrainingJobSpec) -> Path:
    """The absolute folder of ``baseModel``: a local one, or one of the Hub's brought into the cache.

    Only small files of a Hub model are fetched before its config was looked at. An absolute path is what keeps every
    library below from taking a name for a repository and asking the network.

    Raises:
        TrainingError: ModelNotFound, or InvalidModel where what is there is no model of the kind asked for.
    """
    local = Path(spec.base_model).expanduser()
    if is_path(spec.base_model) or (local / "config.json").is_file():
        folder = local.resolve()
        if not folder.is_dir():
            raise TrainingError(
                "ModelNotFound",
                f"spec.baseModel: {spec.base_model} is no folder (looked at {folder}); "
                "give the folder of a model, or a Hub id such as Qwen/Qwen2.5-VL-3B-Instruct",
            )
        check_kind(spec, folder)
        return folder
    check_kind(spec, _fetch(spec, [*_SMALL_FILES]))
    return _fetch(spec, [*_SMALL_FILES, *_WEIGHTS], reached=True)


def check_kind(spec: TrainingJobSpec, folder: Path) -> dict[str, Any]:
    """The model's config, once it is known to be a model and of the kind that ``isVision`` says.

    Raises:
        TrainingError: InvalidModel.
    """
    config = _read_config(spec, folder)
    sees = any(config.get(key) for key in _VISION_KEYS)
    kind = config.get("model_type", "?")
    if spec.vision and not sees:
        raise TrainingError(
            "InvalidModel",
            f"spec.isVision: true, but {spec.base_model} is a text model (model_type {kind!r}, no vision part); set "
            "isVision: false, or choose a vision-language model such as Qwen/Qwen2.5-VL-3B-Instruct",
        )
    if not spec.vision and sees:
        raise TrainingError(
            "InvalidModel",
            f"spec.isVision: false, but {spec.base_model} is a vision-language model (model_type {kind!r}); "
            "set isVision: true, which also takes rows without pictures",
        )
    return config


def carry_processor_files(base: Path, output: Path) -> None:
    """Copy tokenizer, processor and chat template of ``base`` into an output, so that it loads elsewhere by itself.

    They come from the base model, not from the loaded objects: what those write differs between versions, and leaves
    out what was not loaded here.
    """
    for pattern in _SMALL_FILES:
        for path in base.glob(pattern):
            if path.name not in _NOT_CARRIED and not path.name.endswith(".index.json"):
                shutil.copyfile(path, output / path.name)


def _read_config(spec: TrainingJobSpec, folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if (folder / "adapter_config.json").is_file() and not path.is_file():
        raise TrainingError(
            "InvalidModel",
            f"spec.baseModel: {spec.base_model} holds a LoRA adapter, not a model; "
            "train from its base model, or merge it first (saveMethod: merged_16bit)",
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TrainingError(
            "InvalidModel",
            f"spec.baseModel: {spec.base_model} holds no config.json, so it is no model folder; "
            "give the folder that holds config.json and *.safetensors",
        ) from None
    except (OSError, ValueError) as error:
        raise TrainingError("InvalidModel", f"spec.baseModel: {path} cannot be read: {error}") from error
    if not isinstance(config, dict) or "model_type" not in config:
        raise TrainingError("InvalidModel", f"spec.baseModel: {path} names no model_type, so it is no model's config")
    return config


def _fetch(spec: TrainingJobSpec, patterns: list[str], *, reached: bool = False) -> Path:
    from huggingface_hub import errors, snapshot_download

    try:
        folder = snapshot_download(spec.base_model, revision=spec.base_model_revision, allow_patterns=patterns)
    except errors.GatedRepoError as error:
        raise TrainingError(
            "ModelNotFound",
            f"spec.baseModel: {spec.base_model} is gated; accept its terms on the Hub and name a Secret with your "
            "token in hubTokenSecret (on your own machine: hf auth login)",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise TrainingError(
            "ModelNotFound",
            f"spec.baseModelRevision: {spec.base_model} has no revision {spec.base_model_revision!r}",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise TrainingError(
            "ModelNotFound",
            f"spec.baseModel: the Hub has no model {spec.base_model}, or it is private; check the name, or name a "
            "Secret with your token in hubTokenSecret; a folder is written as ./models/…",
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, OSError) as error:
        why = str(error).splitlines()[0]
        if reached:  # the Hub answered a moment ago: another attempt goes on with what has come
            raise TrainingError(
                "TrainerError", f"spec.baseModel: the download of {spec.base_model} was interrupted: {why}"
            ) from error
        raise TrainingError(
            "ModelNotFound",
            f"spec.baseModel: {spec.base_model} is not cached ({os.environ.get('HF_HOME', 'HF_HOME')}), and the Hub "
            f"cannot be reached: {why}; give the folder of a model (./models/…), or open the way to the Hub",
        ) from error
    return Path(folder).resolve()
