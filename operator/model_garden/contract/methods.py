"""``spec.method`` and the block of each method. Fields have the names of TRL's config classes.

A block has defaults only with its method: a job of another method must not have it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import StringConstraints

from model_garden.contract.declaration import Default, declare
from model_garden.contract.model import ContractModel

Method = Literal["sft", "dpo", "kto", "orpo", "grpo"]
DpoLossType = Literal[
    "sigmoid", "hinge", "ipo", "robust", "exo_pair", "nca_pair", "bco_pair", "sppo_hard", "apo_zero", "apo_down"
]
GrpoLossType = Literal["grpo", "bnpo", "dr_grpo", "dapo"]
ScaleRewards = Literal["group", "batch", "none"]
REWARDS = ("exact_match", "similarity", "regex", "json_schema", "length")
"""The reward functions that need no file."""
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


class Grpo(ContractModel):
    """Group relative policy optimization (arXiv 2402.03300). Only for ``method: grpo``."""

    num_generations: int | None = declare(
        "Answers that the model writes to each prompt. They must divide the rows of an optimizer step.",
        _only("grpo", 8),
        shapes_weights=True,
        ge=2,
        le=1024,
    )
    max_completion_length: int | None = declare(
        "Longest answer in tokens; a longer one is cut.", _only("grpo", 512), shapes_weights=True, ge=1, le=1_048_576
    )
    temperature: float | None = declare(
        "Temperature of sampling.", _only("grpo", 1.0), shapes_weights=True, gt=0, le=100
    )
    top_p: float | None = declare(
        "Share of the probability from which tokens are sampled.", _only("grpo", 1.0), shapes_weights=True, gt=0, le=1
    )
    beta: float | None = declare(
        "Weight of the distance to the base model; 0 leaves the base model out.",
        _only("grpo", 0.0),
        shapes_weights=True,
        ge=0,
        le=100,
    )
    epsilon: float | None = declare(
        "Range to which the ratio of probabilities is clipped.", _only("grpo", 0.2), shapes_weights=True, gt=0, lt=1
    )
    loss_type: GrpoLossType | None = declare(
        "How the losses of tokens are averaged.", _only("grpo", "dapo"), shapes_weights=True
    )
    scale_rewards: ScaleRewards | None = declare(
        "Rewards are divided by their standard deviation in a group, in a batch, or not.",
        _only("grpo", "group"),
        shapes_weights=True,
    )


class EffectiveGrpo(Grpo):
    """The settings of GRPO with every default applied."""

    num_generations: int
    max_completion_length: int
    temperature: float
    top_p: float
    beta: float
    epsilon: float
    loss_type: GrpoLossType
    scale_rewards: ScaleRewards


class Rewards(ContractModel):
    """What an answer is worth. Only for ``method: grpo``."""

    functions: list[Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=100)]] = declare(
        f"Reward functions: {', '.join(REWARDS)}, or functions of file. Their weighted sum is the reward.",
        shapes_weights=True,
        required=True,
        min_length=1,
        max_length=16,
    )
    weights: list[float] | None = declare(
        "Weight of each function, in their order.", shapes_weights=True, default_words="1 for each", max_length=16
    )
    file: (
        Annotated[str, StringConstraints(pattern=r"^\./data/([\w-][\w.-]*/)*[\w-][\w.-]*\.py$", max_length=1024)] | None
    ) = declare("Python file in ./data with further reward functions.", shapes_weights=True)
    answer_column: Annotated[str, StringConstraints(min_length=1, max_length=100)] | None = declare(
        "Column with the expected answer, for exact_match and similarity.",
        shapes_weights=True,
        default_words="the first of answer, solution, ground_truth, completion, response that a row has",
    )
    pattern: Annotated[str, StringConstraints(min_length=1, max_length=4096)] | None = declare(
        "Regular expression that a whole answer must match, for regex.", shapes_weights=True
    )
    json_schema: Annotated[str, StringConstraints(min_length=1, max_length=65536)] | None = declare(
        "JSON schema, as JSON, that an answer must satisfy, for json_schema. Without it, any JSON will do.",
        shapes_weights=True,
    )
    max_length: int | None = declare(
        "Longest answer in characters that is fully rewarded, for length. One twice as long gets nothing.",
        shapes_weights=True,
        ge=1,
    )
