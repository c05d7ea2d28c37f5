"""A folder to a real S3 server, and the test before it."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_garden.remote.errors import RemoteError
from model_garden.remote.push import check_writable, push_folder
from model_garden.remote.stores import BLOCK
from tests.remote.servers import STRANGER, STRANGER_SECRET, Bucket

RECORD = "training_config.json"


def test_a_folder_is_uploaded_whole_and_its_record_last(bucket: Bucket, tmp_path: Path) -> None:
    output = tmp_path / "output"
    (output / "merged").mkdir(parents=True)
    (output / "adapter.bin").write_bytes(b"small")
    (output / "merged" / "model.safetensors").write_bytes(
        bytes(range(256)) * (2 * BLOCK // 256) + b"end"
    )  # three parts
    told: list[tuple[int, int]] = []
    files = [path for path in output.rglob("*") if path.is_file()]
    push_folder(bucket.url("models/one/"), output, files, (RECORD, b"{}"), bucket.endpoint, lambda *at: told.append(at))
    there = {
        path.relative_to(bucket.folder / "models/one").as_posix(): path.read_bytes()
        for path in (bucket.folder / "models/one").rglob("*")
        if path.is_file()
    }
    assert there == {path.relative_to(output).as_posix(): path.read_bytes() for path in files} | {RECORD: b"{}"}
    size = sum(path.stat().st_size for path in files)
    assert told[-1] == (size, size)


def test_a_push_that_breaks_off_leaves_no_record_of_the_model_before(bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "adapter.bin").write_bytes(b"old")
    push_folder(bucket.url("models/one/"), tmp_path, [tmp_path / "adapter.bin"], (RECORD, b"{}"), bucket.endpoint)

    def break_off(_there: int, _total: int) -> None:
        raise KeyboardInterrupt

    (tmp_path / "adapter.bin").write_bytes(b"new")
    with pytest.raises(KeyboardInterrupt):
        push_folder(
            bucket.url("models/one/"),
            tmp_path,
            [tmp_path / "adapter.bin"],
            (RECORD, b"{}"),
            bucket.endpoint,
            break_off,
        )
    there = {path.name: path.read_bytes() for path in (bucket.folder / "models/one").iterdir()}
    assert there == {"adapter.bin": b"new"}


def test_the_write_test_leaves_nothing(bucket: Bucket) -> None:
    check_writable(bucket.url("models/one/"), RECORD, "one", bucket.endpoint)
    assert not [path for path in bucket.folder.rglob("*") if path.is_file()]


def test_a_prefix_with_the_model_of_another_job_is_refused(bucket: Bucket) -> None:
    bucket.put(f"models/one/{RECORD}", b'{"name": "other"}')
    with pytest.raises(RemoteError, match="already holds the model of job 'other'"):
        check_writable(bucket.url("models/one/"), RECORD, "one", bucket.endpoint)
    check_writable(bucket.url("models/one/"), RECORD, "other", bucket.endpoint)


@pytest.mark.parametrize("missing", [True, False])
def test_a_bucket_that_cannot_be_written_is_refused(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, missing: bool
) -> None:
    target = "s3://no-such-bucket-here/models/" if missing else bucket.url("models/")
    if not missing:
        for variable, value in bucket.environment(STRANGER, STRANGER_SECRET).items():
            monkeypatch.setenv(variable, value)
    with pytest.raises(RemoteError) as refused:
        check_writable(target, RECORD, "one", bucket.endpoint)
    assert refused.value.kind == ("NotFound" if missing else "Denied")
    assert target in str(refused.value)
