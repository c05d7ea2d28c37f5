"""Help pages in sections, and commands whose flags are the spec's fields.

Typer's own rich help costs a fifth of a second on every ``--help``; click's plain text costs nothing, so the sections
that rich would have drawn as panels are headings here.
"""

import sys
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from model_garden.cli.output import coloured

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 120}


def _heading(title: str) -> str:
    return typer.style(title, bold=True) if coloured(sys.stdout) else title


def _write_sections(sections: dict[str, list[tuple[str, str]]], formatter: Any) -> None:
    for title, rows in sections.items():
        with formatter.section(_heading(title)):
            formatter.write_dl(rows)


class Command(TyperCommand):
    """A command whose help groups the options by their panel."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then the options panel by panel."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                usual = "Arguments" if param.param_type_name == "argument" else "Options"
                sections.setdefault(getattr(param, "rich_help_panel", None) or usual, []).append(record)
        _write_sections(sections, formatter)


class Group(TyperGroup):
    """All commands, listed in sections in the order in which they are declared."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - the base class calls it
        """Write one section for each panel of commands."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            if not command.hidden:
                panel = getattr(command, "rich_help_panel", None) or "Commands"
                sections.setdefault(panel, []).append((name, command.get_short_help_str(90)))
        _write_sections(sections, formatter)


class SpecCommand(Command):
    """A command that takes the spec's fields as flags and finds those given in ``ctx.obj``, a partial spec.

    The schema is read when the command is asked for, not when the program starts.
    """

    cluster = False
    vision = True

    def get_params(self, ctx: Any) -> list[Any]:
        """The spec's flags, then the command's own."""
        return [*self._spec_options(), *super().get_params(ctx)]

    def invoke(self, ctx: Any) -> Any:
        """Hand the spec's flags over as one partial spec."""
        from model_garden.cli.spec_flags import given

        ctx.obj = given({option.name: ctx.params.pop(option.name) for option in self._spec_options()})
        return super().invoke(ctx)

    def _spec_options(self) -> list[Any]:
        from model_garden.cli.spec_flags import options

        return options(cluster=self.cluster, vision=self.vision)


class TextCommand(SpecCommand):
    """Without the flags that only a vision model has."""

    vision = False


class ClusterCommand(SpecCommand):
    """With the flags that only a cluster has; nothing is required, since a file may say it."""

    cluster = True
