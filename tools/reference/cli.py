"""docs/reference/cli.md: every command with its arguments and flags, as ``--help`` shows them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from model_garden.cli.app import app
from tools.reference.markdown import page, table

INTRODUCTION = """
`model-garden COMMAND --help` says the same as this page. `model-garden --install-completion` installs completion for
the shell.
"""


def cli_reference() -> str:
    """The page as Markdown."""
    group: Any = typer.main.get_command(app)
    root = typer.Context(group, info_name="model-garden")
    commands = [typer.Context(command, info_name=name, parent=root) for name, command in group.commands.items()]
    return page("Command line", "operator/model_garden/cli/app.py", INTRODUCTION, *map(_section, commands))


def _section(context: Any) -> str:
    command = context.command
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    parts = [f"## {context.command_path}", command.help, f"```\n{usage}\n```", *_tables(context)]
    return "\n\n".join(parts)


def _tables(context: Any) -> Iterator[str]:
    """One table for each panel of options, in the order of ``--help``."""
    panels: dict[str, list[tuple[str, str]]] = {}
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if record and parameter.name != "help":
            usual = "Arguments" if parameter.param_type_name == "argument" else "Options"
            title = getattr(parameter, "rich_help_panel", None) or usual
            panels.setdefault(title, []).append((f"`{record[0].strip()}`", record[1]))
    for title, rows in panels.items():
        yield table([title, "meaning"], rows)
