"""The operator's process: kopf runs the operator until SIGTERM."""

from __future__ import annotations

import logging
import sys

import kopf
from kopf._core.engines.peering import Identity

from model_garden.builders.settings import from_environment
from model_garden.controller import handlers, log  # noqa: F401 - kopf finds the handlers when they are imported
from model_garden.controller.leader import LostLease
from model_garden.controller.operator import Operator


def run() -> None:
    """Run the operator; exit code 1 and one sentence on stderr when it cannot start or continue."""
    try:
        settings = from_environment()
        log.set_up(settings)
        operator = Operator(settings)
    except ValueError as error:
        sys.exit(f"error: {error}")
    try:
        kopf.run(
            memo=kopf.Memo(operator=operator),
            standalone=True,
            # Without peers it is used for nothing. kopf would else look up the user's name, which an image may lack.
            identity=Identity("model-garden-operator"),
            clusterwide=not settings.namespaces,
            namespaces=settings.namespaces,
            liveness_endpoint=settings.liveness_endpoint(),
            stop_flag=operator.ended,
        )
        operator.raise_if_failed()
    except Exception as error:
        reason = error if isinstance(error, OSError) else error.__cause__ or error  # kopf wraps a handler's error
        if isinstance(reason, OSError | LostLease | kopf.PermanentError):
            sys.exit(f"error: {reason}")
        logging.getLogger(__name__).exception("the operator stopped on an unexpected error")
        sys.exit(f"error: unexpected {type(reason).__name__}: {reason}; the log has its traceback")
