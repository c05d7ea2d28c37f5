"""Jobs whose data and model are in remote storage: preflight and training as the processes that pods start."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import Any

import pytest

from model_garden.contract.names import CONFIG_ENV, FETCHED_ENV
from model_garden.contract.progress import Outcome, event_line, parse_outcome
from model_garden.contract.trainer_config import TrainerConfig
from model_garden.remote.public import PRIVATE
from model_garden_trainer import fetched
from model_garden_trainer.distributed import process_group
from model_garden_trainer.distributed.process_group import ProcessGroup
from model_garden_trainer.errors import TrainingError
from model_garden_trainer.models import base_adapter, base_model
from tests.remote.conftest import bucket, s3_endpoint, web
from tests.remote.servers import SECRET, STRANGER, STRANGER_SECRET, Bucket, Web
from tests.trainer.test_fit import same
from tests.trainer.workspace import QUICK, TEXT, VISION, Told, Workspace, config

__all__ = ["bucket", "s3_endpoint", "web"]

STEPS = {"hyperparameters": {"maxSteps": 2}}


def ran(
    workspace: Workspace, job: TrainerConfig, *step: str, cache: bool = True, private: bool = False
) -> tuple[Outcome, str]:
    """Run a step of a job as its pod does; its outcome, and all that it said."""
    log = workspace.folder / "termination-log"
    log.write_text("")
    if cache:
        (workspace.folder / "cache").mkdir(exist_ok=True)
    environment = os.environ | {CONFIG_ENV: job.model_dump_json(by_alias=True, exclude_none=True)}
    environment |= {PRIVATE: "true"} if private else {}
    environment.pop("XDG_CACHE_HOME", None)
    command = [sys.executable, "-m", "model_garden_trainer", *step]
    done = subprocess.run(command, cwd=workspace.folder, env=environment, capture_output=True, text=True, check=False)
    outcome = parse_outcome(log.read_text())
    assert outcome, done.stderr[-3000:]
    return outcome, done.stdout + done.stderr + log.read_text()


def test_a_data_set_of_a_web_server_is_checked_and_trained_on(workspace: Workspace, web: Web) -> None:
    for path in (workspace.folder / "data").rglob("*"):
        if path.is_file():
            web.files[f"/sets/{path.relative_to(workspace.folder / 'data').as_posix()}"] = path.read_bytes()
    remote = {"datasetPath": f"{web.url}/sets/vision_test_dataset.jsonl", "storage": {"cacheClaim": "cache"}}
    job = config("shapes", VISION, QUICK, STEPS, remote)
    checked, told = ran(workspace, job, "preflight")
    assert checked.result == "Succeeded", told
    assert checked.fetched and set(checked.fetched) == {"datasetPath"}
    web.files.clear()  # training reads what the preflight fetched, and asks no server
    trained, told = ran(workspace, job.model_copy(update={"fetched": checked.fetched}))
    assert trained.result == "Succeeded", told
    assert workspace.record("shapes")["verification"]["row"].startswith(f"{web.url}/sets/")


def trained(workspace: Workspace, job: TrainerConfig, monkeypatch: pytest.MonkeyPatch) -> tuple[Outcome, Told]:
    """Fetch and train in this process, as ``__main__`` does."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(workspace.folder / "cache"))
    monkeypatch.setenv(FETCHED_ENV, "{}")
    fetched.fetch_datasets(job, Told())
    base_model.fetch(job, Told())
    base_adapter.fetch(job, Told())
    return workspace.train(job)


def stored(bucket: Bucket, workspace: Workspace) -> dict[str, Any]:
    """Put the test data and the tiny vision model into a bucket; the fields of a job that reads them there."""
    bucket.upload(workspace.folder / "data", "sets")
    bucket.upload(workspace.folder / "models" / "qwen2_5_vl", "models/tiny")
    return {
        "datasetPath": bucket.url("sets/vision_test_dataset.jsonl"),
        "baseModel": bucket.url("models/tiny"),
        "pushTo": bucket.url("trained/shapes"),
        "storage": {"cacheClaim": "cache", "endpointUrl": bucket.endpoint},
    }


