"""The trainer's events in words: live, for a run on this machine, and line by line, for a log."""

from __future__ import annotations

from model_garden.cli.display import Display
from model_garden.contract.progress import (
    CheckpointEvent,
    DatasetEvent,
    Event,
    ProgressEvent,
    ResumedEvent,
    StageEvent,
    WarningEvent,
    parse_event,
)
from model_garden.services import format

STAGES = {
    "dataset": "Reading data",
    "model": "Loading model",
    "training": "Training",
    "saving": "Saving",
    "exporting": "Exporting",
    "verifying": "Verifying",
}


def show_event(event: Event, display: Display) -> None:
    """Show one event where it belongs: the stage and the bar are replaced, all else is a line above them."""
    match event:
        case StageEvent():
            display.stage(STAGES[event.stage], event.detail or "")
        case ProgressEvent():
            display.progress(event.progress.to_dict())
        case _:
            display.line(event_words(event))


def event_words(event: Event) -> str:
    """One event as a line."""
    match event:
        case StageEvent():
            return f"{STAGES[event.stage]}: {event.detail}" if event.detail else STAGES[event.stage]
        case ProgressEvent():
            return format.step_line(event.progress.to_dict())
        case DatasetEvent():
            return f"Data: {format.dataset_line(event.dataset.to_dict())}"
        case CheckpointEvent():
            return f"Checkpoint at step {event.step}"
        case ResumedEvent():
            return f"Resumed from the checkpoint of step {event.step}"
        case WarningEvent():
            return f"warning: {event.message}"


def log_line(line: str) -> str | None:
    """A line of the trainer's log for people; None for an event whose words stand in the log already."""
    event = parse_event(line)
    if event is None:
        return line
    return event_words(event) if isinstance(event, DatasetEvent | CheckpointEvent) else None
