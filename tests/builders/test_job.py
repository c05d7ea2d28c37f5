"""What a TrainingJob becomes as a Job."""

from dataclasses import replace
from typing import Any

import pytest

from devcluster.node.environment import expand
from model_garden.builders import job as job_builder
from model_garden.builders import plan as plans
from model_garden.builders.settings import Settings
from model_garden.contract.resource import InvalidResource
from model_garden.contract.trainer_config import parse_config
from tests.controller.builders import SETTINGS, Object, plan, resource


def job(settings: Settings = SETTINGS, **spec: Any) -> Object:
    return job_builder.job(plan(settings, **spec), settings)


def container(**spec: Any) -> Object:
    [only] = job(**spec)["spec"]["template"]["spec"]["containers"]
    return only


def env(**spec: Any) -> dict[str, Any]:
    variables = container(**spec)["env"]
    by_name = {variable["name"]: variable.get("value", variable.get("valueFrom")) for variable in variables}
    assert len(by_name) == len(variables), "no variable twice"
    return by_name


def claims(**spec: Any) -> dict[str, str | None]:
    volumes = job(**spec)["spec"]["template"]["spec"]["volumes"]
    return {v["name"]: v.get("persistentVolumeClaim", {}).get("claimName") for v in volumes}


def test_the_trainer_gets_every_default() -> None:
    config = parse_config(env()["MODEL_GARDEN_CONFIG"])
    assert config.name == "receipts"
    assert config.spec.output_dir == "./models/receipts"
    assert config.spec.hyperparameters and config.spec.hyperparameters.learning_rate == 2e-4


def test_after_a_preflight_the_trainer_is_offline_while_the_model_is_cached() -> None:
    assert {"HF_HUB_OFFLINE": "1", "MODEL_GARDEN_PREFLIGHT_DONE": "1"}.items() <= env().items()
    offline = {"podTemplate": {"env": [{"name": "HF_HUB_OFFLINE", "value": "1"}]}}
    assert "MODEL_GARDEN_PREFLIGHT_DONE" not in env(**offline)  # who asked for it stays offline whatever is missing
    assert "HF_HUB_OFFLINE" not in env(preflight="Disabled")