def test_data_and_model_come_from_a_bucket_and_the_output_goes_there(
    workspace: Workspace, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = config("shapes", VISION, QUICK, STEPS, stored(bucket, workspace))
    checked, said = ran(workspace, job, "preflight")
    assert checked.result == "Succeeded", said
    assert checked.fetched and set(checked.fetched) == {"datasetPath", "baseModel"}
    outcome, told = trained(workspace, job.model_copy(update={"fetched": checked.fetched}), monkeypatch)
    assert outcome.output and outcome.output.remote_url == bucket.url("trained/shapes/")
    output = workspace.folder / "models" / "shapes"
    for name in ("adapter_model.safetensors", "README.md"):
        assert (bucket.folder / "trained/shapes" / name).read_bytes() == (output / name).read_bytes()
    assert json.loads((bucket.folder / "trained/shapes/training_config.json").read_text()) == workspace.record("shapes")
    assert not (bucket.folder / "trained/shapes/checkpoints").exists()
    kept = said + "".join(event_line(event) for event in told.events)
    kept += "".join(path.read_text() for path in output.glob("*.json"))
    assert SECRET not in kept and bucket.environment()["AWS_ACCESS_KEY_ID"] not in kept


def test_training_continues_from_an_adapter_of_a_bucket(
    workspace: Workspace, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.train(config("first", TEXT, QUICK, {"hyperparameters": {"maxSteps": 1}}))
    bucket.upload(workspace.folder / "models/first", "adapters/first")
    start = {
        "adapterPath": bucket.url("adapters/first"),
        "storage": {"cacheClaim": "cache", "endpointUrl": bucket.endpoint},
        "hyperparameters": {"maxSteps": 1, "learningRate": 1e-30},
    }
    job = config("further", TEXT, QUICK, start)
    checked, said = ran(workspace, job, "preflight")
    assert checked.result == "Succeeded" and checked.fetched and set(checked.fetched) == {"adapterPath"}, said
    outcome, _ = trained(workspace, job.model_copy(update={"fetched": checked.fetched}), monkeypatch)
    assert outcome.output and outcome.output.verified
    assert same(workspace.adapter("first"), workspace.adapter("further"))
    with pytest.raises(TrainingError, match=r"spec\.adapterPath: .*adapters/none.* "):
        trained(workspace, config("none", TEXT, start, {"adapterPath": bucket.url("adapters/none")}), monkeypatch)


def test_data_that_changed_after_the_preflight_ends_the_run(
    workspace: Workspace, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = config("job", TEXT, {"datasetPath": bucket.url("rows.jsonl"), "storage": {"endpointUrl": bucket.endpoint}})
    bucket.put("rows.jsonl", (workspace.folder / "data/text_test_dataset.jsonl").read_bytes())
    checked, said = ran(workspace, job, "preflight")
    assert checked.result == "Succeeded", said
    bucket.put("rows.jsonl", b'{"text": "other"}\n')
    shutil.rmtree(workspace.folder / "cache")  # without a cache claim, each pod has its own
    with pytest.raises(TrainingError, match=r"spec\.datasetPath: .* changed since the job first read it") as failed:
        trained(workspace, job.model_copy(update={"fetched": checked.fetched}), monkeypatch)
    assert failed.value.reason == "InvalidDataset"


def test_a_bucket_that_cannot_be_written_ends_the_preflight(
    workspace: Workspace, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in bucket.environment(STRANGER, STRANGER_SECRET).items():
        monkeypatch.setenv(name, value)
    job = config("job", TEXT, {"pushTo": bucket.url("x"), "storage": {"endpointUrl": bucket.endpoint}})
    outcome, said = ran(workspace, job, "preflight")
    assert (outcome.exit_code, outcome.reason) == (2, "OutputNotWritable")
    assert outcome.message and outcome.message.startswith(f"spec.pushTo: the write test failed: {bucket.url('x/')}")
    assert STRANGER not in said and STRANGER_SECRET not in said
    with pytest.raises(TrainingError, match="the write test failed"):  # without a preflight, before it trains
        trained(workspace, job, monkeypatch)


def test_refused_credentials_are_named_as_such_and_not_shown(
    workspace: Workspace, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret-1618")
    job = config("job", TEXT, {"datasetPath": bucket.url("rows.jsonl"), "storage": {"endpointUrl": bucket.endpoint}})
    outcome, said = ran(workspace, job, "preflight")
    assert (outcome.exit_code, outcome.reason) == (2, "StorageAccessDenied")
    assert outcome.message and outcome.message.startswith(f"spec.datasetPath: {bucket.url('rows.jsonl')}: ")
    assert "another-secret-1618" not in said and bucket.environment()["AWS_ACCESS_KEY_ID"] not in said


def test_an_upload_that_fails_keeps_the_model_and_a_second_run_uploads_it(
    workspace: Workspace, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model_garden.remote.push.WAITS", ())
    monkeypatch.setattr("model_garden.remote.stores.RETRIES", 0)
    target = {"pushTo": bucket.url("trained"), "storage": {"endpointUrl": bucket.endpoint}}
    job = config("job", TEXT, QUICK, STEPS, target)
    in_the_way = bucket.folder / "trained/adapter_config.json/object"  # a file system cannot hold both
    in_the_way.parent.mkdir(parents=True)
    in_the_way.touch()
    with pytest.raises(TrainingError, match=r"spec\.pushTo: the upload failed: .*the model is kept") as failed:
        trained(workspace, job, monkeypatch)
    assert (failed.value.reason, failed.value.exit_code) == ("ExportFailed", 7)
    assert failed.value.output and failed.value.output.path == "./models/job"
    assert failed.value.output.remote_url is None
    shutil.rmtree(bucket.folder / "trained")
    outcome, told = trained(workspace, job, monkeypatch)
    assert told.resumed == [2] and not told.losses
    assert outcome.output and outcome.output.remote_url == bucket.url("trained/")
    assert (bucket.folder / "trained/adapter_config.json").is_file()


def test_another_version_of_the_data_is_another_run(
    workspace: Workspace, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = (workspace.folder / "data/text_test_dataset.jsonl").read_bytes()
    remote = {"datasetPath": bucket.url("rows.jsonl"), "storage": {"endpointUrl": bucket.endpoint}}
    job = config("job", TEXT, QUICK, STEPS, remote)
    bucket.put("rows.jsonl", rows)
    trained(workspace, job, monkeypatch)
    (workspace.folder / "cache").rename(workspace.folder / "lost")  # the same data at another place on disk
    _, told = trained(workspace, job, monkeypatch)
    assert any("already holds the finished model of this run" in warning for warning in told.warnings)
    bucket.put("rows.jsonl", rows + b'{"text": "one more"}\n')
    with pytest.raises(TrainingError, match="made with other settings or other data"):
        trained(workspace, job, monkeypatch)


def serve_images(workspace: Workspace, web: Web) -> None:
    """Put the images of the test data on a web server, and their addresses into the rows."""
    file = workspace.folder / "data" / "vision_test_dataset.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row in rows:
        web.files[f"/{row['image']}"] = (file.parent / row["image"]).read_bytes()
        row["image"] = f"{web.url}/{row['image']}"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_images_at_addresses_are_fetched_once_and_trained_on(workspace: Workspace, web: Web) -> None:
    serve_images(workspace, web)
    asked = {"fetchPictures": True, "storage": {"cacheClaim": "cache"}}
    job = config("shapes", VISION, QUICK, STEPS, asked)
    refused, _ = ran(workspace, config("shapes", VISION, QUICK, STEPS), "preflight")
    assert refused.message and "set fetchPictures: true" in refused.message
    outcome, told = ran(workspace, job, "preflight")
    assert outcome.reason == "InvalidDataset" and "no public address" in told and web.requests == []
    checked, told = ran(workspace, job, "preflight", private=True)
    assert checked.fetched and set(checked.fetched) == {"fetchPictures"}, told
    assert "fetching images: 10 of 10" in told
    web.files.clear()  # training reads what the preflight fetched, and asks no server
    trained, told = ran(workspace, job.model_copy(update={"fetched": checked.fetched}))
    assert trained.result == "Succeeded", told


def test_a_retry_without_a_preflight_reads_the_same_images(
    workspace: Workspace, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_images(workspace, web)
    asked = {"fetchPictures": True, "baseModel": "./models/none"}  # which fails once the images are there
    job = config("shapes", VISION, QUICK, STEPS, asked).model_copy(update={"uid": "uid-1"})
    first, told = ran(workspace, job, private=True)
    assert first.reason == "ModelNotFound" and "fetching images: 10 of 10" in told, told
    web.files.clear()
    again, told = ran(workspace, job)
    assert again.reason == "ModelNotFound" and "fetching images: " not in told, told
    monkeypatch.setenv("XDG_CACHE_HOME", str(workspace.folder / "cache" / "xdg"))
    assert set(fetched.with_notes(job).fetched or ()) == {"fetchPictures"}
    assert fetched.with_notes(job.model_copy(update={"uid": "uid-2"})).fetched is None, "another job asks the server"


@pytest.mark.train
def test_a_pod_that_fetched_other_rows_to_answer_than_the_first_refuses(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OfSecondPod(ProcessGroup):
        def share(self, make: Any) -> Any:
            made = make()
            return made | {"evaluation.datasetPath": "of the first pod"} if isinstance(made, dict) else made

    monkeypatch.setattr(process_group, "join", lambda _: OfSecondPod())
    address = "https://example.com/held.jsonl"
    held = workspace.folder / "held.jsonl"
    held.write_text(json.dumps({"prompt": "Hi", "completion": "Hello"}))
    monkeypatch.setenv(FETCHED_ENV, json.dumps({address: [str(held), "of this pod"]}))
    asked = {"evaluation": {"datasetPath": address, "metrics": ["exact_match"], "maxNewTokens": 1}}
    with pytest.raises(TrainingError, match=r"spec\.evaluation\.datasetPath: this pod fetched other") as raised:
        workspace.train(config("job", TEXT, QUICK, {"hyperparameters": {"maxSteps": 1}}, asked))
    assert raised.value.reason == "InvalidDataset"
