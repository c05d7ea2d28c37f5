"""What dies is found: the node process, a container's shim, the cluster's own processes."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from devcluster import versions
from devcluster.cluster import is_free, load
from devcluster.control_plane import ORDER
from devcluster.processes import Process, birth
from tests.cluster import PATIENCE, TestCluster, devcluster
from tests.devcluster.objects import container, job, pod, processes_in, state

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A cluster that tests may break."""
    own = TestCluster(tmp_path_factory.mktemp("own") / "devcluster")
    try:
        own.up()
        yield own
    finally:
        own.down()


def record(cluster: TestCluster, name: str) -> Process:
    process = Process.read(cluster.directory / "run" / f"{name}.json")
    assert process
    return process


def pids(cluster: TestCluster) -> dict[str, int]:
    return {name: record(cluster, name).pid for name in ORDER}


def kill(cluster: TestCluster, *names: str) -> None:
    for process in [record(cluster, name) for name in names]:
        process.signal(signal.SIGKILL)
        cluster.until(lambda process=process: not process.alive)


def start_pod(own: TestCluster, name: str, script: str, **more) -> int:
    own.apply(pod(name, container("print(os.getpid())\n" + script), **more))
    return int(own.until(lambda: own.try_kubectl("logs", name).stdout.partition("\n")[0]))


def end_of(own: TestCluster, name: str):
    return own.until(lambda: state(own.get("pod", name)).get("terminated"))


def test_a_second_up_changes_nothing_and_is_quick(own):
    before, began = pids(own), time.monotonic()
    own.up()
    assert pids(own) == before
    assert time.monotonic() - began < PATIENCE


def test_status_tells_what_runs(own):
    done = devcluster("status", "--dir", str(own.directory))
    assert done.returncode == 0
    assert done.stdout.count(" ok") == len(ORDER)


def test_a_killed_node_finds_its_pods_again(own, tmp_path):
    go_on, seen = tmp_path / "go-on", tmp_path / "seen"
    script = f"wait_for({str(go_on)!r}); print('after'); sys.exit(7)"
    pid = start_pod(own, "lives-on", script, initContainers=[container(name="first")])
    own.until(lambda: state(own.get("pod", "lives-on")).get("running"))
    watch = own.command("get", "pod", "lives-on", "--watch", "-o", "jsonpath={.status}")
    with seen.open("w") as file, subprocess.Popen(watch, stdout=file) as watching:
        try:
            own.until(seen.read_text, "the watch has begun")
            kill(own, "node")
            assert birth(pid)
            own.up()
            go_on.touch()
            assert end_of(own, "lives-on")["exitCode"] == 7
            own.until(lambda: "Failed" in seen.read_text(), "the watch shows its end")
        finally:
            watching.terminate()
    assert "waiting" not in seen.read_text(), "its status never goes back"
    assert own.kubectl("logs", "lives-on") == f"{pid}\nafter\n"
    assert own.get("pod", "lives-on")["status"]["containerStatuses"][0]["restartCount"] == 0


def test_an_end_that_no_node_saw_is_still_told(own, tmp_path):
    go_on = tmp_path / "go-on"
    pid = start_pod(own, "ends-alone", f"wait_for({str(go_on)!r}); print('unseen'); sys.exit(5)")
    kill(own, "node")
    go_on.touch()
    own.until(lambda: birth(pid) is None)
    own.up()
    assert end_of(own, "ends-alone")["exitCode"] == 5
    assert own.kubectl("logs", "ends-alone") == f"{pid}\nunseen\n"


def test_a_pod_deleted_while_no_node_ran_is_ended(own):
    pid = start_pod(own, "goes", "time.sleep(600)")
    kill(own, "node")
    own.kubectl("delete", "pod", "goes", "--force", "--grace-period=0")
    own.up()
    own.until(lambda: birth(pid) is None)


def test_a_pod_that_is_asked_to_end_while_no_node_runs_gets_its_grace_period_and_is_ended(own, tmp_path):
    saved, ready = tmp_path / "saved", tmp_path / "ready"
    script = f"""
import signal
def save(*_):
    open({str(saved)!r}, 'w').write('checkpoint')
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
open({str(ready)!r}, 'w')
time.sleep(600)
"""
    pid = start_pod(own, "leaves", script)
    own.until(ready.exists)
    kill(own, "node")
    own.kubectl("delete", "pod", "leaves", "--wait=false")
    own.up()
    own.until(lambda: own.get("pod", "leaves") is None)
    assert birth(pid) is None
    assert saved.read_text() == "checkpoint"


def test_a_killed_shim_fails_the_pod_and_leaves_nothing(own):
    pid = start_pod(own, "shimless", "time.sleep(600)")
    shim = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(shim, signal.SIGKILL)
    end = end_of(own, "shimless")
    assert (end["exitCode"], end["reason"]) == (137, "ContainerStatusUnknown")
    own.until(lambda: birth(pid) is None)


def test_a_killed_api_server_is_replaced_and_nothing_is_lost(own, tmp_path):
    go_on = tmp_path / "go-on"
    start_pod(own, "survivor", f"wait_for({str(go_on)!r})")
    before = pids(own)
    kill(own, "kube-apiserver")
    go_on.touch()  # the pod ends while there is nobody to tell
    assert devcluster("status", "--dir", str(own.directory)).returncode == 1
    own.up()
    after = pids(own)
    assert after["kube-apiserver"] != before["kube-apiserver"]
    assert after["node"] == before["node"]
    assert end_of(own, "survivor")["exitCode"] == 0


