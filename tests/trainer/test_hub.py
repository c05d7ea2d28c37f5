"""Pushing to the Hub: real processes and the real client, against a local server with the Hub's addresses."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise

import pytest
from huggingface_hub.utils import filter_repo_objects

from model_garden.contract.progress import parse_outcome
from tests.trainer import hub_server
from tests.trainer.hub_server import READER, STRANGER, WRITER, Hub
from tests.trainer.workspace import QUICK, TEXT, Workspace, config

PUSH = {
    "pushToHub": {"repo": "org/receipts"},
    "hubTokenSecret": {"name": "hub", "key": "token"},
    "hyperparameters": {"maxSteps": 2},
    "validationFraction": 0.2,
    "evaluation": {"metrics": ["exact_match"], "maxRows": 1, "maxNewTokens": 2},
}

CHECK = """
import os, sys
from model_garden.contract.options import PushToHub
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.exports import hub
for repo, token in zip(sys.argv[1::2], sys.argv[2::2]):
    os.environ["HF_TOKEN"] = token
    try:
        hub.check(PushToHub(repo=repo), lambda event: print(event.message, end=""))
        print()
    except TrainingError as error:
        print(error.exit_code, error)
assert "torch" not in sys.modules
"""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hub_server.running() as running:
        yield running


def checked(endpoint: str, *arguments: str) -> list[str]:
    """What the check before training says of repositories and tokens, in a process of its own: the library reads the
    Hub's address when it is imported."""
    environment = os.environ | {"HF_ENDPOINT": endpoint}
    done = subprocess.run(
        [sys.executable, "-c", CHECK, *arguments], env=environment, check=True, capture_output=True, text=True
    )
    assert not any(token in done.stdout + done.stderr for token in (WRITER, READER, STRANGER))
    return done.stdout.splitlines()


def test_a_token_that_may_not_write_is_refused_before_training(hub: Hub) -> None:
    hub.repositories["org/there"] = {}
    good, there, reads, strange, foreign, none = checked(
        hub.endpoint,
        *("org/new", WRITER),
        *("org/there", WRITER),
        *("org/new", READER),
        *("org/new", STRANGER),
        *("others/new", WRITER),
        *("org/new", ""),
    )
    assert good == there == ""
    assert reads.startswith("2 spec.pushToHub: the token in HF_TOKEN (laptop) may only read; ")
    assert strange.startswith("2 spec.pushToHub: the token in HF_TOKEN may not write to org/new (")
    assert strange.endswith("; set hubTokenSecret to a Secret that holds a token with write access")
    assert foreign.startswith("2 spec.pushToHub.repo: others/new belongs to others, and the token to me")
    assert foreign.endswith("choose a repository of me, org")
    assert none.startswith("2 spec.pushToHub: HF_TOKEN is not set, so nothing can be pushed to org/new; ")


def test_a_hub_out_of_reach_is_a_warning() -> None:
    [said] = checked("http://127.0.0.1:9", "org/new", WRITER)
    assert said.startswith("the Hub does not answer (")


@pytest.mark.train
def test_a_failed_upload_keeps_the_model_and_the_next_run_only_pushes(workspace: Workspace, hub: Hub) -> None:
    job = config("receipts", TEXT, QUICK, PUSH)
    environment = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": WRITER, "HF_HUB_DISABLE_XET": "1"}  # Git LFS is imitated

    hub.refuse = True
    with workspace.process(job, **environment) as process:
        events, _ = process.communicate()
    outcome = parse_outcome((workspace.folder / "termination-log").read_text())
    assert outcome is not None and process.returncode == outcome.exit_code == 7
    assert outcome.reason == "ExportFailed" and "Storage quota exceeded" in str(outcome.message)
    _, given = str(outcome.message).split(". Or run: ")
    by_hand = shlex.split(given)
    assert outcome.output is not None and outcome.output.adapter_path == "./models/receipts"
    assert outcome.output.hub_url is None and not outcome.output.verified and not hub.files

    hub.refuse = False
    with workspace.process(job, **environment) as process:
        more, _ = process.communicate()
    outcome = parse_outcome((workspace.folder / "termination-log").read_text())
    assert outcome is not None and process.returncode == 0
    assert outcome.output is not None and outcome.output.verified
    assert outcome.output.hub_url == f"{hub.endpoint}/org/receipts"
    assert '"step":1' in events and '"step":1' not in more  # what was trained is not trained again
    assert hub.repositories["org/receipts"]["visibility"] == "private"

    output = workspace.folder / "models/receipts"
    assert by_hand[:4] == ["hf", "upload", "org/receipts", str(output)]
    kept = [pattern for before, pattern in pairwise(by_hand) if before == "--exclude"]
    (output / "half.partial").touch()
    there = [path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()]
    assert set(filter_repo_objects(there, ignore_patterns=kept)) == set(hub.files), "the command uploads the same files"
    local = {path.name for path in output.iterdir()} - {"half.partial"}
    assert {name.split("/")[0] for name in hub.files} == local - {"checkpoints", "evaluation.jsonl"}
    assert "evaluation.jsonl" in local, "the held-out rows stay in the output folder"
    adapter = workspace.folder / "models/receipts/adapter_model.safetensors"
    assert hub.files["adapter_model.safetensors"] == adapter.read_bytes()
    assert json.loads(hub.files["training_config.json"])["name"] == "receipts"
    card = hub.files["README.md"].decode()
    assert "from_pretrained(base, 'org/receipts')" in card and "base_model:" not in card
    written = [path for path in workspace.folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert not any(WRITER.encode() in path.read_bytes() for path in written)
    assert WRITER not in events + more
