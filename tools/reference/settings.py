"""docs/reference/operator-settings.md: each setting of the operator and the value of the chart that sets it."""

from __future__ import annotations

from collections.abc import Iterator

from model_garden.builders.settings import Settings, default_words, variable_of
from tools.reference.markdown import page, table

INTRODUCTION = """
The operator reads its settings from environment variables once, when it starts. The [Helm chart](../install.md) sets
each variable from the value beside it, and has defaults of its own for the three claims. A variable that is empty or
unset has the default below. An operator that cannot read a value does not start: it names the variable, the value, the
rule and the fix.
"""


def settings_reference() -> str:
    """The page as Markdown."""
    text = table(["variable", "value of the chart", "default", "meaning"], _rows())
    return page("Operator settings", "operator/model_garden/builders/settings.py", INTRODUCTION, text)


def _rows() -> Iterator[tuple[str, ...]]:
    for name, field in Settings.model_fields.items():
        extra = field.json_schema_extra
        chart = f"`{extra['chart']}`" if isinstance(extra, dict) else "set by the chart"
        default = default_words(field)
        shown = default if default in ("none", "the host's name") else f"`{default}`"
        yield f"`{variable_of(name, field)}`", chart, shown, field.description or ""
