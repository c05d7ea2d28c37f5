"""The output of the command line: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

FAILED = 1
BAD_USAGE = 2


class CommandError(Exception):
    """Ends the command with ``exit_code``, after each problem was printed on its own line."""

    def __init__(self, problems: str | list[str], exit_code: int = BAD_USAGE) -> None:
        self.problems = [problems] if isinstance(problems, str) else problems
        self.exit_code = exit_code
        super().__init__("\n".join(self.problems))


def has_color(stream: Any) -> bool:
    """Whether to color what is written to ``stream``: a terminal, without ``NO_COLOR`` (https://no-color.org)."""
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def note(message: str) -> None:
    """Print a line on stderr."""
    print(message, file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """Print a warning on stderr."""
    _labeled("warning", typer.colors.YELLOW, message)


def error(message: str) -> None:
    """Print an error on stderr; the lines of a message after its first are indented."""
    _labeled("error", typer.colors.RED, message)


def _labeled(label: str, color: str, message: str) -> None:
    shown = typer.style(f"{label}:", fg=color, bold=True) if has_color(sys.stderr) else f"{label}:"
    indented = message.replace("\n", "\n  ")
    note(f"{shown} {indented}")


def console(*, stderr: bool = False) -> Console:
    """A rich console, which wraps lines in a terminal only, since programs read whole lines."""
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, width=100_000)


def print_rows(rows: list[tuple[str, str]]) -> None:
    """Print labels and values in two columns on stdout. Empty values are skipped; long ones are not cut."""
    shown = console()
    width = max(len(label) for label, _ in rows)
    for label, value in rows:
        if value:
            shown.print(f"[dim]{label:<{width}}[/dim]  ", end="")
            shown.print(value.replace("\n", f"\n{'':{width + 2}}"), markup=False, soft_wrap=True)


def print_table(rows: list[dict[str, str]], colors: dict[str, dict[str, str]]) -> None:
    """Print rows under the names of their columns on stdout, as kubectl does, without cutting any cell.

    Args:
        rows: cells by column name; every row has the same columns.
        colors: by column name, the color of each value that has one.
    """
    widths = {column: max(len(column), *(len(row[column]) for row in rows)) for column in rows[0]}
    shown = has_color(sys.stdout)
    print("   ".join(f"{column:<{width}}" for column, width in widths.items()).rstrip())
    for row in rows:
        cells = []
        for column, width in widths.items():
            color = colors.get(column, {}).get(row[column])
            padded = f"{row[column]:<{width}}"
            cells.append(typer.style(padded, fg=color) if shown and color else padded)
        print("   ".join(cells).rstrip())


def print_json(value: Any) -> None:
    """Print ``value`` as JSON on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_yaml(value: Any) -> None:
    """``value`` as YAML on stdout."""
    from model_garden.services.yaml_text import yaml_text

    print(yaml_text(value), end="")
