"""The chat template of a model, or the one that ``chatTemplate`` names: a template of the model, a file, or TRL's."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from model_garden.datasets.model_files import DamagedModelFile, read_json

FILE = "chat_template.jinja"
MORE = "additional_chat_templates"
"""The folder of a model's named chat templates."""
_TRL = "trl/"
"""Prefix of the templates for training that the TRL library has, such as ``trl/qwen3_training``."""


class UnknownTemplate(DamagedModelFile):
    """``chatTemplate`` names no chat template; the message says which there are."""


def read_template(folder: Path, name: str | None = None) -> str | None:
    """A chat template (Jinja).

    Args:
        folder: the model's folder.
        name: ``chatTemplate``; None for the model's own, of several named ones the one named ``default``, as in
            transformers.

    Returns:
        The template; None if no name is given and the model has none.

    Raises:
        UnknownTemplate: there is no template of that name.
        DamagedModelFile: a file of the model cannot be read.
    """
    if name is None:
        return _own(folder).get("default")
    if name.startswith(_TRL):
        return _of_trl(name)
    if name.endswith(".jinja"):
        return _text(Path(name), name)
    own = _own(folder)
    if name not in own:
        raise UnknownTemplate(
            f"spec.chatTemplate: the model has no chat template {name!r} (it has {', '.join(sorted(own)) or 'none'}); "
            f"use one of these, the path of a .jinja file, or {_TRL}NAME"
        )
    return own[name]


def _own(folder: Path) -> dict[str, str]:
    """The templates of a model, by name."""
    more = {path.stem: path.read_text(encoding="utf-8") for path in sorted((folder / MORE).glob("*.jinja"))}
    if (folder / FILE).is_file() and (text := (folder / FILE).read_text(encoding="utf-8")):
        return more | {"default": text}
    for name in ("chat_template.json", "tokenizer_config.json"):
        if found := read_json(folder / name).get("chat_template"):
            return more | _named(found)
    return more


def _named(source: Any) -> dict[str, str]:
    if isinstance(source, list):
        return {entry["name"]: entry["template"] for entry in source}
    return dict(source) if isinstance(source, dict) else {"default": str(source)}


@cache
def training_template(template: str) -> tuple[str, str] | None:
    """TRL's template for training that stands for a model's own, as ``trl.get_training_chat_template`` chooses it.

    Returns:
        Its name for ``chatTemplate`` and its text; None if there is none, or no TRL library.
    """
    folder = _trl_folder()
    for path in sorted(folder.glob("*_training.jinja")) if folder else ():
        own = path.with_name(path.name.replace("_training.jinja", ".jinja"))
        if own.is_file() and own.read_text(encoding="utf-8") == template:
            return f"{_TRL}{path.stem}", path.read_text(encoding="utf-8")
    return None


def _trl_folder() -> Path | None:
    library = find_spec("trl")
    return Path(library.origin).parent / "chat_templates" if library and library.origin else None


def _of_trl(name: str) -> str:
    folder = _trl_folder()
    if folder is None:
        raise UnknownTemplate(f"spec.chatTemplate: {name} needs the TRL library, which the trainer image has")
    path = folder / f"{name.removeprefix(_TRL)}.jinja"
    if path.parent != folder or not path.is_file():
        known = ", ".join(sorted(f"{_TRL}{found.stem}" for found in folder.glob("*_training.jinja")))
        raise UnknownTemplate(f"spec.chatTemplate: TRL has no chat template {name}; it has {known}")
    return path.read_text(encoding="utf-8")


def _text(path: Path, name: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UnknownTemplate(
            f"spec.chatTemplate: {name} cannot be read ({reason}); a relative path starts from {Path.cwd()}"
        ) from error
