"""The end of a run: a short table on stdout when there is a model, else what went wrong and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from model_garden.cli.output import error, note, print_rows
from model_garden.contract.reasons import STOPPED
from model_garden.services import format

if TYPE_CHECKING:
    from model_garden.cli.local import TrainerRun


def tell_trouble(run: TrainerRun) -> None:
    """Say on stderr why a run on this machine did not end well, and what to do."""
    outcome = run.outcome
    if outcome is None:
        error(unexplained_end(run.exit_code))
    elif outcome.result == "Failed":
        error(f"{outcome.reason}: {outcome.message}" if outcome.reason else outcome.message or "the run failed")
    elif outcome.result == "Stopped":
        where = f" at step {outcome.checkpoint_step}, with a checkpoint" if outcome.checkpoint_step else ""
        note(f"Stopped{where}. Run the same command again to go on from there.")


def print_result(run: TrainerRun, *, vision: bool) -> None:
    """Print the table of a run on this machine that left a model."""
    outcome = run.outcome
    if outcome and outcome.output:
        result = outcome.result + (" (stopped early)" if outcome.stopped_early else "")
        progress = outcome.progress.to_dict() if outcome.progress else {}
        losses = [loss for loss in (run.first_loss, run.last_loss) if loss is not None]
        print_summary(f"{result} in {format.duration(run.seconds)}", outcome.output.to_dict(), progress, losses, vision)


def unexplained_end(exit_code: int) -> str:
    """Words for a trainer that ended without a word of its own."""
    if exit_code == 137:
        return "the trainer was killed (SIGKILL): most often the machine's memory was full; see the lines above"
    if exit_code == STOPPED:
        return "the trainer was stopped before it could save; run the same command again"
    return f"the trainer ended with exit code {exit_code} and left no reason; see the lines above"


def print_summary(
    result: str, output: dict[str, Any], progress: dict[str, Any], losses: list[float], vision: bool
) -> None:
    """The closing table of a run that left a model: how it went, where the model is, and how to load it.

    Args:
        result: how it ended and how long it took, in words.
        output: an OutputStatus in camelCase.
        progress: the last Progress in camelCase, {} if unknown.
        losses: all losses known, the first one first.
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
            ("output", format.output(output)),
            ("load it", format.load_hint(output, vision=vision)),
            ("answers", format.samples(output["samples"]) if output.get("samples") else ""),
        ]
    )
