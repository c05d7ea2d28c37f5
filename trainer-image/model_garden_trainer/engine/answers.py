"""``evaluation.everyEvaluations``: the model answers the rows of ``spec.evaluation`` during training too."""

# ruff: noqa: ARG002, D102  the signature and the meaning of the method are those of TrainerCallback

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

from transformers import TrainerCallback

from model_garden.contract.progress import Event, StageEvent
from model_garden_trainer.batches.collator import Collator
from model_garden_trainer.distributed.process_group import peer_lost
from model_garden_trainer.engine.context import Run
from model_garden_trainer.engine.forecast import Forecast
from model_garden_trainer.engine.instrumented import Instrumented
from model_garden_trainer.errors import Stopped
from model_garden_trainer.evaluation.answering import Answer, answer_all
from model_garden_trainer.evaluation.evaluate import listed, scored, scores
from model_garden_trainer.evaluation.questions import Question
from model_garden_trainer.events import report_warning


class Unanswered(Exception):
    """The rows were not answered; the message is the error of the process that failed."""


class AnsweringCallback(TrainerCallback):
    """After every so many evaluations: the rows are answered, and their scores join the figures of the evaluation.

    Which evaluations these are follows from the step, so that a resumed run answers at the same ones. Each process
    answers a share of the rows. A failure is a warning: the run goes on without these scores. A run that is asked to
    stop leaves them out too, for it has little time to write a checkpoint.
    """

    def __init__(self, trainer: Instrumented, run: Run, forecast: Forecast) -> None:
        self._trainer, self._run, self._forecast = trainer, run, forecast

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not self._forecast.answers_at(state.global_step):
            return
        began = time.perf_counter()
        try:
            self._trainer.evaluated_metrics |= self._scores()
        except Stopped:
            message = "the rows of evaluation are not answered, because the run was asked to stop"
            report_warning(self._run.report, f"step {state.global_step}: {message}")
            control.should_save = control.should_training_stop = True
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
            Stopped: a process was asked to stop.
        """
        run, asked = self._run, self._run.spec.evaluation
        assert asked is not None
        assert run.held_out is not None
        rows = run.held_out.questions
        try:
            own: list[Answer] | str = self._answers(rows, run.held_out.encoder)
        except Stopped:
            raise  # as in the others
        except Exception as error:
            own = _words(error)  # the others wait for this process
        gathered = run.team.gather(own)
        shares = [share for share in gathered if not isinstance(share, str)]
        if failed := next((share for share in gathered if isinstance(share, str)), None):
            raise Unanswered(failed)
        answers = [shares[at % len(shares)][at // len(shares)] for at in range(len(rows))]
        found = scores(asked, None, scored(asked, rows, answers, "model", self._tell, "evaluating"))
        return {f"eval_{one.metric}": one.value for one in found if one.field is None}

    def _answers(self, rows: list[Question], encoder: Collator) -> list[Answer]:
        """This process's answers: to every n-th of the rows, for n processes."""
        asked, model, trainer, team = self._run.spec.evaluation, self._trainer.model, self._trainer, self._run.team
        assert asked is not None
        own, batch = rows[team.rank :: team.size], asked.batch_size
        model.eval()
        try:
            with trainer.accelerator.autocast():  # generation calls the model below the one that accelerate wrapped
                found = answer_all(
                    own, model, encoder, new_tokens=asked.max_new_tokens, batch_size=batch, ended=self._ended
                )
                largest = -(-len(rows) // team.size)  # the share of the first process
                together = self._together(found, batch, batches=-(-largest // batch))
                return listed(together, len(own), "evaluating the model", self._tell, "evaluating")
        finally:
            if hasattr(model, "for_training"):  # Unsloth's generation leaves the model ready for inference
                model.for_training()
                model.eval()  # as the evaluation left it

    def _together(self, answers: Iterator[Answer], size: int, batches: int) -> Iterator[Answer]:
        """The answers of this process. After each batch all processes go on, or none does.

        A fast process so waits for a slow one for no longer than a batch takes, in which it gives no heartbeat.

        Raises:
            Stopped: a process was asked to stop.
        """
        for _ in range(batches):
            problem, batch = None, []
            try:
                batch = list(islice(answers, size))
            except Exception as error:
                problem = error
            stop, failed = self._run.team.any(self._run.requests.stop, problem is not None)
            if stop:
                raise Stopped
            if problem:
                raise problem
            if failed:
                return  # the process that failed says why
            yield from batch

    def _ended(self) -> bool:
        """Whether answers are no longer wanted. It is asked after each token, which is a heartbeat."""
        self._run.watchdog.beat()
        return self._run.requests.stop

    def _tell(self, event: Event) -> None:
        """Report progress, which is a heartbeat."""
        self._run.watchdog.beat()
        self._run.report(event)


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, Unanswered) else f"{type(error).__name__}: {error}"
