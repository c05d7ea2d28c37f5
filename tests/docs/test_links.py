"""Every link of the documentation leads to a file, and to a heading, that exists."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, anchors, links

LINKED = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("charts/*/README.md")])


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = [link for link in links(page) if not link.startswith(("http://", "https://", "mailto:"))]
    assert [link for link in broken if not leads(page, link)] == []


def leads(page: Path, link: str) -> bool:
    """Whether a relative link leads to a file or folder of the repository, and its anchor to a heading."""
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    return target.exists() and (not anchor or target.suffix != ".md" or anchor in anchors(target))


def test_the_index_names_every_page() -> None:
    index = ROOT / "docs" / "README.md"
    named = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    pages = {page for page in ROOT.glob("docs/**/*.md") if page.parent.name != "adr"} - {index}
    assert pages - named == set()
