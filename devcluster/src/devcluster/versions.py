"""What the cluster is made of: program names, Go packages and versions, read from the pinned modules below go/."""

import hashlib
import platform
import re
import sys
from pathlib import Path

GO_MODULE = Path(__file__).parent / "go"
KUEUE_MODULE = GO_MODULE / "kueue"
"""A module of its own: Kueue needs other versions of Kubernetes' libraries."""
KUBELET_MODULE = GO_MODULE / "kubelet"
"""A module of its own: containerd needs other versions of libraries, and the process node needs none of it."""

CLUSTER = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
"""The programs `devcluster up` needs. helm is built on request only, for chart tests."""

KUBELET_NODE = ("kubelet", "containerd", "containerd-shim-runc-v2", "ctr", "pause")
"""The programs `devcluster up --node=kubelet` needs besides."""

PACKAGES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
    "helm": "helm.sh/helm/v4/cmd/helm",
    "kueue": "sigs.k8s.io/kueue/cmd/kueue",
    "kubelet": "k8s.io/kubernetes/cmd/kubelet",
    "containerd": "github.com/containerd/containerd/v2/cmd/containerd",
    "containerd-shim-runc-v2": "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
    "ctr": "github.com/containerd/containerd/v2/cmd/ctr",
    "pause": "./pause",
}


def pinned_version(module: str, pins: Path = GO_MODULE) -> str:
    """The version that the go.mod of `pins` requires of `module`, such as `v1.37.2`."""
    found = re.search(rf"^\s*{re.escape(module)} (v\S+)", (pins / "go.mod").read_text(), re.MULTILINE)
    if not found:
        raise LookupError(f"{pins / 'go.mod'} requires no module {module}")
    return found.group(1)


KUBERNETES = pinned_version("k8s.io/kubernetes")
ETCD = pinned_version("go.etcd.io/etcd/server/v3")
KUEUE = pinned_version("sigs.k8s.io/kueue", KUEUE_MODULE)

KUEUE_MANIFESTS = ("config/components/crd/bases/*.yaml", "config/components/webhook/manifests.yaml")
"""Files of Kueue's sources: the CRDs and the webhooks."""


def go_platform() -> tuple[str, str]:
    """This machine as Go names it, such as ("linux", "amd64")."""
    machine = platform.machine().lower()
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
    return sys.platform, architecture


def go_flags(module: Path | None = None) -> list[str]:
    """Flags of `go build` for a module, by default the cluster's.

    Without debug data and inlining the build takes two thirds of the time and the servers stay quick enough for demo
    and tests. Without the version the API server calls itself v0.0.0 and charts' kubeVersion checks fail.
    """
    major, minor, _ = KUBERNETES.removeprefix("v").split(".", 2)
    version = {"gitVersion": KUBERNETES, "gitMajor": major, "gitMinor": minor}
    linker = " ".join(f"-X k8s.io/component-base/version.{name}={value}" for name, value in version.items())
    if module == KUEUE_MODULE:  # Kueue keeps a certificate in the folder /visibility unless the linker names another
        linker = f"-X sigs.k8s.io/kueue/pkg/version.GitVersion={KUEUE} -X sigs.k8s.io/kueue/pkg/visibility.certDir=."
    return ["-trimpath", "-gcflags=all=-dwarf=false -l", f"-ldflags=-s -w {linker}"]


def cache_key(module: Path | None = None) -> str:
    """Names the folder of the cached binaries: it changes with the module, the flags and the kind of machine."""
    digest = hashlib.sha256()
    for part in ("go.mod", "go.sum"):
        digest.update(((module or GO_MODULE) / part).read_bytes())
    digest.update("\n".join([*go_flags(module), *go_platform()]).encode())
    return digest.hexdigest()[:16]
