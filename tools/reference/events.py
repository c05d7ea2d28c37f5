"""docs/reference/events.md: what a trainer prints while it runs, and what it leaves when it ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from model_garden.contract.fields import plain_type, type_words
from model_garden.contract.model import Report
from model_garden.contract.progress import TERMINATION_MESSAGE_BYTES, Event, Outcome
from tools.reference.markdown import page, table

EVENTS = """
A trainer prints one JSON object a line on stdout, such as `{"event":"checkpoint","step":40}`. All other messages go to
stderr. The operator reads the events from the pod's log. `model-garden logs NAME --raw` prints them. A reader must skip
fields and events that it does not know.
"""
OUTCOME = f"""
## Outcome

When it ends, the trainer writes one JSON object of at most {TERMINATION_MESSAGE_BYTES} bytes to the termination message
of the container, or to the file that `MODEL_GARDEN_TERMINATION_LOG` names.
[troubleshoot.md](../troubleshoot.md#the-job-failed) lists the reasons.
"""


def events_reference() -> str:
    """The page as Markdown."""
    kinds: tuple[type[Report], ...] = get_args(get_args(Event)[0])
    events = table(["event", "when", "field", "type", "meaning"], (row for kind in kinds for row in _event(kind)))
    outcome = table(["field", "type", "meaning"], _fields(Outcome))
    source = "operator/model_garden/contract/progress.py"
    return page("Events and outcome of a trainer", source, EVENTS, events, OUTCOME, outcome)


def _event(kind: type[Report]) -> Iterator[tuple[str, ...]]:
    name, when = f"`{kind.model_fields['event'].default}`", kind.__doc__ or ""
    for row in _fields(kind):
        yield name, when, *row
        name = when = ""


def _fields(model: type[Report]) -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        if name != "event":
            kind = plain_type(field.annotation)
            nested = isinstance(kind, type) and issubclass(kind, Report)
            yield f"`{field.alias or name}`", "object" if nested else type_words(kind), field.description or ""
