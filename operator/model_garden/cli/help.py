"""Help pages in sections, and commands whose flags are the spec's fields.

Importing rich would add a fifth of a second to every ``--help``, so the help is plain text, and what rich would draw as
panels are headings.
"""

import re
import sys
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from model_garden.cli.output import has_color

_RANGE = re.compile(r"; x>=\d+|  \[x>=\d+\]")
"""What Typer adds to the help of a number with a bound; the error of a number out of range names the bound."""

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 120}


def _heading(title: str) -> str:
    return typer.style(title, bold=True) if has_color(sys.stdout) else title


def _write_sections(sections: dict[str, list[tuple[str, str]]], formatter: Any) -> None:
    for title, rows in sections.items():
        with formatter.section(_heading(title)):
            formatter.write_dl(rows)


def _is_argument(param: Any) -> bool:
    return bool(param.param_type_name == "argument")


def _usage(argument: Any) -> str:
    """An argument as kubectl and git print it: ``NAME``, ``[FILE]``, ``NAME...``."""
    name = argument.metavar if argument.required else f"[{argument.metavar}]"
    return name + ("" if argument.nargs == 1 else "...")


def _record(param: Any, ctx: Any) -> tuple[str, str] | None:
    """What the help says of a parameter: its name and its text. None for a hidden one."""
    if _is_argument(param):
        return param.metavar, param.help
    record = param.get_help_record(ctx)
    return record and (record[0].strip().replace(" range>", ">"), _RANGE.sub("", record[1]).replace("  [", " ["))


class Command(TyperCommand):
    """A command whose help groups the options by their panel."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """``[OPTIONS] NAME [FILE]``."""
        return ["[OPTIONS]", *(_usage(param) for param in self.get_params(ctx) if _is_argument(param))]

    def sections(self, ctx: Any) -> dict[str, list[tuple[str, str]]]:
        """The name and the text of every parameter: the arguments, then the options panel by panel."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in sorted(self.get_params(ctx), key=_is_argument, reverse=True):
            if record := _record(param, ctx):
                usual = "Arguments" if _is_argument(param) else "Options"
                sections.setdefault(getattr(param, "rich_help_panel", None) or usual, []).append(record)
        return sections

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the sections."""
        _write_sections(self.sections(ctx), formatter)


class Group(TyperGroup):
    """All commands, listed in sections, in the order of their declarations."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - the base class calls it
        """Write one section for each panel of commands."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            if not command.hidden:
                panel = getattr(command, "rich_help_panel", None) or "Commands"
                sections.setdefault(panel, []).append((name, command.get_short_help_str(90)))
        _write_sections(sections, formatter)


class SpecCommand(Command):
    """A command that takes the spec's fields as flags. ``ctx.obj`` holds the flags that were given, as a partial spec.

    The schema is imported when the command is called, not when the program starts.
    """

    cluster = False
    vision = True

    def get_params(self, ctx: Any) -> list[Any]:
        """The spec's flags, then the command's own."""
        return [*self._spec_options(), *super().get_params(ctx)]

    def invoke(self, ctx: Any) -> Any:
        """Call the command with the spec's flags in ``ctx.obj``."""
        from model_garden.cli.spec_flags import given

        ctx.obj = given({option.name: ctx.params.pop(option.name) for option in self._spec_options()})
        return super().invoke(ctx)

    def _spec_options(self) -> list[Any]:
        from model_garden.cli.spec_flags import options

        return options(cluster=self.cluster, vision=self.vision)


class TextCommand(SpecCommand):
    """A command without the flags that only a vision model has."""

    vision = False


class DataCommand(SpecCommand):
    """A command that reads a data set as a job would: with the flags that decide how."""

    skips: tuple[str, ...] = ()

    def _spec_options(self) -> list[Any]:
        from model_garden.cli.spec_flags import reading_options

        return reading_options(self.skips)


class UploadCommand(DataCommand):
    """A command that reads every file of a data set, whatever its split."""

    skips = ("dataset_split",)


class ClusterCommand(SpecCommand):
    """A command with the flags that only a cluster has. None is required, since a file may set the field."""

    cluster = True
