"""The adapter that peft puts on a model: its settings, how it starts, and its weights as the base model needs them.

``pissa`` and ``olora`` take the adapter's first weights out of the base model's, so that the trained adapter belongs to
a changed base model; ``loftq`` adds to the 4-bit base model what rounding took from it. ``weights`` makes the adapter
one of the original base model, of twice the rank.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig as PeftLoraConfig
from peft import PeftConfig, PeftModel, get_peft_model, get_peft_model_state_dict

from model_garden.contract.adapter_rules import DOUBLES_RANK
from model_garden.contract.options import EffectiveLoraConfig
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.models.lora import check_saved, choose, layers

State = dict[str, torch.Tensor]
EMBEDDINGS = ("embed_tokens", "lm_head")
"""The two that a model may tie: its input embeddings and its output layer."""


def add(model: Any, config: EffectiveLoraConfig) -> Any:
    """``model`` with fresh adapters on the layers that ``config`` chooses, all else frozen.

    Raises:
        TrainingError: InvalidSpec where a name of ``config`` matches no module.
    """
    with _quiet_about_ties():
        return _ready(get_peft_model(model, settings(model, config)))


def continued(model: Any, folder: Path, dropout: float | None) -> Any:
    """``model`` with the saved adapter of ``folder``, to be trained further.

    Args:
        model: the base model.
        folder: the adapter's.
        dropout: the dropout of its inputs; None for the adapter's own.

    Raises:
        TrainingError: InvalidModel for weights that do not fit the model.
    """
    config = PeftConfig.from_pretrained(folder)
    if dropout is not None:
        config.lora_dropout = dropout
    try:
        with _quiet_about_ties():
            warnings.filterwarnings("error", message="Found missing adapter keys")
            return _ready(PeftModel.from_pretrained(model, folder, is_trainable=True, config=config))
    except (RuntimeError, ValueError, UserWarning) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise TrainingError(
            "InvalidModel", f"spec.adapterPath: the adapter does not fit the base model: {str(error)[:300]}"
        ) from error


def _ready(adapted: Any) -> Any:
    """The adapted model as training and its checkpoints need it."""
    whole = list(_trained_whole(adapted))
    for module, dtype in [(module, next(module.parameters()).dtype) for module in whole]:  # tied ones share a weight
        _in_float32(module, dtype)
    # else peft saves the base model's embeddings in each checkpoint where the output layer has an adapter
    adapted.save_pretrained = partial(adapted.save_pretrained, save_embedding_layers=False)
    return adapted


def load(base: Any, folder: Path) -> Any:
    """``base`` with the saved adapter of ``folder``."""
    with _quiet_about_ties():
        return PeftModel.from_pretrained(base, folder)


@contextmanager
def _quiet_about_ties() -> Iterator[None]:
    """Within it, peft does not warn of tied embeddings, which ``untie`` parts before a merge."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*tie_word_embeddings.*")
        yield


def settings(model: Any, config: EffectiveLoraConfig) -> PeftLoraConfig:
    """peft's settings for a model."""
    linears, others = layers(model)
    targets, excluded = choose(linears, config, others)
    whole = config.modules_to_save or []
    check_saved(whole, [name for name, _ in model.named_modules()], targets)
    return PeftLoraConfig(
        r=config.r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        use_rslora=bool(config.use_rslora),
        use_dora=bool(config.use_dora),
        init_lora_weights=True if config.init_lora_weights in ("default", "loftq") else config.init_lora_weights,
        target_modules=targets,
        exclude_modules=excluded,
        modules_to_save=whole or None,
        ensure_weight_tying=is_tied(model) and set(EMBEDDINGS) <= _last_names(whole),
        bias="none",
        task_type="CAUSAL_LM",
    )


def state(model: Any) -> State:
    """The trained weights, by peft's names."""
    found: State = get_peft_model_state_dict(model, save_embedding_layers=False)
    return found


def initial(model: Any, config: EffectiveLoraConfig) -> State | None:
    """The first weights of adapters that change the model before training; None for others."""
    if config.init_lora_weights not in DOUBLES_RANK:
        return None
    return {name: weight.cpu().clone() for name, weight in state(model).items() if "lora_" in name}


def weights(model: Any, start: State | None) -> State:
    """The weights of the model's adapter as they are right for the original base model.

    With W the original weight, A and B the trained adapter and A0 and B0 what it started from, the trained weight is
    W - B0 A0 + B A = W + [B, -B0] [A; A0]: an adapter of twice the rank (peft, ``subtract_mutated_init``). With
    ``loftq``, W - B0 A0 is nearly the 4-bit weight that was trained on.
    """
    return {name: _with_start(name, weight.cpu(), start or {}) for name, weight in state(model).items()}


def _with_start(name: str, weight: torch.Tensor, start: Mapping[str, torch.Tensor]) -> torch.Tensor:
    if name not in start or "magnitude" in name:
        return weight.clone()  # two names may share one tensor, which safetensors refuses
    first = start[name]
    return torch.cat([weight, first], dim=0) if "lora_A" in name else torch.cat([weight, -first], dim=1)


def doubled(config: PeftLoraConfig) -> None:
    """Set in ``config`` the rank of ``weights``, with the same scale: alpha / rank, or alpha / sqrt(rank)."""
    config.r *= 2
    config.lora_alpha *= math.sqrt(2) if config.use_rslora else 2
    config.init_lora_weights = True


def is_tied(model: Any) -> bool:
    """Whether a model's input embeddings and its output layer share their weights."""
    head = model.get_output_embeddings()
    return head is not None and head.weight is model.get_input_embeddings().weight


def untie(model: Any, config: PeftLoraConfig) -> None:
    """Give a model with tied embeddings two matrices where the adapter of ``config`` changes only one of them."""
    changed = set(EMBEDDINGS) & {
        name.rpartition(".")[2] for name in (*config.target_modules, *(config.modules_to_save or ()))
    }
    if not changed or config.ensure_weight_tying or not is_tied(model):
        return
    head = model.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)
    for settings in (model.config, model.config.get_text_config()):
        settings.tie_word_embeddings = False


def _trained_whole(adapted: Any) -> list[Any]:
    """The copies of modules that are trained without an adapter."""
    wrappers = (getattr(module, "modules_to_save", None) for module in adapted.modules())
    return [copy for copies in wrappers if isinstance(copies, torch.nn.ModuleDict) for copy in copies.values()]


def _in_float32(module: Any, dtype: torch.dtype) -> None:
    """Hold a trained module of ``dtype`` in float32, in which small updates are not lost; it is called as before."""
    if dtype == torch.float32:
        return
    for parameter in module.parameters():
        parameter.data = parameter.data.float()
    module.register_forward_pre_hook(lambda _, inputs: tuple(map(_float, inputs)))
    module.register_forward_hook(lambda _, __, output: output.to(dtype))


def _float(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def _last_names(names: list[str]) -> set[str]:
    return {name.rpartition(".")[2] for name in names}
