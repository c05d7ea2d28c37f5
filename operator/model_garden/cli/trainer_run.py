"""A training run on this machine that has ended."""

from __future__ import annotations

from dataclasses import dataclass, field

from model_garden.contract.progress import Outcome


@dataclass
class TrainerRun:
    """How a run ended.

    Attributes:
        outcome: what the trainer left; None for one that was killed.
        exit_code: the trainer's, 128 + the signal's number for one that a signal ended.
        seconds: how long it ran.
        losses: the loss of each report, the first one first.
    """

    outcome: Outcome | None = None
    exit_code: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
