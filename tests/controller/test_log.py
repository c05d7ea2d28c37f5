"""Log lines, which also hold what authors of jobs and trainers wrote."""

import logging

from model_garden.controller.log import TextFormatter


def test_no_text_of_a_job_looks_like_a_line_of_the_operator() -> None:
    forged = "2026-11-27T10:00:00.000Z INFO    kube-system/victim Running -> Succeeded"
    record = logging.LogRecord("x", logging.INFO, "x", 1, "%s", (f"rows.jsonl row 3\n{forged}\r{forged}",), None)
    first, *others = TextFormatter().format(record).splitlines()
    assert first.endswith("rows.jsonl row 3")
    assert others == [f"  {forged}"] * 2
