"""Addresses of remote storage in a spec: ``s3://BUCKET/KEY``, ``gs://BUCKET/KEY`` and ``https://HOST/PATH``.

Pure functions on text. ``model_garden.remote`` reads and writes what they name. An address holds no credentials: a
user, a password and a query, in which presigned URLs carry theirs, are refused.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

HUB_DATASET = "hf://datasets/"
SCHEMES = ("s3://", "gs://", "https://")
BUCKET = r"(s3|gs)://[A-Za-z0-9][A-Za-z0-9._-]+"
"""A bucket. Expressions here mean the same in Python and in the RE2 of CEL."""
SOURCE = rf"({BUCKET}/.*[^/].*|https://[A-Za-z0-9][A-Za-z0-9.:-]*/[^?#]*[^/?#][^?#]*)"
"""What can be read: a key or a path is part of it."""
TARGET = rf"{BUCKET}(/.*)?"
"""What can be written: a bucket, with or without a prefix."""

RULE = (
    "is not an address that can be read; write s3://BUCKET/KEY, gs://BUCKET/KEY or https://HOST/PATH, without user, "
    "password, query (?) and fragment (#); credentials belong into the Secret of storage.credentialsSecret"
)


def is_remote(path: str) -> bool:
    """Whether a path of the spec is an address of remote storage."""
    return path.startswith(SCHEMES)


def is_readable(address: str) -> bool:
    """Whether an address has the form of one that can be read."""
    return bool(re.fullmatch(SOURCE, address)) and not has_dots(address)


def has_dots(address: str) -> bool:
    """Whether a part of an address is ``.`` or ``..``."""
    return any(part in (".", "..") for part in address.split("/"))


def folder_of(address: str) -> str:
    """The address of the folder of an object, with a slash at its end."""
    return address.rstrip("/").rsplit("/", 1)[0] + "/"


def join(folder: str, relative: str) -> str:
    """The address of the object at a relative path below a folder. A path of https is percent-encoded."""
    return folder + (quote(relative) if folder.startswith("https://") else relative)


def relative_to(address: str, folder: str) -> str | None:
    """The path of an object below a folder; None for an address elsewhere, or one that does not name an object."""
    if not address.startswith(folder):
        return None
    path = address[len(folder) :]
    if folder.startswith("https://"):
        if re.search(r"[?#]", path):
            return None
        path = unquote(path)
    return None if not path or "\0" in path or has_dots(path) or "//" in path or path.startswith("/") else path


def bucket_and_key(address: str) -> tuple[str, str]:
    """``("bucket", "a/b.jsonl")`` of ``s3://bucket/a/b.jsonl``."""
    bucket, _, key = address.split("://", 1)[1].partition("/")
    return bucket, key
