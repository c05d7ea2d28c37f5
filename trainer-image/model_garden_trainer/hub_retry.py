"""A Hub that does not answer is retried here and then by the Job; a Hub that refuses is not."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from model_garden_trainer.errors import TrainingError

T = TypeVar("T")
WAITS = (2.0, 5.0, 10.0, 20.0, 30.0)
"""Seconds between two tries: a name server that is restarted, or a Hub that is deployed anew, is back by then."""


def patiently(request: Callable[[], T], field: str, warn: Callable[[str], None]) -> T:
    """What ``request`` returns, tried again while the Hub does not answer.

    Args:
        request: asks the Hub; any answer of its, a refusal included, ends the waiting.
        field: the field of the spec that names the repository.
        warn: called with a warning each time that the Hub did not answer.

    Raises:
        TrainingError: HubUnreachable, once it has not answered for all of ``WAITS``.
    """
    for wait in (*WAITS, None):
        try:
            return request()
        except Exception as error:
            if not unreachable(error):
                raise
            why = str(error).strip().partition("\n")[0] or type(error).__name__
            if wait is None:
                raise TrainingError(
                    "HubUnreachable",
                    f"{field}: the Hub did not answer for {sum(WAITS):.0f} s: {why}; check the network, or give a "
                    "folder of the workspace",
                ) from error
            warn(f"the Hub does not answer ({why}); trying again in {wait:g} s")
            time.sleep(wait)
    raise AssertionError("unreachable")


def unreachable(error: BaseException | None) -> bool:
    """Whether an exception, or its cause, means that no server answered or that the server failed."""
    import httpx
    from huggingface_hub import constants, errors

    if constants.HF_HUB_OFFLINE:
        return False
    while error is not None:
        if isinstance(error, errors.HfHubHTTPError):
            status = getattr(error.response, "status_code", 0)
            return status == 429 or status >= 500
        if isinstance(error, (httpx.TransportError, ConnectionError, TimeoutError)):
            return True
        error = error.__cause__ or error.__context__
    return False
