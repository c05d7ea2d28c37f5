"""Sample data sets are real, and validate finds what is wrong without the training stack."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import JOB, Done
from tests.remote.conftest import bucket, s3_endpoint
from tests.remote.servers import Bucket

__all__ = ["bucket", "s3_endpoint"]

ROW = '{"text": "What is it?", "image": "nowhere.png", "response": "A circle."}\n'


def test_a_vision_sample_has_real_pictures_and_is_valid(cli: Callable[..., Done], tmp_path: Path) -> None:
    made = cli("create-vision-dataset", "--output", "./data/sample.jsonl", "--num-examples", "4")
    assert made.stdout == "data/sample.jsonl\n"
    assert len(list(tmp_path.glob("data/sample_images/*.png"))) == 4
    checked = json.loads(cli("validate", "./data/sample.jsonl", "-o", "json").stdout)
    assert (checked["kind"], checked["ok"], checked["rows"], checked["images"]) == ("vision", True, 4, 4)


def test_a_text_sample_is_valid(cli: Callable[..., Done]) -> None:
    cli("create-dataset", "--output", "text.jsonl", "--num-examples", "6")
    checked = json.loads(cli("validate", "text.jsonl", "-o", "json").stdout)
    assert (checked["kind"], checked["ok"], checked["rows"]) == ("text", True, 6)


def test_a_sample_never_replaces_other_data(cli: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text("precious\n")
    done = cli("create-dataset", "--output", "mine.jsonl")
    assert done.returncode == 1
    assert "mine.jsonl" in done.stderr
    assert (tmp_path / "mine.jsonl").read_text() == "precious\n"


def test_a_broken_row_is_named_with_file_and_row(cli: Callable[..., Done], tmp_path: Path) -> None:
    cli("create-vision-dataset", "--output", "data.jsonl", "--num-examples", "2")
    with (tmp_path / "data.jsonl").open("a") as file:
        file.write(ROW)
    done = cli("validate", "data.jsonl")
    assert done.returncode == 1
    assert "1 problem" in done.stdout
    assert done.stderr.startswith("error: data.jsonl row 3: ")
    assert "nowhere.png" in done.stderr


def test_a_job_is_checked_with_its_data(cli: Callable[..., Done], tmp_path: Path, job_file: Path) -> None:
    assert cli("validate", "job.yaml").returncode == 0  # its data is elsewhere
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "receipts.jsonl").write_text(ROW)
    done = cli("validate", "job.yaml")
    assert done.returncode == 1
    assert "receipts.jsonl row 1" in done.stderr


def test_a_job_that_breaks_a_rule_is_a_usage_error(cli: Callable[..., Done], job_file: Path) -> None:
    job_file.write_text(JOB.replace("isVision: true", "isVision: maybe"))
    assert cli("validate", "job.yaml").returncode == 2


def test_rows_of_an_evaluation_may_be_longer_than_the_longest_to_train_on(
    cli: Callable[..., Done], tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    rows = {"train": "Blue.", "held-out": "Blue. " * 200}
    for name, answer in rows.items():
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"prompt": "Which color?", "completion": answer}) + "\n")
    spec = {"baseModel": str(tiny_model("qwen2")), "isVision": False, "hyperparameters": {"maxSeqLength": 64}}
    spec |= {"datasetPath": "train.jsonl", "evaluation": {"datasetPath": "held-out.jsonl", "metrics": ["exact_match"]}}
    job = {"apiVersion": "model-garden.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "a"}, "spec": spec}
    (tmp_path / "job.yaml").write_text(json.dumps(job))
    done = cli("validate", "job.yaml", "-o", "json")
    assert done.returncode == 0, done.stdout
    trained, held_out = json.loads(done.stdout)
    assert trained["tokens"] and not held_out["tokens"]
    (tmp_path / "train.jsonl").write_text((tmp_path / "held-out.jsonl").read_text())
    done = cli("validate", "job.yaml")
    assert done.returncode == 1
    assert "longer than maxSeqLength (64)" in done.stderr


def test_rows_that_measure_a_model_and_are_trained_on_are_named(cli: Callable[..., Done], tmp_path: Path) -> None:
    row = json.dumps({"prompt": "Which color?", "completion": "Blue."}) + "\n"
    (tmp_path / "train.jsonl").write_text(row + row.replace("Blue", "Red"))
    (tmp_path / "held-out.jsonl").write_text(row)
    spec = {"baseModel": "org/model", "isVision": False, "datasetPath": "train.jsonl"}
    job = {"apiVersion": "model-garden.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "a"}, "spec": spec}

    def validate(**fields: object) -> Done:
        (tmp_path / "job.yaml").write_text(json.dumps(job | {"spec": spec | fields}))
        return cli("validate", "job.yaml")

    done = validate(evaluation={"datasetPath": "held-out.jsonl", "metrics": ["exact_match"]})
    assert done.returncode == 0, done.stderr
    told = "spec.evaluation.datasetPath: the model is trained on 1 of the 1 row(s) too, first held-out.jsonl row 1; "
    assert told in done.stderr
    (tmp_path / "link.jsonl").symlink_to("train.jsonl")
    done = validate(validationDatasetPath="link.jsonl")
    assert done.returncode == 1
    assert "error: spec.validationDatasetPath: link.jsonl holds" in done.stderr
    done = validate(validationFraction=0.9)
    assert done.returncode == 1
    assert "error: spec.validationFraction: 0.9 holds out all of 2 row(s)" in done.stderr
    (tmp_path / "train.jsonl").write_text(row * 3)
    done = validate(validationFraction=0.3)
    assert "spec.validationFraction: the model is trained on 1 of the 1 row(s) too, first train.jsonl" in done.stderr
    assert "remove repeated rows from spec.datasetPath" in done.stderr
    (tmp_path / "train.jsonl").write_text('{"prompt": "broken"}\n')
    done = validate(validationFraction=0.3)
    assert done.returncode == 1
    assert "train.jsonl row 1: " in done.stderr and "holds out all of 1 row(s)" in done.stderr
    (tmp_path / "train.jsonl").write_text(row * 3 + '{"prompt": "broken"}\n')
    assert "compared with others once every row can be read" in validate(validationFraction=0.3).stderr


def test_a_damaged_tokenizer_is_named(
    cli: Callable[..., Done], tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    shutil.copytree(tiny_model("qwen2"), tmp_path / "model")
    (tmp_path / "model/tokenizer.json").write_text("{")
    cli("create-dataset", "--output", "data.jsonl")
    for command in ("validate", "preview"):
        done = cli(command, "data.jsonl", "--base-model", "model")
        assert done.returncode == 1
        assert done.stderr.startswith("error: model/tokenizer.json is damaged (")


def test_validate_needs_no_torch(cli: Callable[..., Done], tmp_path: Path) -> None:
    cli("create-vision-dataset", "--output", "data.jsonl", "--num-examples", "1")
    program = (
        "import sys\n"
        "from model_garden.cli import main\n"
        "sys.argv = ['model-garden', 'validate', 'data.jsonl']\n"
        "try:\n    main()\nfinally:\n    print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "False"


def test_a_data_set_in_a_bucket_is_checked_with_its_images(
    cli: Callable[..., Done], bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.endpoint)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cli("create-vision-dataset", "--output", "sets/sample.jsonl", "--num-examples", "2")
    bucket.upload(tmp_path / "sets", "sets")
    bucket.put("sets/broken.jsonl", (tmp_path / "sets/sample.jsonl").read_bytes() + ROW.encode())
    checked = json.loads(cli("validate", bucket.url("sets/sample.jsonl"), "-o", "json").stdout)
    assert (checked["path"], checked["ok"], checked["images"]) == (bucket.url("sets/sample.jsonl"), True, 2)
    done = cli("validate", bucket.url("sets/broken.jsonl"))
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {bucket.url('sets/broken.jsonl')} row 3: ")
    assert bucket.url("sets/nowhere.png") in done.stderr
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    refused = cli("validate", bucket.url("sets/sample.jsonl"))
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr and "wrong-secret" not in refused.stderr
    assert bucket.environment()["AWS_ACCESS_KEY_ID"] not in refused.stderr + refused.stdout
