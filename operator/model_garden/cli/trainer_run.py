"""A training run on this machine that has ended."""

from __future__ import annotations

from dataclasses import dataclass, field

from model_garden.contract.progress import Outcome


@dataclass
class TrainerRun:
    """How a run ended.

    Attributes:
        outcome: the trainer's; None if it was killed.
        exit_code: the trainer's; 128 + the number of the signal if a signal ended it.
        seconds: duration of the run.
        losses: the loss of each progress report, in order.
    """

    outcome: Outcome | None = None
    exit_code: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
