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
    return page("Command line", "operator/model_garden/cli/app.py", INTRODUCTION, *map(_section, _commands(root)))


def _commands(group: Any) -> Iterator[Any]:
    """The context of every command; those of ``model-garden data`` in the place of the group."""
    for name, command in group.command.commands.items():
        context = typer.Context(command, info_name=name, parent=group)
        if hasattr(command, "commands"):
            yield from _commands(context)
        else:
            yield context


def _section(context: Any) -> str:
    command = context.command
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    parts = [f"## {context.command_path}", command.help, f"```\n{usage}\n```", *_tables(context)]
    return "\n\n".join(parts)


def _tables(context: Any) -> Iterator[str]:
    """One table for each section of ``--help``, without ``--help`` itself."""
    for title, rows in context.command.sections(context).items():
        if shown := [(f"`{name}`", text) for name, text in rows if not name.endswith("--help")]:
            yield table([title, "meaning"], shown)
