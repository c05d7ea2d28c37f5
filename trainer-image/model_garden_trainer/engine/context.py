"""What the parts of the engine share: the run that is going on, and what training produced."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from model_garden.contract.hyperparameters import EffectiveHyperparameters
from model_garden.contract.spec import EffectiveSpec
from model_garden.contract.status import Progress
from model_garden_trainer.batches.collator import Collator
from model_garden_trainer.distributed.process_group import ProcessGroup
from model_garden_trainer.engine.stopping import StopRequests
from model_garden_trainer.engine.watchdog import Watchdog
from model_garden_trainer.evaluation.questions import Question
from model_garden_trainer.events import Metrics, Report
from model_garden_trainer.exports import outputs


@dataclass(frozen=True)
class HeldOut:
    """The rows of ``spec.evaluation``, and what encodes them up to their answers."""

    questions: list[Question]
    encoder: Collator


@dataclass(frozen=True)
class Run:
    """What stays the same through a run, whatever model it trains and by whatever method.

    ``backend`` is a module of ``models/backends``.
    """

    spec: EffectiveSpec
    backend: ModuleType
    output: Path
    fingerprint: str
    metrics: Metrics
    report: Report
    requests: StopRequests
    watchdog: Watchdog
    team: ProcessGroup = field(default_factory=ProcessGroup)
    seconds_after_training: float = 0.0
    """Estimated duration of all that follows the last step, but for answers to held-out rows."""
    held_out: HeldOut | None = None
    """The rows that are answered during training too, if any are."""

    @property
    def h(self) -> EffectiveHyperparameters:
        """The effective hyperparameters."""
        return self.spec.hyperparameters

    @property
    def root(self) -> Path:
        """The folder of the checkpoints."""
        return self.output / outputs.CHECKPOINTS


@dataclass(frozen=True)
class Trained:
    """What training produced: the last figures, how batches were split, whether a person ended it early, and which
    step's weights the model holds, if the lowest validation loss chose them."""

    steps: int
    progress: Progress | None
    stopped_early: bool
    micro_batch: int
    accumulation: int
    best_step: int | None = None
    best_eval_loss: float | None = None

    def figures(self) -> dict[str, int | float | None]:
        """The fields of the output's status about the training."""
        return {
            "trained_steps": self.steps,
            "final_loss": self.progress.loss if self.progress else None,
            "best_step": self.best_step,
            "best_eval_loss": self.best_eval_loss,
        }
