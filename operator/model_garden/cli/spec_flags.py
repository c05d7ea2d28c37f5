"""The spec's fields as flags, read from the schema, so that every field has a flag.

A flag has the name of its field, ``--learning-rate`` for ``hyperparameters.learningRate``; ``FLAGS`` lists the others.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic.alias_generators import to_camel

from model_garden.cli.output import CommandError
from model_garden.contract.defaults import merge
from model_garden.contract.fields import SpecField, spec_fields
from model_garden.contract.model import field_path
from model_garden.contract.resource import InvalidResource
from model_garden.services.flags import BY_COMMAND, flag
from model_garden.services.manifest import plain, yaml_problem

PANELS = {
    "hyperparameters": "Hyperparameters",
    "lora_config": "LoRA",
    "image_options": "Images",
    "column_mapping": "Columns",
    "push_to_hub": "Hub",
    "hub_token_secret": "Hub",
    "tracking": "Tracking",
    "health": "Health",
    "storage": "Storage",
}
ONLY_VISION = ("image_options",)
ONLY_CLUSTER = (
    "hub_token_secret",
    "push_to_hub",
    "image",
    "preflight",
    "num_nodes",
    "storage",
    "suspend",
    "ttl_seconds_after_finished",
    "active_deadline_seconds",
    "backoff_limit",
)

TRACKING_SECRET = ("tracking", "secret")
"""Only of a cluster, too: on this machine, the trackers read the variables of the shell."""


def fields(*, cluster: bool, vision: bool) -> Iterator[SpecField]:
    """The fields that have a flag: single values and lists of strings."""
    hidden = BY_COMMAND + (() if cluster else ONLY_CLUSTER) + (() if vision else ONLY_VISION)
    for field in spec_fields():
        if field.path[0] not in hidden and (cluster or field.path != TRACKING_SECRET):
            yield field


@cache
def options(*, cluster: bool, vision: bool) -> list[Any]:
    """An option for each field, which Typer makes from the signature of a function."""

    def command(**_: Any) -> None:
        pass

    parameters = []
    for field in fields(cluster=cluster, vision=vision):
        required = field.required and not cluster
        plain = list[str] if _is_list(field) else field.type  # Typer knows no list of choices; the spec checks them
        kind: Any = plain if required else plain | None
        default = inspect.Parameter.empty if required else None
        parameters.append(
            inspect.Parameter(
                "__".join(field.path),
                inspect.Parameter.KEYWORD_ONLY,
                default=default,
                annotation=Annotated[kind, _option(field)],
            )
        )
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(command)
    return list(typer.main.get_command(app).params)


READING = ("method", "dataset_split", "column_mapping", "fetch_pictures", "image_options", "train_on", "chat_template")
"""Fields that decide how the rows of a data set are read."""


def reading_options(skips: tuple[str, ...] = ()) -> list[Any]:
    """An option for each field that decides how rows are read, but for those that are skipped."""
    names = [name for name in READING if name not in skips]
    found = [copy(one) for one in options(cluster=False, vision=True) if one.name.partition("__")[0] in names]
    for one in found:
        if one.name == "method":
            one.help = "Training method, whose rows alone are read. [default: those of each but grpo]"
    return found


def _option(field: SpecField) -> Any:
    name = flag(field)
    kind = get_args(field.type)[0] if _is_list(field) else field.type
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    listed = _is_list(field) or len(" ".join(choices)) > 30
    words = [_with_flags(field.meaning)]
    if listed and choices:
        words.append(f"One of {', '.join(choices)}.")
    if field.default_words:
        words.append(f"[default: {_with_flags(field.default_words)}]")
    return typer.Option(
        f"{name}/--no-{name[2:]}" if field.type is bool else name,
        help=" ".join(words),
        metavar=None if not listed else "CHOICE" if choices else "NAME",
        show_default=False,
        rich_help_panel=PANELS.get(field.path[0], "Job"),
    )


def _is_list(field: SpecField) -> bool:
    return get_origin(field.type) is list


def _with_flags(text: str) -> str:
    """``text`` with the flag of each field that it names: ``numEpochs`` becomes ``--epochs``.

    Of fields with the same name, the one that is nearest to the top of the spec is meant.
    """
    flags = _flags_by_name()
    return re.sub(r"\b[a-z]+(?:\.[a-z]+)*[A-Z.]\w*", lambda found: flags.get(found[0], found[0]), text)


@cache
def _flags_by_name() -> dict[str, str]:
    """The flag of each field by its name, and by its dotted path."""
    known = sorted(fields(cluster=True, vision=True), key=lambda field: field.dotted.count("."), reverse=True)
    names = {field.dotted.rpartition(".")[2]: flag(field) for field in known}
    return names | {field.dotted: flag(field) for field in known if "." in field.dotted}


def given(values: dict[str, Any]) -> dict[str, Any]:
    """The values of ``options`` that were given, as a partial spec in camelCase."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        if value is None or value == ():  # a list flag that was not given
            continue
        *parents, last = field_path(name.split("__")).split(".")
        place = result
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = list(value) if isinstance(value, tuple) else value
    return result


def with_flag(problem: str) -> str:
    """``problem`` with the flag of the field that it names."""
    path, colon, rest = problem.partition(": ")
    by_path = {f"spec.{field.dotted}": flag(field) for field in fields(cluster=True, vision=True)}
    return f"{by_path[path]} ({path}): {rest}" if colon and path in by_path else problem


@contextmanager
def named_by_flag() -> Iterator[None]:
    """A context that adds to each problem of a field the flag of that field."""
    try:
        yield
    except InvalidResource as wrong:
        raise InvalidResource([with_flag(problem) for problem in wrong.problems]) from wrong


def parse_sets(pairs: list[str] | None) -> dict[str, Any]:
    """``["hyperparameters.maxSteps=3"]`` as a partial spec; a value is read as YAML, and ``null`` removes a field.

    Raises:
        CommandError: a pair without ``=`` or without a field, or a value that is not YAML.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    result: dict[str, Any] = {}
    for pair in pairs or []:
        path, equals, text = pair.partition("=")
        keys = [to_camel(key) for key in path.strip().removeprefix("spec.").split(".")]
        if not equals or not all(keys):
            raise CommandError(f"--set {pair}: give field=value, such as hyperparameters.maxSteps=100")
        try:
            value = plain(YAML(typ="safe", pure=True).load(text))
        except YAMLError as failed:
            raise CommandError(f"--set {pair}: {yaml_problem(failed)}") from failed
        for key in reversed(keys):
            value = {key: value}
        result = merge(result, value)
    return result
