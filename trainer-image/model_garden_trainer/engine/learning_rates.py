"""Learning rates of some parameters apart from ``learningRate``: B matrices (LoRA+, arXiv 2402.12354), embeddings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from model_garden.contract.spec import EffectiveSpec
from model_garden_trainer.errors import TrainingError

_EMBEDDINGS = ("embed_tokens", "lm_head")


def apart(optimizer: torch.optim.Optimizer, model: Any, spec: EffectiveSpec) -> None:
    """Split the groups of a new optimizer by learning rate; those at ``learningRate`` stay first.

    The schedule multiplies the rate of each group. A checkpoint holds the groups, so that a resumed run has the same.

    Raises:
        TrainingError: InvalidSpec for ``embeddingLearningRate`` where no embedding is trained.
    """
    rates = _rates(model, spec)
    groups = []
    for group in optimizer.param_groups:
        by_rate: dict[float, list[Any]] = {}
        for parameter in group["params"]:
            by_rate.setdefault(rates.get(parameter, group["lr"]), []).append(parameter)
        groups += [group | {"params": members, "lr": rate} for rate, members in by_rate.items()]
    optimizer.param_groups[:] = sorted(groups, key=lambda group: group["lr"] != spec.hyperparameters.learning_rate)


def _rates(model: Any, spec: EffectiveSpec) -> dict[Any, float]:
    """The rate of each trained parameter that has its own."""
    h, ratio = spec.hyperparameters, spec.lora_config.loraplus_lr_ratio
    found: dict[Any, float] = {}
    if ratio:
        found |= dict.fromkeys(_trained(model, lambda name: ".lora_B." in name), ratio * h.learning_rate)
    if rate := h.embedding_learning_rate:
        embeddings = _trained(model, _is_embedding)
        if not embeddings:
            raise TrainingError(
                "InvalidSpec",
                "spec.hyperparameters.embeddingLearningRate: neither embed_tokens nor lm_head is trained whole; add "
                "them to loraConfig.modulesToSave, or remove it",
            )
        found |= dict.fromkeys(embeddings, rate)
    return found


def _is_embedding(name: str) -> bool:
    return "lora_" not in name and any(part in _EMBEDDINGS for part in name.split("."))


def _trained(model: Any, wanted: Callable[[str], bool]) -> list[Any]:
    return [parameter for name, parameter in model.named_parameters() if parameter.requires_grad and wanted(name)]
