"""The node's decisions, without a cluster: tables of cases named by behaviour."""

import asyncio
import datetime
import doctest
import json
import shutil

import pytest

from devcluster import kueue
from devcluster.cluster import PORT_NAMES, Cluster, cluster_folder, load
from devcluster.control_plane import ORDER, commands
from devcluster.node import environment, images, status, volumes
from devcluster.node.logs import LogOptions, read_log
from devcluster.node.provisioner import volume_for
from devcluster.node.runs import Exit, Run
from devcluster.node.server import has_ended

NOW = 1_700_000_000.0


def view(**more):
    return status.ContainerView("main", "image", **{"state": status.waiting("ContainerCreating"), **more})


def ended(code):
    return status.terminated(Exit(code, NOW, NOW), "", "")


RUNNING = {"state": status.running(NOW)}
CRASHED = {"state": status.waiting("CrashLoopBackOff"), "last_state": ended(1)}


@pytest.mark.parametrize(
    ("policy", "init", "main", "stopping", "expected"),
    [
        ("Never", [], [view()], False, "Pending"),
        ("Never", [], [view(**RUNNING)], False, "Running"),
        ("Never", [], [view(**RUNNING), view()], False, "Pending"),
        ("Never", [], [view(**RUNNING), view(state=ended(0))], False, "Running"),
        ("Never", [], [view(state=ended(0))], False, "Succeeded"),
        ("Never", [], [view(state=ended(0)), view(state=ended(3))], False, "Failed"),
        ("OnFailure", [], [view(state=ended(1))], False, "Running"),
        ("OnFailure", [], [view(state=ended(0))], False, "Succeeded"),
        ("OnFailure", [], [view(**CRASHED)], False, "Running"),
        ("Always", [], [view(state=ended(0))], False, "Running"),
        ("Always", [], [view(state=ended(143))], True, "Failed"),
        ("Always", [], [view(state=ended(0))], True, "Succeeded"),
        ("Always", [], [view()], True, "Failed"),
        ("Never", [], [view(**RUNNING)], True, "Running"),
        ("Never", [view(**RUNNING)], [view()], False, "Pending"),
        ("Never", [view(state=ended(2))], [view()], False, "Failed"),
        ("OnFailure", [view(state=ended(2))], [view()], False, "Pending"),
        ("Never", [view(state=ended(0))], [view(**RUNNING)], False, "Running"),
    ],
)
def test_phase(policy, init, main, stopping, expected):
    assert status.phase(policy, init, main, stopping) == expected


def test_conditions_keep_the_time_of_their_last_change():
    pod = {"spec": {}}
    first = status.pod_status(pod, [], [view()], NOW)
    second = status.pod_status(pod | {"status": first}, [], [view(**RUNNING, ready=True)], NOW + 60)
    times = {c["type"]: (c["status"], c["lastTransitionTime"]) for c in second["conditions"]}
    assert times["Initialized"] == ("True", status.timestamp(NOW))
    assert times["Ready"] == ("True", status.timestamp(NOW + 60))
    assert second["startTime"] == first["startTime"]


def test_a_deadline_fails_the_pod_once_its_containers_ended():
    late = status.Failure("DeadlineExceeded", "too long")
    running = status.pod_status({"spec": {}}, [], [view(**RUNNING)], NOW, True, late)
    assert running["phase"] == "Running"
    over = status.pod_status({"spec": {}}, [], [view(state=ended(0))], NOW, True, late)
    assert (over["phase"], over["reason"]) == ("Failed", "DeadlineExceeded")


def test_a_node_process_goes_on_from_the_status_that_an_earlier_one_wrote():
    pod = {"spec": {"restartPolicy": "OnFailure"}}
    first = status.ContainerView("first", "image", ended(0))
    main = view(**RUNNING, last_state=ended(1), restarts=1, ready=True, started=True, identifier="process://7")
    written = status.pod_status(pod, [first], [main], NOW)
    told = status.recorded({"status": written})
    views = [status.first_view({"name": name, "image": "image"}, told.get(name)) for name in ("first", "main", "new")]
    assert views == [first, main, status.ContainerView("new", "image", status.waiting("ContainerCreating"))]


@pytest.mark.parametrize(
    ("written", "policy", "code", "expected"),
    [
        (b"done", "File", 0, "done"),
        (b"", "File", 1, ""),
        (b"", "FallbackToLogsOnError", 1, "the log"),
        (b"", "FallbackToLogsOnError", 0, ""),
        (b"mine", "FallbackToLogsOnError", 1, "mine"),
        (b"x" * 5000, "File", 0, "x" * 4096),
    ],
)
def test_termination_message(written, policy, code, expected):
    assert status.termination_message(written, b"the log", policy, code) == expected


