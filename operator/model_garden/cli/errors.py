"""Exceptions as ``CommandError``: the lines to print and the exit code."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

from model_garden.cli.output import BAD_USAGE, FAILED, CommandError


def command_error(failed: Exception) -> CommandError | None:
    """The CommandError for an exception of a service or the cluster; None for an unexpected exception."""
    from model_garden.services.errors import ServiceError, cluster_problems

    if isinstance(failed, CommandError):
        return failed
    if isinstance(failed, ServiceError):
        return CommandError(failed.problems, FAILED)
    from model_garden.cluster import ClusterError
    from model_garden.cluster.errors import NOT_CONFIGURED

    if isinstance(failed, ClusterError):
        usage = failed.reason in (NOT_CONFIGURED, "Invalid", "BadRequest")
        return CommandError(cluster_problems(failed), BAD_USAGE if usage else FAILED)
    from model_garden.contract.resource import InvalidResource

    return CommandError(failed.problems) if isinstance(failed, InvalidResource) else None


def unexpected(failed: Exception) -> CommandError:
    """Write the traceback of an unexpected exception to a file, and return the CommandError that names the file."""
    folder = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "model-garden"
    what = f"unexpected {type(failed).__name__}: {failed}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "error.log"
        file.write_text("".join(traceback.format_exception(failed)), encoding="utf-8")
    except OSError as unwritable:
        return CommandError(f"{what} (its traceback could not be written: {unwritable}); please report it", FAILED)
    return CommandError(f"{what}; this is a bug: please report it with {file}", FAILED)
