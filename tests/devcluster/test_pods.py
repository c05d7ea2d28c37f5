"""Pods run as processes: what a user of a Job or pod sees of start, output, end and deletion."""

import json
import subprocess
import time

import pytest

from devcluster.processes import birth
from tests.devcluster.objects import container, ended, job, pod, state, waiting

pytestmark = pytest.mark.cluster


def test_a_job_completes(cluster, run, unique):
    run(job(unique, container("print('trained')")))
    cluster.kubectl("wait", "--for=condition=complete", f"job/{unique}", "--timeout=60s")
    assert cluster.kubectl("logs", f"job/{unique}") == "trained\n"


def test_a_failing_job_shows_its_exit_code(cluster, run, unique):
    run(job(unique, container("sys.exit(3)")))
    cluster.kubectl("wait", "--for=condition=failed", f"job/{unique}", "--timeout=60s")
    (failed,) = cluster.get("pod", selector=f"job-name={unique}")
    assert state(failed)["terminated"]["exitCode"] == 3
    assert failed["status"]["phase"] == "Failed"


def test_a_failure_policy_acts_on_the_exit_code(cluster, run, unique):
    rule = {"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [3]}}
    run(job(unique, container("sys.exit(3)"), backoffLimit=5, podFailurePolicy={"rules": [rule]}))
    cluster.kubectl("wait", "--for=condition=failed", f"job/{unique}", "--timeout=60s")
    conditions = {c["type"]: c for c in cluster.get("job", unique)["status"]["conditions"]}
    assert conditions["Failed"]["reason"] == "PodFailurePolicy"


def test_the_termination_message_is_read_from_its_path(cluster, run, unique):
    script = "open('termination-log', 'w').write('x' * 5000)"
    run(pod(unique, container(script, workingDir="/workspace", terminationMessagePath="/workspace/termination-log")))
    assert ended(cluster, unique)["message"] == "x" * 4096


def test_a_failed_container_without_a_message_shows_the_end_of_its_log(cluster, run, unique):
    script = "print('first'); print('last words', file=sys.stderr); sys.exit(1)"
    run(pod(unique, container(script, terminationMessagePolicy="FallbackToLogsOnError")))
    assert "last words" in ended(cluster, unique)["message"]


def test_a_signal_is_an_exit_code_above_128(cluster, run, unique):
    run(pod(unique, container("os.kill(os.getpid(), 9)")))
    assert ended(cluster, unique)["exitCode"] == 137


def test_logs_stream_while_the_pod_runs(cluster, run, unique, tmp_path):
    go_on = tmp_path / "go-on"
    run(pod(unique, container(f"print('one'); wait_for({str(go_on)!r}); print('two')")))
    cluster.until(lambda: "running" in state(cluster.get("pod", unique)))
    with subprocess.Popen(cluster.command("logs", "-f", unique), stdout=subprocess.PIPE, text=True) as logs:
        assert logs.stdout.readline() == "one\n"  # it arrives while the container waits for the file
        go_on.touch()
        assert logs.stdout.readline() == "two\n"
        assert logs.wait(timeout=60) == 0


def test_logs_can_be_cut_by_lines_time_and_bytes(cluster, run, unique):
    run(pod(unique, container("for i in range(5): print('line', i); time.sleep(0.05)")))
    ended(cluster, unique)
    assert cluster.kubectl("logs", unique, "--tail=2") == "line 3\nline 4\n"
    assert cluster.kubectl("logs", unique, "--limit-bytes=8") == "line 0\nl"
    stamped = [line.split(" ", 1) for line in cluster.kubectl("logs", unique, "--timestamps").splitlines()]
    assert [text for _, text in stamped] == [f"line {i}" for i in range(5)]
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 60))
    assert cluster.kubectl("logs", unique, f"--since-time={soon}") == ""
    assert cluster.kubectl("logs", unique, "--since=1h").count("\n") == 5


def test_a_line_longer_than_a_part_comes_out_whole(cluster, run, unique):
    run(pod(unique, container("print('x' * 50000); print('y', end='')")))
    ended(cluster, unique)
    assert cluster.kubectl("logs", unique) == "x" * 50000 + "\ny"


def test_deletion_gives_time_to_save(cluster, run, unique, tmp_path):
    saved = tmp_path / "saved"
    script = f"""
import signal
def save(*_):
    open({str(saved)!r}, 'w').write('checkpoint')
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
print('ready')
time.sleep(600)
"""
    run(pod(unique, container(script)))
    cluster.until(lambda: cluster.try_kubectl("logs", unique).stdout == "ready\n")
    cluster.kubectl("delete", "pod", unique, "--timeout=60s")
    assert saved.read_text() == "checkpoint"


def test_a_pod_that_ignores_sigterm_is_killed_after_its_grace_period(cluster, run, unique):
    script = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(os.getpid()); time.sleep(600)"
    run(pod(unique, container(script), terminationGracePeriodSeconds=1))
    pid = int(cluster.until(lambda: cluster.try_kubectl("logs", unique).stdout))
    began = time.monotonic()
    cluster.kubectl("delete", "pod", unique, "--timeout=60s")
    assert 0.9 < time.monotonic() - began < 30, "30 s is the grace period of a pod that asks for none"
    assert birth(pid) is None