def test_back_off_doubles_up_to_a_minute():
    assert [status.back_off(n) for n in range(9)] == [0, 1, 2, 4, 8, 16, 32, 60, 60]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("$(A)/$(B)", "1/2"),
        ("$(C)", "$(C)"),
        ("$$(A)", "$(A)"),
        ("$A $", "$A $"),
        ("a $$ $$$$", "a $ $$"),
        ("$(A)$(A)", "11"),
    ],
)
def test_expansion(text, expected):
    assert environment.expand(text, {"A": "1", "B": "2"}) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/workspace", "/r/workspace"),
        ("/workspace/models/a", "/r/workspace/models/a"),
        ("/workspaces", "/workspaces"),
        ("/etc/hosts", "/etc/hosts"),
        ("./models", "./models"),
        ("--output=/workspace/models", "--output=/r/workspace/models"),
        ("--output", "--output"),
        ("NAME=/workspace", "NAME=/workspace"),
        ("echo /workspace/models", "echo /workspace/models"),
    ],
)
def test_container_paths_become_paths_of_this_machine(text, expected):
    assert environment.on_machine(text, ["/workspace"], "/r") == expected


def test_the_root_folder_is_no_path_to_rewrite():
    assert environment.container_roots({"workingDir": "/", "volumeMounts": [{"mountPath": "/a/"}]}) == ["/a"]


@pytest.mark.parametrize(
    ("text", "expected"), [("1", 1), ("500m", 0.5), ("2Gi", 2 * 1024**3), ("1e3", 1000), ("1k", 1000), ("1.5M", 1.5e6)]
)
def test_quantities(text, expected):
    assert float(environment.quantity(text)) == expected


def test_a_quantity_that_is_none_is_refused():
    with pytest.raises(environment.ConfigError, match="'2 cats' is not a quantity"):
        environment.quantity("2 cats")


def test_a_resource_field_is_rounded_up_and_falls_back_to_the_node():
    container = {"resources": {"limits": {"cpu": "1500m"}}}
    assert environment.resource_value(container, "limits.cpu", "1", {}) == "2"
    assert environment.resource_value(container, "limits.memory", "1Gi", {"memory": "4Gi"}) == "4"
    assert environment.resource_value(container, "requests.memory", "1", {"memory": "4Gi"}) == "0"


def test_only_what_an_image_would_bring_comes_from_the_machine():
    machine = {"PATH": "/bin", "HTTPS_PROXY": "p", "OMP_NUM_THREADS": "2", "KUBECONFIG": "mine", "HF_TOKEN": "secret"}
    assert environment.image_environment(machine, "/venv/bin") == {
        "PATH": "/venv/bin:/bin",
        "HTTPS_PROXY": "p",
        "OMP_NUM_THREADS": "2",
        "PYTHONUNBUFFERED": "1",
    }


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("python:3.12", None),
        ("registry.example.com:5000/team/trainer:1.0", None),
        ("localhost/trainer@sha256:" + "a" * 64, None),
        ("registry.invalid/trainer", "ErrImagePull"),
        ("registry.invalid:5000/trainer:1", "ErrImagePull"),
        ("invalid/trainer", None),
        ("Trainer:1", "InvalidImageName"),
        ("trainer:a b", "InvalidImageName"),
    ],
)
def test_which_images_are_there(image, reason):
    problem = images.image_problem(image)
    assert (problem and problem[0]) == reason


def test_items_choose_keys_and_paths_of_a_volume_of_files():
    source = {"name": "settings", "items": [{"key": "a", "path": "deep/b"}]}
    assert volumes.chosen_files(source, {"a": b"1", "c": b"2"}) == {"deep/b": b"1"}
    with pytest.raises(volumes.VolumeError, match="settings has no key a"):
        volumes.chosen_files(source, {})


def test_a_mount_inside_another_lies_in_its_volume(tmp_path):
    outer, inner, rootfs = (tmp_path / name for name in ("outer", "inner", "rootfs"))
    for folder in (outer, inner, rootfs):
        folder.mkdir()
    mounts = [{"name": "inner", "mountPath": "/w/data"}, {"name": "outer", "mountPath": "/w"}]
    for _ in range(2):  # and again, as after a restart
        volumes.link_mounts({"volumeMounts": mounts}, {"outer": outer, "inner": inner}, rootfs)
    (rootfs / "w/data/x").touch()
    assert (inner / "x").exists() and (rootfs / "w").resolve() == outer


def test_a_mount_never_hides_what_a_volume_holds(tmp_path):
    outer, inner, rootfs = (tmp_path / name for name in ("outer", "inner", "rootfs"))
    (outer / "data").mkdir(parents=True)
    (outer / "data" / "precious").touch()
    inner.mkdir()
    mounts = [{"name": "inner", "mountPath": "/w/data"}, {"name": "outer", "mountPath": "/w"}]
    with pytest.raises(environment.ConfigError, match="is taken"):
        volumes.link_mounts({"volumeMounts": mounts}, {"outer": outer, "inner": inner}, rootfs)
    assert (outer / "data" / "precious").exists()


