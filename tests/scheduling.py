"""Which worker of ``make test`` runs what: a file's tests stay together, and so do the files that share the demo."""

import pytest
from xdist.remote import Producer
from xdist.scheduler.loadfile import LoadFileScheduling
from xdist.workermanage import WorkerController

DEMO = "tests/e2e"
WITHOUT_DEMO = "tests/e2e/test_kubelet.py"
CLUSTERS = (
    WITHOUT_DEMO,
    "tests/controller",
    "tests/gitops",
    "tests/docs",
    "tests/devcluster",
    "tests/cli/test_cluster.py",
    "tests/cli/test_transfer.py",
    "tests/api",
    "tests/chart",
    "tests/web",
)
"""They wait for clusters and browsers more than they compute."""
TRAININGS = (
    DEMO,
    "tests/trainer/test_distributed.py",
    "tests/trainer/test_unsloth.py",
    "tests/cli/test_local.py",
    "tests/estimate/test_memory_replay.py",
    "tests/trainer/test_family_matrix.py",
    "tests/trainer/test_every_option.py",
    "tests/trainer",
)
"""They compute all the time. The longest first."""


def unit_of(nodeid: str) -> str:
    """What a test stays together with: its file, or all tests that go on in the demo's cluster."""
    file = nodeid.split("::", 1)[0]
    return DEMO if file.startswith(DEMO) and file != WITHOUT_DEMO else file


def rank(nodeid: str) -> int:
    """The place of a unit in the order: clusters, then what is listed nowhere, then trainings, the longest last."""
    unit = unit_of(nodeid)
    for place, start in enumerate(CLUSTERS):
        if unit.startswith(start):
            return place - len(CLUSTERS)
    for place, start in enumerate(TRAININGS):
        if unit.startswith(start):
            return len(TRAININGS) - place
    return 0


class Scheduling(LoadFileScheduling):
    """As ``--dist loadfile``; one worker takes from the front, the other from the end.

    So one waits for a cluster while the other computes, and they meet among the short files, so that none works alone
    at the end.
    """

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # by the number of tests, which says nothing of their time

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)

    def _assign_work_unit(self, node: WorkerController) -> None:
        if self.nodes.index(node) % 2:
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)
