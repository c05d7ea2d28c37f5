"""A command in a running container, through a real API server, with the streams of a program of its own."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator

import pytest

from devcluster.processes import Process
from model_garden.cluster import Cluster, ClusterError, connect, exec, execute
from tests.cluster import TestCluster
from tests.devcluster.objects import container, pod, processes_in

pytestmark = pytest.mark.cluster
MIB = 1024 * 1024
COPY = """
import sys
size = int.from_bytes(sys.stdin.buffer.read(8), "big")
while size:
    piece = sys.stdin.buffer.read1(min(size, 65536))
    sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()
    size -= len(piece)
"""


@pytest.fixture(scope="module")
def target(cluster: TestCluster) -> Iterator[TestCluster]:
    """A cluster with a pod `target` that runs until it is deleted."""
    main = container("wait_for('/never')", workingDir="/workspace", env=[{"name": "COLOR", "value": "red"}])
    main["volumeMounts"] = [{"name": "data", "mountPath": "/workspace/data"}]
    cluster.apply(pod("target", main, volumes=[{"name": "data", "emptyDir": {}}]))
    cluster.kubectl("wait", "--for=condition=Ready", "pod/target", "--timeout=60s")
    yield cluster
    cluster.kubectl("delete", "pod", "target", "--grace-period=1", "--wait=false")


@pytest.fixture
def ask(target: TestCluster, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Cluster], Awaitable[None]]], None]:
    """A function that runs a coroutine with a client of the cluster."""
    monkeypatch.setenv("KUBECONFIG", str(target.kubeconfig))

    def run(work: Callable[[Cluster], Awaitable[None]]) -> None:
        async def session() -> None:
            async with await connect() as client:
                await work(client)

        asyncio.run(session())

    return run


async def run_python(client: Cluster, script: str, *arguments: str) -> tuple[bytes, int, str]:
    """Stdout, exit code and stderr of a script in the pod."""
    output = b""
    async with execute(client, "target", ["python", "-c", script, *arguments], container="main") as command:
        while piece := await command.read():
            output += piece
        return output, await command.wait(), command.stderr


def test_a_command_runs_in_the_container_s_place(ask) -> None:
    script = "import os, sys; print(os.environ['COLOR'], os.listdir(sys.argv[1])); sys.stderr.write('bad'); exit(3)"

    async def work(client: Cluster) -> None:
        assert await run_python(client, script, "/workspace/data") == (b"red []\n", 3, "bad")

    ask(work)


def test_what_is_written_comes_back_whole(ask) -> None:
    """Much more than every buffer on the way holds, so that both sides wait for each other."""
    sent = bytes(range(256)) * (24 * MIB // 256)

    async def work(client: Cluster) -> None:
        async with execute(client, "target", ["python", "-c", COPY], container="main") as command:

            async def send() -> None:
                await command.write(len(sent).to_bytes(8, "big"))
                for start in range(0, len(sent), MIB):
                    await command.write(sent[start : start + MIB])

            sending = asyncio.create_task(send())
            received = bytearray()
            while piece := await command.read():
                received += piece
            await sending
            assert await command.wait() == 0
            assert received == sent

    ask(work)


def test_a_command_that_reads_nothing_holds_the_sender_back(ask) -> None:
    async def work(client: Cluster) -> None:
        words = ["python", "-c", "import time; time.sleep(600)"]
        async with execute(client, "target", words, container="main") as command:
            written = 0
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(5):
                    while True:
                        await command.write(bytes(MIB))
                        written += 1
            assert written < 64

    ask(work)


def test_a_command_ends_with_its_connection(ask, target: TestCluster) -> None:
    async def work(client: Cluster) -> None:
        words = ["python", "-c", "import time; print('up', flush=True); time.sleep(654321)"]
        async with execute(client, "target", words, container="main") as command:
            assert (await command.read()).startswith(b"up")  # its line may come in two pieces
            assert any("654321" in line for line in processes_in(target.directory))

    ask(work)
    target.until(lambda: not any("654321" in line for line in processes_in(target.directory)), "the command ends")


def test_a_command_that_is_silent_for_long_is_not_lost(ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exec, "PING_SECONDS", 0.2)
    monkeypatch.setattr(exec, "DEAD_SECONDS", 5)

    async def work(client: Cluster) -> None:
        assert await run_python(client, "import time; time.sleep(8); print('done')") == (b"done\n", 0, "")

    ask(work)


def test_a_connection_on_which_nothing_is_heard_any_more_is_lost(
    ask, target: TestCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exec, "PING_SECONDS", 0.2)
    monkeypatch.setattr(exec, "DEAD_SECONDS", 5)
    server = Process.read(target.directory / "run" / "kube-apiserver.json")
    assert server

    async def work(client: Cluster) -> None:
        words = ["python", "-c", "import time; print('up', flush=True); time.sleep(600)"]
        async with execute(client, "target", words, container="main") as command:
            assert (await command.read()).startswith(b"up")
            server.signal(signal.SIGSTOP)
            try:
                while await command.read():
                    pass
                with pytest.raises(ClusterError, match="closed before the command ended"):
                    await command.wait()
            finally:
                server.signal(signal.SIGCONT)

    ask(work)


def test_input_for_a_command_that_has_ended_is_an_error_with_its_last_words(ask) -> None:
    async def work(client: Cluster) -> None:
        async with execute(client, "target", ["python", "-c", "exit('disk full')"], container="main") as command:
            with pytest.raises(ClusterError, match="disk full"):
                while True:
                    await command.write(bytes(MIB))

    ask(work)


def test_a_program_that_is_missing_is_an_error(ask) -> None:
    async def work(client: Cluster) -> None:
        async with execute(client, "target", ["no-such-program"], container="main") as command:
            assert not await command.read()
            with pytest.raises(ClusterError, match="no-such-program"):
                await command.wait()

    ask(work)


def test_a_pod_that_is_gone_is_an_error(ask) -> None:
    async def work(client: Cluster) -> None:
        with pytest.raises(ClusterError, match="pod nothing of namespace default is not running") as failed:
            async with execute(client, "nothing", ["true"], container="main"):
                pass
        assert failed.value.status == 404

    ask(work)


def test_a_user_without_the_right_reads_which_one_is_missing(ask, target: TestCluster) -> None:
    target.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "exec-nobody"}})
    token = target.kubectl("create", "token", "exec-nobody").strip()

    async def work(client: Cluster) -> None:
        async with client.anonymous() as base:
            with pytest.raises(ClusterError, match='"get" and "create" on the resource "pods/exec"') as failed:
                async with execute(base.with_token(token), "target", ["true"], "default", container="main"):
                    pass
            assert failed.value.status == 403

    ask(work)
