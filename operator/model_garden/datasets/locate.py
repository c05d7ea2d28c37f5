"""Converts the value of an image in a row (path, URI, bytes) to an ImageRef, without opening the image."""

from __future__ import annotations

import base64
import binascii
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from model_garden.datasets.errors import RowError, kind_of, shown
from model_garden.datasets.example import ImageRef
from model_garden.datasets.fetched_pictures import SCHEMES, Pictures
from model_garden.datasets.mirror import Mirror

_DATA_URI = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?:;[\w.+-]+=[^;,]*)*;base64,", re.IGNORECASE)
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:")
_FILE = "file://"


@dataclass(frozen=True, slots=True)
class Locator:
    """Finds the images of one data file.

    ``base`` is the folder of the data file; None for a data set of the Hub. ``root`` is the folder in which every path
    must be, with symbolic links resolved; None allows any path. ``mirror`` is the folder of remote storage that the
    data file was fetched from; None for any other data set. ``pictures`` are the images of ``fetchPictures``; without
    them, other addresses are refused.
    """

    base: Path | None
    root: Path | None = None
    mirror: Mirror | None = None
    pictures: Pictures | None = None

    def locate(self, value: Any, name: str) -> ImageRef:
        """The image that ``value`` names: a path, a data URI, bytes, or ``{"bytes", "path"}`` as Parquet holds it.

        Args:
            value: the value in the row.
            name: its field, for messages.

        Raises:
            RowError: the value is none of these, the path is outside ``root``, or it is an address that is not below
                the data set's own folder.
        """
        if isinstance(value, dict) and {key for key, given in value.items() if given is not None} <= {"bytes", "path"}:
            value = value.get("bytes") if value.get("bytes") is not None else value.get("path")
        if isinstance(value, (bytes, bytearray)):
            return ImageRef(_not_empty(bytes(value), name))
        if not isinstance(value, str):
            raise RowError(f"{name} is {kind_of(value)}", "give a path, a data URI or the image's bytes")
        if value[:5].lower() == "data:":
            return ImageRef(_not_empty(_decode(value, name), name))
        if _SCHEME.match(value) and "://" in value and value[: len(_FILE)].lower() != _FILE:
            return ImageRef(self._at(value, name))
        return ImageRef(self._path(value, name))

    def _path(self, value: str, name: str) -> Path:
        if not value.strip() or "\0" in value:
            raise RowError(f"{name} is {shown(value)}", "give the path of an image")
        if value[: len(_FILE)].lower() == _FILE:
            value = _local_path(value, name)
        if self.base is None and not Path(value).is_absolute():
            raise RowError(
                f"{name} is the path {shown(value)}, and a data set of the Hub has no folder for relative paths",
                "embed the images in the data set as an Image column",
            )
        path = (self.base or Path("/")) / value
        self.require_inside(path, name)
        return path

    def _at(self, address: str, name: str) -> Path | str:
        """The copy of an image whose address is below the folder of the data set itself, or of one that was fetched.

        Without ``fetchPictures``, no other address is fetched: a row is data, and must not make a pod send requests to
        any server.
        """
        path = self.mirror.path_of(address) if self.mirror else None
        if path is not None:
            return path
        fetchable = address.lower().startswith(SCHEMES)
        if self.pictures and fetchable:
            return self.pictures.find(address, name)
        where = f"only images below {self.mirror.address} are fetched" if self.mirror else "images are not downloaded"
        fix = "copy the image next to the data file and give its path, or embed it as a data URI"
        raise RowError(
            f"{name} is {shown(address)}: {where}",
            f"set fetchPictures: true to fetch it before training; or {fix}" if fetchable else fix,
        )

    def require_inside(self, path: Path, name: str) -> None:
        """Refuse a path that is outside ``root``.

        Raises:
            RowError: the path is outside ``root``.
        """
        if self.root is None:
            return
        real, root = os.path.realpath(path), os.path.realpath(self.root)
        if os.path.commonpath([real, root]) != root:
            raise RowError(
                f"{name} {shown(str(path))} is outside {self.root}",
                "keep images below the workspace, next to the data file",
            )


def _local_path(uri: str, name: str) -> str:
    """The path of ``file:///folder/a%20picture.png``, as Qwen-VL's guides write images (RFC 8089)."""
    path = unquote(uri[len(_FILE) :].removeprefix("localhost"))
    if not path.startswith("/") or "\0" in path:
        raise RowError(
            f"{name} is {shown(uri)}: a file URI names an absolute path", "write file:///folder/…, or a path alone"
        )
    return path


def _decode(uri: str, name: str) -> bytes:
    header = _DATA_URI.match(uri)
    if not header:
        raise RowError(f"{name} is a data URI without base64: {shown(uri, 40)}", "write it as data:image/png;base64,…")
    if header["type"] and not header["type"].lower().startswith("image/"):
        raise RowError(f"{name} is a data URI of {header['type']}", "give an image: data:image/png;base64,…")
    try:
        return base64.b64decode(uri[header.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise RowError(f"{name} is a data URI with broken base64 ({error})", "encode the image's bytes again") from None


def _not_empty(data: bytes, name: str) -> bytes:
    if not data:
        raise RowError(f"{name} holds no bytes", "embed the image again or remove the row")
    return data
