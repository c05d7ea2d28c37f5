"""The one exception of requests to a cluster, with the API server's message, field by field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

UNREACHABLE = "Unreachable"
NOT_CONFIGURED = "NotConfigured"


@dataclass(frozen=True)
class Cause:
    """A ``StatusCause``: one field that is wrong, and how."""

    field: str
    reason: str
    message: str


class ClusterError(Exception):
    """A request the cluster refused, or one that never reached it.

    Attributes:
        status: the HTTP status; 0 when there was no answer.
        reason: Kubernetes' word for it (``NotFound``, ``AlreadyExists``, ``Invalid``, …), ``Unreachable`` or
            ``NotConfigured``.
        message: the API server's sentence.
        causes: the fields that are wrong, or the rule of a policy, which names no field; empty for most refusals.
        retry_after: seconds the server asked to wait, None if it did not.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        causes: tuple[Cause, ...] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.causes = causes
        self.retry_after = retry_after

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later: no answer, too many requests, or an error of the server."""
        return self.status in (0, 408, 429) or self.status >= 500

    def problems(self) -> list[str]:
        """One line for each wrong field, or the whole message where the server names none."""
        return [f"{c.field}: {c.message}" if c.field else c.message for c in self.causes] or [self.message]


def from_status(code: int, status: Mapping[str, Any], retry_after: str | None = None) -> ClusterError:
    """The error for a ``metav1.Status`` (of an answer, or of a watch's ERROR event)."""
    details = status.get("details") or {}
    causes = tuple(
        Cause(cause.get("field", ""), cause.get("reason", ""), cause.get("message", ""))
        for cause in details.get("causes") or ()
    )
    seconds = retry_after or details.get("retryAfterSeconds")
    return ClusterError(
        code,
        status.get("reason") or f"HTTP{code}",
        status.get("message") or f"the API server answered {code}",
        causes,
        float(seconds) if seconds and str(seconds).isdigit() else None,
    )


def from_body(code: int, body: bytes, retry_after: str | None = None) -> ClusterError:
    """The error for an answer's body, which proxies and a starting server may send as plain text."""
    try:
        status = json.loads(body)
    except ValueError:
        status = None
    if not isinstance(status, dict):
        text = body.decode(errors="replace").strip()[:500]
        status = {"message": f"the API server answered {code}: {text}" if text else None}
    return from_status(code, status, retry_after)
