"""Log lines, which also hold what authors of jobs and trainers wrote."""

import logging
import sys

import pytest

from model_garden.controller.log import JsonFormatter, TextFormatter


def test_no_text_of_a_job_looks_like_a_line_of_the_operator() -> None:
    forged = "2026-11-27T10:00:00.000Z INFO    kube-system/victim Running -> Succeeded"
    record = logging.LogRecord("x", logging.INFO, "x", 1, "%s", (f"rows.jsonl row 3\n{forged}\r{forged}",), None)
    first, *others = TextFormatter().format(record).splitlines()
    assert first.endswith("rows.jsonl row 3")
    assert others == [f"  {forged}"] * 2


def test_no_text_of_an_error_looks_like_a_line_of_the_operator() -> None:
    record = failed_with("row 3\n2026-11-27T10:00:00.000Z INFO    kube-system/victim Running -> Succeeded")
    _, *others = TextFormatter().format(record).splitlines()
    assert all(line.startswith("  ") for line in others)
    assert "  2026-11-27T10:00:00.000Z INFO    kube-system/victim Running -> Succeeded" in others


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_no_text_commands_the_terminal_that_shows_the_log(formatter: logging.Formatter) -> None:
    """Escape, CSI as one character, an order to write from right to left, and half a character, which is no UTF-8."""
    shown = formatter.format(failed_with("\x1b[2J \x9b2J \u202e \ud800 größer"))
    assert all(line.isprintable() for line in shown.split("\n"))
    assert "\\u202e" in shown


def failed_with(text: str) -> logging.LogRecord:
    try:
        raise ValueError(text)
    except ValueError:
        return logging.LogRecord("x", logging.ERROR, "x", 1, text, (), sys.exc_info())
