"""The chart as people set it: every value reaches the operator, a wrong one is refused by name."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from devcluster.binaries import ensure_binaries
from model_garden import __version__
from model_garden.builders.settings import Settings, variable_of
from model_garden.contract import names
from tools.chart import name_images
from tools.generate import CHART, ROOT
from tools.reference.chart import chart_reference


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    binary = ensure_binaries(print, ["helm"]) / "helm"
    return subprocess.run([str(binary), *arguments], capture_output=True, text=True, check=False)


def render(*settings: str, namespace: str = "mg") -> list[dict[str, Any]]:
    flags = [flag for setting in settings for flag in ("--set", setting)]
    answer = helm("template", "release", str(CHART), "--namespace", namespace, *flags)
    assert answer.returncode == 0, answer.stderr
    return [document for document in YAML(typ="safe").load_all(answer.stdout) if document]


def one(documents: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = [document for document in documents if document["kind"] == kind]
    return found


def environment(documents: list[dict[str, Any]]) -> dict[str, str]:
    container = one(documents, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    return {item["name"]: item["value"] for item in container["env"] if "value" in item}


FREE = {"resources", "affinity", "nodeSelector", "podAnnotations", "annotations", "labels"}


def objects_of(values: dict[str, Any], path: str = "") -> Iterator[str]:
    """The path of each object in values.yaml, and of the top."""
    yield path
    for name, value in values.items():
        if isinstance(value, dict) and name not in FREE:
            yield from objects_of(value, f"{path}.{name}".removeprefix("."))


def test_settings_reach_the_operator() -> None:
    rendered = environment(
        render(
            "trainer.image.repository=reg/trainer", "trainer.image.tag=v2", "storage.dataClaim=rows", "log.format=json"
        )
    )
    assert rendered["MODEL_GARDEN_TRAINER_IMAGE"] == "reg/trainer:v2"
    assert rendered["MODEL_GARDEN_DATA_CLAIM"] == "rows"
    assert rendered["MODEL_GARDEN_LOG_FORMAT"] == "json"


def test_an_operator_of_two_namespaces_gets_no_cluster_wide_rights() -> None:
    documents = render("watchNamespaces={team-a,team-b}")
    bound = {
        (document["kind"], document["metadata"].get("namespace")) for document in documents if "roleRef" in document
    }
    assert bound == {("RoleBinding", "team-a"), ("RoleBinding", "team-b"), ("RoleBinding", "mg")}
    assert environment(documents)["MODEL_GARDEN_NAMESPACES"] == "team-a,team-b"


def test_who_may_not_create_cluster_wide_objects_can_install_without_them() -> None:
    documents = render("watchNamespaces={team-a}", "crds.install=false", "rbac.userRoles=false", "replicas=2")
    assert {document["metadata"].get("namespace") for document in documents} == {"mg", "team-a"}


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_lease_chooses_the_operator_that_works(replicas: int) -> None:
    """With one replica too: an upgrade starts the next pod before it ends the one that works."""
    documents = render(f"replicas={replicas}", "watchNamespaces={team-a}")
    assert environment(documents)["MODEL_GARDEN_LEADER_ELECTION"] == "true"
    bound = {(item["metadata"]["namespace"], item["roleRef"]["name"]) for item in documents if "roleRef" in item}
    assert bound == {("team-a", "model-garden-operator"), ("mg", "model-garden-operator-leader")}
    strategy = one(documents, "Deployment")["spec"]["strategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


def test_a_drain_takes_one_of_several_replicas_at_a_time() -> None:
    assert one(render("replicas=2"), "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert not [item for item in render() if item["kind"] == "PodDisruptionBudget"], "it would block a drain"


def test_the_operator_runs_restricted_and_never_reads_secrets() -> None:
    documents = render()
    pod = one(documents, "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    granted = {
        resource for document in documents for rule in document.get("rules", []) for resource in rule["resources"]
    }
    assert "secrets" not in granted


def test_uninstalling_keeps_the_jobs() -> None:
    definition = one(render(), "CustomResourceDefinition")
    assert definition["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert not [document for document in render("crds.install=false") if document["kind"] == "CustomResourceDefinition"]


def test_who_takes_all_data_from_the_hub_needs_no_data_claim() -> None:
    assert environment(render("storage.dataClaim="))["MODEL_GARDEN_DATA_CLAIM"] == ""


def test_claims_are_made_on_request_in_each_namespace_and_kept() -> None:
    assert not [item for item in render() if item["kind"] == "PersistentVolumeClaim"]
    create = "storage.create"
    documents = render(
        *(f"{create}.enabled=true", "watchNamespaces={a,b}", f"{create}.storageClass=nfs", f"{create}.models.size=2Ti"),
        *(f"{create}.cache.storageClass=local", f"{create}.cache.accessMode=ReadWriteOnce", "storage.dataClaim="),
    )
    claims = [item for item in documents if item["kind"] == "PersistentVolumeClaim"]
    assert {claim["metadata"]["annotations"]["helm.sh/resource-policy"] for claim in claims} == {"keep"}
    assert [(claim["metadata"]["namespace"], claim["metadata"]["name"]) for claim in claims] == [
        *(("a", "model-garden-models"), ("a", "model-garden-cache")),
        *(("b", "model-garden-models"), ("b", "model-garden-cache")),
    ]
    models, cache = (claim["spec"] for claim in claims[:2])
    assert (models["storageClassName"], models["accessModes"]) == ("nfs", ["ReadWriteMany"])
    assert models["resources"] == {"requests": {"storage": "2Ti"}}
    assert (cache["storageClassName"], cache["accessModes"]) == ("local", ["ReadWriteOnce"])


def test_one_claim_for_all_is_made_once_in_the_namespaces_of_jobs() -> None:
    names = [f"storage.{kind}Claim=all" for kind in ("data", "models", "cache")]
    documents = render(*names, "storage.create.enabled=true", "jobNamespaces={research}")
    claim = one(documents, "PersistentVolumeClaim")
    assert (claim["metadata"]["namespace"], claim["metadata"]["name"]) == ("research", "all")


def test_an_image_by_digest_has_no_tag() -> None:
    digest = "sha256:" + "a" * 64
    documents = render(f"image.digest={digest}", f"trainer.image.digest={digest}")
    container = one(documents, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == f"model-garden/operator@{digest}"
    assert environment(documents)["MODEL_GARDEN_TRAINER_IMAGE"] == f"model-garden/trainer@{digest}"


def test_pods_of_trainers_connect_to_each_other_and_the_hub_alone() -> None:
    """The label that the policy selects is the one that the operator gives to its pods."""
    policy = one(render("trainer.networkPolicy.enabled=true", "jobNamespaces={research}"), "NetworkPolicy")
    assert policy["metadata"]["namespace"] == "research"
    trainers = {"matchExpressions": [{"key": names.LABEL_JOB, "operator": "Exists"}]}
    spec = policy["spec"]
    assert spec["podSelector"] == trainers
    assert spec["ingress"] == [{"from": [{"podSelector": trainers}]}]
    dns = [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]
    assert spec["egress"] == [
        {"to": [{"podSelector": trainers}]},
        {"ports": [*dns, {"port": 443, "protocol": "TCP"}]},
    ]


def test_the_policy_of_trainers_needs_the_namespaces_that_it_protects() -> None:
    refused = helm("template", "x", str(CHART), "--set", "trainer.networkPolicy.enabled=true")
    assert refused.returncode != 0
    assert "name the namespaces of jobs that get the NetworkPolicy in jobNamespaces" in refused.stderr


def test_the_policy_of_the_operator_lets_metrics_health_and_the_api_server_through() -> None:
    documents = render("networkPolicy.enabled=true", "networkPolicy.from[0].namespaceSelector.matchLabels.name=prom")
    spec = one(documents, "NetworkPolicy")["spec"]
    pod = one(documents, "Deployment")["spec"]["template"]
    assert spec["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    ports = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
    assert {rule["ports"][0]["port"] for rule in spec["ingress"]} == ports
    assert [port["port"] for port in spec["egress"][0]["ports"]] == [53, 53, 443, 6443]


@pytest.mark.parametrize("kind", ["PodMonitor", "ServiceMonitor"])
def test_one_value_chooses_what_leads_prometheus_to_the_metrics(kind: str) -> None:
    """A PodMonitor selects the pods, a ServiceMonitor the Service that selects them."""
    documents = render(f"monitoring.monitor.kind={kind}", "monitoring.monitor.labels.release=prometheus", "port=9000")
    monitor = one(documents, kind)
    pod = one(documents, "Deployment")["spec"]["template"]
    ports = {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]}
    [endpoint] = monitor["spec"]["podMetricsEndpoints" if kind == "PodMonitor" else "endpoints"]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert ports[endpoint["port"]] == 9000
    selected = pod["metadata"]["labels"]
    if kind == "ServiceMonitor":
        service = one(documents, "Service")
        [port] = service["spec"]["ports"]
        assert (port["name"], ports[port["targetPort"]]) == (endpoint["port"], 9000)
        assert service["spec"]["selector"].items() <= selected.items()
        selected = service["metadata"]["labels"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= selected.items()
    made = {document["kind"] for document in documents} - {document["kind"] for document in render()}
    assert made == {kind, "Service"} - ({"Service"} if kind == "PodMonitor" else set())


def test_priority_classes_are_made_on_request_and_outlive_the_release(tmp_path: Path) -> None:
    assert not [item for item in render() if item["kind"] == "PriorityClass"]
    values = tmp_path / "values.yaml"  # the numbers of a file are floats in a template
    values.write_text("priorityClasses: [{name: urgent, value: 1000000000, preemptionPolicy: Never}]\n")
    answer = helm("template", "release", str(CHART), "--values", str(values))
    made = one([item for item in YAML(typ="safe").load_all(answer.stdout) if item], "PriorityClass")
    assert (made["metadata"]["name"], made["value"], made["preemptionPolicy"]) == ("urgent", 1_000_000_000, "Never")
    assert made["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_alerts_and_dashboard_ask_for_metrics_that_the_operator_serves() -> None:
    """The metrics of docs/reference/metrics.md, histograms by their parts."""
    documents = render("monitoring.rules.enabled=true", "monitoring.dashboard.enabled=true")
    dashboard = json.loads(one(documents, "ConfigMap")["data"]["model-garden.json"])
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    asked += [rule["expr"] for group in one(documents, "PrometheusRule")["spec"]["groups"] for rule in group["rules"]]
    named = {name for expression in asked for name in re.findall(r"model_garden_\w+", expression)}
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    served = set(re.findall(r"`(model_garden_\w+)`", page))
    assert named, "the expressions name metrics"
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in named} <= served


def test_a_value_of_an_unknown_name_is_refused_at_each_level() -> None:
    """Free maps, such as labels and resources, are in FREE."""
    paths = list(objects_of(YAML(typ="safe").load(CHART / "values.yaml")))
    flags = [flag for path in paths for flag in ("--set", f"{path}.unknwon=x".removeprefix("."))]
    answer = helm("template", "release", str(CHART), *flags)
    assert answer.returncode != 0
    refused = re.findall(r"at '/?([^']*)': .*'unknwon'", answer.stderr)
    assert sorted(place.replace("/", ".") for place in refused) == sorted(paths), answer.stderr


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("replicas=9", "replicas"),
        ("log.format=xml", "format"),
        ("storge.dataClaim=x", "storge"),
        ("trainer.image.pullPolicy=Never", "pullPolicy"),
    ],
)
def test_a_wrong_value_is_refused_by_name(setting: str, named: str) -> None:
    answer = helm("template", "release", str(CHART), "--set", setting)
    assert answer.returncode != 0
    assert named in answer.stderr


def test_every_setting_of_the_operator_can_be_set_by_a_value() -> None:
    values = (
        "watchNamespaces={a}",
        "trainer.command={python,-m,mine}",
        "extraEnv[0].name=HTTPS_PROXY",
        "trainer.imagePullSecrets[0].name=registry",
        "trainer.imagePullSecrets[1].name=mirror",
    )
    rendered = environment(render(*values, "extraEnv[0].value=http://proxy:3128", "missingSeconds=60", "workers=4"))
    traced = render(*values, "tracing.endpoint=http://collector:4318")
    container = one(traced, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    given = {item["name"] for item in container["env"]}
    assert {variable_of(name, field) for name, field in Settings.model_fields.items()} <= given
    assert rendered["MODEL_GARDEN_TRAINER_COMMAND"] == '["python","-m","mine"]'
    assert (rendered["MODEL_GARDEN_MISSING_SECONDS"], rendered["MODEL_GARDEN_WORKERS"]) == ("60", "4")
    assert rendered["HTTPS_PROXY"] == "http://proxy:3128"
    assert rendered["MODEL_GARDEN_TRAINER_IMAGE_PULL_SECRETS"] == "registry,mirror"


DIGESTS = ("sha256:" + "a" * 64, "sha256:" + "b" * 64)


@pytest.mark.parametrize(
    ("digests", "operator", "trainer"),
    [((), f":{__version__}", f":{__version__}"), (DIGESTS, f"@{DIGESTS[0]}", f"@{DIGESTS[1]}")],
    ids=["by version", "by digest, as a release does"],
)
def test_a_packaged_chart_installs_the_images_of_its_registry(
    tmp_path: Path, digests: tuple[str, ...], operator: str, trainer: str
) -> None:
    values = tmp_path / "values.yaml"
    values.write_text((CHART / "values.yaml").read_text())

    name_images(values, "registry.test/team", *digests)

    answer = helm("template", "release", str(CHART), "--values", str(values))
    documents = [document for document in YAML(typ="safe").load_all(answer.stdout) if document]
    container = one(documents, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == f"registry.test/team/operator{operator}"
    assert environment(documents)["MODEL_GARDEN_TRAINER_IMAGE"] == f"registry.test/team/trainer{trainer}"


@pytest.mark.parametrize(
    ("name", "value", "reaches"),
    [
        ("trainer_image", "reg/t", "reg/t"),
        ("data_claim", "x", "x"),
        ("models_claim", "x", "x"),
        ("cache_claim", "x", "x"),
        ("progress_seconds", "7", "7"),
        ("missing_seconds", "7", "7"),
        ("resync_seconds", "7", "7"),
        ("namespaces", "{a,b}", "a,b"),
        ("webhooks", "true", "true"),
        ("webhook_local_addresses", "true", "true"),
        ("otlp_endpoint", "https://collector.test/", "https"),
        ("workers", "7", "7"),
        ("port", "9001", "9001"),
        ("health_port", "9002", "9002"),
        ("log_format", "json", "json"),
        ("log_level", "DEBUG", "DEBUG"),
    ],
)
def test_the_value_that_the_reference_names_sets_the_variable(name: str, value: str, reaches: str) -> None:
    field = Settings.model_fields[name]
    assert isinstance(field.json_schema_extra, dict)
    path = str(field.json_schema_extra["chart"])
    path += ".repository" if path == "trainer.image" else ""
    rendered = environment(render(f"{path}={value}"))
    assert rendered[variable_of(name, field)].partition(":")[0] == reaches


def test_a_value_without_a_comment_is_named(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("# Number of pods.\nreplicas: 1\napi:\n  port: 1\n")
    with pytest.raises(ValueError, match=r"values.yaml: api.port has no comment"):
        chart_reference(values)
