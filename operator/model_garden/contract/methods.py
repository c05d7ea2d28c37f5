"""``spec.method`` and the block of each method. Fields have the names of TRL's config classes.

A block has defaults only with its method: a job of another method must not have it.
"""

from __future__ import annotations

from typing import Any, Literal

from model_garden.contract.declaration import Default, declare
from model_garden.contract.model import ContractModel

Method = Literal["sft", "dpo"]
DpoLossType = Literal[
    "sigmoid", "hinge", "ipo", "robust", "exo_pair", "nca_pair", "bco_pair", "sppo_hard", "apo_zero", "apo_down"
]


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
