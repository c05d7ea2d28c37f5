"""Why a run ends: each failure names its reason, and the reason decides the exit code of the contract."""

from __future__ import annotations

from model_garden.contract.reasons import EXIT_CODES, TrainerReason
from model_garden.contract.status import OutputStatus


class TrainingError(Exception):
    """A run cannot go on.

    Args:
        reason: one of the contract's failure reasons; it decides the exit code.
        message: what is wrong (field, or file and row), the value, the rule and the fix.
    """

    def __init__(self, reason: TrainerReason, message: str) -> None:
        super().__init__(message)
        self.reason: TrainerReason = reason
        self.exit_code = EXIT_CODES[reason]
        self.output: OutputStatus | None = None  # what is kept all the same, as the adapter of a failed export


class Stopped(Exception):
    """The process was asked to stop; ``checkpoint_step`` is where a later attempt goes on, None where there is none.

    With ``by_peer`` it was another process of the job that was asked.
    """

    def __init__(self, checkpoint_step: int | None = None, *, by_peer: bool = False) -> None:
        super().__init__("asked to stop")
        self.checkpoint_step = checkpoint_step
        self.by_peer = by_peer
