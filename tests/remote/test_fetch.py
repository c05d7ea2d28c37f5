"""Data sets and models of remote storage, from real servers into the cache."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from model_garden.datasets import check_examples, open_examples
from model_garden.remote import cache as cache_module
from model_garden.remote.cache import Cache
from model_garden.remote.errors import RemoteError
from model_garden.remote.fetch import fetch_dataset, fetch_model, mirror_of
from model_garden.remote.snapshot import Fetched, snapshot
from model_garden.remote.store import Found
from model_garden.remote.stores import open_store
from tests.remote.servers import SECRET, STRANGER, STRANGER_SECRET, Bucket, Web, gcs_server

DATA = Path(__file__).parents[2] / "data"
ROWS = b'{"text": "What?", "image": "pictures/a b.png", "response": "A circle."}\n'
PICTURE = next((DATA / "vision_test_dataset_images").glob("*.png")).read_bytes()


def problems(fetched: Fetched) -> list[str]:
    """What the check of the rows says of a fetched data set."""
    mirror = mirror_of(fetched.address, fetched.path)
    rows = open_examples(fetched.path, vision=True, root=mirror.folder, mirror=mirror)
    return check_examples(rows).problems


def names(fetched: Fetched) -> list[str]:
    return sorted(path.name for path in fetched.path.iterdir())


def test_a_data_set_of_a_web_server_is_read_with_its_images(web: Web) -> None:
    web.files = {"/sets/rows.jsonl": ROWS, "/sets/pictures/a b.png": PICTURE, "/sets/other.png": PICTURE}
    fetched = fetch_dataset(f"{web.url}/sets/rows.jsonl", vision=True)
    assert problems(fetched) == []
    assert not any(path == "/sets/other.png" for _, path, _ in web.requests)


def test_a_second_fetch_downloads_nothing(web: Web) -> None:
    web.files = {"/rows.jsonl": ROWS, "/pictures/a b.png": PICTURE}
    first = fetch_dataset(f"{web.url}/rows.jsonl", vision=True)
    web.requests.clear()
    assert fetch_dataset(f"{web.url}/rows.jsonl", vision=True) == first
    assert {method for method, _, _ in web.requests} == {"HEAD"}


def test_a_broken_download_resumes_where_it_ended(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "WAITS", (0.0,))
    content = b"".join(b'{"text": "%06d"}\n' % number for number in range(100_000))
    web.files, web.break_after = {"/rows.jsonl": content}, 1_000_000
    fetched = fetch_dataset(f"{web.url}/rows.jsonl", vision=False)
    assert fetched.path.read_bytes() == content
    ranges = [given for method, _, given in web.requests if method == "GET"]
    assert ranges[0] == "" and 0 < int(ranges[1].removeprefix("bytes=").rstrip("-")) <= 1_000_000


def test_a_download_whose_version_is_not_known_starts_again(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = (
        b"".join(b'{"text": "%06d"}\n' % number for number in range(first, first + 100_000)) for first in (0, 1)
    )
    web.files, web.break_after, web.has_tags = {"/rows.jsonl": old}, 1_000_000, False
    monkeypatch.setattr(cache_module.time, "sleep", lambda _: web.files.update({"/rows.jsonl": new}))
    assert fetch_dataset(f"{web.url}/rows.jsonl", vision=False).path.read_bytes() == new


def test_a_data_set_that_redirects_to_http_is_refused(web: Web) -> None:
    web.redirects = {"/rows.jsonl": "http://127.0.0.1:9/latest/meta-data"}
    with pytest.raises(RemoteError, match=r"redirects to http://127\.0\.0\.1:9/latest/meta-data, which is not https"):
        fetch_dataset(f"{web.url}/rows.jsonl", vision=False)


def test_a_row_cannot_make_the_trainer_ask_another_server(web: Web) -> None:
    elsewhere = f"https://127.0.0.1:{web.url.rsplit(':', 1)[1]}/pictures/a b.png"
    rows = [ROWS, json.dumps(json.loads(ROWS) | {"image": elsewhere}).encode() + b"\n"]
    web.files = {"/sets/rows.jsonl": b"".join(rows), "/sets/pictures/a b.png": PICTURE, "/pictures/a b.png": PICTURE}
    fetched = fetch_dataset(f"{web.url}/sets/rows.jsonl", vision=True)
    (problem,) = problems(fetched)
    assert problem.startswith(f"{web.url}/sets/rows.jsonl row 2: ")
    assert f"only images below {web.url}/sets/ are fetched" in problem
    assert not any(path == "/pictures/a b.png" for _, path, _ in web.requests)


def test_an_image_that_redirects_to_another_server_is_refused(web: Web) -> None:
    web.files = {"/rows.jsonl": ROWS, "/secret": PICTURE}
    web.redirects = {"/pictures/a b.png": f"https://127.0.0.1:{web.url.rsplit(':', 1)[1]}/secret"}
    with pytest.raises(RemoteError, match="redirects elsewhere"):
        fetch_dataset(f"{web.url}/rows.jsonl", vision=True)
    assert not any(path == "/secret" for _, path, _ in web.requests)


def test_a_missing_image_is_a_problem_of_its_row(web: Web) -> None:
    web.files = {"/rows.jsonl": ROWS}
    (problem,) = problems(fetch_dataset(f"{web.url}/rows.jsonl", vision=True))
    assert f"{web.url}/pictures/a%20b.png' cannot be read" in problem or "a b.png' cannot be read" in problem


def test_a_data_set_in_a_bucket_is_read_with_its_images(bucket: Bucket) -> None:
    bucket.put("sets/train.jsonl", ROWS + json.dumps(json.loads(ROWS) | {"image": bucket.url("sets/b.png")}).encode())
    for key in ("sets/pictures/a b.png", "sets/b.png", "sets/unused.png"):
        bucket.put(key, PICTURE)
    fetched = fetch_dataset(bucket.url("sets/train.jsonl"), vision=True, endpoint=bucket.endpoint)
    assert problems(fetched) == []
    assert not (fetched.path.parent / "unused.png").exists()


def test_a_data_set_of_google_cloud_storage_is_read_with_its_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gcs_server(tmp_path) as bucket:
        bucket.put("sets/train.jsonl", ROWS)
        bucket.put("sets/pictures/a b.png", PICTURE)
        monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", bucket.google())
        for address in (bucket.url("sets/train.jsonl"), bucket.url("sets")):
            assert problems(fetch_dataset(address, vision=True, endpoint=bucket.endpoint)) == []
        with pytest.raises(RemoteError, match="does not exist"):
            fetch_dataset(bucket.url("none.jsonl"), vision=True, endpoint=bucket.endpoint)


def test_a_folder_in_a_bucket_has_splits(bucket: Bucket) -> None:
    for name in ("train", "test"):
        bucket.put(f"sets/{name}-00000.jsonl", ROWS)
    bucket.put("sets/pictures/a b.png", PICTURE)
    fetched = fetch_dataset(bucket.url("sets"), vision=True, splits=["test"], endpoint=bucket.endpoint)
    assert problems(fetched) == []
    assert len(open_examples(fetched.path, vision=True, split="test")) == 1


def test_the_version_that_was_checked_is_used_or_the_change_is_named(bucket: Bucket, cache: Path) -> None:
    import shutil

    bucket.put("rows.jsonl", b'{"text": "one"}\n')
    address = bucket.url("rows.jsonl")
    checked = fetch_dataset(address, vision=False, endpoint=bucket.endpoint)
    bucket.put("rows.jsonl", b'{"text": "two"}\n')
    again = fetch_dataset(address, vision=False, endpoint=bucket.endpoint, expected=checked.digest)
    assert again.path.read_text() == '{"text": "one"}\n'
    assert fetch_dataset(address, vision=False, endpoint=bucket.endpoint).path.read_text() == '{"text": "two"}\n'
    shutil.rmtree(cache)  # the pod that trains has another cache than the preflight
    with pytest.raises(RemoteError, match="changed since the job first read it") as refused:
        fetch_dataset(address, vision=False, endpoint=bucket.endpoint, expected=checked.digest)
    assert refused.value.kind == "Changed"


def test_a_model_in_a_bucket_is_fetched_without_other_files(bucket: Bucket) -> None:
    for name in ("config.json", "tokenizer.json", "model.safetensors", "pytorch_model.bin", "sub/config.json"):
        bucket.put(f"models/tiny/{name}", name.encode())
    fetched = fetch_model(bucket.url("models/tiny"), ["*.json", "model*.safetensors"], endpoint=bucket.endpoint)
    assert sorted(path.name for path in fetched.path.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]


def test_the_weights_of_a_model_are_those_that_its_index_names(bucket: Bucket, cache: Path, web: Web) -> None:
    index, shards = "model.safetensors.index.json", ["part-1.safetensors", "part-2.safetensors"]

    def named(folder: Path) -> list[str]:
        return sorted(set(json.loads((folder / index).read_text())["weight_map"].values()))

    content = json.dumps({"weight_map": dict(zip("abc", [*shards, shards[0]], strict=True))})
    for name in (*shards, "model-fp32.safetensors", "config.json"):
        bucket.put(f"models/tiny/{name}", name.encode())
    bucket.put(f"models/tiny/{index}", content.encode())
    web.files = {f"/tiny/{name}": name.encode() for name in (*shards, "config.json")} | {
        f"/tiny/{index}": content.encode()
    }
    for address in (bucket.url("models/tiny"), f"{web.url}/tiny"):
        endpoint = bucket.endpoint if address.startswith("s3") else None
        fetched = fetch_model(address, ["*.json"], more=named, endpoint=endpoint)
        assert sorted(path.name for path in fetched.path.iterdir()) == ["config.json", index, *shards]
        shutil.rmtree(cache)  # another node
        again = fetch_model(address, ["*.json"], more=named, endpoint=endpoint, expected=fetched.digest)
        assert again.digest == fetched.digest


def test_a_model_of_a_web_server_is_found_by_its_usual_names(web: Web) -> None:
    web.files = {f"/tiny/{name}": name.encode() for name in ("config.json", "tokenizer.json", "model.safetensors")}
    fetched = fetch_model(f"{web.url}/tiny", ["*.json", "model*.safetensors"])
    assert sorted(path.name for path in fetched.path.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]


@pytest.mark.parametrize(
    ("address", "variables", "kind", "words"),
    [
        ("s3://{bucket}/none.jsonl", {}, "NotFound", "does not exist"),
        ("s3://no-such-bucket-here/rows.jsonl", {}, "NotFound", "does not exist"),
        ("s3://{bucket}/rows.jsonl", {"AWS_SECRET_ACCESS_KEY": "wrong-secret-123"}, "Denied", "credentialsSecret"),
        ("s3://{bucket}/rows.jsonl", {"AWS_ACCESS_KEY_ID": "AKIDUNKNOWN123"}, "Denied", "credentialsSecret"),
        (
            "s3://{bucket}/rows.jsonl",
            {"AWS_ACCESS_KEY_ID": STRANGER, "AWS_SECRET_ACCESS_KEY": STRANGER_SECRET},
            "Denied",
            "credentialsSecret",
        ),
    ],
)
def test_a_refusal_says_what_to_fix_and_holds_no_credentials(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, address: str, variables: dict[str, str], kind: str, words: str
) -> None:
    bucket.put("rows.jsonl", b'{"text": "one"}\n')
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RemoteError, match=words) as refused:
        fetch_dataset(address.format(bucket=bucket.name), vision=False, endpoint=bucket.endpoint)
    assert refused.value.kind == kind
    told = str(refused.value) + str(refused.value.__cause__)
    keys = bucket.environment() | variables
    assert not [secret for name, secret in keys.items() if secret in told and name != "AWS_REGION"]
    assert SECRET not in told


def test_a_server_that_does_not_answer_is_a_reason_to_try_again(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model_garden.remote.stores.RETRIES", 0)
    with pytest.raises(RemoteError, match="check the network") as refused:
        fetch_dataset(bucket.url("rows.jsonl"), vision=False, endpoint="http://127.0.0.1:9")
    assert refused.value.kind == "Unreachable"


def test_two_processes_at_once_download_an_object_once(bucket: Bucket, cache: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    for number in range(20):
        bucket.put(f"sets/{number:02}.jsonl", b'{"text": "row"}\n' * 1000)
    told: list[tuple[int, int]] = []

    def fetch(_: int) -> Fetched:
        return fetch_dataset(
            bucket.url("sets"), vision=False, endpoint=bucket.endpoint, tell=lambda *at: told.append(at)
        )

    with ThreadPoolExecutor(4) as pool:
        fetched = list(pool.map(fetch, range(4)))
    assert len({one.path for one in fetched}) == 1
    assert len(list(fetched[0].path.glob("*.jsonl"))) == 20
    assert not [path for path in (cache / "snapshots").iterdir() if path.name.startswith("new-")]


def test_bytes_that_do_not_match_the_entity_tag_are_refused(bucket: Bucket) -> None:
    bucket.put("rows.jsonl", b'{"text": "one"}\n')
    (bucket.folder / "rows.jsonl").write_bytes(b'{"text": "two"}\n')  # as a disk that lost bytes
    with pytest.raises(RemoteError, match="MD5") as refused:
        fetch_dataset(bucket.url("rows.jsonl"), vision=False, endpoint=bucket.endpoint)
    assert refused.value.kind == "Damaged"


def test_more_than_the_cache_has_space_for_is_not_downloaded(cache: Path) -> None:
    weights = Found("https://example.org/model/model.safetensors", size=2**60, version="1")
    with (
        open_store(weights.address) as store,
        snapshot(Cache(cache), store, "https://example.org/model/", lambda *_: None) as made,
        pytest.raises(
            RemoteError, match=r"1073741824\.0 GiB are to be downloaded, but the cache \(.*\) has only"
        ) as full,
    ):
        made.add([weights])
    assert full.value.kind == "Full"


def test_a_cache_on_a_file_system_that_reports_no_size_is_used(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = shutil.disk_usage("/proc")
    assert nothing.total == 0
    monkeypatch.setattr(shutil, "disk_usage", lambda _: nothing)
    web.files = {"/rows.jsonl": ROWS, "/pictures/a b.png": PICTURE}
    assert problems(fetch_dataset(f"{web.url}/rows.jsonl", vision=True)) == []
