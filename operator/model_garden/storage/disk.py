"""Calls to the file system: its errors in words, and the swap of two folders."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from model_garden.storage.interface import StorageFailed

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
"""Of ``renameat2(2)``, https://man7.org/linux/man-pages/man2/rename.2.html."""


@contextlib.contextmanager
def storage_errors(spell: Callable[[str], str]) -> Iterator[None]:
    """Turn an error of the file system into ``StorageFailed``, which names the file as ``spell`` writes it."""
    try:
        yield
    except OSError as failed:
        where = f"{spell(str(failed.filename))}: " if failed.filename else ""
        raise StorageFailed(f"{where}{failed.strerror or failed}") from failed


def swap(one: Path, other: Path) -> None:
    """Each gets the other's name: at once where the kernel can, else ``other`` has no name for a moment.

    Raises:
        OSError: they cannot be renamed.
    """
    if _exchange(one, other):
        return
    aside = one.with_name(f".replaced{one.name}")  # a name that nothing deletes, should this process end here
    other.rename(aside)
    try:
        one.rename(other)
    except OSError:
        aside.rename(other)
        raise
    aside.rename(one)


def _exchange(one: Path, other: Path) -> bool:
    """Whether the kernel and the file system exchanged the names; network file systems do not."""
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "renameat2"):
        return False
    done = library.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    if done == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number), str(one), None, str(other))
