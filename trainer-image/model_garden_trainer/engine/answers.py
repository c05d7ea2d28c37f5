"""``evaluation.everyEvaluations``: the model answers the rows of ``spec.evaluation`` during training too."""

# ruff: noqa: ARG002, D102  the signature and the meaning of the method are those of TrainerCallback

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from transformers import TrainerCallback

from model_garden.contract.progress import StageEvent
from model_garden_trainer.batches.collator import Collator
from model_garden_trainer.distributed.process_group import peer_lost
from model_garden_trainer.engine.context import Run
from model_garden_trainer.engine.forecast import Forecast
from model_garden_trainer.engine.instrumented import Instrumented
from model_garden_trainer.evaluation.answering import Answer, answer_all
from model_garden_trainer.evaluation.evaluate import listed, scored, scores
from model_garden_trainer.evaluation.questions import Question
from model_garden_trainer.events import report_warning

Item = TypeVar("Item")


class Unanswered(Exception):
    """The rows were not answered; the message is the error of the process that failed."""


class AnsweringCallback(TrainerCallback):
    """After every so many evaluations: the rows are answered, and their scores join the figures of the evaluation.

    Which evaluations these are follows from the step, so that a resumed run answers at the same ones. Each process
    answers a share of the rows. A failure is a warning: the run goes on without these scores.
    """

    def __init__(self, trainer: Instrumented, run: Run, forecast: Forecast) -> None:
        self._trainer, self._run, self._forecast = trainer, run, forecast

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not self._forecast.answers_at(state.global_step):
            return
        began = time.perf_counter()
        try:
            self._trainer.evaluated_metrics |= self._scores()
        except Exception as error:
            if peer_lost(error):
                raise
            message = f"the rows of evaluation could not be answered: {_words(error)}"
            report_warning(self._run.report, f"step {state.global_step}: {message}")
        finally:
            self._run.report(StageEvent(stage="training"))
            self._forecast.add_answers(time.perf_counter() - began)

    def _scores(self) -> dict[str, float]:
        """The scores by name, ``eval_`` before each.

        Raises:
            Unanswered: a process could not answer its share.
        """
        run, asked = self._run, self._run.spec.evaluation
        assert asked is not None
        assert run.held_out is not None
        rows = run.held_out.questions
        try:
            own: list[Answer] | str = self._answers(rows[run.team.rank :: run.team.size], run.held_out.encoder)
        except Exception as error:
            own = _words(error)  # the others wait for this process
        gathered = run.team.gather(own)
        shares = [share for share in gathered if not isinstance(share, str)]
        if failed := next((share for share in gathered if isinstance(share, str)), None):
            raise Unanswered(failed)
        answers = [shares[at % len(shares)][at // len(shares)] for at in range(len(rows))]
        found = scores(asked, None, scored(asked, rows, answers, "model", run.report, "evaluating"))
        return {f"eval_{one.metric}": one.value for one in found if one.field is None}

    def _answers(self, rows: list[Question], encoder: Collator) -> list[Answer]:
        asked, model, trainer = self._run.spec.evaluation, self._trainer.model, self._trainer
        assert asked is not None
        model.eval()
        try:
            with trainer.accelerator.autocast():  # generation calls the model below the one that accelerate wrapped
                found = answer_all(rows, model, encoder, new_tokens=asked.max_new_tokens, batch_size=asked.batch_size)
                beating = _each(found, self._run.watchdog.beat)
                return listed(beating, len(rows), "evaluating the model", self._run.report, "evaluating")
        finally:
            if hasattr(model, "for_training"):  # Unsloth's generation leaves the model ready for inference
                model.for_training()
                model.eval()  # as the evaluation left it


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, Unanswered) else f"{type(error).__name__}: {error}"


def _each(items: Iterator[Item], do: Callable[[], None]) -> Iterator[Item]:
    for item in items:
        do()
        yield item
