"""The chart, the operator's image and jobs in containers of a real kubelet, under the Pod Security level `restricted`.

The jobs run the scripted trainer in the operator's image; MODEL_GARDEN_TEST_TRAINER_IMAGE=1 builds the trainer's image,
too (7 GB), and trains the demo's vision model in it.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.steps import ROOT, Kubectl, check, load_back, material, train
from devcluster.binaries import ensure_binaries
from devcluster.kubelet.requirements import RequirementsError
from devcluster.kubelet.requirements import check as check_requirements
from devcluster.kubelet.settings import BRIDGE, PAUSE_IMAGE
from model_garden import __version__
from model_garden.builders.job import pod_security, restricted_container
from tests.cluster import Object, TestCluster, devcluster
from tests.controller.harness import CLAIMS, OperatorHarness, condition
from tests.devcluster.objects import processes_in, state
from tests.images.builds import archive, build, run
from tools.images import NoBuilder, find_builder

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]  # the first test builds an image

OPERATOR = "model-garden/operator:test"
TRAINER = ROOT / "tests/controller/scripted_trainer.py"
NAMESPACE = "garden"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
ENDLESS: dict[str, object] = {"STEPS": 100_000, "STEP_SECONDS": 0.1, "SAVE_EVERY": 100_000}
"""A training that does not end by itself before a busy machine has done to its pod what a test asks for."""
SYSCTLS = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestCluster]:
    """A cluster whose node is a kubelet. At its end nothing of it may be left on the machine."""
    directory = tmp_path_factory.mktemp("kubelet")
    try:
        check_requirements(directory)
    except RequirementsError as error:
        pytest.skip(str(error))
    before, cluster = sysctls(), TestCluster(directory)
    try:
        cluster.up("--node=kubelet")
        yield cluster
    finally:
        cluster.down()
    assert sysctls() == before
    assert processes_in(directory) == []
    assert not [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(directory) in line]
    assert not [*Path("/sys/fs/cgroup").glob("kubepods"), *Path("/sys/fs/cgroup").glob("*/kubepods")]
    assert not (Path("/sys/class/net") / BRIDGE).exists()
    assert not directory.exists()


def sysctls() -> list[str]:
    return [(Path("/proc/sys") / name).read_text() for name in SYSCTLS]


@pytest.fixture(scope="module")
def garden(cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> OperatorHarness:
    """A restricted namespace with claims, and the operator that Helm installs there, in a pod of its image."""
    folder = tmp_path_factory.mktemp("images")
    try:
        image = build("operator", OPERATOR, folder)
    except NoBuilder as error:
        pytest.skip(str(error))
    load(cluster, image)
    harness = OperatorHarness(cluster, NAMESPACE, folder)
    harness.log.write_text("the operator's log is that of its pod\n")
    cluster.kubectl("label", "namespace", NAMESPACE, *(f"{key}={value}" for key, value in RESTRICTED.items()))
    install(cluster, folder / "values.json")
    slow_to_fail(harness)
    return harness


def slow_to_fail(garden: OperatorHarness) -> None:
    """Jobs that the other tests need not wait for."""
    limits = {"nvidia.com/gpu": 0, "memory": "200Mi"}
    resources = {"limits": limits, "requests": {"cpu": "10m", "memory": "100Mi"}}
    garden.submit("greedy", {"ALLOCATE_MIB": 400}, resources=resources, backoffLimit=0)
    garden.submit("no-image", image="registry.invalid/team/trainer:1")


def load(cluster: TestCluster, image: Path) -> None:
    done = devcluster("load-image", str(image), "--dir", str(cluster.directory))
    assert done.returncode == 0, done.stderr
    image.unlink()


def install(cluster: TestCluster, values: Path) -> None:
    """The chart as a user installs it, with the operator's image for all, the scripted trainer and quick reports."""
    repository, tag = OPERATOR.split(":")
    image = {"repository": repository, "tag": tag}
    settings = {
        "image": image,
        "trainer": {"image": image, "command": ["python", "-c", TRAINER.read_text()]},
        "storage": {f"{kind.lower()}Claim": name for kind, name in CLAIMS.items()},
        "progressIntervalSeconds": 1,
        "missingSeconds": 20,
    }
    values.write_text(json.dumps(settings))
    where = [f"--kubeconfig={cluster.kubeconfig}", f"--namespace={NAMESPACE}", "--wait", "--timeout=2m"]
    run(helm(), "install", "model-garden", str(ROOT / "charts/model-garden"), f"--values={values}", *where)


def helm() -> str:
    return str(ensure_binaries(print, ["helm"]) / "helm")


