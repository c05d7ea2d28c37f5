"""Data sets and models of a cluster: each operation a command in a pod, through a real API server."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from model_garden.builders.storage_job import StoragePlace, storage_job
from model_garden.cluster import Cluster, ClusterError, connect
from model_garden.services.errors import NotFound, Unavailable
from model_garden.storage import pod_start
from model_garden.storage.interface import BrokenDataset, DatasetQuestion, FileDigest, PreviewRequest, UploadRefused
from model_garden.storage.pod import PodStorage
from model_garden.storage.pod_start import running_pod
from model_garden.storage.unpack import unpack
from tests.cluster import TestCluster
from tests.devcluster.objects import claim, processes_in

pytestmark = pytest.mark.cluster
ROW = b'{"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]}\n'
PLACE = StoragePlace("pod-data", "pod-models")
Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def claims(cluster: TestCluster) -> Iterator[TestCluster]:
    """A cluster with the claims of PLACE, in a namespace that accepts restricted pods alone."""
    level = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "files", "labels": level}})
    cluster.until(lambda: cluster.get("serviceaccount", "default", "files"))
    for name in ("pod-data", "pod-models"):
        made = claim(name)
        made["metadata"]["namespace"] = "files"
        cluster.apply(made)
    yield cluster
    cluster.kubectl("delete", "jobs", "--all", "-n", "files", "--wait=false")


@pytest.fixture
def ask(claims: TestCluster, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """A function that calls another with a PodStorage."""
    monkeypatch.setenv("KUBECONFIG", str(claims.kubeconfig))

    def run(work: Callable[[PodStorage], Awaitable[Any]], place: StoragePlace = PLACE, user: str | None = None) -> Any:
        async def session() -> Any:
            async with await connect() as own, own.anonymous() as base:
                client: Cluster = base.with_token(user) if user else own
                return await work(PodStorage(client, "files", place))

        return asyncio.run(session())

    return run


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 100_000):
        yield content[start : start + 100_000]


def digest(path: str, content: bytes) -> FileDigest:
    return FileDigest(path=path, size=len(content), sha256=hashlib.sha256(content).hexdigest())


def uploaded(folder: str, files: dict[str, bytes], *, finish: bool = True) -> Callable[[PodStorage], Awaitable[Any]]:
    async def work(storage: PodStorage) -> Any:
        async with storage.upload(folder) as upload:
            for missing in await upload.missing([digest(*file) for file in files.items()]):
                await upload.add(missing.path, missing.size, pieces(files[missing.path]))
            return await upload.finish() if finish else None

    return work


def data_folder(claims: TestCluster, claim: str = "pod-data") -> Path:
    """The folder of the claim on this machine."""
    return next((claims.directory / "volumes").glob(f"files-{claim}-*"))


def leftovers(claims: TestCluster) -> list[Path]:
    """What an upload into the folder `half` has on the claim."""
    return [path for path in data_folder(claims).iterdir() if path.name.startswith((".upload", "half"))]


def test_a_data_set_goes_in_is_listed_read_and_deleted(ask: Ask) -> None:
    report = ask(uploaded("sums", {"rows.jsonl": ROW * 3}))
    assert (report.path, report.added, report.stored) == ("./data/sums/rows.jsonl", 1, True)
    (listed,) = [one for one in ask(lambda storage: storage.datasets()) if one.name == "sums"]
    assert (listed.path, listed.size) == ("./data/sums/rows.jsonl", 3 * len(ROW))
    preview = ask(lambda storage: storage.preview(PreviewRequest(path=listed.path, count=1)))
    assert (preview.total, preview.rows[0].turns[0].parts[0].text) == (3, "2+2?")
    assert ask(lambda storage: storage.check(DatasetQuestion(path=listed.path)))["rows"] == 3
    again = ask(uploaded("sums", {"rows.jsonl": ROW * 3}))
    assert (again.added, again.skipped) == (0, 1), "a file that is there is not sent again"
    ask(lambda storage: storage.remove("./data/sums"))
    assert "sums" not in [one.name for one in ask(lambda storage: storage.datasets())]


def test_a_broken_data_set_is_refused_with_its_row(ask: Ask) -> None:
    with pytest.raises(BrokenDataset, match="row 2"):
        ask(uploaded("broken", {"rows.jsonl": ROW + b'{"messages": []}\n'}))
    assert "broken" not in [one.name for one in ask(lambda storage: storage.datasets())]


def test_an_upload_that_breaks_off_leaves_nothing(ask: Ask, claims: TestCluster) -> None:
    async def work(storage: PodStorage) -> None:
        async def stops() -> AsyncIterator[bytes]:
            yield bytes(100_000)
            assert leftovers(claims), "it is on its way"
            raise ConnectionAbortedError

        async with storage.upload("half") as upload:
            await upload.add("rows.jsonl", 200_000, stops())

    with pytest.raises(ConnectionAbortedError):
        ask(work)
    claims.until(lambda: not leftovers(claims), "nothing is left")
    ask(uploaded("half", {"rows.jsonl": ROW}, finish=False))
    claims.until(lambda: not leftovers(claims), "nothing is left")


def test_content_that_is_not_what_was_announced_is_refused(ask: Ask) -> None:
    async def work(storage: PodStorage) -> None:
        async with storage.upload("changed") as upload:
            await upload.missing([digest("rows.jsonl", ROW)])
            await upload.add("rows.jsonl", len(ROW), pieces(ROW.replace(b"4", b"5")))
            await upload.finish()

    with pytest.raises(UploadRefused, match="SHA-256"):
        ask(work)


def test_a_model_comes_out_whole(ask: Ask, claims: TestCluster, tmp_path: Path) -> None:
    ask(lambda storage: storage.models())  # the claim has its folder now
    model = data_folder(claims, "pod-models") / "receipts"
    (model / "checkpoints/checkpoint-1").mkdir(parents=True)
    (model / "checkpoints/checkpoint-1/state").write_bytes(bytes(1000))
    (model / "adapter_config.json").write_text("{}")
    (model / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 20_000)

    async def work(storage: PodStorage) -> None:
        async with aclosing(storage.archive("./models/receipts")) as blocks:
            await unpack(blocks, tmp_path / "receipts", lambda _: None)

    (listed,) = ask(lambda storage: storage.models())
    assert listed.kinds == ["adapter"]
    ask(work)
    assert sorted(path.name for path in (tmp_path / "receipts").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert (tmp_path / "receipts/adapter_model.safetensors").read_bytes() == bytes(range(256)) * 20_000
    with pytest.raises(NotFound, match="nothing"):
        ask(lambda storage: anext(storage.archive("./models/nothing")))


def test_one_pod_serves_all_and_is_replaced_when_it_has_ended(ask: Ask, claims: TestCluster) -> None:
    ask(lambda storage: storage.datasets())
    (pod,) = [one["metadata"]["name"] for one in claims.get("pods", namespace="files")]
    ask(lambda storage: storage.datasets())
    assert [one["metadata"]["name"] for one in claims.get("pods", namespace="files")] == [pod]
    claims.kubectl("delete", "pod", pod, "-n", "files", "--grace-period=1")
    ask(lambda storage: storage.datasets())


def test_a_command_ends_with_its_caller(ask: Ask, claims: TestCluster) -> None:
    async def work(storage: PodStorage) -> None:
        async with storage.upload("gone"):
            assert any("model_garden.storage upload" in line for line in processes_in(claims.directory))

    ask(work)
    claims.until(
        lambda: not any("model_garden.storage upload" in line for line in processes_in(claims.directory)), "it ends"
    )


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        (StoragePlace("no-such-claim", "pod-models"), "PersistentVolumeClaim 'no-such-claim' does not exist"),
        (StoragePlace("pod-data", "pod-models", "registry.invalid/x:1"), "registry.invalid/x:1 .* cannot be pulled"),
    ],
)
def test_what_keeps_the_pod_from_starting_is_said(ask: Ask, place: StoragePlace, problem: str) -> None:
    with pytest.raises(Unavailable, match=problem):
        ask(lambda storage: storage.datasets(), place)


@pytest.mark.parametrize(("queue", "told"), [("default", "waits for Kueue, queue default"), ("", "names no queue")])
def test_a_suspended_job_is_waited_for_and_told(
    claims: TestCluster, monkeypatch: pytest.MonkeyPatch, queue: str, told: str
) -> None:
    """Kueue suspends every Job that it manages, also one without a queue, and resumes it when there is room."""
    place = StoragePlace("pod-data", "pod-models", f"example/queued{queue}:1")
    job = storage_job(place, "files")
    job["metadata"]["labels"] |= {"kueue.x-k8s.io/queue-name": queue} if queue else {}
    job["spec"]["suspend"] = True
    change = ("patch", "job", job["metadata"]["name"], "-n", "files", "-p", '{"spec":{"suspend":false}}')
    claims.apply(job)

    def resume(reason: str) -> None:
        if told in reason:
            claims.kubectl(*change)

    async def main() -> None:
        async with await connect() as own:
            with monkeypatch.context() as impatient, pytest.raises(Unavailable, match=f"within 0 seconds: .*{told}"):
                impatient.setattr(pod_start, "START_SECONDS", 0.0)
                await running_pod(own, "files", place, lambda _: None)
            assert await running_pod(own, "files", place, resume)

    monkeypatch.setenv("KUBECONFIG", str(claims.kubeconfig))
    asyncio.run(main())
    claims.kubectl("delete", "job", job["metadata"]["name"], "-n", "files", "--wait=false")


def test_a_user_without_rights_reads_which_are_missing(ask: Ask, claims: TestCluster) -> None:
    claims.kubectl("create", "serviceaccount", "nobody", "-n", "files")
    token = claims.kubectl("create", "token", "nobody", "-n", "files").strip()
    with pytest.raises(ClusterError, match='"get" and "create" on "pods/exec"') as failed:
        ask(lambda storage: storage.datasets(), PLACE, token)
    assert failed.value.status == 403
