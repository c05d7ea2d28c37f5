"""Files that are generated from others."""

from tools.generate import stale


def test_generated_files_are_current() -> None:
    assert stale() == [], "run: make generate"
