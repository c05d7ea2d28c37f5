"""When a run will end, computed from the time that its parts took so far."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

WINDOW = 50
"""Steps over which the duration of a step is averaged."""
_MODELS_WRITTEN = {"lora": 0, "merged_16bit": 1, "merged_4bit": 1, "gguf": 2}
"""How many times the whole model is read and written to export it; GGUF is made of a merged model."""


@dataclass
class Average:
    """The mean of the first ``WINDOW`` values, and after them an exponential mean over about as many."""

    mean: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        """Count ``value`` in."""
        self.count = min(self.count + 1, WINDOW)
        self.mean += (value - self.mean) / self.count


@dataclass
class Forecast:
    """The durations of a run's parts in seconds, and the time left that follows from them.

    A pause is the time between two steps, in which the model is evaluated, or a checkpoint is written, or both.

    Args:
        total: optimizer steps of the run.
        evaluation_every: steps between two evaluations; None without any.
        save_every: steps between two checkpoints.
        after_training: seconds from the last checkpoint to the end of the run, without answers.
        answers_every: evaluations up to the next at which rows are answered too; None if they never are.
        answers_after: how many times they are answered after training.
    """

    total: int
    evaluation_every: int | None
    save_every: int
    after_training: float
    answers_every: int | None = None
    answers_after: int = 0
    steps: Average = field(default_factory=Average)
    evaluations: Average = field(default_factory=Average)
    saves: Average = field(default_factory=Average)
    answers: Average = field(default_factory=Average)
    _answering: float = 0.0
    _compiled: bool = False

    def add_step(self, seconds: float) -> None:
        """Count a step in. The first of a process compiles and fills caches: it counts only until there is another."""
        if self._compiled:
            self.steps.add(seconds)
        elif not self.steps.count:
            self.steps.mean = seconds
        self._compiled = True

    def add_pause(self, step: int, seconds: float) -> None:
        """Count in the pause after ``step``, if there was more to do in it than to begin the next step."""
        seconds, self._answering = seconds - self._answering, 0.0
        if self._evaluates(step):
            self.evaluations.add(seconds)
        elif self._saves(step):
            self.saves.add(seconds)

    def add_answers(self, seconds: float) -> None:
        """Count in the time that answers took, which is a part of the pause that is going on."""
        self.answers.add(seconds)
        self._answering = seconds

    def answers_at(self, step: int) -> bool:
        """Whether rows are answered in the evaluation at ``step``. The last evaluation may come early."""
        if self.evaluation_every is None or self.answers_every is None:
            return False
        return math.ceil(step / self.evaluation_every) % self.answers_every == 0

    def answering_per_step(self) -> float | None:
        """Seconds of answers, spread over the steps from one time to the next; None before there were any."""
        if self.evaluation_every is None or self.answers_every is None or not self.answers.count:
            return None
        return self.answers.mean / (self.evaluation_every * self.answers_every)

    def expect_evaluation(self, seconds: float) -> None:
        """What an evaluation probably takes, for as long as there was none."""
        if not self.evaluations.count:
            self.evaluations.mean = seconds

    def seconds_left(self, step: int) -> float:
        """Seconds from the end of ``step`` to the end of the run; the pause after ``step`` is still to come."""
        evaluations, saves = self._pauses_left(step)
        return (
            self.steps.mean * (self.total - step)
            + self.evaluations.mean * evaluations
            + self.saves.mean * saves
            + self.answers.mean * (self._answers_left(step) + self.answers_after)
            + self.after_training
        )

    def notes(self) -> dict[str, Any]:
        """What a later attempt needs in order to forecast at once."""
        return {name: [part.mean, part.count] for name, part in self._parts().items()}

    def recall(self, notes: Mapping[str, Any]) -> None:
        """Go on with the durations that an earlier attempt noted, if its version noted any."""
        for name, part in self._parts().items():
            if name in notes:
                part.mean, part.count = notes[name]

    def _parts(self) -> dict[str, Average]:
        return {"steps": self.steps, "evaluations": self.evaluations, "saves": self.saves, "answers": self.answers}

    def _pauses_left(self, step: int) -> tuple[int, int]:
        """How many pauses from that after ``step`` on have an evaluation, and how many a checkpoint alone.

        It is counted without a loop over the steps, since it is asked for at each of them.
        """

        if self.evaluation_every is None:
            return 0, self._multiples(self.save_every, step) + 1
        both = math.lcm(self.evaluation_every, self.save_every)
        saves = self._multiples(self.save_every, step) - self._multiples(both, step)
        return self._multiples(self.evaluation_every, step) + 1, saves

    def _answers_left(self, step: int) -> int:
        """How many evaluations from that after ``step`` on have answers."""
        if self.evaluation_every is None or self.answers_every is None:
            return 0
        return self._multiples(self.evaluation_every * self.answers_every, step) + self.answers_at(self.total)

    def _multiples(self, every: int, step: int) -> int:
        """How many multiples of ``every`` there are from ``step`` on, before the last step."""
        return (self.total - 1) // every - (max(step, 1) - 1) // every

    def _evaluates(self, step: int) -> bool:
        every = self.evaluation_every
        return every is not None and step > 0 and (step % every == 0 or step == self.total)

    def _saves(self, step: int) -> bool:
        return step > 0 and (step % self.save_every == 0 or step == self.total)


def seconds_after_training(save_method: str, startup: float, loading: float) -> float:
    """Seconds to export and verify a model, estimated from what was measured before training.

    An export reads the base model and writes one of its size. The verification starts a process, and loads the base
    model and each export.

    Args:
        save_method: ``spec.saveMethod``.
        startup: seconds that this process took to start and import its packages.
        loading: seconds that it took to load the model.
    """
    written = _MODELS_WRITTEN[save_method]
    return 2 * written * loading + startup + (1 + min(written, 1)) * loading