def test_everything_killed_at_once_comes_back_with_its_data(own):
    own.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept"}, "data": {"a": "1"}})
    kill(own, *ORDER)
    own.up()
    assert own.get("configmap", "kept")["data"] == {"a": "1"}
    own.apply(pod("after-all", container("print('works')")))
    assert end_of(own, "after-all")["exitCode"] == 0


def test_a_stuck_process_is_replaced(own):
    process = record(own, "kube-scheduler")
    process.signal(signal.SIGSTOP)
    own.up()
    assert record(own, "kube-scheduler").pid != process.pid
    assert not process.alive


def test_a_pid_that_belongs_to_somebody_else_now_is_left_alone(own):
    """The record of the scheduler names this test's own process, as after a reboot that gave its pid away."""
    kill(own, "kube-scheduler")
    mine = Process(os.getpid(), "another-boot/1", [])
    mine.write(own.directory / "run" / "kube-scheduler.json")
    own.up()  # and this process still runs
    assert record(own, "kube-scheduler").pid != os.getpid()


def test_taken_ports_are_changed(own):
    found = load(own.directory)
    assert found
    kill(own, "kube-apiserver")
    with socket.socket() as intruder:
        intruder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        own.until(lambda: is_free(found.ports["kube-apiserver"]))
        intruder.bind(("127.0.0.1", found.ports["kube-apiserver"]))
        intruder.listen()
        own.up()
    moved = load(own.directory)
    assert moved and moved.ports["kube-apiserver"] != found.ports["kube-apiserver"]
    assert own.get("node", "localhost")


def test_more_gpus_on_request(own):
    own.up("--gpus", "3")
    node = own.until(
        lambda: (node := own.get("node", "localhost"))["status"]["capacity"]["nvidia.com/gpu"] == "3" and node
    )
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "3"


def test_two_clusters_side_by_side(own, cluster):
    own.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine"}})
    assert cluster.get("configmap", "mine") is None
    ports = [load(each.directory).ports for each in (own, cluster)]
    assert not set(ports[0].values()) & set(ports[1].values())


def test_down_leaves_no_process_and_up_continues(own):
    pid = start_pod(own, "runs", "import subprocess; subprocess.Popen(['sleep', '600']); time.sleep(600)")
    done = devcluster("down", "--dir", str(own.directory))
    assert done.returncode == 0, done.stderr
    assert birth(pid) is None
    assert processes_in(own.directory) == []
    assert devcluster("status", "--dir", str(own.directory)).returncode == 1
    own.up()
    assert end_of(own, "runs")["exitCode"] != 0


def test_down_all_and_delete_leave_nothing(own, tmp_path):
    where = {"XDG_STATE_HOME": str(tmp_path)}
    done = devcluster("up", "--name", "another", environment=where)
    assert done.returncode == 0, done.stdout + done.stderr
    done = devcluster("down", "--all", "--delete", environment=where)
    assert done.returncode == 0, done.stdout + done.stderr
    assert processes_in(tmp_path) == []
    assert not list((tmp_path / "model-garden" / "devcluster").iterdir())
    assert devcluster("down", environment=where).returncode == 0  # nothing there is no error
    assert birth(record(own, "etcd").pid)  # and other clusters are not touched


def test_kubectl_and_kubeconfig_speak_of_the_chosen_cluster(own):
    where = ("--dir", str(own.directory))
    assert devcluster(*where, "kubeconfig").stdout.strip() == str(own.kubeconfig)
    asked = devcluster(*where, "kubectl", "get", "nodes", "--no-headers", "-o", "name")
    assert asked.stdout == "node/localhost\n"
    refused = devcluster(*where, "kubectl", "get", "pod", "not-there", "-n", "default")
    assert refused.returncode == 1 and "not found" in refused.stderr


def test_a_cluster_that_was_never_up_is_named(tmp_path):
    refused = devcluster("--dir", str(tmp_path / "none"), "kubectl", "get", "nodes")
    assert refused.returncode == 1
    assert f"no cluster in {tmp_path}/none: run `devcluster up` first" in refused.stderr


def test_a_process_that_cannot_start_is_named_with_its_last_words(tmp_path):
    for name in versions.CLUSTER:
        (tmp_path / name).write_text(f"#!/bin/sh\necho {name} is broken >&2\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    directory = tmp_path / "cluster"
    failed = devcluster("up", "--dir", str(directory), environment={"KUBE_BIN_DIR": str(tmp_path)})
    assert failed.returncode == 1
    assert "etcd ended by itself" in failed.stderr and "etcd is broken" in failed.stderr
    assert devcluster("down", "--delete", "--dir", str(directory)).returncode == 0
    assert processes_in(directory) == []


def test_a_node_killed_again_and_again_runs_each_pod_once(own, tmp_path):
    names = [f"once-{number}" for number in range(8)]
    for number, name in enumerate(names):
        script = f"open({str(tmp_path / name)!r}, 'a').write('x'); time.sleep({number / 2})"
        own.apply(job(name, container(script)))
        if number % 3 == 0:
            kill(own, "node")
            own.up()
    own.kubectl("wait", "--for=condition=complete", *(f"job/{name}" for name in names), "--timeout=60s")
    assert [(tmp_path / name).read_text() for name in names] == ["x"] * len(names)
