"""The trainer's log in words: each of its JSON events as a line for people."""

from __future__ import annotations

from model_garden.contract.progress import (
    CheckpointEvent,
    DatasetEvent,
    EvaluationEvent,
    Event,
    ProgressEvent,
    ResumedEvent,
    SampleEvent,
    StageEvent,
    WarningEvent,
    parse_event,
)
from model_garden.services import format

STAGES = {
    "dataset": "Reading data",
    "model": "Loading model",
    "training": "Training",
    "evaluating": "Evaluating",
    "saving": "Saving",
    "exporting": "Exporting",
    "verifying": "Verifying",
}


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
        case SampleEvent():
            return f"Row {event.sample.row} was answered before and after training"
        case EvaluationEvent():
            return f"Evaluation: {format.evaluation_line(event.evaluation.to_dict())}"
        case WarningEvent():
            return f"warning: {event.message}"


def log_line(line: str) -> str | None:
    """A line of the trainer's log as text; None for an event that another line of the log repeats."""
    event = parse_event(line)
    if event is None:
        return line
    return event_words(event) if isinstance(event, DatasetEvent | CheckpointEvent | EvaluationEvent) else None
