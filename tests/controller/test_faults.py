"""Faults that a job survives: its operator or pod killed, its Job deleted, the API server restarted."""

import json
import os
import random
import signal
import subprocess
import time
from datetime import datetime
from pathlib import Path

import pytest

from tests.cluster import Object, TestCluster
from tests.controller.harness import OperatorHarness, condition
from tests.controller.proxy import Proxy

pytestmark = pytest.mark.cluster

KILLS = 10


@pytest.fixture(scope="module")
def own(crd: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> OperatorHarness:
    """A namespace whose operator a test starts and kills by itself."""
    return OperatorHarness(crd, "faults", tmp_path_factory.mktemp("faults"))


def test_an_operator_killed_at_random_times_loses_and_repeats_nothing(own: OperatorHarness) -> None:
    """Four jobs of different lengths, so that each kill finds some at their beginning, middle or end."""
    seed = random.randrange(10_000)
    print("seed", seed)
    moments = random.Random(seed)
    lengths = {"tiny": 3, "short": 25, "middle": 50, "long": 90}
    command = own.cluster.command("get", "jobs", "-n", own.namespace, "--watch", "--output-watch-events")
    watch = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    own.submit("tiny", {"STEPS": lengths["tiny"], "STEP_SECONDS": 0.2})
    own.submit("long", {"STEPS": lengths["long"], "STEP_SECONDS": 0.2})
    for number in range(KILLS):
        own.start_operator()
        time.sleep(moments.uniform(0.8, 2.5))
        own.kill_operator()
        if number == 2:
            own.submit("short", {"STEPS": lengths["short"], "STEP_SECONDS": 0.2})
        if number == 4:
            own.submit("middle", {"STEPS": lengths["middle"], "STEP_SECONDS": 0.2})
    own.start_operator()
    for name, steps in lengths.items():
        status = own.until(name, "Succeeded")
        assert [(a["reason"], a["fromStep"], a["toStep"]) for a in status["attempts"]] == [("Completed", 0, steps)]
        assert_whole_history(status, steps)
        assert status["progress"]["step"] == steps
        assert len(own.pods(name)) == 1
    own.stop_operator()
    watch.terminate()
    made = [line for line in watch.communicate()[0].splitlines() if line.startswith("ADDED")]
    assert len(made) == len(lengths), made


@pytest.fixture(scope="module")
def harmed(harness: OperatorHarness) -> OperatorHarness:
    """Four jobs harmed in mid-training, together, since Kubernetes lets ten seconds pass before the next pod."""
    harness.submit("killed", {"STEPS": 30, "SAVE_EVERY": 5, "HANG_AT_STEP": 8})
    harness.submit("drained", {"STEPS": 30, "SAVE_EVERY": 1000, "HANG_AT_STEP": 3})
    harness.submit("evicted", {"STEPS": 30, "HANG_AT_STEP": 3}, backoffLimit=0)
    harness.submit("deleted", {"STEPS": 30, "STOP_SECONDS": 3, "HANG_AT_STEP": 3})
    harness.until_step("killed", 8)
    os.kill(process_of("killed"), signal.SIGKILL)
    harness.until_step("drained", 3)
    harness.kubectl("delete", "pod", pod_of(harness, "drained"), "--wait=false")
    harness.until_step("evicted", 3)
    evict(harness, pod_of(harness, "evicted"))
    harness.until_step("deleted", 3)
    harness.kubectl("delete", "job", "deleted-train", "--wait=false")
    return harness


def test_a_pod_killed_in_mid_training_is_followed_by_one_that_resumes(harmed: OperatorHarness) -> None:
    status = harmed.until("killed", "Succeeded")
    first, second = status["attempts"]
    assert (first["reason"], first["exitCode"], second["reason"]) == ("Error", 137, "Completed")
    assert "killed" in first["message"]
    assert (first["toStep"], second["fromStep"]) == (8, 5), "resumed from the last checkpoint"
    assert second["toStep"] == 30
    assert_whole_history(status, 30)


def test_a_deleted_pod_saves_first_and_the_next_one_resumes(harmed: OperatorHarness) -> None:
    status = harmed.until("drained", "Succeeded")
    first, second = status["attempts"]
    assert (first["reason"], second["reason"]) == ("Stopped", "Completed")
    assert second["fromStep"] == first["toStep"] == 3


def test_an_evicted_pod_costs_no_retry(harmed: OperatorHarness) -> None:
    status = harmed.until("evicted", "Succeeded")
    assert [attempt["reason"] for attempt in status["attempts"]] == ["Evicted", "Completed"]
    assert status["attempts"][1]["fromStep"] == status["attempts"][0]["toStep"] == 3


def test_a_deleted_job_is_created_again_and_resumes(harmed: OperatorHarness) -> None:
    status = harmed.until("deleted", "Succeeded")
    first, second = status["attempts"]
    assert second["fromStep"] == first["toStep"] == 3, "it resumes from what the deleted pod has saved at last"
    assert second["startTime"] >= first["endTime"], "two pods wrote to one folder"
    assert "JobRecreated" in [reason for reason, _ in harmed.events("deleted")]


def test_the_successor_of_a_deleted_job_has_the_present_settings_and_the_status_says_so(own: OperatorHarness) -> None:
    own.start_operator(TRAINER_IMAGE="example.com/trainer:1")
    own.submit("renewed", {"STEPS": 1000, "STEP_SECONDS": 0.1})
    own.until_step("renewed", 1)
    own.stop_operator()
    own.start_operator(TRAINER_IMAGE="example.com/trainer:2")
    status = own.until_step("renewed", own.status("renewed")["progress"]["step"] + 1)
    assert status["effectiveSpec"]["image"] == "example.com/trainer:1", "the Job that trains still has it"
    own.kubectl("delete", "job", "renewed-train")
    own.cluster.until(lambda: len(own.status("renewed").get("attempts") or ()) == 2)
    assert own.get("job", "renewed-train")["spec"]["template"]["spec"]["containers"][0]["image"].endswith(":2")
    assert own.status("renewed")["effectiveSpec"]["image"] == "example.com/trainer:2"
    own.stop_operator()
    own.kubectl("delete", "trainingjob", "renewed")


def test_a_new_training_job_of_a_deleted_name_starts_from_step_zero(harness: OperatorHarness) -> None:
    harness.submit("again", {"STEPS": 200, "STEP_SECONDS": 0.1})
    harness.until_step("again", 3)
    harness.kubectl("delete", "trainingjob", "again")
    harness.submit("again", {"STEPS": 2}, outputDir="./models/again-2")
    status = harness.until("again", "Succeeded")
    assert status["progress"]["totalSteps"] == 2
    assert len(status["attempts"]) == 1


def test_an_operator_that_was_down_while_a_job_ended_reports_all_of_it(own: OperatorHarness) -> None:
    own.start_operator()
    own.submit("unwatched", {"STEPS": 60}, ttlSecondsAfterFinished=0)
    own.until_step("unwatched", 3)  # and long before its end, at which a running operator would let the TTL begin
    own.kill_operator()
    own.cluster.until(lambda: job_is_complete(own.job("unwatched")), "the Job ends, and its TTL does not run")
    own.start_operator()
    status = own.until("unwatched", "Succeeded")
    assert_whole_history(status, 60)
    assert status["output"]["path"] == "models/unwatched"
    own.cluster.until(lambda: own.job("unwatched") is None, "now the TTL runs")
    own.stop_operator()


def test_of_two_operators_one_works_and_the_other_takes_over(own: OperatorHarness, tmp_path: Path) -> None:
    lease = {"LEADER_ELECTION": "true"}
    (tmp_path / "third").mkdir()
    second = own.second_operator(tmp_path)
    environment = {"POD_NAMESPACE": own.namespace}
    own.start_operator(pod={"POD_NAME": "one", **environment}, **lease)
    own.cluster.until(lambda: "one became leader" in own.log.read_text())
    own.cluster.until(lambda: own.health()["leads"])
    second.start_operator(pod={"POD_NAME": "two", **environment}, **lease)
    second.cluster.until(lambda: "waiting for the Lease" in second.log.read_text())
    third = own.second_operator(tmp_path / "third")
    third.start_operator(pod={"POD_NAME": "three", **environment}, **lease)
    third.cluster.until(lambda: "waiting for the Lease" in third.log.read_text())
    third.cluster.until(lambda: third.health()["leads"] is False, "a replica that waits is alive")
    third.stop_operator()
    own.submit("led", {"STEPS": 1})
    own.until("led", "Succeeded")
    own.stop_operator()
    own.submit("led-on", {"STEPS": 1})
    own.until("led-on", "Succeeded")
    assert "created Job led-on-train" in second.log.read_text()
    second.stop_operator()


def test_another_replica_takes_over_and_no_job_is_doubled(crd: TestCluster, tmp_path: Path) -> None:
    """First the leader's network is cut, then the next leader is killed."""
    one = OperatorHarness(crd, "taken-over", tmp_path)
    (tmp_path / "two").mkdir()
    two = one.second_operator(tmp_path / "two")
    proxy = Proxy(crd)
    one.kubeconfig = proxy.kubeconfig(tmp_path)
    start_replica(one, "one")
    crd.until(lambda: one.health()["leads"], "the first replica leads")
    start_replica(two, "two")
    crd.until(lambda: two.health()["leads"] is False, "the second replica waits")
    one.submit("led", {"STEPS": 100_000})
    one.until_step("led", 5)
    job = one.job("led")

    proxy.cut()
    assert_takeover(two, "two", after=lease_of(one))
    assert one.wait_for_operator() == 1, "a leader without the Lease ends"
    assert one.log.read_text().splitlines()[-1].endswith("could not be renewed")

    proxy.close()
    one.kubeconfig = crd.kubeconfig
    start_replica(one, "one")
    crd.until(lambda: one.health()["leads"] is False, "it waits now")
    two.kill_operator()
    assert_takeover(one, "one", after=lease_of(one))

    one.annotate("led", "model-garden.dev/stop=save")
    status = one.until("led", "Succeeded")
    assert_whole_history(status, status["progress"]["step"])
    assert len(status["attempts"]) == 1
    found = one.job("led")
    assert job and found and found["metadata"]["uid"] == job["metadata"]["uid"]
    logs = one.log.read_text() + two.log.read_text()
    assert [logs.count(f"created Job {name}-train") for name in ("led", "for-one", "for-two")] == [1, 1, 1]
    one.stop_operator()


def start_replica(harness: OperatorHarness, name: str) -> None:
    harness.start_operator(pod={"POD_NAME": name, "POD_NAMESPACE": harness.namespace}, LEADER_ELECTION="true")


def assert_takeover(harness: OperatorHarness, name: str, after: Object) -> None:
    """It takes the Lease that was last renewed ``after``, runs a new job, and reports the one that trains."""
    harness.submit(f"for-{name}", {"STEPS": 1})
    harness.cluster.until(lambda: harness.health()["leads"], f"replica {name} leads")
    taken = lease_of(harness)
    assert taken["holderIdentity"] == name
    busy = 15  # seconds that a busy machine may add; test_races.py checks the promise of 15 s itself
    assert (when(taken["acquireTime"]) - when(after["renewTime"])).total_seconds() < 15 + busy
    harness.until(f"for-{name}", "Succeeded")
    harness.until_step("led", harness.status("led")["progress"]["step"] + 10)


def lease_of(harness: OperatorHarness) -> Object:
    found: Object = harness.get("lease", "model-garden-operator")["spec"]
    return found


def when(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_an_operator_whose_lease_is_taken_exits_with_one_sentence(own: OperatorHarness, tmp_path: Path) -> None:
    """Its exit restarts it as a replica that waits."""
    robbed = own.second_operator(tmp_path)
    robbed.start_operator(pod={"POD_NAME": "robbed", "POD_NAMESPACE": own.namespace}, LEADER_ELECTION="true")
    robbed.cluster.until(lambda: "serving TrainingJobs" in robbed.log.read_text())
    robbed.patch("lease", "model-garden-operator", {"spec": {"holderIdentity": "another"}})
    assert robbed.wait_for_operator() == 1
    log = robbed.log.read_text()
    lease = f"{own.namespace}/model-garden-operator"
    assert log.splitlines()[-1] == f"error: the Lease {lease} is held by another now"
    assert "Traceback" not in log
    robbed.kubectl("delete", "lease", "model-garden-operator")


def test_a_node_that_does_not_answer_is_named_until_it_answers_again(harness: OperatorHarness) -> None:
    harness.submit("cut-off", {"STEPS": 5000, "STEP_SECONDS": 0.1})
    harness.until_step("cut-off", 3)
    with harness.cluster.silent_node():
        status = harness.until("cut-off", "Running", "NodeNotReady", seconds=120)
    running = condition(status, "Running")
    assert "node localhost does not answer since" in running["message"] and "force-delete it" in running["message"]
    status = harness.until("cut-off", "Running", "Running")
    assert [attempt["pod"] for attempt in status["attempts"]] == [pod_of(harness, "cut-off")], "the pod trains on"
    harness.annotate("cut-off", "model-garden.dev/cancel=true")


def test_training_continues_while_the_api_server_restarts(harness: OperatorHarness) -> None:
    harness.submit("steady", {"STEPS": 60, "STEP_SECONDS": 0.1})
    harness.until_step("steady", 5)
    harness.cluster.kill_api_server()
    harness.cluster.up()
    status = harness.until("steady", "Succeeded")
    assert [(a["reason"], a["toStep"]) for a in status["attempts"]] == [("Completed", 60)]
    assert_whole_history(status, 60)


def assert_whole_history(status: Object, steps: int) -> None:
    """From the first step to the last, each once, thinned only where there are more than 64."""
    known = [point["step"] for point in status["history"]]
    assert known == sorted(set(known))
    assert (known[0], known[-1]) == (1, steps)
    assert len(known) == steps if steps <= 64 else 32 <= len(known) <= 64


def pod_of(harness: OperatorHarness, name: str) -> str:
    [pod] = harness.pods(name)
    return str(pod["metadata"]["name"])


def process_of(name: str) -> int:
    """The trainer's process: of those with the job's config in their environment, the one that runs no other."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found = f'"name":"{name}"' in (folder / "environ").read_text(errors="replace")
            command = (folder / "cmdline").read_text()
        except OSError:
            continue
        if found and "scripted_trainer" in command and "shim" not in command:
            return int(folder.name)
    raise AssertionError(f"no process trains {name}")


def evict(harness: OperatorHarness, pod: str) -> None:
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    path = f"/api/v1/namespaces/{harness.namespace}/pods/{pod}/eviction"
    harness.cluster.kubectl("create", "--raw", path, "-f", "-", content=json.dumps(eviction))


def job_is_complete(job: Object | None) -> bool:
    found = ((job or {}).get("status") or {}).get("conditions") or []
    return any(c["type"] == "Complete" and c["status"] == "True" for c in found)