def exec_in(garden: OperatorHarness, pod: str, script: str) -> subprocess.CompletedProcess[str]:
    return garden.cluster.try_kubectl("exec", "-n", NAMESPACE, pod, "--", "sh", "-c", script)


def pod_of(garden: OperatorHarness, name: str) -> str:
    """The job's newest pod."""
    pods = sorted(garden.pods(name), key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
    return str(pods[-1]["metadata"]["name"])


def test_the_node_runs_a_pod_of_a_restricted_namespace(cluster: TestCluster) -> None:
    bridge = Path("/sys/class/net") / BRIDGE / "address"
    without_pods = bridge.read_text()
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "strict", "labels": RESTRICTED}})
    container = {"name": "main", "image": PAUSE_IMAGE, "securityContext": restricted_container()}
    spec = {"containers": [container], "securityContext": pod_security()}
    metadata = {"name": "still", "namespace": "strict"}
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    cluster.until(lambda: "running" in state(cluster.get("pod", "still", "strict")))
    node = cluster.get("node", "localhost")
    assert node["status"]["nodeInfo"]["containerRuntimeVersion"].startswith("containerd://")
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "1"
    assert bridge.read_text() == without_pods, "a pod that knows the former address would reach nothing for a while"
    cluster.kubectl("delete", "pod", "still", "-n", "strict")


def test_a_job_trains_as_an_unprivileged_user_with_a_read_only_root(garden: OperatorHarness) -> None:
    garden.submit("plain", {"STEPS": 100_000, "STEP_SECONDS": 0.1, "SAVE_EVERY": 5})
    garden.until_step("plain", 6)
    pod = pod_of(garden, "plain")
    assert exec_in(garden, pod, "id -u; id -g").stdout.split() == ["1000", "1000"]
    assert "Read-only file system" in exec_in(garden, pod, "touch /opt/venv/x").stderr
    assert "Read-only file system" in exec_in(garden, pod, "touch /workspace/data/x").stderr
    owned = exec_in(
        garden, pod, "stat -c '%u %g %a' /workspace/models; stat -c %g /workspace/models/plain/checkpoint.json"
    )
    assert owned.stdout.split() == ["0", "1000", "2775", "1000"], "the claim is the fsGroup's"
    assert garden.cluster.try_kubectl("logs", "-n", NAMESPACE, pod).stdout.count("a line for people") == 1
    garden.annotate("plain", "model-garden.dev/stop=save")
    status = garden.until("plain", "Succeeded")
    assert status["output"]["path"] == "models/plain" and status["attempts"][0]["reason"] == "Stopped"


def test_two_users_share_the_claim_of_the_cache(garden: OperatorHarness) -> None:
    """A pod of another user, with the claim's group, leaves files that a job's pod reads, and the other way round."""
    script = "until test -e /cache/{other}; do sleep 0.1; done; cat /cache/{other}"
    for user, other in ((1000, 2000), (2000, 1000)):
        words = f"id -u > /cache/part-{user}; mv /cache/part-{user} /cache/{user}; {script.format(other=other)}"
        garden.cluster.apply(claim_pod(f"user-{user}", user, words))
    for user, other in ((1000, 2000), (2000, 1000)):
        garden.cluster.until(lambda user=user: garden.get("pod", f"user-{user}")["status"]["phase"] == "Succeeded")
        assert garden.kubectl("logs", f"user-{user}").strip() == str(other)


