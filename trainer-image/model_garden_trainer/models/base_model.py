"""The base model's folder: found or fetched, and read for what it is before any weight is loaded. No torch here."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from model_garden.contract.addresses import is_remote
from model_garden.contract.names import PREFLIGHT_DONE_ENV
from model_garden.contract.spec import EffectiveSpec, is_path
from model_garden.contract.trainer_config import TrainerConfig
from model_garden.datasets.chat_format import check_files
from model_garden.datasets.chat_templates import FILE, MORE, UnknownTemplate, read_template
from model_garden.datasets.model_files import DamagedModelFile, read_json
from model_garden.families import reads_images
from model_garden_trainer import fetched, space
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.events import Report, log
from model_garden_trainer.hub_retry import patiently

_INDEX = "model.safetensors.index.json"
_SMALL_FILES = (
    *("*.json", "*.jinja", "additional_chat_templates/*.jinja"),
    *("*.model", "*.txt", "*.tiktoken", "*.py", "LICENSE*", "README.md"),
)
_PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")
_NOT_CARRIED = ("config.json", "adapter_config.json", "training_config.json", "README.md")


REPORT_SECONDS = 2.0
Bytes = Callable[[int, int], None]
"""Told of a download: the bytes that are there, and how many there will be."""
Warn = Callable[[str], None]


def locate(spec: EffectiveSpec, tell: Bytes | None = None, warn: Warn = log) -> Path:
    """The absolute folder of ``baseModel``: a local one, or the cache's copy of a model of the Hub.

    An absolute path is what keeps every library below from taking a name for a repository and asking the network.

    Args:
        spec: the job's.
        tell: called every two seconds with the bytes so far and the bytes in all.
        warn: called with a warning when the Hub does not answer and is tried again.

    Raises:
        TrainingError: ModelNotFound, or InvalidModel for a model of another kind.
    """
    folder = look(spec, warn)
    if _is_local(spec):
        return folder
    return _fetch(spec, [*_SMALL_FILES, *_weight_files(folder)], tell, warn)


def look(spec: EffectiveSpec, warn: Warn = log) -> Path:
    """The same without the weights: of a Hub model only small files are fetched, and its config is looked at.

    Raises:
        TrainingError: as ``locate``.
    """
    if _is_local(spec):
        folder = Path(fetched.local(spec.base_model)).expanduser().resolve()
        if not folder.is_dir():
            raise TrainingError(
                "ModelNotFound",
                f"spec.baseModel: {spec.base_model} does not exist ({folder} is not a folder); "
                "use a model folder, or a Hub id such as Qwen/Qwen2.5-VL-3B-Instruct",
            )
    else:
        folder = _fetch(spec, [*_SMALL_FILES], None, warn)
    check_kind(spec, folder)
    try:
        check_files(folder)
        read_template(folder, spec.chat_template)
    except UnknownTemplate as error:
        raise TrainingError("InvalidModel", str(error)) from error
    except DamagedModelFile as error:
        raise TrainingError("InvalidModel", f"spec.baseModel: {error}") from error
    return folder


def fetch(config: TrainerConfig, report: Report, *, weights: bool = True) -> None:
    """Fetch a base model of remote storage, for ``locate`` and ``look``; with ``weights=False`` its small files alone.

    Raises:
        TrainingError: as ``fetched.fetch_model``.
    """
    if not is_remote(config.spec.base_model):
        return
    fetched.fetch_model(config, _SMALL_FILES, report, _weight_files if weights else None)


def check_weights(spec: EffectiveSpec, folder: Path) -> None:
    """See that all weights are there and whole, from their headers alone.

    Raises:
        TrainingError: InvalidModel, naming the file.
    """
    from safetensors import SafetensorError, safe_open

    files = [folder / name for name in _weight_files(folder) if "*" not in name] or sorted(folder.glob("*.safetensors"))
    if not files and not any(folder.glob("pytorch_model*.bin")):
        raise TrainingError(
            "InvalidModel",
            f"spec.baseModel: {spec.base_model} holds no weights (*.safetensors in {folder}); download it again",
        )
    for file in files:
        try:
            with safe_open(file, framework="numpy"):
                pass
        except (SafetensorError, OSError) as error:
            raise TrainingError(
                "InvalidModel",
                f"spec.baseModel: {file.name} of {spec.base_model} is missing or incomplete ({error}); "
                "download it again",
            ) from error


def _is_local(spec: EffectiveSpec) -> bool:
    if is_path(spec.base_model) or is_remote(spec.base_model):  # which is fetched before
        return True
    return (Path(spec.base_model).expanduser() / "config.json").is_file()


def _weight_files(folder: Path) -> list[str]:
    """Names of the weights: the shards that the index lists (some repositories hold them twice), else a pattern."""
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        return sorted(set(index["weight_map"].values()))
    except FileNotFoundError:
        return ["model*.safetensors"]
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise TrainingError("InvalidModel", f"spec.baseModel: {folder / _INDEX} cannot be read: {error}") from error


def check_kind(spec: EffectiveSpec, folder: Path) -> dict[str, Any]:
    """The model's config, checked to read images where ``isVision`` asks for it.

    Raises:
        TrainingError: InvalidModel.
    """
    config = _read_config(spec, folder)
    if spec.vision and not reads_images(config):
        kind = config["model_type"]
        raise TrainingError(
            "InvalidModel",
            f"spec.isVision: true, but {spec.base_model} is a text model (model_type {kind!r}, no vision part); set "
            "isVision: false, or choose a vision-language model such as Qwen/Qwen2.5-VL-3B-Instruct",
        )
    _check_quantization(spec, config)
    return config


def _check_quantization(spec: EffectiveSpec, config: dict[str, Any]) -> None:
    """Weights that are stored quantized (``…-bnb-4bit``) stay so: no setting brings the lost digits back."""
    given = config.get("quantization_config") or {}
    held = "4bit" if given.get("load_in_4bit") else "8bit" if given.get("load_in_8bit") else None
    if held and spec.lora_config.init_lora_weights == "loftq":
        raise TrainingError(
            "InvalidSpec",
            f"spec.loraConfig.initLoraWeights: loftq needs the weights before rounding, but those of {spec.base_model} "
            f"are stored in {held}; choose the unquantized model, or use default",
        )
    if held and spec.quantization != held:
        raise TrainingError(
            "InvalidSpec",
            f"spec.quantization: {spec.quantization}, but the weights of {spec.base_model} are stored in {held}; set "
            f"quantization: {held} (which needs a GPU), or choose the unquantized model",
        )


def carry_processor_files(base: Path, output: Path, template: str | None = None) -> None:
    """Copy tokenizer, processor and chat template of ``base`` into an output, which then loads without ``base``.

    The output has the chat template that ``template``, the job's ``chatTemplate``, names, if it names one.
    They come from the base model, not from the loaded objects: what those write differs between versions, and leaves
    out what was not loaded here.
    """
    for pattern in _SMALL_FILES:
        for path in base.glob(pattern):
            if path.name not in _NOT_CARRIED and not path.name.endswith(".index.json"):
                kept = output / path.relative_to(base)
                kept.parent.mkdir(exist_ok=True)
                shutil.copyfile(path, kept)
    if template and (text := read_template(base, template)):
        shutil.rmtree(output / MORE, ignore_errors=True)
        (output / FILE).write_text(text, encoding="utf-8")
    _drop_overridden_templates(output)
    _name_processor(base, output)
    from model_garden_trainer.models import tokenizer

    tokenizer.settle(base, output)


def _drop_overridden_templates(output: Path) -> None:
    """Keep ``chat_template.jinja`` alone if there is one: llama.cpp prefers the one of tokenizer_config.json to it."""
    file, path = output / FILE, output / "tokenizer_config.json"
    if not file.is_file() or not file.read_text(encoding="utf-8"):
        return
    (output / "chat_template.json").unlink(missing_ok=True)
    content = read_json(path)
    if content.pop("chat_template", None) is not None:
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")


def _name_processor(base: Path, output: Path) -> None:
    """Write the class of the processor into an output whose files do not name it.

    A base model may name it in its config.json alone, which an adapter's folder lacks: AutoProcessor would then load a
    bare tokenizer there.
    """
    files = [path for name in _PROCESSOR_FILES if (path := output / name).is_file()]
    if not files or any(read_json(path).get("processor_class") for path in (*files, output / "tokenizer_config.json")):
        return
    from transformers import AutoProcessor

    named = type(AutoProcessor.from_pretrained(base, local_files_only=True)).__name__
    content = read_json(files[0]) | {"processor_class": named}
    files[0].write_text(json.dumps(content, indent=2), encoding="utf-8")


def _read_config(spec: EffectiveSpec, folder: Path) -> dict[str, Any]:
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
            f"spec.baseModel: {spec.base_model} has no config.json, so it is not a model folder; "
            "give the folder that holds config.json and *.safetensors",
        ) from None
    except (OSError, ValueError) as error:
        raise TrainingError("InvalidModel", f"spec.baseModel: {path} cannot be read: {error}") from error
    if not isinstance(config, dict) or "model_type" not in config:
        raise TrainingError(
            "InvalidModel", f'spec.baseModel: {path} has no "model_type", so it is not the config.json of a model'
        )
    return config


def _fetch(spec: EffectiveSpec, patterns: list[str], tell: Bytes | None, warn: Warn) -> Path:
    from huggingface_hub import constants, errors

    def download() -> str:
        if tell is None:
            return _download(spec, patterns, None)
        to_come = _to_come(spec, patterns)
        space.check_cache(spec.base_model, Path(constants.HF_HUB_CACHE), to_come)
        return _download(spec, patterns, _bar(tell, to_come))

    try:
        folder = patiently(download, f"spec.baseModel {spec.base_model}", warn)
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
        why, cache = str(error).splitlines()[0], os.environ.get("HF_HOME", "HF_HOME")
        message = (
            f"is not in the cache ({cache}) and cannot be downloaded: {why}; use a model folder (./models/…), or give "
            "the pod access to the Hub"
        )
        if isinstance(error, OSError) and error.errno:  # of a file system, not of the Hub
            message = f"cannot be saved in the cache ({cache}): {why}; check its free space and its permissions"
        raise TrainingError("ModelNotFound", f"spec.baseModel: {spec.base_model} {message}") from error
    return Path(folder).resolve()


def _download(spec: EffectiveSpec, patterns: list[str], bar: type[Any] | None) -> str:
    """The model's folder in the cache; files that are gone since the preflight are downloaded again.

    Where the job's author chose to stay offline, nothing is asked.
    """
    from huggingface_hub import constants, errors, snapshot_download

    def download() -> str:
        folder: str = snapshot_download(
            spec.base_model, revision=spec.base_model_revision, allow_patterns=patterns, tqdm_class=bar
        )
        return folder

    try:
        return download()
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        if not (constants.HF_HUB_OFFLINE and PREFLIGHT_DONE_ENV in os.environ):
            raise
    log(f"files of {spec.base_model} are missing from the cache since the preflight; downloading them again")
    constants.HF_HUB_OFFLINE = False
    try:
        return download()
    finally:
        constants.HF_HUB_OFFLINE = True


def _to_come(spec: EffectiveSpec, patterns: list[str]) -> int:
    """Bytes of the files that the cache lacks; 0 where the Hub gives no sizes."""
    from huggingface_hub import errors, snapshot_download

    try:
        files = snapshot_download(
            spec.base_model, revision=spec.base_model_revision, allow_patterns=patterns, dry_run=True
        )
    except (errors.DryRunError, errors.HfHubHTTPError, OSError):
        return 0
    return sum(file.file_size or 0 for file in files if file.will_download)


def _bar(tell: Bytes, to_come: int) -> type[Any]:
    """A progress bar that shows nothing and calls ``tell``: the library makes one for bytes, others for counts."""
    from tqdm import tqdm

    last = {"bytes": 0, "time": time.monotonic()}

    class ByteCounter(tqdm):
        monitor_interval = 0

        def display(self, *_: Any, **__: Any) -> bool:
            return True

        def update(self, n: float | None = 1) -> bool | None:
            shown: bool | None = super().update(n)
            if self.unit == "B" and self.n > last["bytes"] and time.monotonic() - last["time"] >= REPORT_SECONDS:
                last.update(bytes=int(self.n), time=time.monotonic())
                tell(int(self.n), max(to_come, int(self.n)))
            return shown

    return ByteCounter
