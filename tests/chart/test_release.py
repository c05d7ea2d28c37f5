"""The life of a release: installed, upgraded, rolled back and uninstalled while a job trains, and installed again."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from devcluster.defaults import PROVISIONER
from tests.chart.test_chart import helm
from tests.cluster import Object, TestCluster
from tests.controller.harness import TRAINER, OperatorHarness, free_port
from tools.generate import CHART, ROOT

pytestmark = pytest.mark.cluster

NAMESPACE = "operated"
JOBS = "operated-jobs"
NEW_FIELD = "reportTo"


class Release:
    """A Helm release in the cluster, and the namespace of jobs that it serves."""

    def __init__(self, cluster: TestCluster, folder: Path) -> None:
        self.cluster = cluster
        self.jobs = OperatorHarness(cluster, JOBS, folder)  # its operator is never started: the chart's runs
        self.jobs.log.touch()
        self.values = folder / "values.yaml"
        self.use_free_ports()

    def use_free_ports(self) -> None:
        """For the next operator: it starts beside the one before, and all pods of this cluster share a network."""
        self.values.write_text(
            json.dumps(
                {
                    "watchNamespaces": [JOBS],
                    "storage": {"create": {"enabled": True}},
                    "trainer": {"command": TRAINER},
                    "progressIntervalSeconds": 0.5,
                    "port": free_port(),
                    "healthPort": free_port(),
                    "resources": {},
                }
            )
        )

    def helm(self, action: str, *arguments: str) -> str:
        """What helm printed."""
        place = ("--namespace", NAMESPACE, "--kubeconfig", str(self.cluster.kubeconfig))
        done = helm(action, "garden", *arguments, *place)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def apply(self, action: str, chart: Path, *arguments: str) -> None:
        """Install or upgrade, and wait until the operator that this starts is ready."""
        self.use_free_ports()
        self.helm(action, str(chart), "--values", str(self.values), *arguments)
        self.until_ready()

    def until_ready(self) -> None:
        """Wait until the operator of this revision, and no other, is ready."""
        self.cluster.until(self._ready, "the operator of the release is ready")

    def _ready(self) -> bool:
        found = self.cluster.get("deployment", "model-garden-operator", NAMESPACE)
        status = found["status"]
        current = status.get("observedGeneration") == found["metadata"]["generation"]
        pods = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "readyReplicas")]
        return bool(current and pods == [1, 1, 1])


@pytest.fixture
def release(cluster: TestCluster, tmp_path: Path) -> Iterator[Release]:
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    release = Release(cluster, tmp_path)
    yield release
    cluster.kubectl("delete", "trainingjobs", "--all", "-n", JOBS)
    helm("uninstall", "garden", "--namespace", NAMESPACE, "--kubeconfig", str(cluster.kubeconfig))
    cluster.until(lambda: not cluster.get("pods", namespace=NAMESPACE), "the operator is gone before the next release")


def older_chart(folder: Path) -> Path:
    """The chart as it was before a field of the spec existed, when one operator ended before the next one started."""
    chart = folder / "older"
    shutil.copytree(CHART, chart)
    deployment = chart / "templates" / "deployment.yaml"
    text, found = re.subn(
        r"(?<=\n  strategy:).*?(?=\n  selector:)", " {type: Recreate}", deployment.read_text(), flags=re.S
    )
    assert found == 1
    deployment.write_text(text)
    path = chart / "files" / "crd.yaml"
    definition = YAML(typ="safe").load(path)
    spec = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    del spec["properties"][NEW_FIELD]
    spec["x-kubernetes-validations"] = [
        rule for rule in spec["x-kubernetes-validations"] if NEW_FIELD not in rule["rule"]
    ]
    with path.open("w") as file:
        YAML().dump(definition, file)
    return chart


def with_new_field(release: Release) -> bool:
    """Whether the API server accepts a job with the new field."""
    spec = {"baseModel": "a/b", "datasetPath": "./data/rows.jsonl", NEW_FIELD: ["mlflow"]}
    job = {"apiVersion": "model-garden.dev/v1alpha1", "kind": "TrainingJob", "spec": spec}
    body = json.dumps(job | {"metadata": {"name": "newer", "namespace": JOBS}})
    return release.cluster.try_kubectl("create", "--dry-run=server", "-f", "-", content=body).returncode == 0


def test_a_job_trains_through_upgrade_rollback_uninstall_and_a_new_install(release: Release, tmp_path: Path) -> None:
    cluster, jobs = release.cluster, release.jobs
    # Other tests of the session have applied some of the chart's objects.
    release.apply("install", older_chart(tmp_path), "--take-ownership", "--force-conflicts")
    cluster.until(lambda: not with_new_field(release), "the older CRD is served")
    jobs.submit("steady", {"STEPS": 100_000})
    jobs.until_step("steady", 1)
    trainer = running_pod(jobs)

    release.apply("upgrade", CHART, "--set", "log.level=DEBUG")
    cluster.until(lambda: with_new_field(release), "the upgrade replaces the CRD")
    jobs.until_step("steady", jobs.status("steady")["progress"]["step"] + 10)
    assert running_pod(jobs) == trainer, "training goes on"

    release.helm("rollback")
    cluster.until(lambda: not with_new_field(release), "the rollback brings the older CRD back")
    release.until_ready()
    jobs.until_step("steady", jobs.status("steady")["progress"]["step"] + 10)
    assert running_pod(jobs) == trainer

    release.helm("uninstall")
    cluster.until(lambda: not cluster.get("pods", namespace=NAMESPACE), "the operator is gone")
    seen = jobs.status("steady")["progress"]["step"]
    assert running_pod(jobs) == trainer
    assert cluster.get("crd", "trainingjobs.model-garden.dev")
    for kind in ("data", "models", "cache"):
        assert cluster.get("pvc", f"model-garden-{kind}", JOBS)["status"]["phase"] == "Bound"

    release.apply("install", CHART)
    jobs.until_step("steady", seen + 10)
    assert running_pod(jobs) == trainer
    jobs.annotate("steady", "model-garden.dev/stop=save")
    status = jobs.until("steady", "Succeeded")
    assert len(status["attempts"]) == 1
    assert status["output"]["path"] == "models/steady"


def test_replicas_are_added_and_taken_away_while_one_operator_leads(release: Release) -> None:
    """Helm applies server-side, as Argo CD and Flux do: it cannot remove a field that the API server has defaulted."""
    cluster = release.cluster
    release.apply("install", CHART, "--take-ownership", "--force-conflicts")
    [leader] = cluster.get("pods", namespace=NAMESPACE)
    cluster.until(lambda: leads(cluster, leader), "the one operator holds the Lease")

    # The second pod waits for a port: all pods of this cluster share a network.
    for replicas in (2, 1, 2):
        release.helm("upgrade", str(CHART), "--values", str(release.values), "--set", f"replicas={replicas}")
        cluster.until(lambda: len(cluster.get("pods", namespace=NAMESPACE)) == replicas)  # noqa: B023
        assert leads(cluster, leader), "the operator that works goes on"

    release.helm("rollback")
    release.until_ready()
    assert leads(cluster, leader)


def leads(cluster: TestCluster, pod: Object) -> bool:
    """Whether the pod holds the Lease, and is there."""
    lease = cluster.get("lease", "model-garden-operator", NAMESPACE)
    there = [each["metadata"]["uid"] for each in cluster.get("pods", namespace=NAMESPACE)]
    held = lease and lease["spec"]["holderIdentity"] == pod["metadata"]["name"]
    return bool(held and pod["metadata"]["uid"] in there)


def test_an_upgrade_keeps_what_a_claim_has_and_makes_it_larger(release: Release) -> None:
    cluster = release.cluster
    growing = {"metadata": {"name": "growing"}, "provisioner": PROVISIONER, "allowVolumeExpansion": True}
    cluster.apply({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", **growing})

    def claim() -> Object:
        found: Object = cluster.get("pvc", "grown", JOBS)
        return found

    def helm_with(action: str, *settings: str, more: tuple[str, ...] = ()) -> None:
        rest = ("replicas=0", "crds.install=false", "rbac.create=false", "rbac.userRoles=false")
        claims = ("storage.dataClaim=", "storage.modelsClaim=grown", "storage.cacheClaim=")
        flags = [flag for setting in (*rest, *claims, *settings) for flag in ("--set", setting)]
        release.helm(action, str(CHART), "--values", str(release.values), *flags, *more)

    helm_with("install", "storage.create.storageClass=growing", "storage.create.models.size=1.5Ti")
    cluster.until(lambda: claim()["status"]["phase"] == "Bound")
    larger = {"spec": {"resources": {"requests": {"storage": "2Ti"}}}}
    cluster.kubectl("patch", "pvc", "grown", "-n", JOBS, "-p", json.dumps(larger))
    spec = claim()["spec"]

    helm_with("upgrade", "storage.create.storageClass=growing", "storage.create.models.size=1.5Ti")
    assert claim()["spec"] == spec
    helm_with("upgrade", "storage.create.storageClass=local", "storage.create.accessMode=ReadWriteOnce")
    assert claim()["spec"] == spec
    larger_still = ("storage.create.storageClass=growing", "storage.create.models.size=2100Gi")
    helm_with("upgrade", *larger_still, more=("--force-conflicts",))  # kubectl has set the size
    assert claim()["spec"]["resources"]["requests"]["storage"] == "2100Gi"


def test_a_person_with_rights_in_some_namespaces_installs_after_an_administrator(release: Release) -> None:
    cluster, jobs = release.cluster, release.jobs
    for namespace in (NAMESPACE, JOBS):
        cluster.kubectl("create", "rolebinding", "admin", "--clusterrole=admin", "--user=ada", "-n", namespace)
    served = ("--namespace", NAMESPACE, "--set", f"watchNamespaces={{{JOBS}}}")
    roles = helm("template", "garden", str(CHART), *served, "--show-only", "templates/rbac.yaml")
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "manifests" / "crd.yaml"))
    cluster.kubectl("apply", "-f", "-", content=roles.stdout)
    others = ("crds.install", "rbac.create", "rbac.userRoles", "serviceAccount.create")
    flags = [flag for name in others for flag in ("--set", f"{name}=false")]
    release.apply("install", CHART, "--kube-as-user", "ada", *flags)
    jobs.submit("modest", {"STEPS": 1})
    jobs.until("modest", "Succeeded")
    cluster.kubectl("delete", "-f", "-", "--ignore-not-found", content=roles.stdout)


def running_pod(jobs: OperatorHarness) -> str:
    """The uid of the one pod that trains."""
    pods: list[Object] = [pod for pod in jobs.pods("steady") if pod["status"]["phase"] == "Running"]
    [uid] = [pod["metadata"]["uid"] for pod in pods]
    return str(uid)
