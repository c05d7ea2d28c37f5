"""Which worker of ``make test`` runs what: a file's tests stay together, and so do the files that share the demo."""

import pytest
from xdist.remote import Producer
from xdist.scheduler.loadfile import LoadFileScheduling

DEMO = "tests/e2e"
WITHOUT_DEMO = "tests/e2e/test_kubelet.py"
LONGEST = (
    DEMO,
    WITHOUT_DEMO,
    "tests/trainer/test_distributed.py",
    "tests/trainer/test_family_matrix.py",
    "tests/trainer/test_unsloth.py",
    "tests/cli/test_local.py",
    "tests/controller/test_faults.py",
    "tests/trainer/test_every_option.py",
)
"""They start first: one that started last would run alone at the end."""


def unit_of(nodeid: str) -> str:
    """What a test stays together with: its file, or all tests that go on in the demo's cluster."""
    file = nodeid.split("::", 1)[0]
    return DEMO if file.startswith(DEMO) and file != WITHOUT_DEMO else file


def rank(nodeid: str) -> int:
    """The place of a test's unit in the order; the units that are not listed keep theirs, after the others."""
    unit = unit_of(nodeid)
    return LONGEST.index(unit) if unit in LONGEST else len(LONGEST)


class Scheduling(LoadFileScheduling):
    """As ``--dist loadfile``; one worker runs the demo, and the longest tests come first."""

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # by the number of tests, which says nothing of their time

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)
