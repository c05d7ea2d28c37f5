"""``spec.method`` and the block of each method. Fields have the names of TRL's config classes.

A block has defaults only with its method: a job of another method must not have it.
"""

from __future__ import annotations

from typing import Any, Literal

from model_garden.contract.declaration import Default, declare
from model_garden.contract.model import ContractModel

Method = Literal["sft", "dpo", "kto", "orpo"]
DpoLossType = Literal[
    "sigmoid", "hinge", "ipo", "robust", "exo_pair", "nca_pair", "bco_pair", "sppo_hard", "apo_zero", "apo_down"
]
KtoLossType = Literal["kto", "apo_zero_unpaired"]


def _only(method: Method, value: Any) -> Default:
    """A default that only the jobs of one method have."""
    return Default(methods={method: value})


class Dpo(ContractModel):
    """Direct preference optimization (arXiv 2305.18290). Only for ``method: dpo``."""

    beta: float | None = declare(
        "How strongly the model is held to the base model; the lower, the farther it may go.",
        _only("dpo", 0.1),
        shapes_weights=True,
        gt=0,
        le=100,
    )
    loss_type: DpoLossType | None = declare(
        "Loss on the difference of the two rewards.", _only("dpo", "sigmoid"), shapes_weights=True
    )
    label_smoothing: float | None = declare(
        "Share of rows whose two answers are assumed to be in the wrong order. Only for the loss types robust and "
        "exo_pair.",
        _only("dpo", 0.0),
        shapes_weights=True,
        ge=0,
        lt=0.5,
    )


class EffectiveDpo(Dpo):
    """The settings of DPO with every default applied."""

    beta: float
    loss_type: DpoLossType
    label_smoothing: float


class Kto(ContractModel):
    """Kahneman-Tversky optimization (arXiv 2402.01306). Only for ``method: kto``."""

    beta: float | None = declare(
        "How strongly the model is held to the base model; the lower, the farther it may go.",
        _only("kto", 0.1),
        shapes_weights=True,
        gt=0,
        le=100,
    )
    loss_type: KtoLossType | None = declare(
        "Loss of an answer; apo_zero_unpaired compares with no other rows.", _only("kto", "kto"), shapes_weights=True
    )
    desirable_weight: float | None = declare(
        "Weight of the wanted answers in the loss. Raise it if they are fewer.",
        _only("kto", 1.0),
        shapes_weights=True,
        ge=0,
        le=1000,
    )
    undesirable_weight: float | None = declare(
        "Weight of the unwanted answers in the loss. Raise it if they are fewer.",
        _only("kto", 1.0),
        shapes_weights=True,
        ge=0,
        le=1000,
    )


class EffectiveKto(Kto):
    """The settings of KTO with every default applied."""

    beta: float
    loss_type: KtoLossType
    desirable_weight: float
    undesirable_weight: float


class Orpo(ContractModel):
    """Odds ratio preference optimization (arXiv 2403.07691). Only for ``method: orpo``."""

    beta: float | None = declare(
        "Weight of the preference beside the loss of the chosen answer; lambda in the paper.",
        _only("orpo", 0.1),
        shapes_weights=True,
        gt=0,
        le=100,
    )


class EffectiveOrpo(Orpo):
    """The settings of ORPO with every default applied."""

    beta: float
