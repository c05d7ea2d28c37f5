"""Pods run as processes: what a user of a Job or pod sees of start, output, end and deletion."""

import json
import os
import signal
import socket
import subprocess
import time

import pytest

from devcluster.processes import birth
from tests.devcluster.objects import claim, container, job, pod, state

pytestmark = pytest.mark.cluster


def ended(cluster, name):
    return cluster.until(lambda: state(cluster.get("pod", name)).get("terminated"), f"pod {name} ends")


def test_a_job_completes(cluster, run, unique):
    run(job(unique, container("print('trained')")))
    cluster.kubectl("wait", "--for=condition=complete", f"job/{unique}", "--timeout=30s")
    assert cluster.kubectl("logs", f"job/{unique}") == "trained\n"


def test_a_failing_job_shows_its_exit_code(cluster, run, unique):
    run(job(unique, container("sys.exit(3)")))
    cluster.kubectl("wait", "--for=condition=failed", f"job/{unique}", "--timeout=30s")
    (failed,) = cluster.get("pod", selector=f"job-name={unique}")
    assert state(failed)["terminated"]["exitCode"] == 3
    assert failed["status"]["phase"] == "Failed"


def test_a_failure_policy_acts_on_the_exit_code(cluster, run, unique):
    rule = {"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [3]}}
    run(job(unique, container("sys.exit(3)"), backoffLimit=5, podFailurePolicy={"rules": [rule]}))
    cluster.kubectl("wait", "--for=condition=failed", f"job/{unique}", "--timeout=30s")
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
        assert logs.wait(timeout=30) == 0


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
time.sleep(60)
"""
    run(pod(unique, container(script)))
    cluster.until(lambda: cluster.try_kubectl("logs", unique).stdout == "ready\n")
    cluster.kubectl("delete", "pod", unique, "--timeout=20s")
    assert saved.read_text() == "checkpoint"


def test_a_pod_that_ignores_sigterm_is_killed_after_its_grace_period(cluster, run, unique):
    script = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(os.getpid()); time.sleep(60)"
    run(pod(unique, container(script), terminationGracePeriodSeconds=1))
    pid = int(cluster.until(lambda: cluster.try_kubectl("logs", unique).stdout))
    began = time.monotonic()
    cluster.kubectl("delete", "pod", unique, "--timeout=20s")
    assert 0.9 < time.monotonic() - began < 10
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


def test_a_changed_annotation_reaches_the_pod_within_a_second(cluster, run, unique):
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
    asked = time.time()
    cluster.kubectl("annotate", "pod", unique, "stop=save")
    ended(cluster, unique)
    assert float(cluster.kubectl("logs", unique).split()[1]) - asked < 1


def test_environment_comes_from_all_its_sources(cluster, run, unique):
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": unique}, "data": {"COLOUR": "blue"}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": unique}, "stringData": {"key": "hush"}}
    env = [
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "TEAM", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['team']"}}},
        {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": unique, "key": "key"}}},
        {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "none", "key": "key", "optional": True}}},
        {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
        {"name": "PAIR", "value": "$(NAME)-$(COLOUR)-$$(NAME)-$(UNKNOWN)"},
        {"name": "CACHE", "value": "/workspace/cache"},
    ]
    names = ("NAME", "NODE", "TEAM", "SECRET", "NONE", "MEMORY", "PAIR", "COLOUR", "KUBECONFIG")
    script = f"""
for name in {names}: print(name, os.environ.get(name))
print(os.environ['CACHE'] == os.getcwd() + '/cache', sys.argv[1:])
"""
    main = container(
        script,
        workingDir="/workspace",
        env=env,
        envFrom=[{"configMapRef": {"name": unique}}],
        resources={"limits": {"memory": "64Mi"}},
    )
    main["command"] += ["$(NAME)"]
    run(settings, secret, pod(unique, main, annotations={"team": "vision"}, automountServiceAccountToken=False))
    assert ended(cluster, unique)["exitCode"] == 0
    assert cluster.kubectl("logs", unique).splitlines() == [
        f"NAME {unique}",
        "NODE localhost",
        "TEAM vision",
        "SECRET hush",
        "NONE None",
        "MEMORY 64",
        f"PAIR {unique}-blue-$(NAME)-$(UNKNOWN)",
        "COLOUR blue",
        "KUBECONFIG None",
        f"True ['{unique}']",
    ]


def test_volumes_of_files_hold_what_they_name(cluster, run, unique):
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": unique}, "data": {"a": "1", "b": "2"}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": unique}, "stringData": {"key": "hush"}}
    volumes = [
        {"name": "settings", "configMap": {"name": unique}},
        {"name": "secret", "secret": {"secretName": unique, "items": [{"key": "key", "path": "deep/file"}]}},
        {"name": "mixed", "projected": {"sources": [{"configMap": {"name": unique}}, {"secret": {"name": unique}}]}},
        {"name": "scratch", "emptyDir": {}},
    ]
    mounts = [{"name": volume["name"], "mountPath": f"/workspace/{volume['name']}"} for volume in volumes]
    script = """
print(sorted(os.listdir('settings')), open('secret/deep/file').read(), sorted(os.listdir('mixed')))
open('scratch/x', 'w').write('written')
print(open('scratch/x').read())
"""
    main = container(script, workingDir="/workspace", volumeMounts=mounts)
    run(settings, secret, pod(unique, main, volumes=volumes))
    assert ended(cluster, unique)["exitCode"] == 0, cluster.kubectl("logs", unique)
    assert cluster.kubectl("logs", unique) == "['a', 'b'] hush ['a', 'b', 'key']\nwritten\n"


def test_a_claim_keeps_its_files_from_pod_to_pod_and_goes_with_them(cluster, run, unique):
    mounts = [{"name": "models", "mountPath": "/workspace/models"}]
    volumes = [{"name": "models", "persistentVolumeClaim": {"claimName": unique}}]
    main = {"workingDir": "/workspace", "volumeMounts": mounts}
    run(claim(unique), pod(unique, container("open('models/adapter', 'w').write('weights')", **main), volumes=volumes))
    assert ended(cluster, unique)["exitCode"] == 0
    run(pod(f"{unique}-b", container("print(open('models/adapter').read())", **main), volumes=volumes))
    assert ended(cluster, f"{unique}-b")["exitCode"] == 0
    assert cluster.kubectl("logs", f"{unique}-b") == "weights\n"
    (folder,) = (cluster.directory / "volumes").glob(f"default-{unique}-*")
    assert (folder / "adapter").read_text() == "weights"
    cluster.kubectl("delete", "pod", unique, f"{unique}-b")
    cluster.kubectl("delete", "pvc", unique)
    cluster.until(lambda: not folder.exists(), "the folder of the deleted claim is removed")


def test_a_missing_claim_leaves_the_pod_pending(cluster, run, unique):
    volumes = [{"name": "models", "persistentVolumeClaim": {"claimName": "not-there"}}]
    run(pod(unique, container("print('never')"), volumes=volumes))
    assert 'persistentvolumeclaim "not-there" not found' in unschedulable(cluster, unique)


def test_a_second_pod_waits_for_the_gpu(cluster, run, unique, tmp_path):
    gpu = {"resources": {"limits": {"nvidia.com/gpu": 1}}}
    go_on = tmp_path / "go-on"
    run(pod(f"{unique}-a", container(f"wait_for({str(go_on)!r})", **gpu)))
    cluster.until(lambda: "running" in state(cluster.get("pod", f"{unique}-a")))
    run(pod(f"{unique}-b", container("print('my turn')", **gpu)))
    assert "Insufficient nvidia.com/gpu" in unschedulable(cluster, f"{unique}-b")
    go_on.touch()
    assert ended(cluster, f"{unique}-b")["exitCode"] == 0


def unschedulable(cluster, name):
    def message():
        conditions = cluster.get("pod", name)["status"].get("conditions", [])
        return next((c["message"] for c in conditions if c.get("reason") == "Unschedulable"), None)

    return cluster.until(message)


def waiting(cluster, name, reason):
    def found():
        wait = state(cluster.get("pod", name)).get("waiting", {})
        return wait if wait.get("reason") == reason else None

    return cluster.until(found, f"pod {name} waits with {reason}")


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


def test_a_missing_secret_is_waited_for(cluster, run, unique):
    variable = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": unique, "key": "token"}}}
    run(pod(unique, container("print(os.environ['TOKEN'])", env=[variable])))
    assert unique in waiting(cluster, unique, "CreateContainerConfigError")["message"]
    run({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": unique}, "stringData": {"token": "hush"}})
    ended(cluster, unique)
    assert cluster.kubectl("logs", unique) == "hush\n"


def test_a_program_that_does_not_exist_fails_the_pod(cluster, run, unique):
    run(pod(unique, container() | {"command": ["no-such-program"]}))
    end = ended(cluster, unique)
    assert (end["exitCode"], end["reason"]) == (128, "StartError")
    assert "no-such-program" in end["message"]


def test_init_containers_run_first_and_in_order(cluster, run, unique):
    mounts = [{"name": "shared", "mountPath": "/workspace"}]
    common = {"workingDir": "/workspace", "volumeMounts": mounts}
    first = container("open('order', 'a').write('first ')", name="first", **common)
    second = container("open('order', 'a').write('second ')", name="second", **common)
    main = container("print(open('order').read() + 'main')", **common)
    run(pod(unique, main, initContainers=[first, second], volumes=[{"name": "shared", "emptyDir": {}}]))
    ended(cluster, unique)
    assert cluster.kubectl("logs", unique, "-c", "main") == "first second main\n"


def test_a_failed_init_container_fails_the_pod(cluster, run, unique):
    run(pod(unique, container("print('never')"), initContainers=[container("sys.exit(2)", name="first")]))
    cluster.until(lambda: cluster.get("pod", unique)["status"]["phase"] == "Failed")
    assert state(cluster.get("pod", unique))["waiting"]["reason"] == "PodInitializing"


def test_on_failure_restarts_in_place_until_it_works(cluster, run, unique, tmp_path):
    count = tmp_path / "count"
    script = f"open({str(count)!r}, 'a').write('x'); n = len(open({str(count)!r}).read()); print(n); sys.exit(n < 3)"
    run(pod(unique, container(script), policy="OnFailure"))
    cluster.until(lambda: cluster.get("pod", unique)["status"]["phase"] == "Succeeded")
    (status,) = cluster.get("pod", unique)["status"]["containerStatuses"]
    assert status["restartCount"] == 2
    assert status["lastState"]["terminated"]["exitCode"] == 1
    assert cluster.kubectl("logs", unique) == "3\n"
    assert cluster.kubectl("logs", unique, "--previous") == "2\n"


def test_the_pod_of_a_deployment_comes_back(cluster, run, unique):
    labels = {"app": unique}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [container("print(os.getpid()); time.sleep(600)")], "terminationGracePeriodSeconds": 1},
    }
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    run({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": unique}, "spec": spec})
    pid = int(cluster.until(lambda: cluster.try_kubectl("logs", f"deployment/{unique}").stdout))
    os.kill(pid, signal.SIGKILL)
    again = cluster.until(lambda: cluster.try_kubectl("logs", f"deployment/{unique}").stdout.replace(f"{pid}\n", ""))
    assert int(again) != pid
    cluster.kubectl("rollout", "status", f"deployment/{unique}", "--timeout=30s")


def test_readiness_gates_and_liveness_restarts(cluster, run, unique, tmp_path):
    ready, alive = tmp_path / "ready", tmp_path / "alive"
    alive.touch()
    quick = {"periodSeconds": 1, "failureThreshold": 1}
    main = container(
        "time.sleep(600)",
        readinessProbe={"exec": {"command": ["test", "-e", str(ready)]}, **quick},
        livenessProbe={"exec": {"command": ["test", "-e", str(alive)]}, **quick},
    )
    run(pod(unique, main, policy="Always", terminationGracePeriodSeconds=1))

    def status():
        return cluster.get("pod", unique)["status"]["containerStatuses"][0]

    cluster.until(lambda: "running" in state(cluster.get("pod", unique)))
    assert not status()["ready"]
    ready.touch()
    cluster.kubectl("wait", "--for=condition=ready", f"pod/{unique}", "--timeout=20s")
    alive.unlink()
    cluster.until(lambda: status()["restartCount"] > 0)
    events = cluster.kubectl("get", "events", f"--field-selector=involvedObject.name={unique}")
    assert "Liveness probe failed" in events


def test_an_http_probe_makes_a_pod_ready(cluster, run, unique):
    with socket.socket() as chosen:  # all pods share the machine's ports: take one that is free
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    script = f"""
import http.server
http.server.HTTPServer(('127.0.0.1', {port}), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
    probe = {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 1}
    run(pod(unique, container(script, ports=[{"name": "web", "containerPort": port}], readinessProbe=probe)))
    cluster.kubectl("wait", "--for=condition=ready", f"pod/{unique}", "--timeout=20s")


def test_a_port_that_is_taken_is_told(cluster, run, unique):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        run(pod(unique, container("print('tries')", ports=[{"containerPort": port}])))
        selector = f"--field-selector=involvedObject.name={unique},reason=PortTaken"
        told = cluster.until(lambda: cluster.kubectl("get", "events", selector, "--no-headers", "--ignore-not-found"))
    assert f"port {port} of container main is in use" in told


def test_a_pod_may_do_what_its_service_account_may(cluster, run, unique):
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": unique}}
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}
    role = {"kind": "Role", "metadata": {"name": unique}, "rules": [rule]}
    binding = {
        "kind": "RoleBinding",
        "metadata": {"name": unique},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": unique},
        "subjects": [{"kind": "ServiceAccount", "name": unique, "namespace": "default"}],
    }
    version = {"apiVersion": "rbac.authorization.k8s.io/v1"}
    script = """
import base64, json, ssl, urllib.error, urllib.request
config = json.load(open(os.environ['KUBECONFIG']))
place, user = config['clusters'][0]['cluster'], config['users'][0]['user']
authority = base64.b64decode(place['certificate-authority-data']).decode()
context = ssl.create_default_context(cadata=authority)
def ask(kind):
    url = place['server'] + '/api/v1/namespaces/default/' + kind
    request = urllib.request.Request(url, headers={'Authorization': 'Bearer ' + open(user['tokenFile']).read()})
    try:
        return urllib.request.urlopen(request, context=context).status
    except urllib.error.HTTPError as error:
        return error.code
print(ask('configmaps'), ask('secrets'), config['contexts'][0]['context']['namespace'])
"""
    run(account, version | role, version | binding, pod(unique, container(script), serviceAccountName=unique))
    assert ended(cluster, unique)["exitCode"] == 0, cluster.kubectl("logs", unique)
    assert cluster.kubectl("logs", unique) == "200 403 default\n"


def test_a_pods_own_deadline_fails_it(cluster, run, unique):
    run(pod(unique, container("time.sleep(60)"), activeDeadlineSeconds=1))
    cluster.until(lambda: cluster.get("pod", unique)["status"]["phase"] == "Failed")
    assert cluster.get("pod", unique)["status"]["reason"] == "DeadlineExceeded"


def test_eviction_marks_the_pod_as_disrupted(cluster, run, unique):
    run(job(unique, container("time.sleep(60)")))
    (victim,) = cluster.until(lambda: cluster.get("pod", selector=f"job-name={unique}"))
    name = victim["metadata"]["name"]
    cluster.until(lambda: "running" in state(cluster.get("pod", name)))
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "default"}}
    watch = cluster.command("get", "pod", name, "--watch", "-o", "json")
    seen = subprocess.Popen(watch, stdout=subprocess.PIPE, text=True)
    path = f"/api/v1/namespaces/default/pods/{name}/eviction"
    cluster.kubectl("create", "--raw", path, "-f", "-", content=json.dumps(body))
    cluster.until(lambda: cluster.get("pod", name) is None, "the evicted pod is gone")
    seen.terminate()
    history = seen.communicate()[0]
    assert "DisruptionTarget" in history and '"phase": "Failed"' in history


def test_exec_is_refused_in_plain_words(cluster, run, unique):
    run(pod(unique, container("time.sleep(60)")))
    cluster.until(lambda: "running" in state(cluster.get("pod", unique)))
    refused = cluster.try_kubectl("exec", unique, "--", "true")
    assert refused.returncode != 0 and "runs pods as processes" in refused.stderr
