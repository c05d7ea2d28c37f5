"""Rules for names and paths, as pure functions: whatever a caller sends, it names something inside the data folder.

A part of a path may have any letters. It may not be empty, hidden, ``..`` or too long for a file system, and may not
contain a control character or a backslash, which separates folders on Windows.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePath

from model_garden.storage.interface import InvalidPath

DATA, MODELS = "data", "models"
MAX_PART = 255
"""Bytes of a file name on Linux's file systems (NAME_MAX)."""
MAX_PATH = 1024
"""Bytes of a path below a data set; PATH_MAX is 4096, and the workspace has a path of its own."""
STAGING = ".upload-"
"""Start of the name of a folder in ``data`` that an upload has not finished; hidden, so that nothing lists it."""


def relative_path(path: str) -> str:
    """A path of a file inside a data set, such as ``images/cat.jpg``, as it was given.

    Raises:
        InvalidPath: a part of it breaks a rule.
    """
    if len(_bytes(path)) > MAX_PATH:
        raise InvalidPath(f"{_short(path)}: the path is longer than {MAX_PATH} bytes; use shorter names")
    for part in path.split("/"):
        if problem := _problem_of(part):
            raise InvalidPath(f"{_short(path)}: {problem}")
    return path


def folder_name(folder: str) -> str:
    """The name of a data set's folder, given as ``receipts``, ``data/receipts`` or ``./data/receipts``.

    Raises:
        InvalidPath: it is no name of one folder in ``./data``.
    """
    name = folder.rstrip("/").removeprefix("./").removeprefix(f"{DATA}/")
    if name == DATA or ("/" in name and ".." not in name.split("/")):
        raise InvalidPath(f"{_short(folder)}: give the name of one folder in ./{DATA}, such as receipts")
    return relative_path(name)


def data_path(folder: str) -> str:
    """The path of a data set's folder, given as for ``folder_name``.

    Raises:
        InvalidPath: as ``folder_name``.
    """
    return f"./{DATA}/{folder_name(folder)}"


def stored_path(path: str, *roots: str) -> tuple[str, str]:
    """``data`` or ``models``, and the path below it, of ``./data/receipts/receipts.jsonl``.

    Args:
        path: the path.
        roots: which of the two are allowed; both if none is named.

    Raises:
        InvalidPath: the path is not below one of them, or a part of it breaks a rule.
    """
    roots = roots or (DATA, MODELS)
    root, _, rest = path.rstrip("/").removeprefix("./").removeprefix("/workspace/").partition("/")
    if root not in roots or not rest:
        folders = " or ".join(f"./{one}" for one in roots)
        raise InvalidPath(f"{_short(path)}: is not in {folders}; give a path such as ./{roots[0]}/receipts")
    return root, relative_path(rest)


def model_path(name: str) -> str:
    """The path of the model with this name.

    Raises:
        InvalidPath: it is no name of one folder in ``./models``.
    """
    if "/" in name:
        raise InvalidPath(f"{_short(name)}: give the name of one folder in ./{MODELS}, such as receipts")
    return f"./{MODELS}/{relative_path(name)}"


def spell(text: str, place: str | PurePath, name: str) -> str:
    """``text`` with the path ``place`` of this machine written as ``name``."""
    return re.sub(re.escape(str(place)) + r"(?![\w.-])", lambda _: name, text)


def _problem_of(part: str) -> str | None:
    """Why ``part`` cannot be a name, and the fix."""
    if part == "..":
        return "leads out of the folder; remove .."
    if part in ("", "."):
        return "has an empty part; write a relative path such as images/cat.jpg"
    if part.startswith("."):
        return f"{_short(part)} is a hidden name; rename it without the dot in front"
    if len(_bytes(part)) > MAX_PART:
        return f"{_short(part)} is longer than {MAX_PART} bytes; use a shorter name"
    for character in part:
        if character == "\\" or unicodedata.category(character) in ("Cc", "Cs"):
            return f"{_short(part)} contains {character!a}; rename it without that character"
    return None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _short(text: str) -> str:
    """Text for a message: control characters escaped, cut to 80 characters."""
    shown = text if text.isprintable() else ascii(text)[1:-1]
    return (shown if len(shown) <= 80 else f"{shown[:79]}…") or "''"
