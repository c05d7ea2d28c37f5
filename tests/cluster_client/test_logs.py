"""Following a log: where to resume after a break, line by line."""

from hypothesis import given
from hypothesis import strategies as st

from model_garden.cluster.logs import _Place

Line = tuple[str, str]

logs = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.sampled_from(["a", "b"])), max_size=30).map(
    lambda found: [(f"2026-11-24T12:00:0{second}.{nano}Z", text) for second, nano, text in sorted(found)]
)


def answer(log: list[Line], place: _Place) -> list[Line]:
    """What the API server sends: all lines from the whole second on."""
    since = place.query().get("sinceTime", "")
    return [line for line in log if line[0][:19] + "Z" >= since]


@given(logs, st.lists(st.integers(0, 30), max_size=4))
def test_a_log_that_breaks_anywhere_is_read_once_each_line(log: list[Line], breaks: list[int]) -> None:
    place, read = _Place(), []
    for end in [*breaks, len(log)]:
        skip = place.resume()
        for stamp, text in answer(log, place)[: end if end != len(log) else None]:
            if place.take(stamp, text, skip):
                read.append((stamp, text))
    assert read == log
