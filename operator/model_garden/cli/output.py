"""How the command line speaks: results on stdout, all else on stderr; a person's mistake is never a traceback."""

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
    """Ends the command: each problem is shown on a line of its own, and ``exit_code`` is what the process returns."""

    def __init__(self, problems: str | list[str], exit_code: int = BAD_USAGE) -> None:
        self.problems = [problems] if isinstance(problems, str) else problems
        self.exit_code = exit_code
        super().__init__("\n".join(self.problems))


def coloured(stream: Any) -> bool:
    """Whether colours make sense on ``stream``: a terminal, and nobody asked for none (https://no-color.org)."""
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def note(message: str) -> None:
    """A line for people, on stderr."""
    print(message, file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """A warning on stderr."""
    _labelled("warning", typer.colors.YELLOW, message)


def error(message: str) -> None:
    """An error on stderr; a message of several lines is kept together."""
    _labelled("error", typer.colors.RED, message)


def _labelled(label: str, colour: str, message: str) -> None:
    shown = typer.style(f"{label}:", fg=colour, bold=True) if coloured(sys.stderr) else f"{label}:"
    indented = message.replace("\n", "\n  ")
    note(f"{shown} {indented}")


def console(*, stderr: bool = False) -> Console:
    """A rich console. One that is not a terminal never wraps: what reads it wants whole lines."""
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, width=100_000)


def print_rows(rows: list[tuple[str, str]]) -> None:
    """Labels and values in two columns on stdout, empty values left out; long values are never cut."""
    shown = console()
    width = max(len(label) for label, _ in rows)
    for label, value in rows:
        if value:
            shown.print(f"[dim]{label:<{width}}[/dim]  ", end="")
            shown.print(value.replace("\n", f"\n{'':{width + 2}}"), markup=False, soft_wrap=True)


def print_table(rows: list[dict[str, str]], colours: dict[str, dict[str, str]]) -> None:
    """Rows under their columns' names on stdout, as kubectl prints them: nothing is cut, and ``awk`` can read it.

    Args:
        rows: cells by their column's name, the same columns in each.
        colours: for a column, the colour of each value that has one.
    """
    widths = {column: max(len(column), *(len(row[column]) for row in rows)) for column in rows[0]}
    shown = coloured(sys.stdout)
    print("   ".join(f"{column:<{width}}" for column, width in widths.items()).rstrip())
    for row in rows:
        cells = []
        for column, width in widths.items():
            colour = colours.get(column, {}).get(row[column])
            padded = f"{row[column]:<{width}}"
            cells.append(typer.style(padded, fg=colour) if shown and colour else padded)
        print("   ".join(cells).rstrip())


def print_json(value: Any) -> None:
    """``value`` as JSON on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_yaml(value: Any) -> None:
    """``value`` as YAML on stdout, the same for readers of YAML 1.1, where ``off`` is false and ``2e-5`` a string."""
    from ruamel.yaml import YAML
    from ruamel.yaml.representer import SafeRepresenter

    class Representer(SafeRepresenter):
        pass

    def string(representer: SafeRepresenter, text: str) -> Any:
        quoted = text.lower() in ("on", "off", "yes", "no", "y", "n", "true", "false", "null", "~")
        style = '"' if quoted else "|" if "\n" in text else None
        return representer.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    def number(representer: SafeRepresenter, value: float) -> Any:
        mantissa, exponent, power = repr(value).partition("e")
        dotted = mantissa if "." in mantissa or not exponent else f"{mantissa}.0"
        return representer.represent_scalar("tag:yaml.org,2002:float", dotted + exponent + power)

    Representer.add_representer(str, string)
    Representer.add_representer(float, number)
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = Representer
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 120
    yaml.dump(value, sys.stdout)
