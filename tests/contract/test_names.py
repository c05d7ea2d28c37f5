"""Derived names fit Kubernetes' limits and do not collide."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from model_garden.contract.names import job_name, label_value

DNS = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,250}[a-z0-9])?", fullmatch=True)


@given(name=DNS)
def test_a_jobs_pods_have_names_that_are_valid_labels(name: str) -> None:
    job = job_name(name)
    assert len(f"{job}-abcde") <= 63
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", job)
    assert len(label_value(name)) <= 63


def test_long_names_that_differ_at_the_end_stay_apart() -> None:
    assert job_name("a" * 200 + "1") != job_name("a" * 200 + "2")
    assert job_name("receipts") == "receipts-train"
    assert job_name("receipts", "preflight") == "receipts-preflight"
