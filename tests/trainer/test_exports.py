"""What a run makes of its adapter: each export verified or told, the adapter kept whatever happens.

llama.cpp's programs are stand-ins here, which note how they are called and write a header: their command lines and
failures are tested, not what llama.cpp makes of a model.
"""

from __future__ import annotations

import importlib.util
import json
import re
import resource
import shutil
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from model_garden.contract.progress import StageEvent, parse_outcome
from model_garden.contract.status import OutputStatus
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.exports import gguf, merged
from tests.trainer.workspace import QUICK, TEXT, VISION, Told, Workspace, config

pytestmark = pytest.mark.train
SHORT = {"hyperparameters": {"maxSteps": 2}, "outputDir": "./models/out"}

STAND_IN = """#!{python}
import json, os, struct, sys
from pathlib import Path
name, here = Path(sys.argv[0]).name, Path(__file__).parent
with (here / "calls").open("a") as calls:
    calls.write(json.dumps([name, *sys.argv[1:]]) + "\\n")
if "HF_TOKEN" in os.environ:
    sys.exit("a token came along")
if (here / f"{{name}}-fails").exists() and (here / f"{{name}}-fails").read_text() in sys.argv:
    sys.exit("no space left on device")
if name == "llama-completion":
    print(" Paris")
else:
    made = sys.argv[2] if name == "llama-quantize" else sys.argv[sys.argv.index("--outfile") + 1]
    Path(made).write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 27, 20))
"""


def test_an_adapter_loads_by_auto_processor_where_only_the_base_models_config_names_its_processor(
    workspace: Workspace,
) -> None:
    """As some models of the Hub do: no file but config.json says which class the processor is."""
    base = workspace.folder / "models/named-by-config"
    shutil.copytree(workspace.folder / "models/qwen2_5_vl", base)
    for name in ("processor_config.json", "tokenizer_config.json"):
        content = json.loads((base / name).read_text())
        del content["processor_class"]
        (base / name).write_text(json.dumps(content))
    content = json.loads((base / "processor_config.json").read_text())
    (base / "preprocessor_config.json").write_text(json.dumps(content["image_processor"]))
    (base / "video_preprocessor_config.json").write_text(json.dumps(content["video_processor"]))
    (base / "processor_config.json").unlink()
    outcome, _ = workspace.train(config("job", VISION, {"baseModel": "./models/named-by-config"}, QUICK, SHORT))
    assert outcome.output is not None and outcome.output.verified
    from transformers import AutoProcessor

    made = AutoProcessor.from_pretrained(workspace.folder / "models/out")
    assert type(made).__name__ == "Qwen2_5_VLProcessor"


