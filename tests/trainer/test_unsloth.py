"""The unsloth backend: its real classes on a machine without a GPU, as far as they run there."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch

from model_garden.contract.defaults import effective_spec
from model_garden.contract.spec import EffectiveSpec, TrainingJobSpec
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.models import backends
from tests.trainer.workspace import QUICK, TEXT, VISION, Workspace, config

UNSLOTH_PYTHON = Path(__file__).parents[2] / ".venv-unsloth" / "bin" / "python"
SHORT = {
    "hyperparameters": {
        "maxSteps": 4,
        "maxSeqLength": 500,  # from 512 on its checkpointing asks for CUDA
        "autoBatchSize": True,
    }
}
ANSWERING = {
    "hyperparameters": {"maxSteps": 2, "maxSeqLength": 500, "evalSteps": 1},
    "loraConfig": {"loraDropout": 0.1},
    "validationFraction": 0.1,
    "evaluation": {"metrics": ["similarity"], "maxRows": 1, "maxNewTokens": 2, "everyEvaluations": 1},
}


@pytest.mark.train
@pytest.mark.skipif(not UNSLOTH_PYTHON.exists(), reason="needs the environment that `make test` makes for it")
def test_unsloth_trains_resumes_merges_and_agrees_with_the_other_backend(workspace: Workspace) -> None:
    jobs = [
        config("whole", VISION, QUICK, SHORT, {"saveMethod": "merged_16bit"}),
        config("broken", VISION, QUICK, SHORT),
        config("text", TEXT, QUICK, SHORT),
        config("answering", TEXT, QUICK, ANSWERING),
    ]
    paths = []
    for job in jobs:
        paths.append(workspace.folder / f"{job.name}.json")
        paths[-1].write_text(job.model_dump_json(by_alias=True, exclude_none=True))
    done = subprocess.run(
        [str(UNSLOTH_PYTHON), "-m", "tests.trainer.unsloth_on_cpu", *map(str, paths)],
        cwd=workspace.folder,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])

    assert found["broken"]["stopped"] == 3 and found["resumed"]["result"] == "Succeeded"
    assert {**found["broken"]["losses"], **found["resumed"]["losses"]} == found["whole"]["losses"]
    whole, resumed = workspace.adapter("whole"), workspace.adapter("broken")
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert found["text"]["result"] == found["whole"]["result"] == "Succeeded"

    for name, job in (("plain", jobs[0]), ("plain-text", jobs[2])):
        _, told = workspace.train(job.model_copy(update={"name": name, "spec": _elsewhere(job.spec, name)}))
        theirs = found["whole" if name == "plain" else "text"]["losses"]
        first = "1"  # before the first update both start from the same weights
        assert told.losses[1] == pytest.approx(theirs[first], abs=1e-4)
    assert whole.keys() == workspace.adapter("plain").keys()

    assert found["modules left out"] == [], "after rows were answered, all layers train"
    assert found["tower"] == {"forward": 1, "backward": 0}
    assert found["collators"] == {"unsloth": True, "different": [], "processed": [4]}


def _elsewhere(spec: EffectiveSpec, name: str) -> EffectiveSpec:
    return spec.model_copy(update={"output_dir": f"./models/{name}"})


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"backend": "unsloth"}, "spec.backend: unsloth needs a GPU, .* use backend: transformers"),
        (
            {"backend": "transformers", "quantization": "8bit"},
            "spec.quantization: 8bit needs a GPU, .* use quantization: none",
        ),
        (
            {"backend": "transformers", "quantization": "none", "hyperparameters": {"optim": "adamw_8bit"}},
            "optim: adamw_8bit needs a GPU, .* use adamw_torch",
        ),
    ],
)
def test_what_needs_a_gpu_says_so_before_anything_is_loaded(part: dict[str, object], words: str) -> None:
    spec = TrainingJobSpec.model_validate({"baseModel": "./m", "datasetPath": "./d.jsonl", **part})
    with pytest.raises(TrainingError, match=words) as raised:
        backends.choose(effective_spec(spec, "x"), gpu=False)
    assert raised.value.exit_code == 2


def test_the_backend_is_told_with_a_reason_that_is_true() -> None:
    def chosen(gpus: int, gpu: bool, **part: object) -> tuple[str, str]:
        asked = {"resources": {"limits": {"nvidia.com/gpu": gpus}}}
        spec = TrainingJobSpec.model_validate({"baseModel": "./m", "datasetPath": "./d", **asked, **part})
        return backends.choose(effective_spec(spec, "x"), gpu=gpu)

    assert chosen(1, True) == ("unsloth", "default with a GPU")
    assert chosen(1, True, backend="transformers") == ("transformers", "spec.backend")
    assert chosen(0, False) == ("transformers", "default without a GPU")