LOG = """\
2026-01-01T00:00:00.000000000Z stdout F one
2026-01-01T00:00:01.000000000Z stderr P tw
2026-01-01T00:00:01.500000000Z stderr F o
2026-01-01T00:00:02.000000000Z stdout F\x20
2026-01-01T00:00:03.000000000Z stdout F half a li"""


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, "one\ntwo\n\n"),
        ({"tailLines": "1"}, "\n"),
        ({"tailLines": "0"}, ""),
        ({"limitBytes": "5"}, "one\nt"),
        ({"sinceTime": "2026-01-01T00:00:01.5Z"}, "o\n\n"),
        ({"sinceTime": "2026-01-01T01:00:02+01:00"}, "\n"),
        ({"sinceSeconds": "3"}, "\n"),
        ({"timestamps": "true", "tailLines": "1"}, "2026-01-01T00:00:02.000000000Z \n"),
        ({"follow": "true"}, "one\ntwo\n\n"),
    ],
)
def test_what_of_a_log_is_shown(tmp_path, query, expected):
    log = tmp_path / "log"
    log.write_text(LOG)
    now = datetime.datetime(2026, 1, 1, 0, 0, 5, tzinfo=datetime.UTC)

    async def read():
        return b"".join([chunk async for chunk in read_log(log, LogOptions.of(query, now), lambda: True)])

    assert asyncio.run(read()).decode() == expected


def test_a_log_that_is_followed_ends_when_its_pod_is_removed(tmp_path):
    run = Run(tmp_path / "0")
    run.folder.mkdir()
    run.log.write_text(LOG)

    async def read():
        log = read_log(run.log, LogOptions(follow=True), lambda: has_ended(run))
        first = await anext(log)
        shutil.rmtree(run.folder)
        return first + b"".join([chunk async for chunk in log])

    assert asyncio.run(asyncio.wait_for(read(), 60)).decode() == "one\ntwo\n\n"


def test_the_folder_of_a_claim_can_be_found_by_a_person(tmp_path):
    claim = {
        "metadata": {"namespace": "team", "name": "models", "uid": "0123456789"},
        "spec": {
            "resources": {"requests": {"storage": "1Gi"}},
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "local",
        },
    }
    volume = volume_for(claim, tmp_path)
    assert volume["spec"]["local"]["path"] == str(tmp_path / "team-models-01234567")
    assert volume["spec"]["claimRef"]["uid"] == "0123456789"


def test_the_folder_of_a_cluster_is_the_nearest_said(tmp_path):
    said = {"DEVCLUSTER_DIR": str(tmp_path / "b"), "XDG_STATE_HOME": str(tmp_path)}
    assert cluster_folder("x", str(tmp_path / "a"), said) == tmp_path / "a"
    assert cluster_folder("x", None, said) == tmp_path / "b"
    del said["DEVCLUSTER_DIR"]
    assert cluster_folder("x", None, said) == tmp_path / "model-garden" / "devcluster" / "x"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"ports": {}}', '{"ports": {"etcd": "x"}, "gpus": 1}'])
def test_damaged_settings_are_no_cluster(tmp_path, content):
    (tmp_path / "settings.json").write_text(content)
    assert load(tmp_path) is None


def test_every_process_listens_on_loopback_only(tmp_path):

    cluster = Cluster(tmp_path, {name: 20000 + index for index, name in enumerate(PORT_NAMES)})
    all_commands = commands(cluster, tmp_path)
    assert tuple(all_commands) == ORDER
    for name in ORDER[1:4]:
        assert "--bind-address=127.0.0.1" in all_commands[name]
    assert not [word for word in all_commands["etcd"] if "http" in word and "127.0.0.1" not in word]


def test_kueue_is_reached_on_loopback_and_keeps_what_was_added_to_its_configuration(tmp_path):
    cluster = Cluster(tmp_path, {name: 20000 + index for index, name in enumerate(PORT_NAMES)})
    first = kueue.configuration(cluster, {}, {"waitForPodsReady": {"timeout": "15s"}})
    assert kueue.configuration(cluster, first, None) == first
    assert "waitForPodsReady" not in kueue.configuration(cluster, first, {})
    assert first["webhook"]["host"] == first["visibilityServer"]["bindAddress"] == "127.0.0.1"


def test_only_webhooks_of_what_kueue_manages_are_registered(tmp_path):
    hooks = [
        {
            "name": group,
            "clientConfig": {"service": {"name": "x", "path": f"/{group}"}},
            "rules": [{"apiGroups": [group]}],
        }
        for group in ("batch", "", "apps")
    ]
    found = {"kind": "MutatingWebhookConfiguration", "metadata": {"name": "mutating"}, "webhooks": hooks}
    (tmp_path / "manifests.json").write_text(json.dumps([found]))
    cluster = Cluster(tmp_path, {name: 20000 + index for index, name in enumerate(PORT_NAMES)})
    [made] = [item for item in kueue.objects(cluster, tmp_path) if item["kind"] == found["kind"]]
    assert made["metadata"]["name"] == "kueue-mutating"
    [hook] = made["webhooks"]
    service = {"namespace": "kueue-system", "name": "kueue-webhook-service", "path": "/batch"}
    assert hook["clientConfig"] == {"service": service | {"port": cluster.ports["kueue-webhook"]}}


@pytest.mark.parametrize("module", [environment, images])
def test_examples_in_docstrings_are_true(module):
    assert doctest.testmod(module).failed == 0
