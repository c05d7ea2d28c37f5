"""A data set goes to a cluster and a model comes back, by the command line alone."""

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND, Done, environment
from tests.cluster import TestCluster
from tests.devcluster.objects import claim

pytestmark = pytest.mark.cluster
NAMESPACE = "transfer"
ROW = {"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]}


@pytest.fixture(scope="module")
def garden(cluster: TestCluster) -> Iterator[TestCluster]:
    """A cluster that knows TrainingJobs, with a namespace that has the two claims of the chart's defaults."""
    cluster.serve_training_jobs()
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    cluster.until(lambda: cluster.get("serviceaccount", "default", NAMESPACE))
    for name in ("model-garden-data", "model-garden-models"):
        made = claim(name)
        made["metadata"]["namespace"] = NAMESPACE
        cluster.apply(made)
    yield cluster
    cluster.kubectl("delete", "jobs", "--all", "-n", NAMESPACE, "--wait=false")


@pytest.fixture
def mg(cli: Callable[..., Done], garden: TestCluster) -> Callable[..., Done]:
    """``model-garden`` in the tests' namespace; fails the test unless it ends as ``code`` says."""

    def run(*arguments: str, code: int = 0) -> Done:
        done = cli(*arguments, "-n", NAMESPACE, KUBECONFIG=str(garden.kubeconfig))
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run


def stored(garden: TestCluster, kind: str) -> Path:
    """The folder of a claim on this machine."""
    return next((garden.directory / "volumes").glob(f"{NAMESPACE}-model-garden-{kind}-*"))


def write(file: Path, *rows: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_a_vision_data_set_goes_in_with_the_images_that_its_rows_name(
    mg: Callable[..., Done], garden: TestCluster, tmp_path: Path
) -> None:
    made = [COMMAND, "create-vision-dataset", "--output", "made/rows.jsonl", "--num-examples", "3"]
    subprocess.run(made, cwd=tmp_path, check=True)
    rows = [json.loads(line) for line in (tmp_path / "made/rows.jsonl").read_text().splitlines()]
    for row in rows:
        row["image"] = str((tmp_path / "made" / row["image"]).absolute())
    file = write(tmp_path / "set/receipts.jsonl", *rows)
    (tmp_path / "set/private.txt").write_text("secret")
    done = mg("upload", str(file))
    assert done.stdout == "./data/receipts/receipts.jsonl\n"
    assert "receipts.jsonl: 3 rows of the uploaded copy name images inside the folder" in done.stderr
    assert "4 files uploaded to ./data/receipts" in done.stderr
    folder = stored(garden, "data") / "receipts"
    assert sorted(path.name for path in folder.iterdir()) == ["images", "receipts.jsonl"]
    uploaded = [json.loads(line)["image"] for line in (folder / "receipts.jsonl").read_text().splitlines()]
    assert all((folder / image).is_file() for image in uploaded)
    assert "0 files uploaded to ./data/receipts (0 B); 4 files there already" in mg("upload", str(file)).stderr
    header, row = mg("data", "ls").stdout.splitlines()
    assert header.split() == ["NAME", "FILES", "SIZE", "AGE", "PATH"]
    assert row.split()[:2] == ["receipts", "4"]
    assert json.loads(mg("data", "ls", "-o", "json").stdout)[0]["path"] == "./data/receipts/receipts.jsonl"
    assert mg("data", "ls", "-o", "name").stdout == "receipts\n"
    assert mg("data", "rm", "receipts").stdout == "./data/receipts deleted\n"
    assert not folder.exists()
    assert "there is no ./data/receipts" in mg("data", "rm", "receipts", code=1).stderr


def test_a_broken_row_is_named_and_nothing_is_sent(mg: Callable[..., Done], tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", ROW, {"messages": []})
    done = mg("upload", str(file), code=1)
    assert "rows.jsonl row 2" in done.stderr
    assert "nothing was uploaded" in done.stderr
    assert "storage pod" not in done.stderr


def test_submit_uploads_and_names_the_uploaded_data_set(
    mg: Callable[..., Done], garden: TestCluster, tmp_path: Path
) -> None:
    file = write(tmp_path / "elsewhere/sums.jsonl", ROW, ROW)
    arguments = ("submit", "--name", "sums", "--base-model", "a/b", "--dataset", str(file), "--upload")
    mg(*arguments)
    assert garden.get("trainingjob", "sums", NAMESPACE)["spec"]["datasetPath"] == "./data/sums/sums.jsonl"
    assert "./data/sums is used by sums" in mg("data", "rm", "sums", code=1).stderr
    write(file, ROW)
    assert "sums.jsonl has other content, and sums still reads it" in mg("upload", str(file), code=1).stderr
    assert "--upload" in mg(*arguments, "--dry-run", "client", code=2).stderr
    assert "add --upload" in mg(*arguments[:-1], "--storage-image", "an/image:1", code=2).stderr
    other = str(write(tmp_path / "elsewhere/others.jsonl", ROW))
    held = str(write(tmp_path / "elsewhere/held.jsonl", ROW))
    scored = ("--evaluation-dataset", held, "--evaluation-metrics", "exact_match")
    mg("submit", "--name", "scored", "--base-model", "a/b", "--dataset", other, "--upload", *scored)
    asked = garden.get("trainingjob", "scored", NAMESPACE)["spec"]["evaluation"]
    assert asked == {"datasetPath": "./data/held/held.jsonl", "metrics": ["exact_match"]}
    mg("submit", "--base-model", "a/b", "--dataset", other, "--upload", "--storage-image", "an/image:1")
    pods = garden.get("pod", namespace=NAMESPACE, selector="app.kubernetes.io/component=files")
    assert "an/image:1" in [pod["spec"]["containers"][0]["image"] for pod in pods]
    assert "no such file" in mg("submit", "--upload", "--base-model", "a/b", "--dataset", "no.jsonl", code=2).stderr


def test_a_model_comes_out_into_a_new_folder(mg: Callable[..., Done], garden: TestCluster, tmp_path: Path) -> None:
    assert "no models" in mg("models", "ls").stderr
    model = stored(garden, "models") / "tiny"
    model.mkdir()
    (model / "adapter_config.json").write_text('{"base_model_name_or_path": "a/b"}')
    (model / "adapter_model.safetensors").write_bytes(bytes(3_000_000))
    assert mg("models", "ls").stdout.splitlines()[1].split()[:2] == ["tiny", "adapter"]
    assert mg("download", "tiny").stdout == "models/tiny\n"
    assert (tmp_path / "models/tiny/adapter_model.safetensors").read_bytes() == bytes(3_000_000)
    assert "exists already" in mg("download", "tiny", code=1).stderr
    assert mg("download", "tiny", "-o", "other").stdout == "other\n"
    assert "there is no ./models/nothing" in mg("download", "nothing", code=1).stderr
    mg("models", "rm", "tiny")
    assert not model.exists()


def test_the_model_of_a_job_is_found_by_the_job_s_name(
    mg: Callable[..., Done], garden: TestCluster, tmp_path: Path
) -> None:
    mg(
        "submit",
        "--name",
        "named",
        "--base-model",
        "a/b",
        "--dataset",
        "./data/x.jsonl",
        "--output-dir",
        "./models/mine",
    )
    assert "named has no model yet: " in mg("download", "named", code=1).stderr
    mg("models", "ls")
    model = stored(garden, "models") / "mine"
    model.mkdir()
    (model / "README.md").write_text("a card")
    status = json.dumps({"status": {"phase": "Succeeded", "output": {"path": "./models/mine"}}})
    garden.kubectl(
        *("patch", "trainingjob", "named", "-n", NAMESPACE, "--subresource=status", "--type=merge", "--patch", status)
    )
    assert mg("download", "named").stdout == "models/mine\n"
    assert (tmp_path / "models/mine/README.md").read_text() == "a card"


def test_ctrl_c_during_an_upload_leaves_nothing(mg: Callable[..., Done], garden: TestCluster, tmp_path: Path) -> None:
    mg("data", "ls")
    big = {"messages": [{"role": "user", "content": "x" * 1_000_000}, {"role": "assistant", "content": "4"}]}
    file = write(tmp_path / "big.jsonl", *[big] * 100)
    with subprocess.Popen(
        [COMMAND, "upload", str(file), "-n", NAMESPACE],
        env=environment(KUBECONFIG=str(garden.kubeconfig)),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        folder = stored(garden, "data")
        garden.until(lambda: list(folder.glob(".upload-*/*")), "the upload is on its way", 180)
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 130
        assert process.stderr and "Traceback" not in process.stderr.read()
    garden.until(lambda: not [*folder.glob(".upload-*"), *folder.glob("big")], "nothing is left")


def test_claims_that_are_not_there_are_named_with_the_flag(mg: Callable[..., Done]) -> None:
    done = mg("data", "ls", "--data-claim", "mine", code=1)
    assert "the PersistentVolumeClaim 'mine' does not exist in namespace transfer" in done.stderr
    assert "--data-claim" in done.stderr