def test_the_job_belongs_to_its_training_job_and_is_found_by_its_label() -> None:
    metadata = job()["metadata"]
    [owner] = metadata["ownerReferences"]
    assert (owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == ("tj-uid", True, True)
    assert metadata["name"] == "receipts-train"
    assert metadata["labels"] == {"model-garden.dev/training-job": "receipts", "model-garden.dev/step": "train"}


def test_the_ttl_waits_until_the_result_is_recorded() -> None:
    assert "ttlSecondsAfterFinished" not in job(ttlSecondsAfterFinished=0)["spec"]


def test_errors_that_a_retry_cannot_help_fail_the_job_and_disruptions_are_not_counted() -> None:
    fail, ignore = job()["spec"]["podFailurePolicy"]["rules"]
    assert fail["onExitCodes"]["values"] == [2, 3, 4, 5, 6, 7]
    assert ignore["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]


def test_claims_come_from_the_job_then_from_the_operator() -> None:
    wanted = {"data": "mine", "models": "models", "cache": "cache"}
    assert claims(storage={"dataClaim": "mine"}).items() >= wanted.items()
    data = next(m for m in container()["volumeMounts"] if m["name"] == "data")
    assert data == {"name": "data", "mountPath": "/workspace/data", "readOnly": True}


def test_the_trainers_image_is_pulled_with_the_secrets_of_the_job_or_else_of_the_operator() -> None:
    settings = SETTINGS.model_copy(update={"trainer_image_pull_secrets": ("registry", "mirror")})
    for step in plans.STEPS:
        made = job_builder.job(replace(plan(settings, podTemplate={"labels": {"a": "b"}}), step=step), settings)
        assert made["spec"]["template"]["spec"]["imagePullSecrets"] == [{"name": "registry"}, {"name": "mirror"}]
    own = {"imagePullSecrets": [{"name": "mine"}]}
    assert job(settings, podTemplate=own)["spec"]["template"]["spec"]["imagePullSecrets"] == [{"name": "mine"}]
    assert "imagePullSecrets" not in job()["spec"]["template"]["spec"]


def test_the_home_is_on_a_volume_unless_the_job_sets_another_path() -> None:
    assert env()["HOME"] == "/workspace/tmp"
    assert env(podTemplate={"env": [{"name": "HOME", "value": "/elsewhere"}]})["HOME"] == "/elsewhere"


def test_the_places_of_caches_are_the_trainers_unless_the_job_sets_them() -> None:
    assert "HF_HOME" not in env()
    assert env(podTemplate={"env": [{"name": "HF_HOME", "value": "/elsewhere"}]})["HF_HOME"] == "/elsewhere"


def test_the_hub_token_comes_from_its_secret() -> None:
    reference = env(hubTokenSecret={"name": "hub", "key": "token"})["HF_TOKEN"]
    assert reference == {"secretKeyRef": {"name": "hub", "key": "token"}}


def test_the_pod_template_is_passed_on_and_our_labels_stay() -> None:
    given = {
        "nodeSelector": {"gpu": "h100"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "labels": {"team": "vision"},
        "annotations": {"note": "x"},
        "envFrom": [{"secretRef": {"name": "keys"}}],
        "serviceAccountName": "trainer",
        "imagePullSecrets": [{"name": "pull"}],
        "priorityClassName": "low",
        "runtimeClassName": "nvidia",
        "schedulerName": "volcano",
    }
    template = job(podTemplate=given)["spec"]["template"]
    same = ("nodeSelector", "tolerations", "affinity", "serviceAccountName", "imagePullSecrets", "priorityClassName")
    for key in (*same, "runtimeClassName", "schedulerName"):
        assert template["spec"][key] == given[key]
    assert template["metadata"]["labels"]["team"] == "vision"
    assert template["metadata"]["labels"]["model-garden.dev/step"] == "train"
    assert template["metadata"]["annotations"] == {"note": "x"}
    assert template["spec"]["containers"][0]["envFrom"] == given["envFrom"]


def test_kubernetes_puts_no_variable_into_the_config() -> None:
    """It replaces $(NAME) in a value, so a token in a path would come into messages and the status."""
    path = "./data/$(HF_TOKEN)/$$(A)/$ $$.jsonl"
    text = env(datasetPath=path)["MODEL_GARDEN_CONFIG"]
    assert parse_config(expand(text, {"HF_TOKEN": "hf_secret", "A": "b"})).spec.dataset_path == path


def test_the_pod_is_restricted() -> None:
    spec = job()["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_kueue_labels_are_copied_and_no_others() -> None:
    labels = {"kueue.x-k8s.io/queue-name": "gpus", "kueue.x-k8s.io/priority-class": "low", "app": "x"}
    copied = job(labels=labels)["metadata"]["labels"]
    assert copied["kueue.x-k8s.io/queue-name"] == "gpus"
    assert copied["kueue.x-k8s.io/priority-class"] == "low"
    assert "app" not in copied


def test_a_requested_stop_reaches_a_pod_that_starts_later() -> None:
    template = job(annotations={"model-garden.dev/stop": "save"})["spec"]["template"]
    assert template["metadata"]["annotations"] == {"model-garden.dev/stop": "save"}


def test_a_suspended_job_is_created_suspended_and_marked_for_the_operator_to_resume() -> None:
    born = job(suspend=True)
    assert born["spec"]["suspend"] is True
    assert born["metadata"]["annotations"] == {"model-garden.dev/suspended-by-spec": "true"}


def test_equal_input_gives_equal_output() -> None:
    assert job(isVision=True) == job(isVision=True)


@pytest.mark.parametrize(
    ("spec", "settings", "problem"),
    [
        ({"outputDir": "/etc/x"}, SETTINGS, "spec.outputDir: '/etc/x' is outside the workspace"),
        ({}, Settings(data_claim="data"), "spec.storage.modelsClaim: required"),
        ({}, Settings(models_claim="models"), "spec.storage.dataClaim: required to read './data/rows.jsonl'"),
        (
            {"podTemplate": {"env": [{"name": "MODEL_GARDEN_CONFIG", "value": "{}"}]}},
            SETTINGS,
            "spec.podTemplate.env: MODEL_GARDEN_CONFIG is set by the operator",
        ),
        ({"learningRate": 1}, SETTINGS, "spec.learningRate: unknown field"),
    ],
)
def test_what_cannot_run_names_the_field(spec: Object, settings: Settings, problem: str) -> None:
    with pytest.raises(InvalidResource) as error:
        plans.check(plans.plan(resource(**spec), settings))
    assert [line for line in error.value.problems if line.startswith(problem)], error.value.problems


@pytest.mark.parametrize(
    ("annotations", "reported"),
    [
        ({"stop": "true"}, ["model-garden.dev/stop=true has no effect; set it to 'save'"]),
        ({"cancel": "yes"}, ["model-garden.dev/cancel=yes has no effect; set it to 'true'"]),
        ({"stop": "save", "cancel": "true"}, []),
        ({"cancel": "false"}, []),
        ({}, []),
    ],
)
def test_an_annotation_without_effect_is_named(annotations: dict[str, str], reported: list[str]) -> None:
    found = plans.invalid_annotations({f"model-garden.dev/{name}": value for name, value in annotations.items()})
    assert found == [f"the annotation {line}" for line in reported]


def test_kueue_alone_suspends_the_job_it_queues() -> None:
    queued = plan(labels={"kueue.x-k8s.io/queue-name": "gpus"}, suspend=True)
    assert queued.held_back
    assert "annotations" not in job_builder.job(queued, SETTINGS)["metadata"]
    assert not plan(suspend=True).held_back
    assert job(labels={"kueue.x-k8s.io/queue-name": "gpus"})["spec"]["suspend"] is True
    assert job()["spec"]["suspend"] is False


def test_a_hub_data_set_and_a_push_need_no_claims() -> None:
    spec = {
        "datasetPath": "hf://datasets/org/rows",
        "pushToHub": {"repo": "org/out"},
        "hubTokenSecret": {"name": "hub", "key": "token"},
    }
    assert claims(settings=Settings(), **spec)["models"] is None


def preflight(**spec: Any) -> Object:
    """The preflight Job of one for a GPU."""
    due = replace(plan(**spec), step="preflight")
    return job_builder.job(due, SETTINGS)


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({}, True),
        ({"preflight": "Disabled"}, False),
        ({"resources": {"limits": {"nvidia.com/gpu": 0}}}, False),
    ],
)
def test_a_preflight_runs_only_for_jobs_that_request_a_gpu(spec: Object, wanted: bool) -> None:
    assert plan(**spec).needs_preflight is wanted


def test_a_preflight_asks_for_no_gpu_and_goes_to_no_node_that_is_for_them() -> None:
    given = {
        "nodeSelector": {"gpu": "h100"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "runtimeClassName": "nvidia",
        "imagePullSecrets": [{"name": "pull"}],
    }
    job = preflight(podTemplate=given, labels={"kueue.x-k8s.io/queue-name": "gpus"}, activeDeadlineSeconds=60)
    pod = job["spec"]["template"]["spec"]
    assert "nvidia.com/gpu" not in pod["containers"][0]["resources"]["limits"]
    assert pod["containers"][0]["command"][-1] == "preflight"
    assert pod["imagePullSecrets"] == given["imagePullSecrets"]
    assert not {"nodeSelector", "tolerations", "runtimeClassName"} & pod.keys()
    assert job["metadata"]["labels"] == {
        "model-garden.dev/training-job": "receipts",
        "model-garden.dev/step": "preflight",
    }
    assert "activeDeadlineSeconds" not in job["spec"]


@pytest.mark.parametrize(
    ("spec", "offline"),
    [
        ({}, True),
        ({"preflight": "Disabled"}, False),
        ({"baseModel": "./models/mine"}, False),
        ({"datasetPath": "hf://datasets/org/rows"}, False),
        ({"pushToHub": {"repo": "org/out"}, "hubTokenSecret": {"name": "hub", "key": "token"}}, False),
    ],
)
def test_training_is_offline_once_everything_is_cached(spec: Object, offline: bool) -> None:
    assert ("HF_HUB_OFFLINE" in env(**spec)) is offline


def test_a_mirror_of_the_hub_is_used_in_both_steps_unless_the_job_names_another() -> None:
    settings = SETTINGS.model_copy(update={"hub_endpoint": "https://hub.example.com"})
    mirror = {"name": "HF_ENDPOINT", "value": "https://hub.example.com"}
    other = {"name": "HF_ENDPOINT", "value": "https://other.example.com"}
    for step in plans.STEPS:
        made = replace(plan(settings), step=step)
        [only] = job_builder.job(made, settings)["spec"]["template"]["spec"]["containers"]
        assert mirror in only["env"]
    [only] = job(settings, podTemplate={"env": [other]})["spec"]["template"]["spec"]["containers"]
    assert other in only["env"] and mirror not in only["env"]


def test_the_keys_of_the_credentials_become_variables_of_both_steps() -> None:
    remote = {"datasetPath": "s3://bucket/rows.jsonl", "storage": {"credentialsSecret": "bucket"}}
    assert container(**remote)["envFrom"] == [{"secretRef": {"name": "bucket"}}]
    preflight = replace(plan(SETTINGS, **remote), step="preflight")
    [only] = job_builder.job(preflight, SETTINGS)["spec"]["template"]["spec"]["containers"]
    assert only["envFrom"] == [{"secretRef": {"name": "bucket"}}]


def test_the_keys_of_the_trackers_secret_become_variables_and_no_value_of_the_job() -> None:
    tracked = {"reportTo": ["wandb"], "tracking": {"secret": "wandb"}}
    made = container(**tracked)
    assert made["envFrom"] == [{"secretRef": {"name": "wandb"}}]
    [config] = [variable["value"] for variable in made["env"] if variable["name"] == "MODEL_GARDEN_CONFIG"]
    named = parse_config(config).spec.tracking
    assert named and named.project == plan(SETTINGS, **tracked).namespace and named.run_name


def test_training_reads_what_the_preflight_fetched() -> None:
    made = resource(datasetPath="s3://bucket/rows.jsonl") | {"status": {"fetched": {"datasetPath": "ab12"}}}
    ready = plans.plan(made, SETTINGS)
    for step, fetched in (("train", {"datasetPath": "ab12"}), ("preflight", None)):
        [only] = job_builder.job(replace(ready, step=step), SETTINGS)["spec"]["template"]["spec"]["containers"]
        [text] = [variable["value"] for variable in only["env"] if variable["name"] == "MODEL_GARDEN_CONFIG"]
        assert parse_config(text).fetched == fetched
