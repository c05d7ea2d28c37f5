"""What the kubelet node asks of a machine, and what it is told: without a cluster."""

import doctest
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from devcluster import binaries, versions
from devcluster.cluster import KUBELET, PORT_NAMES, Cluster
from devcluster.control_plane import KUBELET_ORDER, commands, order
from devcluster.kubelet import images, machine, requirements, settings
from tests.cluster import devcluster


def lacking(monkeypatch, folder, programs=True):
    monkeypatch.setattr(requirements.shutil, "which", lambda name: name if programs else None)
    with pytest.raises(requirements.RequirementsError) as caught:
        requirements.check(folder)
    return str(caught.value)


def test_everything_that_is_missing_is_named_at_once_with_the_fix(monkeypatch, tmp_path):
    monkeypatch.setattr(requirements.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(requirements, "CNI_PLUGINS", tmp_path)
    monkeypatch.setattr(requirements, "CGROUPS", tmp_path)
    found = lacking(monkeypatch, tmp_path / ("x" * 90), programs=False)
    assert "user 1000 may not create namespaces and control groups; run as root" in found
    assert "apt-get install --no-install-recommends runc iproute2 containernetworking-plugins" in found
    assert f"{tmp_path} has no controller cpu, cpuset, memory, pids" in found
    assert "longer than 80 characters; choose another with --dir" in found


def test_another_system_is_told_first(monkeypatch, tmp_path):
    monkeypatch.setattr(requirements.sys, "platform", "darwin")
    assert "this is darwin; a kubelet needs Linux" in lacking(monkeypatch, tmp_path)


def test_version_2_of_control_groups_has_one_folder_with_all_controllers(tmp_path):
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    assert requirements.cgroup_problem(tmp_path) is None
    (tmp_path / "cgroup.controllers").write_text("cpu pids\n")
    assert (
        requirements.cgroup_problem(tmp_path)
        == f"{tmp_path} has no controller cpuset, memory; mount the control groups there"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="run as root, a kubelet is not refused")
def test_without_root_the_command_ends_with_one_message(tmp_path):
    done = devcluster("up", "--node=kubelet", "--dir", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("devcluster: --node=kubelet cannot run here:") and "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root to give capabilities up")
def test_root_without_the_capability_to_mount_is_told_so(tmp_path):
    check = f"from devcluster.kubelet import requirements; requirements.check(requirements.Path('{tmp_path}'))"
    limited = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", sys.executable, "-c", check]
    done = subprocess.run(limited, capture_output=True, text=True, check=False)
    assert f"a container cannot be made in {tmp_path}: unshare: unshare failed: Operation not permitted" in done.stderr


def test_a_cluster_keeps_its_kind_of_node_and_a_process_node_takes_no_images(tmp_path):
    Cluster(tmp_path, dict.fromkeys(PORT_NAMES, 1)).save()
    for command in (("up", "--node=kubelet"), ("load-image", "x.tar")):
        refused = devcluster(*command, "--dir", str(tmp_path))
        assert refused.returncode == 1
        assert refused.stderr.startswith(f"devcluster: the cluster in {tmp_path} has --node=processes, which")


def test_both_modules_pin_the_same_kubernetes():
    pins = [(folder / "go.mod").read_text() for folder in (versions.GO_MODULE, versions.KUBELET_MODULE)]
    assert all(f"k8s.io/kubernetes {versions.KUBERNETES}" in text for text in pins)
    assert binaries.cache_folder() != binaries.cache_folder(module=versions.KUBELET_MODULE)


def test_servers_listen_on_loopback_and_files_lie_in_the_clusters_folder(tmp_path):
    cluster = Cluster(tmp_path, {name: 20000 + index for index, name in enumerate(PORT_NAMES)}, node=KUBELET)
    assert tuple(commands(cluster, tmp_path, tmp_path)) == order(cluster) == KUBELET_ORDER
    files = settings.files(cluster)
    kubelet = json.loads(files["kubelet.json"])
    assert kubelet["address"] == "127.0.0.1" and kubelet["readOnlyPort"] == 0
    for setting in ("podLogsDir", "volumePluginDir", "resolvConf"):
        assert kubelet[setting].startswith(str(tmp_path))
    assert files["containerd.toml"].count(str(tmp_path)) == 7


def test_an_archive_holds_an_image_of_one_layer():
    content = images.image_archive("localhost/x:1", {"x": b"program"}, ["/x"])
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        [image] = json.load(archive.extractfile("manifest.json"))
        assert json.load(archive.extractfile(image["Config"]))["config"] == {"Cmd": ["/x"]}
        with tarfile.open(fileobj=archive.extractfile(image["Layers"][0])) as layer:
            found = (layer.getnames(), layer.getmember("x").mode)
    assert (image["RepoTags"], *found) == (["localhost/x:1"], ["x"], 0o755)


def test_a_machine_that_was_not_changed_is_left_as_it_is(tmp_path):
    cluster = Cluster(tmp_path, {})
    machine.kill_pods(cluster)
    machine.restore(cluster)
    assert list(tmp_path.iterdir()) == []


def test_examples_in_docstrings_are_true():
    assert doctest.testmod(machine, extraglobs={"Path": Path}).failed == 0
