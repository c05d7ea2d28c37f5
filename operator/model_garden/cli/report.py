"""The result of a run: a table about the model on stdout, or the problem and its fix on stderr."""

from __future__ import annotations

from typing import Any

from model_garden.cli.output import error, note, print_rows
from model_garden.cli.trainer_run import TrainerRun
from model_garden.contract.reasons import STOPPED
from model_garden.services import format


def print_failure(run: TrainerRun) -> None:
    """Print on stderr why a run on this machine did not succeed; nothing if it did."""
    outcome = run.outcome
    if outcome is None:
        error(unexplained_end(run.exit_code))
    elif outcome.result == "Failed":
        error(f"{outcome.reason}: {outcome.message}" if outcome.reason else outcome.message or "the run failed")
    elif outcome.result == "Stopped":
        if outcome.checkpoint_step:
            where = f"Stopped at step {outcome.checkpoint_step}; a checkpoint is saved."
            note(f"{where} Run the same command again to resume.")
        else:
            note("Stopped before the first checkpoint. Run the same command again to start from the beginning.")


def print_result(run: TrainerRun, *, vision: bool) -> None:
    """Print the summary of a run on this machine if it wrote a model."""
    outcome = run.outcome
    if outcome and outcome.output:
        result = outcome.result + (" (stopped early)" if outcome.stopped_early else "")
        progress = outcome.progress.to_dict() if outcome.progress else {}
        took = format.duration(run.seconds)
        print_summary(f"{result} in {took}", outcome.output.to_dict(), progress, run.losses, vision)


def unexplained_end(exit_code: int) -> str:
    """The message for a trainer that ended without an outcome."""
    if exit_code == 137:
        return "the trainer was killed (SIGKILL), most often because the machine ran out of memory; see the log above"
    if exit_code == STOPPED:
        return "the trainer was stopped before it could save a checkpoint; run the same command again"
    return f"the trainer ended with exit code {exit_code} and gave no reason; see the log above"


def print_summary(
    result: str, output: dict[str, Any], progress: dict[str, Any], losses: list[float], vision: bool
) -> None:
    """Print the result of a run, where its model is, and how to use it.

    Args:
        result: how the run ended and how long it took.
        output: an OutputStatus in camelCase.
        progress: the last Progress in camelCase; {} if unknown.
        losses: the known losses, in order.
        vision: whether it is a vision-language model.
    """
    done, total = output.get("trainedSteps", progress.get("step")), progress.get("totalSteps")
    final = output.get("finalLoss", losses[-1] if losses else None)
    first = f"{format.loss(losses[0])} → " if losses else ""
    print_rows(
        [
            ("result", result),
            ("steps", f"{done} of {total}" if total else f"{done}" if done is not None else ""),
            ("loss", first + format.loss(final)),
            *format.output_rows(output, vision=vision),
        ]
    )
