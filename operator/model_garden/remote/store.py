"""Objects behind an address: found, listed, and read from any byte on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Found:
    """An object in remote storage.

    Args:
        address: its address.
        size: bytes.
        version: what changes with its content: the entity tag, else the time of its last change.
    """

    address: str
    size: int
    version: str


class Store(Protocol):
    """What one bucket or one web server can do. Every method raises RemoteError."""

    def find(self, address: str) -> Found:
        """The object at an address."""

    def list(self, folder: str, *, deep: bool) -> list[Found]:
        """The objects below a folder, or with ``deep=False`` those directly in it. A web server lists nothing."""
        ...

    def read(self, found: Found, start: int) -> Iterator[bytes]:
        """The bytes of this version of an object from ``start`` on."""
        ...

    def may_have_md5(self, found: Found, md5: str) -> bool:
        """Whether an object can have an MD5 (hexadecimal); False only if the server says that it has another one."""
        ...

    def for_rows(self) -> Store:
        """The same store for images that rows name: it follows no redirect to another server."""
        ...