def test_forced_deletion_ends_the_process_at_once(cluster, run, unique):
    run(pod(unique, container("print(os.getpid()); time.sleep(60)")))
    pid = int(cluster.until(lambda: cluster.try_kubectl("logs", unique).stdout))
    cluster.kubectl("delete", "pod", unique, "--force", "--grace-period=0")
    cluster.until(lambda: birth(pid) is None)


def test_nothing_a_container_started_outlives_it(cluster, run, unique):
    daemon = "import subprocess; p = subprocess.Popen(['sleep', '60'], start_new_session=True); print(p.pid)"
    run(pod(unique, container(daemon)))
    ended(cluster, unique)
    assert birth(int(cluster.kubectl("logs", unique))) is None


def test_a_changed_annotation_reaches_the_pod_sooner_than_from_a_kubelet(cluster, run, unique):
    items = [{"path": "annotations", "fieldRef": {"fieldPath": "metadata.annotations"}}]
    script = """
print('watching')
while 'stop="save"' not in open('podinfo/annotations').read():
    time.sleep(0.02)
print(time.time())
"""
    mount = {"name": "podinfo", "mountPath": "/workspace/podinfo"}
    volumes = [{"name": "podinfo", "downwardAPI": {"items": items}}]
    run(pod(unique, container(script, workingDir="/workspace", volumeMounts=[mount]), volumes=volumes))
    cluster.until(lambda: cluster.try_kubectl("logs", unique).stdout == "watching\n")
    cluster.kubectl("annotate", "pod", unique, "stop=save")
    asked = time.time()
    ended(cluster, unique)
    assert float(cluster.kubectl("logs", unique).split()[1]) - asked < 30, "a kubelet looks once a minute"


def unschedulable(cluster, name):
    def message():
        conditions = cluster.get("pod", name)["status"].get("conditions", [])
        return next((c["message"] for c in conditions if c.get("reason") == "Unschedulable"), None)

    return cluster.until(message)


def test_an_image_that_cannot_be_pulled_says_so(cluster, run, unique):
    run(pod(unique, container() | {"image": "registry.invalid/team/trainer:1"}))
    wait = waiting(cluster, unique, "ImagePullBackOff")
    assert "registry.invalid/team/trainer:1" in wait["message"] and "no such host" in wait["message"]
    assert cluster.get("pod", unique)["status"]["phase"] == "Pending"
    events = cluster.kubectl("get", "events", f"--field-selector=involvedObject.name={unique}")
    assert "Failed to pull image" in events
    cluster.kubectl("set", "image", f"pod/{unique}", "main=example/python:2")  # and it runs once the name is mended
    assert ended(cluster, unique)["exitCode"] == 0


def test_a_container_without_a_command_is_refused(cluster, run, unique):
    run(pod(unique, {"name": "main", "image": "example/python:1"}))
    assert "set `command`" in waiting(cluster, unique, "CreateContainerConfigError")["message"]


def test_a_program_that_does_not_exist_fails_the_pod(cluster, run, unique):
    run(pod(unique, container() | {"command": ["no-such-program"]}))
    end = ended(cluster, unique)
    assert (end["exitCode"], end["reason"]) == (128, "StartError")
    assert "no-such-program" in end["message"]


def test_a_pods_own_deadline_fails_it(cluster, run, unique):
    run(pod(unique, container("time.sleep(60)"), activeDeadlineSeconds=1))
    cluster.until(lambda: cluster.get("pod", unique)["status"]["phase"] == "Failed")
    assert cluster.get("pod", unique)["status"]["reason"] == "DeadlineExceeded"


def test_eviction_marks_the_pod_as_disrupted(cluster, run, unique, tmp_path):
    run(job(unique, container("time.sleep(600)")))
    (victim,) = cluster.until(lambda: cluster.get("pod", selector=f"job-name={unique}"))
    name = victim["metadata"]["name"]
    cluster.until(lambda: "running" in state(cluster.get("pod", name)))
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "default"}}
    watch = cluster.command("get", "pod", name, "--watch", "-o", "json")
    seen = tmp_path / "seen"
    path = f"/api/v1/namespaces/default/pods/{name}/eviction"
    with seen.open("w") as file, subprocess.Popen(watch, stdout=file) as watching:
        try:
            cluster.until(seen.read_text, "the watch has begun")
            cluster.kubectl("create", "--raw", path, "-f", "-", content=json.dumps(body))
            cluster.until(lambda: cluster.get("pod", name) is None, "the evicted pod is gone")
            cluster.until(lambda: '"phase": "Failed"' in seen.read_text(), "the watch shows its end")
        finally:
            watching.terminate()
    assert "DisruptionTarget" in seen.read_text()


def test_exec_is_refused_in_plain_words(cluster, run, unique):
    run(pod(unique, container("time.sleep(60)")))
    cluster.until(lambda: "running" in state(cluster.get("pod", unique)))
    refused = cluster.try_kubectl("exec", unique, "--", "true")
    assert refused.returncode != 0 and "runs pods as processes" in refused.stderr
