"""docs/reference/known-faults.md: known ways to train a wrong model without an error, and the test of each.

The rows are the marks ``known_fault(report, fault)`` of the tests. They are read, not run: the page needs no PyTorch.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tools.reference.markdown import page, table

ROOT = Path(__file__).parents[2]
MARK = "known_fault"
INTRODUCTION = """
Users of trainers have reported models that were trained wrongly without an error. Each row is such a fault, a report of
it, and a test that shows that Model Garden does the right thing: the name of the test says what.
`pytest -m known_fault` runs them. The linked reports are about other programs; many have been fixed there.
"""


def known_faults_reference() -> str:
    """The page as Markdown."""
    reports: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for report, fault, test, file in sorted(_marks(), key=lambda mark: (mark[3], mark[1])):
        reports[fault, test, file].append(report)
    rows = [
        (fault, ", ".join(map(_link, found)), f"[{_sentence(test)}](../../{file})")
        for (fault, test, file), found in reports.items()
    ]
    return page("Known faults", "the tests", INTRODUCTION, table(["fault", "reports", "test"], rows))


def _marks() -> Iterator[tuple[str, str, str, str]]:
    """Report, fault, name of the test and its file, of each mark."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if MARK not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                for mark in node.decorator_list:
                    if isinstance(mark, ast.Call) and ast.unparse(mark.func) in ("fault", f"pytest.mark.{MARK}"):
                        report, fault = map(ast.literal_eval, mark.args)
                        yield report, fault, node.name, str(path.relative_to(ROOT))


def _link(report: str) -> str:
    repository, _, number = report.partition("#")
    return f"[{report}](https://github.com/{repository}/issues/{number})"


def _sentence(test: str) -> str:
    return test.removeprefix("test_").replace("_", " ").capitalize()
