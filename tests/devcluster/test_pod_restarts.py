"""Init containers, restarts and probes."""

import os
import signal
import socket

import pytest

from tests.devcluster.objects import container, ended, pod, state

pytestmark = pytest.mark.cluster


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
    cluster.kubectl("rollout", "status", f"deployment/{unique}", "--timeout=60s")


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
    cluster.kubectl("wait", "--for=condition=ready", f"pod/{unique}", "--timeout=60s")
    alive.unlink()
    cluster.until(lambda: status()["restartCount"] > 0)
    events = ("get", "events", f"--field-selector=involvedObject.name={unique}")
    cluster.until(lambda: "Liveness probe failed" in cluster.kubectl(*events))


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
    cluster.kubectl("wait", "--for=condition=ready", f"pod/{unique}", "--timeout=60s")
