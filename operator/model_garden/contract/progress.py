"""The trainer's reports: one JSON event per line on stdout while it runs, and an Outcome as its termination message.

The operator reads the events from the pod's log into the status, and reads the outcome when the container has ended.
``parse_event`` returns None for the other lines of the log.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from model_garden.contract.memory_estimate import Estimate
from model_garden.contract.model import Report
from model_garden.contract.status import DatasetStatus, EvaluationStatus, OutputStatus, Progress, Stage
from model_garden.contract.time import Time

TERMINATION_MESSAGE_BYTES = 4096
EVENT_PREFIX = '{"event":'


class StageEvent(Report):
    """The trainer enters a stage."""

    event: Literal["stage"] = "stage"
    stage: Stage
    """The stage."""
    detail: str | None = None
    """More about it for people, such as bytes fetched or rows read."""
    time: Time | None = None
    """When it was reported."""


class DatasetEvent(Report):
    """The data set was read and measured."""

    event: Literal["dataset"] = "dataset"
    dataset: DatasetStatus
    """What was measured, as in `status.dataset`."""


class ProgressEvent(Report):
    """Training reached a step."""

    event: Literal["progress"] = "progress"
    progress: Progress
    """The latest figures, as in `status.progress`."""


class CheckpointEvent(Report):
    """A checkpoint is complete on disk."""

    event: Literal["checkpoint"] = "checkpoint"
    step: int
    """The step from which a later attempt resumes."""


class ResumedEvent(Report):
    """Training resumes from a checkpoint of an earlier attempt."""

    event: Literal["resumed"] = "resumed"
    step: int
    """The step of the checkpoint."""


class SampleAnswer(Report):
    """A row's question, its expected answer, and the answers of the base model and of the trained one."""

    split: Literal["train", "validation"]
    """Whether the model was trained on the row."""
    row: str
    """File and number of the row."""
    question: str
    """Text of the question; long ones are cut."""
    expected: str
    """The answer in the data set."""
    before: str
    """The base model's answer."""
    after: str
    """The trained model's answer."""
    similarity_before: float
    """Similarity of the base model's answer to the expected one, from 0 to 1."""
    similarity_after: float
    """Similarity of the trained model's answer to the expected one, from 0 to 1."""
    thumbnail: str | None = None
    """The row's first image as a small JPEG in base64."""


class WarningEvent(Report):
    """A problem that does not end the run."""

    event: Literal["warning"] = "warning"
    message: str
    """What to know, and what to do about it."""
    time: Time | None = None
    """When it was reported."""


class SampleEvent(Report):
    """A row that the model answered before and after training."""

    event: Literal["sample"] = "sample"
    sample: SampleAnswer
    """The row and its answers."""


class EvaluationEvent(Report):
    """The trained model has answered the rows of ``spec.evaluation``."""

    event: Literal["evaluation"] = "evaluation"
    evaluation: EvaluationStatus
    """The scores, as in `status.evaluation`."""


Event = Annotated[
    StageEvent
    | DatasetEvent
    | ProgressEvent
    | CheckpointEvent
    | ResumedEvent
    | SampleEvent
    | EvaluationEvent
    | WarningEvent,
    Field(discriminator="event"),
]
_EVENT: TypeAdapter[Event] = TypeAdapter(Event)


class Outcome(Report):
    """The result of a trainer, which is its whole termination message."""

    result: Literal["Succeeded", "Stopped", "Failed"]
    """Stopped means that a signal stopped the trainer; a later attempt resumes from the last checkpoint."""
    exit_code: int
    """The exit code of the process."""
    stopped_early: bool = False
    """Whether stop-and-save ended training early; the result is then Succeeded."""
    reason: str | None = None
    """Why it failed: a failure reason of this version, or of a newer trainer."""
    message: str | None = None
    """What is wrong, and the fix."""
    output: OutputStatus | None = None
    """The trained model, as in `status.output`."""
    progress: Progress | None = None
    """The last figures, as in `status.progress`."""
    checkpoint_step: int | None = None
    """The step of the last complete checkpoint."""
    effective_spec: dict[str, Any] | None = None
    """Fields of the effective spec that the trainer decides, such as the backend."""
    estimate: Estimate | None = None
    """The preflight's memory estimate, as in `status.estimate`."""
    fetched: dict[str, str] | None = None
    """What the preflight fetched, as in `status.fetched`."""


def event_line(event: Event) -> str:
    """``event`` as one line for ``parse_event``, without a line break."""
    kind = {"event": event.event}
    return json.dumps(kind | event.to_dict(), separators=(",", ":"), ensure_ascii=False)


def parse_event(line: str) -> Event | None:
    """The event in a line of a trainer's log; None for any other line, and for one that a crash cut short."""
    if not line.startswith(EVENT_PREFIX):
        return None
    try:
        _loads(line)
        return _EVENT.validate_json(line)
    except ValueError:
        return None


def _loads(text: str) -> Any:
    """What another part wrote as JSON, as far as the API server can store it.

    Raises:
        ValueError: it is not JSON, is nested too deeply, or has an integer of more than 64 bits.
    """
    try:
        return json.loads(text, parse_int=_integer)
    except RecursionError as error:
        raise ValueError("JSON that is nested too deeply") from error


def _integer(digits: str) -> int:
    if not -(2**63) <= (value := int(digits)) < 2**63:
        raise ValueError(f"{digits[:40]} has more than 64 bits")
    return value


def termination_message(outcome: Outcome) -> str:
    """``outcome`` as JSON of at most 4096 bytes. The middle of a long message is cut out."""
    text = outcome.model_dump_json(by_alias=True, exclude_none=True)
    excess = len(text.encode()) - TERMINATION_MESSAGE_BYTES
    if excess <= 0:
        return text
    message = outcome.message or ""
    kept = len(message) - excess
    while kept > 0:
        head, tail = message[: kept // 2], message[len(message) - kept // 2 :]
        shorter = outcome.model_copy(update={"message": f"{head} […] {tail}"})
        text = shorter.model_dump_json(by_alias=True, exclude_none=True)
        if len(text.encode()) <= TERMINATION_MESSAGE_BYTES:
            return text
        kept -= 64
    return outcome.model_copy(
        update={"message": message[:200], "effective_spec": None, "estimate": None}
    ).model_dump_json(by_alias=True, exclude_none=True)


def parse_outcome(message: str | None) -> Outcome | None:
    """The outcome in a termination message; None if there is none, as of a process that was killed.

    A trainer may be newer than its operator (``spec.image``), so a field that this version cannot read is skipped and
    all others are kept.
    """
    if not message or not message.lstrip().startswith("{"):
        return None
    try:
        found = _loads(message)
    except ValueError:
        return None
    while True:
        try:
            return Outcome.model_validate_json(json.dumps(found))
        except ValidationError as error:
            unreadable = {str(problem["loc"][0]) for problem in error.errors() if problem["loc"]} & set(found)
            if not unreadable:
                return None
            found = {field: value for field, value in found.items() if field not in unreadable}
