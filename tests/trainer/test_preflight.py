"""The process that a preflight Job starts: all of a run that needs no GPU, without torch, before one is asked for."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from model_garden.contract.defaults import effective_spec, merge
from model_garden.contract.names import CONFIG_ENV, PREFLIGHT_DONE_ENV
from model_garden.contract.progress import (
    DatasetEvent,
    Event,
    Outcome,
    StageEvent,
    WarningEvent,
    parse_event,
    parse_outcome,
)
from model_garden.contract.spec import TrainingJobSpec
from model_garden.contract.trainer_config import TrainerConfig
from tests.trainer.workspace import QUICK, TEXT, VISION, Workspace, config

HUB = {"baseModel": "org/tiny", "storage": {"cacheClaim": "cache"}}


def prepared(workspace: Workspace, *parts: dict[str, Any], **environment: str) -> tuple[Outcome, list[Event]]:
    """Run a preflight as a pod does; stdout holds events alone, and torch is never imported."""
    spec: dict[str, Any] = {}
    for part in parts:
        spec = merge(spec, part)
    job = TrainerConfig(name="job", spec=effective_spec(TrainingJobSpec.model_validate(spec), "job"))
    log = workspace.folder / "termination-log"
    log.write_text("")
    (workspace.folder / "cache").mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", CODE, "preflight"],
        cwd=workspace.folder,
        env=os.environ | {CONFIG_ENV: job.model_dump_json(by_alias=True, exclude_none=True)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not re.search(r"\| +torch$", done.stderr, re.MULTILINE), "torch was imported"
    outcome = parse_outcome(log.read_text())
    assert outcome, done.stderr[-3000:]
    assert outcome.exit_code == done.returncode
    events = [parse_event(line) for line in done.stdout.splitlines()]
    assert None not in events, done.stdout
    return outcome, [event for event in events if event]


CODE = """
from model_garden_trainer import hub_retry
from model_garden_trainer.models import base_model
from model_garden_trainer.__main__ import main
base_model.REPORT_SECONDS = 0
hub_retry.WAITS = (0.1, 0.1, 0.1)
main()
"""


def test_validation_rows_that_are_trained_on_are_told_here_and_by_a_run_without_a_preflight(
    workspace: Workspace,
) -> None:
    rows = (workspace.folder / "data/text_test_dataset.jsonl").read_text().splitlines(keepends=True)
    (workspace.folder / "data/held.jsonl").write_text(rows[3])
    parts: tuple[dict[str, Any], ...] = (TEXT, QUICK, {"validationDatasetPath": "./data/held.jsonl"})
    outcome, events = prepared(workspace, *parts)
    _, told = workspace.train(config("job", *parts, {"hyperparameters": {"maxSteps": 1}, "saveMethod": "lora"}))
    assert outcome.result == "Succeeded"
    for warnings in ([event.message for event in events if isinstance(event, WarningEvent)], told.warnings):
        [warning] = [one for one in warnings if "is trained on" in one]
        assert "trained on 1 of the 1 row(s) too, first data/held.jsonl row 1; " in warning


def test_good_data_is_measured_and_the_memory_estimated_with_its_longest_row(workspace: Workspace) -> None:
    outcome, events = prepared(workspace, VISION)
    assert outcome.result == "Succeeded"
    [measured] = [event.dataset for event in events if isinstance(event, DatasetEvent)]
    assert (measured.rows, measured.images, measured.measured_by) == (10, 10, "Preflight")
    assert measured.tokens and outcome.estimate
    assert outcome.estimate.tokens_per_row == measured.tokens.maximum
    assert outcome.estimate.image_tokens_per_row > 0
    assert [event.stage for event in events if isinstance(event, StageEvent)] == ["model", "dataset"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": "What?", "image": "no-such.png", "response": "It."}, "no-such.png"),
        ({"text": "What?", "image": "images/000.png"}, "response"),
    ],
)
def test_broken_rows_end_it_with_file_and_row(workspace: Workspace, row: dict[str, str], reason: str) -> None:
    rows = workspace.folder / "data/vision_test_dataset.jsonl"
    with rows.open("a") as file:
        file.write(json.dumps(row) + "\n")
    outcome, _ = prepared(workspace, VISION)
    assert (outcome.exit_code, outcome.reason) == (3, "InvalidDataset")
    assert outcome.message and "vision_test_dataset.jsonl row 11" in outcome.message
    assert reason in outcome.message


def test_keys_that_no_format_reads_are_a_warning(workspace: Workspace) -> None:
    rows = workspace.folder / "data/vision_test_dataset.jsonl"
    rows.write_text("".join(json.dumps(json.loads(line) | {"id": 1}) + "\n" for line in rows.read_text().splitlines()))
    _, events = prepared(workspace, VISION)
    warnings = [event.message for event in events if isinstance(event, WarningEvent)]
    assert warnings == ["keys that no format reads are ignored: id (10 rows)"]


def test_rows_longer_than_the_limit_are_named(workspace: Workspace) -> None:
    outcome, _ = prepared(workspace, VISION, {"hyperparameters": {"maxSeqLength": 100}})
    assert (outcome.exit_code, outcome.reason) == (3, "InvalidDataset")
    assert outcome.message and "longer than maxSeqLength (100)" in outcome.message


@pytest.mark.parametrize(
    ("given", "code", "reason", "words"),
    [
        ({"baseModel": "./models/none"}, 4, "ModelNotFound", "./models/none does not exist ("),
        ({"isVision": True}, 4, "InvalidModel", "is a text model"),
        (
            {"baseModel": "./models/cut"},
            4,
            "InvalidModel",
            "model.safetensors of ./models/cut is missing or incomplete",
        ),
        ({"baseModel": "./models/garbled"}, 4, "InvalidModel", "models/garbled/tokenizer.json is damaged"),
        ({"baseModel": "./models/bare"}, 4, "InvalidModel", "holds no weights"),
        ({"baseModel": "./models/x-bnb-4bit", "quantization": "16bit"}, 2, "InvalidSpec", "are stored in 4bit"),
    ],
)
def test_a_model_that_cannot_be_trained_ends_it(
    workspace: Workspace, given: dict[str, Any], code: int, reason: str, words: str
) -> None:
    models = workspace.folder / "models"
    for name in ("cut", "bare", "garbled", "x-bnb-4bit"):
        shutil.copytree(models / "qwen2", models / name)
    whole = (models / "cut/model.safetensors").read_bytes()
    (models / "cut/model.safetensors").write_bytes(whole[:-100])
    (models / "bare/model.safetensors").unlink()
    (models / "garbled/tokenizer.json").write_text('{"version": "1.0", "model": {}}')
    config = models / "x-bnb-4bit/config.json"
    quantised = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    config.write_text(json.dumps(json.loads(config.read_text()) | quantised))
    outcome, _ = prepared(workspace, TEXT, given)
    assert (outcome.exit_code, outcome.reason) == (code, reason)
    assert outcome.message and words in outcome.message


class Hub(ThreadingHTTPServer):
    """The few addresses that fetching one model asks for, and what was asked."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.folder = folder
        self.fetched: list[str] = []
        self.troubled = 0
        """How many requests it answers with 503 from now on."""
        self.weights_size: int | None = None
        """The size that it claims for the weights, if it is not the real one."""


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *arguments: Any) -> None:
        pass

    def answer(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        claimed = self.server.weights_size if self.path.endswith("/model.safetensors") else None
        self.send_header("Content-Length", str(claimed or len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        if self.server.troubled:
            self.server.troubled -= 1
            self.answer(b"{}", 503)
            return
        path, files = self.path.split("?")[0], {file.name: file for file in self.server.folder.iterdir()}
        name = path.rsplit("/", 1)[-1]
        if "/resolve/" in path and name in files:
            if self.command == "GET":
                self.server.fetched.append(name)
            self.answer(files[name].read_bytes(), ETag=f'"{name}"', X_Repo_Commit="a" * 40)
        elif path.startswith("/api/models/org/tiny/tree/"):
            tree = [{"type": "file", "oid": n, "size": f.stat().st_size, "path": n} for n, f in files.items()]
            self.answer(json.dumps(tree).encode(), Content_Type="application/json")
        elif path.startswith("/api/models/org/tiny"):
            siblings = [{"rfilename": name} for name in files]
            info = {"id": "org/tiny", "sha": "a" * 40, "private": False, "siblings": siblings}
            self.answer(json.dumps(info).encode(), Content_Type="application/json")
        else:
            self.answer(b"{}", 404, X_Error_Code="RepoNotFound")

    do_HEAD = do_GET


@pytest.fixture
def hub(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub with one model, which has its weights twice: once in a form that nothing here reads."""
    served = workspace.folder / "served"
    shutil.copytree(workspace.folder / "models/qwen2", served)
    shutil.copy(served / "model.safetensors", served / "consolidated.safetensors")
    server = Hub(served)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_model_of_the_hub_is_brought_into_the_cache_once_and_only_what_is_needed(
    hub: Hub, workspace: Workspace
) -> None:
    outcome, events = prepared(workspace, TEXT, HUB)
    assert outcome.result == "Succeeded"
    assert hub.fetched.count("model.safetensors") == 1
    assert "consolidated.safetensors" not in hub.fetched
    told = [event.detail for event in events if isinstance(event, StageEvent)]
    assert any(re.fullmatch(r"fetching org/tiny: 0\.0 of 0\.0 GiB", str(detail)) for detail in told)
    hub.fetched.clear()
    assert prepared(workspace, TEXT, HUB, HF_HUB_OFFLINE="1")[0].result == "Succeeded"
    assert hub.fetched == []


def test_an_adapter_of_the_hub_is_brought_into_the_cache_once(hub: Hub, workspace: Workspace) -> None:
    adapter = {"peft_type": "LORA", "base_model_name_or_path": TEXT["baseModel"], "r": 4, "lora_alpha": 8}
    (hub.folder / "adapter_config.json").write_text(json.dumps(adapter))
    shutil.copy(hub.folder / "model.safetensors", hub.folder / "adapter_model.safetensors")
    start = {"adapterPath": "org/tiny", "storage": {"cacheClaim": "cache"}}
    outcome, _ = prepared(workspace, TEXT, start)
    assert outcome.result == "Succeeded", outcome.message
    assert sorted(hub.fetched) == ["adapter_config.json", "adapter_model.safetensors", "chat_template.jinja"]
    hub.fetched.clear()
    assert prepared(workspace, TEXT, start, HF_HUB_OFFLINE="1")[0].result == "Succeeded"
    assert hub.fetched == []


@pytest.mark.parametrize("gone", ["hub", "hub/models--org--tiny/blobs"])
def test_a_prepared_model_that_was_cleaned_from_the_cache_is_fetched_again(
    hub: Hub, workspace: Workspace, gone: str
) -> None:
    """Between a suspension and the next start, say; who asked to stay offline stays so."""
    home = workspace.folder / "cache/huggingface"
    offline = {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    prepared(workspace, TEXT, HUB, HF_HOME=str(home))
    shutil.rmtree(home / gone)
    hub.fetched.clear()
    assert prepared(workspace, TEXT, HUB, **offline)[0].reason == "ModelNotFound"
    assert hub.fetched == []
    assert prepared(workspace, TEXT, HUB, **offline, **{PREFLIGHT_DONE_ENV: "1"})[0].result == "Succeeded"
    assert hub.fetched.count("model.safetensors") == 1


def test_a_prepared_job_trains_and_exports_without_any_network(hub: Hub, workspace: Workspace) -> None:
    """In a network namespace of its own, which has no interface that is up: no request leaves it."""
    alone = ["unshare", "--net", "--map-root-user"]
    if subprocess.run([*alone, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this system lets no process have a network namespace of its own")
    home = workspace.folder / "cache/huggingface"
    assert prepared(workspace, TEXT, HUB, HF_HOME=str(home))[0].result == "Succeeded"
    job = config("job", TEXT, QUICK, HUB, {"saveMethod": "merged_16bit", "hyperparameters": {"maxSteps": 2}})
    variables = {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", PREFLIGHT_DONE_ENV: "1"}
    done = subprocess.run(
        [*alone, sys.executable, "-m", "model_garden_trainer"],
        cwd=workspace.folder,
        env=os.environ | {CONFIG_ENV: job.model_dump_json(by_alias=True, exclude_none=True)} | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (workspace.folder / "models/job/merged/model.safetensors").exists()


@pytest.mark.parametrize("wrong", [{"isVision": True}, {"datasetPath": "./data/broken.jsonl"}])
def test_no_weights_are_fetched_for_a_job_that_cannot_train(
    hub: Hub, workspace: Workspace, wrong: dict[str, Any]
) -> None:
    (workspace.folder / "data/broken.jsonl").write_text('{"prompt": "no answer"}\n')
    outcome, _ = prepared(workspace, TEXT, HUB, wrong)
    assert outcome.result == "Failed"
    assert "config.json" in hub.fetched
    assert "model.safetensors" not in hub.fetched


def test_without_a_claim_to_keep_it_in_the_model_is_not_fetched_and_that_is_said(
    hub: Hub, workspace: Workspace
) -> None:
    outcome, events = prepared(workspace, TEXT, {"baseModel": "org/tiny"})
    assert outcome.result == "Succeeded"
    assert "model.safetensors" not in hub.fetched
    assert ["spec.storage.cacheClaim" in event.message for event in events if isinstance(event, WarningEvent)] == [True]


def test_a_model_that_the_hub_does_not_have(hub: Hub, workspace: Workspace) -> None:
    outcome, _ = prepared(workspace, TEXT, HUB, {"baseModel": "org/none"})
    assert (outcome.exit_code, outcome.reason) == (4, "ModelNotFound")
    assert outcome.message and "the Hub has no model org/none" in outcome.message


def test_a_hub_in_trouble_for_a_moment_is_waited_for_and_that_is_told(hub: Hub, workspace: Workspace) -> None:
    hub.troubled = 2
    outcome, events = prepared(workspace, TEXT, HUB)
    assert outcome.result == "Succeeded" and hub.troubled == 0
    told = [event.message for event in events if isinstance(event, WarningEvent)]
    assert any("the Hub does not answer" in message and "trying again in" in message for message in told)


@pytest.mark.parametrize("trouble", ["answers 503", "refuses connections", "has no name"])
def test_a_hub_that_does_not_come_back_ends_the_pod_with_an_exit_code_that_is_retried(
    hub: Hub, workspace: Workspace, trouble: str
) -> None:
    hub.troubled = 10_000
    elsewhere = {"refuses connections": "http://127.0.0.1:1", "has no name": "http://hub.invalid"}
    environment = {"HF_ENDPOINT": elsewhere[trouble]} if trouble in elsewhere else {}
    outcome, _ = prepared(workspace, TEXT, HUB, **environment)
    assert (outcome.exit_code, outcome.reason) == (9, "HubUnreachable")
    assert outcome.message and "spec.baseModel org/tiny: the Hub did not answer for" in outcome.message


def test_a_download_that_does_not_fit_into_the_cache_is_not_begun(hub: Hub, workspace: Workspace) -> None:
    hub.weights_size = 2**60
    outcome, _ = prepared(workspace, TEXT, HUB)
    assert (outcome.exit_code, outcome.reason) == (2, "InsufficientStorage")
    assert outcome.message and outcome.message.startswith(
        "spec.baseModel: 1073741824.0 GiB of org/tiny are to be downloaded, but the cache ("
    )
    assert "model.safetensors" not in hub.fetched


def test_an_output_that_does_not_fit_on_the_claim_is_refused_with_its_parts(workspace: Workspace) -> None:
    model = workspace.folder / "models/large"
    shutil.copytree(workspace.folder / "models/qwen2", model)
    config = json.loads((model / "config.json").read_text())
    sizes = {"hidden_size": 16384, "intermediate_size": 65536, "num_hidden_layers": 200, "layer_types": None}
    (model / "config.json").write_text(json.dumps(config | sizes))
    many = {"maxSteps": 1000, "saveSteps": 1, "saveTotalLimit": 500}
    claim = {"storage": {"modelsClaim": "models"}}
    large = claim | {"baseModel": "./models/large", "adapter": "none", "hyperparameters": many}
    outcome, _ = prepared(workspace, TEXT, large)
    assert (outcome.exit_code, outcome.reason) == (2, "InsufficientStorage")
    assert re.match(
        r"spec.outputDir: ./models/job needs [\d.]+ GiB \(501 checkpoints [\d.]+ GiB, the model [\d.]+ GiB\), but only "
        r"[\d.]+ GiB are free there; delete files there or make the volume larger",
        str(outcome.message),
    )
    few = {"hyperparameters": many | {"maxSteps": 1}, "baseModel": "./models/qwen2"}
    assert prepared(workspace, TEXT, large, few)[0].result == "Succeeded"


def test_an_export_that_cannot_be_made_is_said_before_a_gpu_is_asked_for(workspace: Workspace) -> None:
    outcome, _ = prepared(workspace, TEXT, {"saveMethod": "gguf"}, LLAMA_CPP_DIR=str(workspace.folder))
    assert (outcome.exit_code, outcome.reason) == (2, "InvalidSpec")
    assert "convert_hf_to_gguf.py, llama-quantize, llama-completion of llama.cpp" in str(outcome.message)
    push = {"pushToHub": {"repo": "org/mine"}, "hubTokenSecret": {"name": "hub", "key": "token"}}
    outcome, _ = prepared(workspace, TEXT, push, HF_TOKEN="")
    assert outcome.exit_code == 2 and "HF_TOKEN is not set" in str(outcome.message)
