"""The trainer's events, shown live for a run on this machine."""

from __future__ import annotations

from model_garden.cli.display import Display
from model_garden.contract.progress import Event, ProgressEvent, SampleEvent, StageEvent
from model_garden.services.trainer_log import STAGES, event_words


def show_event(event: Event, display: Display) -> None:
    """Show one event: a stage or progress updates the display, any other event is a line above it."""
    match event:
        case StageEvent():
            display.stage(STAGES[event.stage], event.detail or "")
        case ProgressEvent():
            display.progress(event.progress.to_dict())
        case SampleEvent():  # for pages; the trainer's log has the scores
            pass
        case _:
            display.line(event_words(event))
