"""Every block of bash and of YAML in the documentation works.

Bash runs the blocks of a page, one after the other; ``programs.py`` says what each program does. The API server, or the
chart, accepts each YAML block; ``objects.py`` says what a block stands for.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cluster import TestCluster
from tests.docs.blocks import PAGES, Block, blocks
from tests.docs.conftest import World
from tests.docs.objects import JOBS, objects

pytestmark = pytest.mark.cluster

PLACEHOLDERS = {"NAME": "finished", "NAMESPACE": JOBS, "WORKLOAD": "deactivated", "NODE": "localhost"}
WITH_COMMANDS = [page for page in PAGES if any(block.language == "bash" for block in blocks(page))]


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.stem)
def test_the_commands_of_a_page_work(world: World, page: Path) -> None:
    parts = []
    for block in blocks(page):
        if block.language == "bash" and not block.not_run:
            text = re.sub(r"\b[A-Z]+\b", lambda found: PLACEHOLDERS.get(found[0], found[0]), block.text)
            parts.append(f"trap 'echo {block} failed >&2' ERR\ncd {world.folder}\n{text}")
    world.prepare()
    done = world.bash("\n".join(parts))
    print(world.log())
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_yaml_of_a_page_is_accepted(served: TestCluster, page: Path) -> None:
    for block in blocks(page):
        if block.language == "yaml" and not block.not_run:
            accept(served, block)


def accept(cluster: TestCluster, block: Block) -> None:
    """Fails the test unless every document of the block is accepted. An unknown field is an error."""
    if items := objects(block):
        content = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        place = ("--namespace", JOBS) if all("namespace" not in one["metadata"] for one in items) else ()
        words = ("apply", "--server-side", "--dry-run=server", "--force-conflicts", *place, "-f", "-")
        done = cluster.try_kubectl(*words, content=content)
        assert done.returncode == 0, f"{block}: {done.stderr}"


def test_what_is_not_run_is_marked_with_a_reason() -> None:
    """Prints the list, and the tests above what was run and what was checked: ``pytest -rP``."""
    marked = [block for page in PAGES for block in blocks(page) if block.not_run]
    for block in marked:
        print(f"{block} is not run: {block.not_run}")
    assert len(marked) <= 6, "run what can be run"
