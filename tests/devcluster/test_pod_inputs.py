"""What a pod is given: variables, files, claims, GPUs, ports and the rights of its account."""

import socket

import pytest

from tests.devcluster.objects import claim, container, ended, pod, state, waiting

pytestmark = pytest.mark.cluster


def test_environment_comes_from_all_its_sources(cluster, run, unique):
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": unique}, "data": {"COLOUR": "blue"}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": unique}, "stringData": {"key": "hush"}}
    env = [
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "TEAM", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['team']"}}},
        {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": unique, "key": "key"}}},
        {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "none", "key": "key", "optional": True}}},
        {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
        {"name": "PAIR", "value": "$(NAME)-$(COLOUR)-$$(NAME)-$(UNKNOWN)"},
        {"name": "CACHE", "value": "/workspace/cache"},
    ]
    names = ("NAME", "NODE", "TEAM", "SECRET", "NONE", "MEMORY", "PAIR", "COLOUR", "KUBECONFIG")
    script = f"""
for name in {names}: print(name, os.environ.get(name))
print(os.environ['CACHE'] == os.getcwd() + '/cache', sys.argv[1:])
"""
    main = container(
        script,
        workingDir="/workspace",
        env=env,
        envFrom=[{"configMapRef": {"name": unique}}],
        resources={"limits": {"memory": "64Mi"}},
    )
    main["command"] += ["$(NAME)"]
    run(settings, secret, pod(unique, main, annotations={"team": "vision"}, automountServiceAccountToken=False))
    assert ended(cluster, unique)["exitCode"] == 0
    assert cluster.kubectl("logs", unique).splitlines() == [
        f"NAME {unique}",
        "NODE localhost",
        "TEAM vision",
        "SECRET hush",
        "NONE None",
        "MEMORY 64",
        f"PAIR {unique}-blue-$(NAME)-$(UNKNOWN)",
        "COLOUR blue",
        "KUBECONFIG None",
        f"True ['{unique}']",
    ]


def test_volumes_of_files_hold_what_they_name(cluster, run, unique):
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": unique}, "data": {"a": "1", "b": "2"}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": unique}, "stringData": {"key": "hush"}}
    volumes = [
        {"name": "settings", "configMap": {"name": unique}},
        {"name": "secret", "secret": {"secretName": unique, "items": [{"key": "key", "path": "deep/file"}]}},
        {"name": "mixed", "projected": {"sources": [{"configMap": {"name": unique}}, {"secret": {"name": unique}}]}},
        {"name": "scratch", "emptyDir": {}},
    ]
    mounts = [{"name": volume["name"], "mountPath": f"/workspace/{volume['name']}"} for volume in volumes]
    script = """
print(sorted(os.listdir('settings')), open('secret/deep/file').read(), sorted(os.listdir('mixed')))
open('scratch/x', 'w').write('written')
print(open('scratch/x').read())
"""
    main = container(script, workingDir="/workspace", volumeMounts=mounts)
    run(settings, secret, pod(unique, main, volumes=volumes))
    assert ended(cluster, unique)["exitCode"] == 0, cluster.kubectl("logs", unique)
    assert cluster.kubectl("logs", unique) == "['a', 'b'] hush ['a', 'b', 'key']\nwritten\n"


def test_a_claim_keeps_its_files_from_pod_to_pod_and_goes_with_them(cluster, run, unique):
    mounts = [{"name": "models", "mountPath": "/workspace/models"}]
    volumes = [{"name": "models", "persistentVolumeClaim": {"claimName": unique}}]
    main = {"workingDir": "/workspace", "volumeMounts": mounts}
    run(claim(unique), pod(unique, container("open('models/adapter', 'w').write('weights')", **main), volumes=volumes))
    assert ended(cluster, unique)["exitCode"] == 0
    run(pod(f"{unique}-b", container("print(open('models/adapter').read())", **main), volumes=volumes))
    assert ended(cluster, f"{unique}-b")["exitCode"] == 0
    assert cluster.kubectl("logs", f"{unique}-b") == "weights\n"
    (folder,) = (cluster.directory / "volumes").glob(f"default-{unique}-*")
    assert (folder / "adapter").read_text() == "weights"
    cluster.kubectl("delete", "pod", unique, f"{unique}-b")
    cluster.kubectl("delete", "pvc", unique)
    cluster.until(lambda: not folder.exists(), "the folder of the deleted claim is removed")


