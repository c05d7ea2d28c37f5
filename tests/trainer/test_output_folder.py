"""The reference page of the output folder has each file of a real run."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest

from tests.trainer.workspace import QUICK, VISION, Workspace, config
from tools.reference.output_folder import FILES

pytestmark = pytest.mark.train
SCORED = {"validationFraction": 0.2, "evaluation": {"metrics": ["similarity"], "maxRows": 1, "maxNewTokens": 2}}
ONE_CHECKPOINT = {"hyperparameters": {"maxSteps": 2, "saveSteps": 1, "saveTotalLimit": 1}}


def test_each_file_of_a_run_is_in_the_reference_and_each_row_of_it_is_written(workspace: Workspace) -> None:
    merged = {"saveMethod": "merged_16bit", "outputDir": "./models/out"}
    trackers = {"reportTo": ["wandb", "tensorboard", "trackio"]}
    workspace.train(config("out", VISION, QUICK, ONE_CHECKPOINT, merged, trackers, SCORED))

    output = workspace.folder / "models" / "out"
    written = {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}
    others = ("gguf", "harness")  # which need llama.cpp, and the package of text models' tasks
    expected = [pattern for pattern, (when, _) in FILES.items() if not any(other in when for other in others)]

    assert [path for path in written if not any(fnmatchcase(path, pattern) for pattern in expected)] == []
    assert [pattern for pattern in expected if not any(fnmatchcase(path, pattern) for path in written)] == []
