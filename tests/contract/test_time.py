"""Times as Kubernetes writes them."""

from datetime import UTC, datetime, timedelta, timezone

from model_garden.contract.time import timestamp


def test_a_time_is_in_utc_and_whole_seconds() -> None:
    there = timezone(timedelta(hours=2))
    assert timestamp(datetime(2026, 11, 27, 14, 30, 5, 900_000, there)) == "2026-11-27T12:30:05Z"


def test_the_time_is_now_unless_one_is_given() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    assert before <= datetime.fromisoformat(timestamp()) <= datetime.now(UTC)