def claim_pod(name: str, user: int, script: str) -> Object:
    container = {
        "name": "main",
        "image": OPERATOR,
        "command": ["sh", "-ec", script],
        "securityContext": restricted_container(),
        "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
    }
    spec = {
        "restartPolicy": "Never",
        "securityContext": pod_security() | {"runAsUser": user},
        "containers": [container],
        "volumes": [{"name": "cache", "persistentVolumeClaim": {"claimName": CLAIMS["CACHE"]}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}


def test_more_memory_than_its_limit_fails_a_job_with_that_reason(garden: OperatorHarness) -> None:
    failure = garden.until("greedy", "Failed")["failure"]
    assert failure["reason"] == "OutOfMemory"
    assert "used more than its memory limit of 200Mi; raise spec.resources.limits.memory" in failure["message"]


def test_an_image_that_cannot_be_pulled_is_named(garden: OperatorHarness) -> None:
    status = garden.until("no-image", "Failed", "ImageNotPullable", seconds=120)
    assert "registry.invalid/team/trainer:1" in status["failure"]["message"]
    assert "check spec.image" in status["failure"]["message"]


def attempts_of_two_pods(garden: OperatorHarness, name: str) -> tuple[Object, Object]:
    """Wait for a step of the second pod, end the job there, and return the attempts of both."""
    garden.cluster.until(lambda: len(garden.status(name).get("attempts") or ()) == 2, "a second pod trains", 120)
    garden.until_step(name, garden.status(name)["progress"]["step"] + 1)
    garden.annotate(name, "model-garden.dev/stop=save")
    first, second = garden.until(name, "Succeeded")["attempts"]
    return first, second


def test_an_evicted_pod_saves_a_checkpoint_and_the_next_resumes(garden: OperatorHarness) -> None:
    garden.submit("evicted", ENDLESS, backoffLimit=0)
    garden.until_step("evicted", 3)
    pod = pod_of(garden, "evicted")
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": NAMESPACE}}
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction"
    garden.cluster.kubectl("create", "--raw", path, "-f", "-", content=json.dumps(body))
    first, second = attempts_of_two_pods(garden, "evicted")
    assert (first["reason"], second["reason"]) == ("Evicted", "Stopped"), "the second was asked to save"
    assert second["fromStep"] == first["toStep"] >= 3


def test_a_drained_node_lets_a_job_save_and_resume_once_a_node_is_there(garden: OperatorHarness) -> None:
    garden.submit("drained", ENDLESS)
    garden.until_step("drained", 3)
    selector = "--pod-selector=model-garden.dev/training-job=drained"
    garden.cluster.kubectl("drain", "localhost", selector, "--delete-emptydir-data", "--timeout=60s")
    try:
        status = garden.until("drained", "Pending", "Unschedulable")
    finally:
        garden.cluster.kubectl("uncordon", "localhost")
    assert status["lastCheckpointStep"] >= 3
    first, second = attempts_of_two_pods(garden, "drained")
    assert second["fromStep"] == first["toStep"] == status["lastCheckpointStep"]
    assert second["toStep"] > second["fromStep"]


def test_a_kubelet_that_does_not_answer_is_named_within_a_minute(garden: OperatorHarness) -> None:
    garden.submit("cut-off", {"STEPS": 5000, "STEP_SECONDS": 0.1})
    garden.until_step("cut-off", 3)
    with garden.cluster.silent_node():
        status = garden.until("cut-off", "Running", "NodeNotReady", seconds=120)
    assert "node localhost does not answer since" in condition(status, "Running")["message"]
    status = garden.until("cut-off", "Running", "Running")
    assert len(status["attempts"]) == 1, "the pod trains on"
    garden.annotate("cut-off", "model-garden.dev/cancel=true")
    garden.until("cut-off", "Cancelled")


@pytest.mark.timeout(5400)
@pytest.mark.skipif(
    not os.environ.get("MODEL_GARDEN_TEST_TRAINER_IMAGE"),
    reason="MODEL_GARDEN_TEST_TRAINER_IMAGE=1 builds the trainer's image (7 GB) and trains the demo's model in it",
)
def test_helm_install_at_its_defaults_and_one_apply_train_a_model_in_the_trainers_image(
    garden: OperatorHarness, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The chart without a value, then the job of the demo. With -s, the test prints when each step ends."""
    cluster, folder = garden.cluster, tmp_path_factory.mktemp("trainer")
    for namespace in ("default", "model-garden"):
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": RESTRICTED}})
    where = f"--kubeconfig={cluster.kubeconfig}"
    run(helm(), "uninstall", "model-garden", f"--namespace={NAMESPACE}", where)
    cluster.kubectl("delete", "crd", "trainingjobs.model-garden.dev")  # which stays, with its jobs, in each other case
    began = time.monotonic()

    def done(what: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {what}", flush=True)

    load(cluster, archive(find_builder(), retagged(OPERATOR, __version__), folder / "operator.tar"))
    image = build("trainer", f"model-garden/trainer:{__version__}", folder, trainer_extra="trainer")
    done("the trainer's image is built")
    load(cluster, image)
    done("the node has both images")
    chart = str(ROOT / "charts/model-garden")
    run(helm(), "install", "model-garden", chart, "--namespace=model-garden", "--wait", where)
    done("helm install has ended")
    kubectl = Kubectl(cluster.command(), os.environ | {"KUBECONFIG": str(cluster.kubeconfig)})
    material(kubectl, "vision")
    done("the claims hold the data set and the model")
    status = train(kubectl, "vision")
    done("the model is trained and verified")
    check("vision", status)
    load_back(kubectl, "vision", status)
    done("a new process has loaded the model")


def retagged(name: str, tag: str) -> str:
    """The same image under another tag."""
    new = f"{name.partition(':')[0]}:{tag}"
    run(find_builder(), "tag", name, new)
    return new
