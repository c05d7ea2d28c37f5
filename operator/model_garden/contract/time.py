"""Times as Kubernetes writes them."""

from __future__ import annotations

from datetime import UTC, datetime


def timestamp(moment: datetime | None = None) -> str:
    """``moment``, by default now, as ``metav1.Time``: RFC 3339 in UTC, in whole seconds.

    >>> timestamp(datetime(2026, 11, 27, 12, 0, 0, 999999, UTC))
    '2026-11-27T12:00:00Z'

    Source: https://github.com/kubernetes/apimachinery/blob/master/pkg/apis/meta/v1/time.go
    """
    return (moment or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
