"""A real API server accepts what the chart renders, and the notes say what a cluster lacks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from model_garden import __version__
from tests.chart.test_chart import environment, helm, one
from tests.cluster import Object, TestCluster
from tools.generate import CHART, ROOT

pytestmark = pytest.mark.cluster

NAMESPACE = "mg"
API = "api.enabled=true,api.url=https://garden.test"
DIGEST = "sha256:" + "a" * 64

VALUES = {
    "defaults": "",
    "namespaces": "watchNamespaces={team-a,team-b}",
    "no rights": "rbac.create=false,rbac.userRoles=false,serviceAccount.create=false,serviceAccount.name=mine",
    "claims": "storage.create.enabled=true",
    "claims of namespaces": "storage.create.enabled=true,storage.create.storageClass=nfs,"
    "watchNamespaces={team-a,team-b}",
    "claims of several kinds": "storage.create.enabled=true,jobNamespaces={team-a},storage.create.cache.size=1.5Ti,"
    "storage.create.cache.accessMode=ReadWriteOncePod,storage.create.data.storageClass=local",
    "no claims": "storage.dataClaim=,storage.cacheClaim=,storage.create.enabled=true",
    "replicas": "replicas=3,priorityClassName=system-cluster-critical",
    "priority classes": "priorityClassName=training,priorityClasses[0].name=training,priorityClasses[0].value=-1,"
    "priorityClasses[0].globalDefault=true,priorityClasses[0].description=waits,priorityClasses[1].name=urgent,"
    "priorityClasses[1].value=1000000000,priorityClasses[1].preemptionPolicy=Never",
    "no operator": "replicas=0",
    "monitoring": "monitoring.monitor.kind=PodMonitor,monitoring.rules.enabled=true,monitoring.dashboard.enabled=true",
    "labels of monitoring": "monitoring.monitor.kind=ServiceMonitor,monitoring.monitor.labels.release=p,"
    "monitoring.monitor.interval=1m,monitoring.rules.enabled=true,monitoring.rules.labels.release=p",
    "network policies": "networkPolicy.enabled=true,trainer.networkPolicy.enabled=true,watchNamespaces={team-a}",
    "webhooks": "webhooks.enabled=true",
    "webhooks of namespaces": "webhooks.enabled=true,webhooks.allowLocalAddresses=true,watchNamespaces={team-a}",
    "traces": "tracing.endpoint=http://collector.test:4318",
    "own network rules": "networkPolicy.enabled=true,networkPolicy.from[0].podSelector.matchLabels.app=prometheus,"
    "networkPolicy.egressPorts={8443},trainer.networkPolicy.enabled=true,jobNamespaces={team-b},"
    "trainer.networkPolicy.egress[0].ports[0].port=5000",
    "digests": f"image.digest={DIGEST},trainer.image.digest={DIGEST},imagePullSecrets[0].name=registry,"
    "trainer.imagePullSecrets[0].name=registry,trainer.imagePullSecrets[1].name=mirror",
    "places": "nodeSelector.disk=ssd,tolerations[0].operator=Exists,podAnnotations.team=ml,"
    "affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight=1,"
    "affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].key=gpu,"
    "affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].operator="
    "DoesNotExist",
    "settings": "missingSeconds=60,resyncSeconds=30,workers=4,progressIntervalSeconds=0.5,port=9000,healthPort=9001,"
    "log.format=json,log.level=DEBUG,trainer.command={python,-m,mine},extraEnv[0].name=HTTPS_PROXY,"
    "extraEnv[0].value=http://proxy:3128",
    "api": "api.enabled=true",
    "api behind an ingress": f"{API},api.ingress.enabled=true,api.ingress.className=nginx,api.ingress.tlsSecret=tls",
    "api behind a gateway": f"{API},api.httpRoute.enabled=true,api.httpRoute.parentRefs[0].name=public,"
    "api.proxyAuth=true,api.networkPolicy.from[0].podSelector.matchLabels.app=oauth2-proxy,"
    "api.networkPolicy.egress[0].ports[0].port=5353",
    "api with replicas": "api.enabled=true,api.replicas=3,api.sessionKeySecret=key,api.service.type=NodePort,"
    "api.temporaryStorage=20Gi,api.networkPolicy.enabled=false,api.nodeSelector.disk=ssd",
}


@pytest.fixture(scope="module")
def prepared(cluster: TestCluster) -> TestCluster:
    """The cluster with the namespaces and the kinds that the chart may need."""
    for name in (NAMESPACE, "team-a", "team-b"):
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    cluster.kubectl("apply", "--server-side", "-f", str(Path(__file__).parent / "crds"))
    for kind in ("podmonitors", "servicemonitors", "prometheusrules", "httproutes"):
        cluster.until(lambda kind=kind: cluster.try_kubectl("get", kind).returncode == 0, f"{kind} are served")
    return cluster


def accept(cluster: TestCluster, documents: str) -> None:
    """The API server validates them and changes nothing. An unknown field is an error."""
    cluster.kubectl("apply", "--server-side", "--dry-run=server", "--force-conflicts", "-f", "-", content=documents)


@pytest.mark.parametrize("name", VALUES)
def test_the_api_server_accepts_what_the_chart_renders(prepared: TestCluster, name: str) -> None:
    flags = ["--set", f"{VALUES[name]},crds.install=false"] if VALUES[name] else []
    rendered = helm("template", "release", str(CHART), "--namespace", NAMESPACE, *flags)
    assert rendered.returncode == 0, rendered.stderr
    accept(prepared, rendered.stdout)


def test_the_overlay_changes_the_manifest_as_it_says(prepared: TestCluster) -> None:
    prepared.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "model-garden"}})
    built = prepared.kubectl("kustomize", str(ROOT / "kustomize" / "example"))
    accept(prepared, built)
    documents = list(YAML(typ="safe").load_all(built))
    pod = one(documents, "Deployment")["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == f"registry.example.com/model-garden/operator:{__version__}"
    changed = environment(documents)
    assert changed["MODEL_GARDEN_TRAINER_IMAGE"] == f"registry.example.com/model-garden/trainer:{__version__}"
    assert (changed["MODEL_GARDEN_LOG_FORMAT"], changed["MODEL_GARDEN_WORKERS"]) == ("json", "16")


def test_the_notes_name_what_the_cluster_lacks(prepared: TestCluster) -> None:
    found = notes(prepared)
    assert "Namespace mg has no PersistentVolumeClaim model-garden-models." in found
    assert (
        "let the chart do it: --set storage.create.enabled=true,jobNamespaces={research} for jobs in research" in found
    )
    assert "GPU" not in found and "storage class" not in found, "the cluster has both"
    assert "Still missing" not in notes(prepared, "storage.create.enabled=true")
    with lacking_all(prepared):
        found = notes(prepared)
    assert "The cluster has no default storage class." in found
    assert "No node offers GPUs" in found


def test_the_notes_ask_nothing_that_a_person_with_rights_in_one_namespace_may_not_see(prepared: TestCluster) -> None:
    prepared.kubectl("create", "rolebinding", "admin", "--clusterrole=admin", "--user=ada", "-n", NAMESPACE)
    settings = (f"watchNamespaces={{{NAMESPACE}}}", "rbac.userRoles=false")
    assert "Namespace mg has no PersistentVolumeClaim" not in notes(prepared, *settings, person="ada")


def notes(cluster: TestCluster, *settings: str, person: str | None = None) -> str:
    """What a person reads after an install; nothing is installed."""
    flags = [flag for setting in (*settings, "crds.install=false") for flag in ("--set", setting)]
    place = ("--namespace", NAMESPACE, "--kubeconfig", str(cluster.kubeconfig))
    place += ("--kube-as-user", person) if person else ()
    done = helm("install", "garden", str(CHART), "--dry-run=server", "--take-ownership", *place, *flags)
    assert done.returncode == 0, done.stderr
    return done.stdout[done.stdout.index("NOTES:") :]


@contextmanager
def lacking_all(cluster: TestCluster) -> Iterator[None]:
    """The cluster without a GPU and without a default storage class. The node, which would say again what it has, is
    silent meanwhile."""
    node, gpus = cluster.get("nodes")[0], "nvidia.com/gpu"
    annotation = "storageclass.kubernetes.io/is-default-class"
    with cluster.silent_node():
        offers(cluster, node, {gpus: None})
        cluster.kubectl("annotate", "storageclass", "local", f"{annotation}=false", "--overwrite")
        try:
            yield
        finally:
            cluster.kubectl("annotate", "storageclass", "local", f"{annotation}=true", "--overwrite")
            offers(cluster, node, {gpus: node["status"]["capacity"][gpus]})


def offers(cluster: TestCluster, node: Object, resources: Object) -> None:
    change = json.dumps({"status": {"capacity": resources, "allocatable": resources}})
    name = node["metadata"]["name"]
    cluster.kubectl("patch", "node", name, "--subresource=status", "--type=merge", "-p", change)
