"""The chart's README: each value of values.yaml with its default and the comment above it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tools.reference.markdown import page, table

INTRODUCTION = """
Installs the operator that fine-tunes text and vision-language models from `TrainingJob` resources, and on request its
REST API and web pages. [docs/install.md](../../docs/install.md) explains each step, and
[docs/operate.md](../../docs/operate.md) how to upgrade, watch and uninstall.

```bash
helm install model-garden charts/model-garden --namespace model-garden --create-namespace
```

A value of another name or type is refused: `values.schema.json` names what is wrong.
"""

_KEY = re.compile(r"^( *)([A-Za-z]+):")


def chart_reference(values: Path) -> str:
    """The page as Markdown.

    Raises:
        ValueError: a value has no comment.
    """
    rows = table(["value", "default", "meaning"], _rows(values.read_text()))
    return page("Helm chart of Model Garden", "values.yaml", INTRODUCTION, "## Values\n\n" + rows)


def _rows(text: str) -> Iterator[tuple[str, ...]]:
    """A row for each key with a comment above it. The keys below it are part of its value."""
    values = YAML(typ="safe").load(text)
    path: list[str] = []
    comment: list[str] = []
    documented: str | None = None
    for line in text.splitlines():
        if line.strip().startswith("#"):
            comment.append(line.strip(" #"))
        elif found := _KEY.match(line):
            path = [*path[: len(found[1]) // 2], found[2]]
            name, meaning, comment = ".".join(path), " ".join(comment), []
            if documented and name.startswith(documented + "."):
                continue
            value = _at(values, path)
            if meaning:
                documented = name
                yield f"`{name}`", f"`{json.dumps(value)}`", meaning
            elif not (isinstance(value, dict) and value):
                raise ValueError(f"values.yaml: {name} has no comment; write one above it")


def _at(values: Any, path: list[str]) -> Any:
    for name in path:
        values = values[name]
    return values
