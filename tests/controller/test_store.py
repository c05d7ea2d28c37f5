"""The caches: who is woken, what an old version may not do, and what is kept of a pod that is gone."""

from typing import Any

from model_garden.cluster import Change, Snapshot
from model_garden.controller.observed import GONE
from model_garden.controller.store import Key, Store
from tests.controller import builders as b
from tests.controller.builders import Object

KEY, JOB = Key("default", "receipts"), Key("default", "receipts-train")


class Woken(list[Key]):
    def take(self) -> list[Key]:
        taken = list(self)
        self.clear()
        return taken


def store_with_a_job() -> tuple[Store, Woken]:
    woken = Woken()
    store = Store(woken.append)
    store.put_training_job(versioned(b.resource(), 1))
    woken.clear()
    return store, woken


def versioned(item: Object, version: int) -> Object:
    return item | {"metadata": item["metadata"] | {"resourceVersion": str(version)}}


def change(kind: Any, item: Object) -> Change:
    return Change(kind, item)


def test_a_job_and_a_pod_wake_the_training_job_they_belong_to() -> None:
    store, woken = store_with_a_job()
    store.on_jobs(change("ADDED", b.job()), None)
    assert woken.take() == [KEY]
    store.on_pods(change("ADDED", b.running()), None)
    assert woken.take() == [KEY]
    store.on_jobs(change("DELETED", b.job()), None)
    assert woken.take() == [KEY]
    assert store.job(JOB) is None


def test_a_late_watch_event_does_not_undo_the_answer_to_a_write() -> None:
    store, _ = store_with_a_job()
    store.put_job(versioned(b.job(suspend=True), 20))
    store.on_jobs(change("MODIFIED", versioned(b.job(), 9)), None)
    job = store.job(JOB)
    assert job and job["spec"]["suspend"] is True


def test_versions_are_compared_as_numbers() -> None:
    store, _ = store_with_a_job()
    store.put_job(versioned(b.job(), 99))
    store.put_job(versioned(b.job(suspend=True), 100))
    job = store.job(JOB)
    assert job and job["spec"]["suspend"] is True


def test_a_late_deletion_event_leaves_a_new_job_of_the_same_name() -> None:
    store, _ = store_with_a_job()
    successor = b.job(uid="new")
    store.put_job(successor)
    store.on_jobs(change("DELETED", b.job()), None)
    assert store.job(JOB) == successor


def test_a_pod_that_is_gone_is_kept_until_its_end_is_recorded() -> None:
    store, _ = store_with_a_job()
    store.on_pods(change("ADDED", b.running()), None)
    store.on_pods(change("DELETED", b.ended(143)), None)
    [pod] = store.pods(JOB)
    assert pod[GONE] and pod["status"]["phase"] == "Failed"
    store.forget_gone(JOB)
    assert store.pods(JOB) == []


def test_a_pod_that_loses_its_owner_stays_known_until_it_ends() -> None:
    """After ``kubectl delete job --cascade=orphan`` it trains on, and no other may write beside it."""
    store, woken = store_with_a_job()
    store.on_pods(change("ADDED", b.running()), None)
    orphan = versioned(b.running(), 2)
    orphan["metadata"] |= {"ownerReferences": [], "labels": {"batch.kubernetes.io/job-name": "receipts-train"}}
    store.on_pods(change("MODIFIED", orphan), None)
    assert store.pods(JOB) == [orphan]
    woken.clear()
    store.on_pods(change("DELETED", orphan), None)
    [pod] = store.pods(JOB)
    assert pod[GONE] and woken.take() == [KEY]


def test_a_pod_that_went_while_the_status_was_written_is_kept_for_the_next() -> None:
    store, _ = store_with_a_job()
    for name in ("recorded", "unseen"):
        store.on_pods(change("DELETED", b.ended(143, name=name)), None)
    store.forget_gone(JOB, {"recorded"})
    assert [pod["metadata"]["name"] for pod in store.pods(JOB)] == ["unseen"]


def test_a_late_answer_to_a_write_does_not_restore_a_deleted_job() -> None:
    store, _ = store_with_a_job()
    store.remove_training_job(KEY)
    store.put_training_job(versioned(b.resource(), 5), written=True)
    assert store.training_job(KEY) is None
    successor = versioned(b.resource(), 7)
    successor["metadata"]["uid"] = "successor"
    store.put_training_job(successor)
    store.put_training_job(versioned(b.resource(), 9), written=True)
    assert store.training_job(KEY) == successor


def test_a_snapshot_replaces_all_there_was_in_its_namespace() -> None:
    store, _ = store_with_a_job()
    elsewhere = b.job()
    elsewhere["metadata"]["namespace"] = "other"
    store.put_job(b.job())
    store.put_job(elsewhere)
    store.on_pods(change("ADDED", b.running("seen")), None)
    store.on_jobs(Snapshot([]), "default")
    store.on_pods(Snapshot([b.running("new")]), "default")
    assert store.job(JOB) is None
    assert store.job(Key("other", "receipts-train")) == elsewhere
    assert {pod["metadata"]["name"]: GONE in pod for pod in store.pods(JOB)} == {"seen": True, "new": False}


def test_nothing_is_kept_of_a_training_job_that_is_gone() -> None:
    store, woken = store_with_a_job()
    store.on_pods(change("ADDED", b.running()), None)
    store.remove_training_job(KEY)
    store.on_pods(change("DELETED", b.running()), None)
    assert store.pods(JOB) == []
    assert store.training_job(KEY) is None
    assert woken.take()[0] == KEY


def test_the_preflight_job_wakes_too() -> None:
    store, woken = store_with_a_job()
    preflight = b.job(name="receipts-preflight")
    store.on_jobs(change("ADDED", preflight), None)
    assert woken.take() == [KEY]
