"""Free space on disk."""

from __future__ import annotations

import shutil
from pathlib import Path


def free_at(folder: Path) -> int | None:
    """Free bytes of the file system of ``folder``, which may not exist yet; None where the file system gives none.

    Some file systems in user space (FUSE) report a size of 0.
    """
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    usage = shutil.disk_usage(existing)
    return usage.free if usage.total else None
