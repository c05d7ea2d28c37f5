"""PURE: the fenced blocks and the links of a Markdown page."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
"""The pages for people: not those of docs/reference, which are generated and have tests of their own."""

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
_MARKER = re.compile(r"<!-- not run: (?P<why>(?:(?!-->).)+?) -->\s*\Z", re.DOTALL)
_HEADING = re.compile(r"^#+ (?P<title>.+)$", re.MULTILINE)
_LINK = re.compile(r"\]\((?P<to>[^)\s]+)\)|(?:src|srcset|href)=\"(?P<html>[^\"]+)\"")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and why it is not run, where a comment before it says so."""

    page: str
    line: int
    language: str
    text: str
    not_run: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """Every fenced block of a page, from top to bottom."""
    text = page.read_text()
    for found in _FENCE.finditer(text):
        marker = _MARKER.search(text, max(0, found.start() - 400), found.start())
        yield Block(
            page=str(page.relative_to(ROOT)),
            line=text.count("\n", 0, found.start()) + 1,
            language=found["language"],
            text=textwrap.dedent(found["text"]),
            not_run=marker["why"] if marker else None,
        )


def links(page: Path) -> Iterator[str]:
    """Every link of a page, outside its code."""
    prose = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", page.read_text()))
    for found in _LINK.finditer(prose):
        yield found["to"] or found["html"]


def anchors(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them of its headings."""
    titles = [found["title"] for found in _HEADING.finditer(_FENCE.sub("", page.read_text()))]
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower() for title in titles]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in plain}
