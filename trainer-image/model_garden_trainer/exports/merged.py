"""Merged models: the adapter added into the base model's weights, in 16 bit or quantized to 4 bit."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

from model_garden.contract.trainer_config import TrainerConfig
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.exports.outputs import exporting, tensor_dtypes
from model_garden_trainer.models.base_model import carry_processor_files

FOLDER = "merged"
_SIXTEEN_BIT = {"BF16", "F16"}
_NO_WEIGHTS = {"I64", "I32", "BOOL"}


def check_4bit(*, gpu: bool) -> None:
    """See that 4-bit weights can be made.

    Raises:
        TrainingError: InvalidSpec.
    """
    if not gpu:
        raise TrainingError(
            "InvalidSpec",
            "spec.saveMethod: merged_4bit needs a GPU, but torch finds none on this machine; use merged_16bit, which "
            "can be loaded in 4 bit too, or run where there is a GPU",
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise TrainingError(
            "InvalidSpec",
            "spec.saveMethod: merged_4bit needs bitsandbytes, which is not installed here; install the trainer-gpu "
            "extra (pip install 'model-garden[trainer-gpu]'), or use merged_16bit",
        )


def save_16bit(config: TrainerConfig, base: Path, output: Path, folder: Path) -> None:
    """The adapter of ``output`` merged into a freshly loaded base model, in 16 bit, in ``folder``.

    Fresh, because the trained one may be quantized or patched. Afterwards the dtype is read from the files themselves.

    Raises:
        TrainingError: ExportFailed.
    """
    from peft import PeftConfig

    from model_garden_trainer.models import peft_adapter
    from model_garden_trainer.models.auto_classes import model_class

    with exporting("the merged model could not be written; the adapter is kept"):
        _clear(folder)
        dtype = sixteen_bit(base)
        model = model_class(config.spec, base).from_pretrained(base, dtype=dtype, local_files_only=True)
        if getattr(model, "quantization_method", None):  # a base that comes in 4 bit
            model = model.dequantize(dtype)
            model._weight_conversions = None  # else save_pretrained would undo what loading 4-bit weights did
        peft_adapter.untie(model, PeftConfig.from_pretrained(output))
        merged = peft_adapter.load(model, output).merge_and_unload(safe_merge=True)
        narrow(merged, dtype)  # modules that are trained whole are saved in float32
        merged.save_pretrained(folder)
        carry_processor_files(base, folder, config.spec.chat_template)
        check_16bit(folder)


def sixteen_bit(base: Path) -> Any:
    """The 16-bit dtype of a base model; bfloat16 if it is in another."""
    import torch
    from transformers import AutoConfig

    own = AutoConfig.from_pretrained(base, local_files_only=True).dtype
    return own if own in (torch.float16, torch.bfloat16) else torch.bfloat16


def narrow(model: Any, dtype: Any) -> None:
    """Hold the weights of a model in ``dtype``; complex buffers, as Llama 4 has, stay as they are."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)


def check_16bit(folder: Path) -> None:
    """See by the files that all weights of a saved model are in 16 bit.

    Raises:
        TrainingError: ExportFailed.
    """
    other = sorted(tensor_dtypes(folder) - _SIXTEEN_BIT - _NO_WEIGHTS)
    if other:
        raise TrainingError("ExportFailed", f"{folder}: holds {', '.join(other)} weights instead of 16-bit ones")


def save_4bit(config: TrainerConfig, base: Path, sixteen: Path, folder: Path) -> None:
    """The merged model of ``sixteen`` in 4 bit, in ``folder``.

    Raises:
        TrainingError: ExportFailed.
    """
    import torch

    from model_garden_trainer.models.auto_classes import model_class
    from model_garden_trainer.models.backends import placement
    from model_garden_trainer.models.quantized import assert_quantized, quantization_config

    with exporting("the merged model could not be written in 4 bit; the adapter is kept"):
        _clear(folder)
        model = model_class(config.spec, sixteen).from_pretrained(
            sixteen,
            dtype=torch.bfloat16,
            quantization_config=quantization_config("4bit"),
            local_files_only=True,
            **placement(),
        )
        assert_quantized(model, "4bit")
        model.save_pretrained(folder)
        carry_processor_files(base, folder, config.spec.chat_template)
        if "U8" not in tensor_dtypes(folder):  # bitsandbytes packs two 4-bit weights into a byte
            raise TrainingError("ExportFailed", f"{folder}: holds no 4-bit weights; the adapter is kept")


def _clear(folder: Path) -> None:
    """Remove what an earlier attempt left there, whose files could be mixed with the new ones."""
    if folder.exists():
        shutil.rmtree(folder)
