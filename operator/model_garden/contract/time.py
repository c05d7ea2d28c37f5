"""Times as Kubernetes writes them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator


def timestamp(moment: datetime | None = None) -> str:
    """``moment``, by default now, as ``metav1.Time``: RFC 3339 in UTC, in whole seconds.

    >>> timestamp(datetime(2026, 11, 27, 12, 0, 0, 999999, UTC))
    '2026-11-27T12:00:00Z'

    Source: https://github.com/kubernetes/apimachinery/blob/master/pkg/apis/meta/v1/time.go
    """
    return (moment or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _check(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("a time needs a zone, such as Z")
    return text


Time = Annotated[str, AfterValidator(_check)]
"""A time that another part has written, as ISO 8601 with its zone."""
