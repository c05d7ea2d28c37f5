"""The Job whose pod reaches the claims."""

from model_garden.builders.storage_job import StoragePlace, storage_job
from model_garden.contract import names


def test_the_same_place_has_the_same_name_and_another_has_another() -> None:
    one = storage_job(StoragePlace(), "a")["metadata"]["name"]
    assert storage_job(StoragePlace(), "b")["metadata"]["name"] == one
    others = [StoragePlace("x"), StoragePlace(models_claim="x"), StoragePlace(image="x")]
    assert len({one, *(storage_job(place, "a")["metadata"]["name"] for place in others)}) == 4


def test_its_pod_mounts_the_claims_and_has_neither_token_nor_rights() -> None:
    made = storage_job(StoragePlace("my-data", "my-models", "an/image:1"), "a")
    pod = made["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == "an/image:1"
    claims = {volume["name"]: volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"][1:3]}
    places = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert {places[name]: claim for name, claim in claims.items()} == {
        "/workspace/data": "my-data",
        "/workspace/models": "my-models",
    }
    assert not any(mount.get("readOnly") for mount in container["volumeMounts"])
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == 1000


def test_its_image_is_pulled_with_the_secrets_of_the_place() -> None:
    pods = [
        storage_job(place, "a")["spec"]["template"]["spec"]
        for place in (StoragePlace(pull_secrets=("one", "two")), StoragePlace())
    ]
    assert pods[0]["imagePullSecrets"] == [{"name": "one"}, {"name": "two"}]
    assert "imagePullSecrets" not in pods[1]


def test_it_is_none_of_the_operator_s() -> None:
    made = storage_job(StoragePlace(), "a")
    assert "ownerReferences" not in made["metadata"]
    labels = made["metadata"]["labels"] | made["spec"]["template"]["metadata"]["labels"]
    assert names.LABEL_JOB not in labels


def test_it_goes_away_by_itself() -> None:
    spec = storage_job(StoragePlace(), "a")["spec"]
    assert spec["ttlSecondsAfterFinished"] <= 60
    assert spec["activeDeadlineSeconds"] <= 24 * 3600
    assert spec["template"]["spec"]["containers"][0]["command"][-2:] == ["model_garden.storage.idle", "120"]