def unschedulable(cluster, name):
    def message():
        conditions = cluster.get("pod", name)["status"].get("conditions", [])
        return next((c["message"] for c in conditions if c.get("reason") == "Unschedulable"), None)

    return cluster.until(message)


def test_a_missing_claim_leaves_the_pod_pending(cluster, run, unique):
    volumes = [{"name": "models", "persistentVolumeClaim": {"claimName": "not-there"}}]
    run(pod(unique, container("print('never')"), volumes=volumes))
    assert 'persistentvolumeclaim "not-there" not found' in unschedulable(cluster, unique)


def test_a_second_pod_waits_for_the_gpu(cluster, run, unique, tmp_path):
    gpu = {"resources": {"limits": {"nvidia.com/gpu": 1}}}
    go_on = tmp_path / "go-on"
    run(pod(f"{unique}-a", container(f"wait_for({str(go_on)!r})", **gpu)))
    cluster.until(lambda: "running" in state(cluster.get("pod", f"{unique}-a")))
    run(pod(f"{unique}-b", container("print('my turn')", **gpu)))
    assert "Insufficient nvidia.com/gpu" in unschedulable(cluster, f"{unique}-b")
    go_on.touch()
    assert ended(cluster, f"{unique}-b")["exitCode"] == 0


def test_a_missing_secret_is_waited_for(cluster, run, unique):
    variable = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": unique, "key": "token"}}}
    run(pod(unique, container("print(os.environ['TOKEN'])", env=[variable])))
    assert unique in waiting(cluster, unique, "CreateContainerConfigError")["message"]
    run({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": unique}, "stringData": {"token": "hush"}})
    ended(cluster, unique)
    assert cluster.kubectl("logs", unique) == "hush\n"


def test_a_port_that_is_taken_is_told(cluster, run, unique):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        run(pod(unique, container("print('tries')", ports=[{"containerPort": port}])))
        selector = f"--field-selector=involvedObject.name={unique},reason=PortTaken"
        told = cluster.until(lambda: cluster.kubectl("get", "events", selector, "--no-headers", "--ignore-not-found"))
    assert f"port {port} of container main is in use" in told


def test_a_pod_may_do_what_its_service_account_may(cluster, run, unique):
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": unique}}
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}
    role = {"kind": "Role", "metadata": {"name": unique}, "rules": [rule]}
    binding = {
        "kind": "RoleBinding",
        "metadata": {"name": unique},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": unique},
        "subjects": [{"kind": "ServiceAccount", "name": unique, "namespace": "default"}],
    }
    version = {"apiVersion": "rbac.authorization.k8s.io/v1"}
    script = """
import base64, json, ssl, urllib.error, urllib.request
config = json.load(open(os.environ['KUBECONFIG']))
place, user = config['clusters'][0]['cluster'], config['users'][0]['user']
authority = base64.b64decode(place['certificate-authority-data']).decode()
context = ssl.create_default_context(cadata=authority)
def ask(kind):
    url = place['server'] + '/api/v1/namespaces/default/' + kind
    request = urllib.request.Request(url, headers={'Authorization': 'Bearer ' + open(user['tokenFile']).read()})
    try:
        return urllib.request.urlopen(request, context=context).status
    except urllib.error.HTTPError as error:
        return error.code
print(ask('configmaps'), ask('secrets'), config['contexts'][0]['context']['namespace'])
"""
    run(account, version | role, version | binding, pod(unique, container(script), serviceAccountName=unique))
    assert ended(cluster, unique)["exitCode"] == 0, cluster.kubectl("logs", unique)
    assert cluster.kubectl("logs", unique) == "200 403 default\n"
