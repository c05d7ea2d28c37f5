"""What a hostile author of TrainingJobs tries, on a real API server, with the operator in a `restricted` namespace."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from model_garden.builders.job import job
from model_garden.builders.plan import plan
from model_garden.builders.settings import Settings
from model_garden.contract.resource import InvalidResource
from tests.cluster import Object, TestCluster
from tests.controller.harness import OperatorHarness
from tests.controller.test_rights import kubeconfig_of_the_chart

pytestmark = pytest.mark.cluster

GUIDE = Path(__file__).parents[2] / "docs" / "security.md"
NAMESPACE = "hostile"
SPEC: Object = {
    "baseModel": "tiny/model",
    "datasetPath": "./data/rows.jsonl",
    "resources": {"limits": {"nvidia.com/gpu": 0}, "requests": {"cpu": "10m", "memory": "16Mi"}},
}
HOST_PATH = {"name": "host", "hostPath": {"path": "/"}}
PRIVILEGED = {"privileged": True, "runAsUser": 0, "capabilities": {"add": ["SYS_ADMIN"]}}
CONTAINER = {"name": "x", "image": "x", "securityContext": PRIVILEGED}

UNKNOWN_FIELDS: dict[str, Object] = {
    f"podTemplate.{name}": {"podTemplate": {name: value}}
    for name, value in {
        "volumes": [HOST_PATH],
        "volumeMounts": [{"name": "host", "mountPath": "/host"}],
        "volumeDevices": [{"name": "host", "devicePath": "/dev/sda"}],
        "securityContext": PRIVILEGED,
        "containers": [CONTAINER],
        "initContainers": [CONTAINER],
        "ephemeralContainers": [CONTAINER],
        "hostNetwork": True,
        "hostPID": True,
        "hostIPC": True,
        "hostUsers": True,
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["huggingface.co"]}],
        "shareProcessNamespace": True,
        "automountServiceAccountToken": True,
        "serviceAccount": "default",
        "nodeName": "localhost",
        "dnsPolicy": "None",
        "lifecycle": {"postStart": {"exec": {"command": ["sh"]}}},
        "command": ["sh"],
        "spec": {"hostPID": True},
        "metadata": {"namespace": "kube-system"},
    }.items()
} | {
    "command": {"command": ["sh"]},
    "securityContext": {"securityContext": PRIVILEGED},
    "serviceAccountName": {"serviceAccountName": "admin"},
    "storage.hostPath": {"storage": {"hostPath": "/"}},
    "storage.subPath": {"storage": {"subPath": "../.."}},
    "hubTokenSecret.namespace": {"hubTokenSecret": {"name": "a", "key": "b", "namespace": "kube-system"}},
    "podTemplate.envFrom[0].secretRef.namespace": {
        "podTemplate": {"envFrom": [{"secretRef": {"name": "a", "namespace": "kube-system"}}]}
    },
    "podTemplate.env[0].valueFrom.fileKeyRef": {
        "podTemplate": {"env": [{"name": "A", "valueFrom": {"fileKeyRef": {"path": "/etc/shadow"}}}]}
    },
}

ELSEWHERE = ("kube-system/admin", "../admin", "admin:latest", "Admin", "")
NAMES: dict[str, Object] = {
    f"{field} {name!r}": changes
    for name in ELSEWHERE
    for field, changes in {
        "hubTokenSecret": {"hubTokenSecret": {"name": name, "key": "token"}},
        "credentialsSecret": {"storage": {"credentialsSecret": name}},
        "modelsClaim": {"storage": {"modelsClaim": name}},
        "tracking": {"reportTo": ["mlflow"], "tracking": {"secret": name}},
        "envFrom": {"podTemplate": {"envFrom": [{"secretRef": {"name": name}}]}},
        "env": {"podTemplate": {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": name, "key": "k"}}}]}},
        "imagePullSecrets": {"podTemplate": {"imagePullSecrets": [{"name": name}]}},
        "serviceAccountName": {"podTemplate": {"serviceAccountName": name}},
    }.items()
}


@pytest.fixture(scope="module")
def hostile(crd: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorHarness]:
    """A namespace of the level `restricted` whose operator has the rights of the chart."""
    folder = tmp_path_factory.mktemp("hostile")
    harness = OperatorHarness(crd, NAMESPACE, folder)
    harness.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    harness.kubeconfig = kubeconfig_of_the_chart(harness, folder, f"watchNamespaces={{{NAMESPACE}}}")
    harness.start_operator(TRAINER_COMMAND='["python", "-m", "tests.controller.hostile_trainer"]')
    yield harness
    harness.stop_operator()


def training_job(name: str, changes: Object, **more: Any) -> Object:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "model-garden.dev/v1alpha1", "kind": "TrainingJob"} | {
        "metadata": metadata,
        "spec": SPEC | changes,
        **more,
    }


def create(cluster: TestCluster, items: list[Object], validate: str) -> tuple[list[Object], str]:
    """What the API server would store of the objects, and what it says of those that it refuses."""
    content = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    flags = ("--dry-run=server", f"--validate={validate}", "-o", "json", "-f", "-")
    done = cluster.try_kubectl("create", *flags, content=content)
    return list(documents(done.stdout)), done.stderr


def documents(text: str) -> Iterator[Object]:
    """JSON documents one after the other, as kubectl prints them."""
    while text := text.strip():
        found, end = json.JSONDecoder().raw_decode(text)
        yield found
        text = text[end:]


def named(changes: dict[Any, Object]) -> list[Object]:
    return [training_job(f"attack-{number}", change) for number, change in enumerate(changes.values())]


def test_no_field_leads_to_the_host_to_privileges_or_to_another_container(hostile: OperatorHarness) -> None:
    """A client that asks for validation is refused; for one that does not, the API server drops the field."""
    stored, refusals = create(hostile.cluster, named(UNKNOWN_FIELDS), "strict")
    assert stored == []
    missing = [field for field in UNKNOWN_FIELDS if refusal_of(field) not in refusals]
    assert missing == [], refusals
    stored, refusals = create(hostile.cluster, named(UNKNOWN_FIELDS), "ignore")
    assert len(stored) == len(UNKNOWN_FIELDS), refusals
    left = [field for field, found in zip(UNKNOWN_FIELDS, stored, strict=True) if holds(found, field)]
    assert left == []


def refusal_of(field: str) -> str:
    """What kubectl says of a field that the schema does not have."""
    parent, _, name = f"TrainingJob.spec.{field}".rpartition(".")
    return f'ValidationError({parent}): unknown field "{name}"'


def holds(resource: Object, field: str) -> bool:
    """Whether the spec has the last part of a path anywhere."""
    return f'"{field.rsplit(".", 1)[-1]}":' in json.dumps(resource["spec"])


def test_no_name_leads_to_another_namespace(hostile: OperatorHarness) -> None:
    stored, refusals = create(hostile.cluster, named(NAMES), "strict")
    assert [found["spec"] for found in stored] == []
    assert refusals.count("is invalid") == len(NAMES), refusals


KEYS = [
    "team",
    "app.kubernetes.io/component",
    "sidecar.istio.io/inject",
    "container.apparmor.security.beta.kubernetes.io/trainer",
    "model-garden.dev/stop",
    "kubernetes.io/psp",
    "io.kubernetes.cri-o.userns-mode",
]
MAPS = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(["unconfined", "a", ""]), max_size=4)
VARIABLES = st.fixed_dictionaries(
    {"name": st.sampled_from(["LD_PRELOAD", "HOME", "KUBERNETES_SERVICE_HOST", "A"])},
    optional={"value": st.sampled_from(["/proc/self/exe", "$(HF_TOKEN)", ""])},
)
POD_TEMPLATES = st.fixed_dictionaries(
    {},
    optional={
        "labels": MAPS,
        "annotations": MAPS,
        "env": st.lists(VARIABLES, max_size=2),
        "envFrom": st.just([{"secretRef": {"name": "any"}}]),
        "serviceAccountName": st.just("default"),
        "nodeSelector": st.just({"node-role.kubernetes.io/control-plane": ""}),
        "tolerations": st.just([{"operator": "Exists"}]),
        "affinity": st.sampled_from(
            [{"hostNetwork": True}, {"nodeAffinity": {"volumes": [HOST_PATH]}}, {"podAffinity": {}}]
        ),
        "imagePullSecrets": st.just([{"name": "any"}]),
        "schedulerName": st.just("mine"),
    },
)
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "podTemplate": POD_TEMPLATES,
        "image": st.sampled_from(["evil/image:latest", "$(A)"]),
        "outputDir": st.sampled_from(["./models/../cache", "./models/$(A)"]),
        "storage": st.fixed_dictionaries({"dataClaim": st.just("any"), "credentialsSecret": st.just("any")}),
        "hubTokenSecret": st.just({"name": "any", "key": "any"}),
        "numNodes": st.sampled_from([1, 4]),
    },
)


@settings(max_examples=4, phases=[Phase.generate], suppress_health_check=list(HealthCheck))  # each asks the server
@given(st.lists(SPECS, min_size=40, max_size=60))
def test_the_pod_of_any_spec_is_one_that_restricted_accepts(hostile: OperatorHarness, specs: list[Object]) -> None:
    pods = [pod for number, spec in enumerate(specs) for pod in pods_of(f"pod-{number}", spec)]
    stored, refusals = create(hostile.cluster, pods, "ignore")
    assert len(stored) == len(pods), refusals
    for pod in stored:
        kinds = {kind for volume in pod["spec"]["volumes"] for kind in volume} - {"name"}
        assert kinds <= {"emptyDir", "persistentVolumeClaim", "downwardAPI"}
        assert not pod["spec"].keys() & {"hostNetwork", "hostPID", "hostIPC", "initContainers", "nodeName"}


def pods_of(name: str, spec: Object) -> list[Object]:
    """The pods of both steps of a job, as its Jobs make them; none of a spec that is refused."""
    resource = training_job(name, spec | {"resources": {}})
    resource["metadata"]["uid"] = "u"
    chosen = Settings(models_claim="any")
    try:
        planned = plan(resource, chosen)
    except InvalidResource:
        return []
    template = job(planned, chosen)["spec"]["template"]
    place = {"name": name, "namespace": NAMESPACE}
    return [{"apiVersion": "v1", "kind": "Pod", **template, "metadata": template["metadata"] | place}]


def test_the_pod_of_a_powerful_service_account_has_no_token(hostile: OperatorHarness) -> None:
    hostile.kubectl("create", "serviceaccount", "powerful")
    hostile.kubectl(
        "create", "rolebinding", "powerful", "--clusterrole=admin", f"--serviceaccount={NAMESPACE}:powerful"
    )
    given = {"serviceAccountName": "powerful", "env": [{"name": "STEPS", "value": "1"}]}
    forged = {"phase": "Succeeded", "output": {"path": "/etc"}}
    hostile.cluster.apply(training_job("powerful", {"podTemplate": given}, status=forged))
    status = hostile.until("powerful", "Succeeded")
    assert status["output"]["path"] == "models/powerful", "a status that the author wrote counts for nothing"
    [pod] = hostile.pods("powerful")
    assert pod["spec"]["serviceAccountName"] == "powerful"
    assert "serviceaccount" not in json.dumps(pod["spec"]["volumes"]).lower()
    assert "/var/run/secrets" not in json.dumps(pod["spec"]["containers"])


@pytest.mark.parametrize("message", ["deep", "forged"])
def test_a_hostile_trainer_harms_its_own_job_alone(hostile: OperatorHarness, message: str) -> None:
    """What it prints and leaves is no reason for a traceback, for a job without an end, or for another job to wait."""
    variable = {"name": "HOSTILE", "value": message}
    hostile.cluster.apply(training_job(f"hostile-{message}", {"podTemplate": {"env": [variable]}, "backoffLimit": 0}))
    status = hostile.until(f"hostile-{message}", "Succeeded")
    assert "Traceback" not in hostile.log.read_text()
    assert "\x1b" not in json.dumps(status)
    assert status["warnings"] and status["progress"]["step"] == 2, "what can be read is read"


def test_a_label_of_another_job_fails_the_job_in_words(hostile: OperatorHarness) -> None:
    label = {"batch.kubernetes.io/job-name": "victim-train"}
    hostile.cluster.apply(training_job("twin", {"podTemplate": {"labels": label}}))
    message = hostile.until("twin", "Failed")["failure"]["message"]
    assert "batch.kubernetes.io/job-name" in message


def test_who_may_edit_jobs_may_not_write_their_status(hostile: OperatorHarness) -> None:
    role = ("--clusterrole=model-garden-edit", "--user=mallory")
    hostile.kubectl("create", "rolebinding", "mallory", *role)
    for verb, what, subresource, answer in (
        ("create", "trainingjobs", "", "yes"),
        ("update", "trainingjobs", "status", "no"),
        ("patch", "trainingjobs", "status", "no"),
        ("get", "secrets", "", "no"),
        ("create", "pods", "", "no"),
    ):
        asked = (verb, what, f"--subresource={subresource}")
        done = hostile.cluster.try_kubectl("auth", "can-i", *asked, "--as=mallory", "-n", NAMESPACE)
        assert done.stdout.strip() == answer, asked


DIGEST = "sha256:" + "a" * 64
NAMED = {"name": "training-keys"}
LIMITED: list[tuple[Object, str]] = [
    ({"image": f"evil.example.com/x@{DIGEST}"}, "spec.image"),
    ({"image": "registry.example.com/trainer:latest"}, "spec.image"),
    ({"podTemplate": {"serviceAccountName": "powerful"}}, "spec.podTemplate.serviceAccountName"),
    ({"hubTokenSecret": {"name": "other", "key": "token"}}, "name only Secrets"),
    ({"storage": {"credentialsSecret": "other"}}, "name only Secrets"),
    ({"reportTo": ["mlflow"], "tracking": {"secret": "other"}}, "name only Secrets"),
    ({"podTemplate": {"imagePullSecrets": [{"name": "other"}]}}, "name only Secrets"),
    ({"podTemplate": {"envFrom": [{"secretRef": NAMED}, {"secretRef": {"name": "other"}}]}}, "name only Secrets"),
    (
        {"podTemplate": {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "other", "key": "k"}}}]}},
        "name only Secrets",
    ),
    ({"method": "grpo", "rewards": {"functions": ["mine"], "file": "./data/mine.py"}}, "spec.rewards.file"),
    (
        {"evaluation": {"harnessTasks": ["mine"], "harnessTasksPath": "./data/tasks"}},
        "spec.evaluation.harnessTasksPath",
    ),
]
ALLOWED: list[Object] = [
    {},
    {
        "image": f"registry.example.com/team/trainer@{DIGEST}",
        "hubTokenSecret": NAMED | {"key": "token"},
        "podTemplate": {
            "serviceAccountName": "trainer",
            "envFrom": [{"secretRef": NAMED}, {"configMapRef": {"name": "any"}}],
            "env": [{"name": "A", "value": "b"}],
        },
        "evaluation": {"harnessTasks": ["hellaswag"]},
    },
]


def test_the_policy_of_the_guide_limits_what_jobs_may_name(hostile: OperatorHarness) -> None:
    cluster = hostile.cluster
    policy = GUIDE.read_text().split("```yaml\n")[1].split("```")[0]
    cluster.apply(*YAML(typ="safe", pure=True).load_all(policy))
    hostile.kubectl("label", "namespace", NAMESPACE, "training=limited")
    jobs = [training_job(f"limited-{number}", changes) for number, (changes, _) in enumerate(LIMITED)]
    cluster.until(lambda: not create(cluster, jobs[:1], "strict")[0], "the policy is in force")
    for one, (_, rule) in zip(jobs, LIMITED, strict=True):
        stored, refusal = create(cluster, [one], "strict")
        assert stored == [] and rule in refusal, (one["spec"], refusal)
    stored, refusal = create(cluster, named(dict(enumerate(ALLOWED))), "strict")
    assert len(stored) == len(ALLOWED), refusal
    hostile.kubectl("label", "namespace", NAMESPACE, "training-")