class LlamaCpp:
    """A folder of stand-ins."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name in (gguf.CONVERTER, gguf.QUANTIZE, "llama-completion"):
            path = folder / name
            path.write_text(STAND_IN.format(python=sys.executable))
            path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def calls(self) -> list[list[str]]:
        """The calls since the last look."""
        path = self.folder / "calls"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def fail(self, name: str, at: str) -> None:
        """Let a program fail when ``at`` is one of its arguments."""
        (self.folder / f"{name}-fails").write_text(at)


@pytest.fixture
def llama_cpp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LlamaCpp:
    monkeypatch.setenv(gguf.FOLDER_ENV, str(tmp_path / "llama.cpp"))
    monkeypatch.setenv("HF_TOKEN", "secret")
    return LlamaCpp(tmp_path / "llama.cpp")


def export(workspace: Workspace, name: str, **part: Any) -> tuple[OutputStatus, Told]:
    """The same job each time, but for what is made of its adapter."""
    outcome, told = workspace.train(config(name, TEXT, QUICK, SHORT, part))
    assert outcome.output is not None and outcome.output.verified
    return outcome.output, told


def test_a_finished_model_is_exported_again_without_training(workspace: Workspace, llama_cpp: LlamaCpp) -> None:
    first, told = export(workspace, "job")
    assert list(told.losses) == [1, 2] and first.merged_path is None
    adapter = (workspace.folder / "models/out/adapter_model.safetensors").read_bytes()

    output, told = export(workspace, "job", saveMethod="gguf")
    assert told.losses == {} and "exporting" in [e.stage for e in told.events if isinstance(e, StageEvent)]
    assert output.gguf_path == "./models/out/job-q4_k_m.gguf" and output.merged_path is None
    assert not (workspace.folder / "models/out/merged").exists()  # it was a step on the way
    rehearsed, converted, quantized, answered = llama_cpp.calls()
    assert rehearsed[1:3] == [str(workspace.folder.joinpath("models/qwen2").resolve()), "--outfile"]
    assert rehearsed[-1] == "--vocab-only"
    assert converted[-4:] == ["--model-name", "job", "--outtype", "bf16"]
    assert quantized[0] == "llama-quantize" and quantized[1] == converted[3]
    assert quantized[2:] == [str(workspace.folder / "models/out/job-q4_k_m.gguf"), "Q4_K_M"]
    assert answered[0] == "llama-completion" and "<|im_start|>assistant" in answered[4]
    assert workspace.record("out")["verification"]["ggufAnswer"] == "Paris"
    served = (workspace.folder / "models/out/Modelfile").read_text()
    assert served.startswith("FROM ./job-q4_k_m.gguf\nTEMPLATE ") and "<|im_start|>user" in served

    output, _ = export(workspace, "job", saveMethod="gguf", ggufQuantization="q8_0")
    assert output.gguf_path == "./models/out/job-q8_0.gguf"
    assert [call[0] for call in llama_cpp.calls()] == [gguf.CONVERTER, gguf.CONVERTER, "llama-completion"]

    for program, at, words in (
        (gguf.QUANTIZE, "Q6_K", "llama-quantize ended with 1 and the adapter is kept: no space left on device"),
        ("llama-completion", "-no-cnv", "llama-completion ended with 1 and the adapter is kept"),
    ):
        llama_cpp.fail(program, at)
        with pytest.raises(TrainingError, match=words) as raised:
            export(workspace, "job", saveMethod="gguf", ggufQuantization="q6_k")
        assert raised.value.exit_code == 7 and raised.value.output is not None
        assert raised.value.output.adapter_path == "./models/out" and not raised.value.output.verified
        llama_cpp.fail(gguf.QUANTIZE, "never")
    assert (workspace.folder / "models/out/adapter_model.safetensors").read_bytes() == adapter


def test_a_model_that_was_trained_whole_is_kept_beside_its_gguf_file(workspace: Workspace, llama_cpp: LlamaCpp) -> None:
    output, _ = export(workspace, "job", adapter="none", saveMethod="gguf", ggufQuantization="q8_0")
    folder = workspace.folder / "models/out"
    assert output.gguf_path == "./models/out/job-q8_0.gguf" and (folder / "job-q8_0.gguf").is_file()
    assert output.merged_path == output.path == "./models/out" and (folder / "model.safetensors").is_file()
    assert llama_cpp.calls()[1][1] == str(folder)
    assert (folder / "Modelfile").read_text().startswith("FROM ./job-q8_0.gguf\nTEMPLATE ")


def test_what_llama_cpp_cannot_do_is_said_before_training(
    workspace: Workspace, llama_cpp: LlamaCpp, monkeypatch: pytest.MonkeyPatch
) -> None:
    llama_cpp.fail(gguf.CONVERTER, "--vocab-only")
    refused(workspace, "cannot convert ./models/qwen2: no space left on device; install the packages", "gguf")
    shutil.rmtree(llama_cpp.folder)
    missing = (
        rf"needs convert_hf_to_gguf.py, llama-quantize, llama-completion .* below LLAMA_CPP_DIR \({llama_cpp.folder}"
    )
    refused(workspace, missing, "gguf")
    monkeypatch.delenv(gguf.FOLDER_ENV)
    monkeypatch.setenv("PATH", "/nowhere")
    refused(workspace, "of llama.cpp, not found on PATH; install llama.cpp", "gguf")
    refused(workspace, "merged_4bit needs a GPU, but torch finds none on this machine; use merged_16bit", "merged_4bit")


def refused(workspace: Workspace, words: str, method: str) -> None:
    with pytest.raises(TrainingError, match=words) as raised:
        workspace.train(config("job", TEXT, QUICK, SHORT, {"saveMethod": method}))
    assert raised.value.exit_code == 2 and not (workspace.folder / "models/out/checkpoints").exists()


def test_a_saved_model_without_its_processor_is_no_success(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check looks at what was saved alone, in a process that has nothing else."""
    from model_garden_trainer.exports import outputs

    job = config("out", VISION, QUICK, {"hyperparameters": {"maxSteps": 1}})
    workspace.train(job)
    base, out = workspace.folder / "models/qwen2_5_vl", workspace.folder / "models/out"
    (out / "processor_config.json").unlink()
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")  # writes to stderr, as libraries that warn do
    with pytest.raises(TrainingError, match="did not pass its check and the adapter is kept") as raised:
        outputs.verify(job, base, out, outputs.Exports(), lambda _: None)
    assert raised.value.exit_code == 7
    message = str(raised.value)
    assert re.search(r"the adapter is kept: \w+Error: [^\n]+ \(traceback: models/out-traceback.log\)$", message)
    assert "import time" not in message
    assert "Traceback" in (workspace.folder / "models/out-traceback.log").read_text()


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs the trainer-gpu extra")
def test_a_merged_model_in_4_bit_and_one_of_a_base_that_comes_so(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU, which bitsandbytes can quantize on too; what a GPU does of it is not covered."""
    from model_garden_trainer.exports.outputs import Exports, tensor_dtypes
    from model_garden_trainer.verify import verify

    monkeypatch.setattr(merged, "check_4bit", lambda **_: None)
    outcome, _ = workspace.train(config("job", VISION, QUICK, SHORT, {"saveMethod": "merged_4bit"}))
    assert outcome.output is not None and outcome.output.verified
    assert outcome.output.merged_path == "./models/out/merged"
    whole = {"adapter": "none", "saveMethod": "merged_4bit", "outputDir": "./models/whole"}
    outcome, _ = workspace.train(config("whole", VISION, QUICK, SHORT, whole))
    assert outcome.output is not None and outcome.output.verified
    assert "U8" in tensor_dtypes(workspace.folder / "models/whole/merged")
    assert tensor_dtypes(workspace.folder / "models/whole") == {"BF16"}
    base, out = workspace.folder / "models/out/merged", workspace.folder / "models/out"
    assert "U8" in tensor_dtypes(base) and json.loads((base / "config.json").read_text())["quantization_config"]

    job = config("job", VISION, {"saveMethod": "merged_16bit"})
    merged.save_16bit(job, base, out, workspace.folder / "sixteen")
    assert tensor_dtypes(workspace.folder / "sixteen") == {"BF16"}
    assert "quantization_config" not in (workspace.folder / "sixteen/config.json").read_text()
    assert verify(job, base, out, Exports(merged=workspace.folder / "sixteen"))["difference"] < 0.05


def test_a_full_disk_costs_the_export_and_not_the_adapter(workspace: Workspace) -> None:
    small = {"hyperparameters": {"maxSteps": 2}, "loraConfig": {"r": 2}}
    job = config("full", TEXT, QUICK, small, {"saveMethod": "merged_16bit"})
    largest = resource.getrlimit(resource.RLIMIT_FSIZE)
    # enough for the adapter, its optimizer's state (below 64 KiB) and the tokenizer, not for the model (240 KiB)
    resource.setrlimit(resource.RLIMIT_FSIZE, (160 * 1024, largest[1]))
    try:
        process = workspace.process(job)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, largest)
    with process:
        process.communicate()
    outcome = parse_outcome((workspace.folder / "termination-log").read_text())
    assert outcome is not None and process.returncode == outcome.exit_code == 7, workspace.said()
    assert "the merged model could not be written; the adapter is kept" in str(outcome.message)
    assert outcome.output is not None and outcome.output.adapter_path == "./models/full" and not outcome.output.verified
    assert workspace.adapter("full") and not (workspace.folder / "models/full/training_config.json").exists()
