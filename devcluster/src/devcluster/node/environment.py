"""A container's command line and environment, from its spec (pure)."""

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_CEILING, Decimal
from pathlib import PurePosixPath
from typing import Any

Object = dict[str, Any]

KEPT = re.compile(
    r"LANG|LC_.*|TZ|SSL_CERT_.*|REQUESTS_CA_BUNDLE|.*_proxy|.*_PROXY"
    r"|OMP_.*|MKL_.*|OPENBLAS_.*|CUDA_.*|NVIDIA_.*|LD_LIBRARY_PATH|DYLD_.*"
)
"""Variables of the machine that stand for what an image brings: language, certificates, proxies, number crunching."""

SUFFIXES = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1),
    **{letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", 1)},
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
}  # fmt: skip


class ConfigError(Exception):
    """The container cannot be started as specified; the reason is what a kubelet would report."""

    def __init__(self, message: str, reason: str = "CreateContainerConfigError") -> None:
        super().__init__(message)
        self.reason = reason


def references(container: Object) -> set[tuple[str, str, bool]]:
    """The ConfigMaps and Secrets a container's environment needs: {("configmaps" | "secrets", name, optional)}."""
    found = set()
    for variable in container.get("env", []):
        for source, kind in (("configMapKeyRef", "configmaps"), ("secretKeyRef", "secrets")):
            if reference := (variable.get("valueFrom") or {}).get(source):
                found.add((kind, reference["name"], bool(reference.get("optional"))))
    for entry in container.get("envFrom", []):
        for source, kind in (("configMapRef", "configmaps"), ("secretRef", "secrets")):
            if reference := entry.get(source):
                found.add((kind, reference["name"], bool(reference.get("optional"))))
    return found


def image_environment(machine: Mapping[str, str], python_folder: str) -> dict[str, str]:
    """What stands for the image's own environment: the project's Python first on PATH, and the variables KEPT.

    PYTHONUNBUFFERED is what images of Python programs set, so that their logs come line by line.
    """
    kept = {name: value for name, value in machine.items() if KEPT.fullmatch(name)}
    return kept | {
        "PYTHONUNBUFFERED": "1",
        "PATH": f"{python_folder}:{machine.get('PATH', '/usr/local/bin:/usr/bin:/bin')}",
    }


def declared_environment(
    container: Object, pod: Object, data: Mapping[tuple[str, str], Mapping[str, str]], allocatable: Mapping[str, str]
) -> dict[str, str]:
    """`envFrom` and `env` of a container, in their order, later ones winning; $(NAME) of earlier ones is expanded.

    `data` has the decoded content of each ConfigMap and Secret of `references`, by (kind, name).
    """
    environment: dict[str, str] = {}
    for entry in container.get("envFrom", []):
        for source, kind in (("configMapRef", "configmaps"), ("secretRef", "secrets")):
            if reference := entry.get(source):
                values = data.get((kind, reference["name"]), {})
                environment |= {entry.get("prefix", "") + key: value for key, value in values.items()}
    for variable in container.get("env", []):
        value: str | None = expand(variable.get("value", ""), environment)
        if origin := variable.get("valueFrom"):
            value = _value_from(origin, container, pod, data, allocatable)
        if value is not None:
            environment[variable["name"]] = value
    return environment


def _value_from(
    origin: Object,
    container: Object,
    pod: Object,
    data: Mapping[tuple[str, str], Mapping[str, str]],
    allocatable: Mapping[str, str],
) -> str | None:
    if field := origin.get("fieldRef"):
        return field_value(pod, field["fieldPath"])
    if resource := origin.get("resourceFieldRef"):
        return resource_value(container, resource["resource"], resource.get("divisor", "1"), allocatable)
    for source, kind in (("configMapKeyRef", "configmaps"), ("secretKeyRef", "secrets")):
        if reference := origin.get(source):
            value = data.get((kind, reference["name"]), {}).get(reference["key"])
            if value is None and not reference.get("optional"):
                raise ConfigError(f"couldn't find key {reference['key']} in {kind[:-1]} {reference['name']}")
            return value
    raise ConfigError(f"devcluster knows no environment source {', '.join(origin)}")


def field_value(pod: Object, path: str) -> str:
    """The value of a fieldRef, such as metadata.name or metadata.labels['app']."""
    metadata, spec = pod["metadata"], pod["spec"]
    if keyed := re.fullmatch(r"metadata\.(labels|annotations)\['([^']+)'\]", path):
        return str(metadata.get(keyed[1], {}).get(keyed[2], ""))
    if whole := re.fullmatch(r"metadata\.(labels|annotations)", path):
        return listing(metadata.get(whole[1], {}))
    known = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", ""),
        **dict.fromkeys(("status.podIP", "status.podIPs", "status.hostIP", "status.hostIPs"), "127.0.0.1"),
    }
    if path not in known:
        raise ConfigError(f"devcluster knows no field {path}")
    return str(known[path])


def listing(pairs: Mapping[str, str]) -> str:
    r"""Labels or annotations as the downward API writes them: `key="value"` lines, sorted, values escaped.

    >>> listing({"b": 'say "hi"', "a": "1"})
    'a="1"\nb="say \\"hi\\""'
    """
    escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    quoted = ("".join(escapes.get(letter, letter) for letter in pairs[key]) for key in sorted(pairs))
    return "\n".join(f'{key}="{value}"' for key, value in zip(sorted(pairs), quoted, strict=True))


def resource_value(container: Object, resource: str, divisor: str, allocatable: Mapping[str, str]) -> str:
    """The value of a resourceFieldRef, in whole divisors, rounded up; a limit that is not set is the node's size."""
    which, _, name = resource.partition(".")
    declared = container.get("resources", {}).get(which, {})
    fallback = allocatable.get(name, "0") if which == "limits" else "0"
    units = quantity(str(declared.get(name, fallback))) / (quantity(str(divisor)) or Decimal(1))
    return str(int(units.to_integral_value(ROUND_CEILING)))


def quantity(text: str) -> Decimal:
    """A Kubernetes quantity as a number: 500m is 0.5, 2Gi is 2147483648, 1e3 is 1000."""
    found = re.fullmatch(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([a-zA-Z]*)", text)
    if not found or found[2] not in SUFFIXES:
        raise ConfigError(f"{text!r} is not a quantity")
    return Decimal(found[1]) * SUFFIXES[found[2]]


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Replaces $(NAME) by its value and $$ by $; an unknown name stays as it is written.

    Source: https://github.com/kubernetes/kubernetes/blob/master/third_party/forked/golang/expansion/expand.go
    """

    def value(found: re.Match[str]) -> str:
        return "$" if found[0] == "$$" else environment.get(found[1], found[0])

    return re.sub(r"\$\$|\$\(([^)]*)\)", value, text)


def command_line(container: Object, environment: Mapping[str, str]) -> list[str]:
    """Command and arguments, expanded. A container without a command is refused: there is no image to know it from."""
    if not container.get("command"):
        raise ConfigError(
            f"container {container['name']} has no command: devcluster runs pods as processes and does not know the "
            f"entrypoint of image {container['image']}; set `command`"
        )
    words = [*container["command"], *container.get("args", [])]
    return [expand(word, environment) for word in words]


def container_roots(container: Object) -> list[str]:
    """The container paths that have a place on this machine: working directory and mounts."""
    paths = [container.get("workingDir", "/"), *(mount["mountPath"] for mount in container.get("volumeMounts", []))]
    return [path.rstrip("/") for path in paths if path.rstrip("/")]


def on_machine(text: str, roots: Iterable[str], rootfs: str) -> str:
    """Replaces a text that is a path at or below one of `roots` by its place below `rootfs`; see node/__init__.py.

    >>> on_machine("/workspace/cache/hub", ["/workspace"], "/pods/1/rootfs")
    '/pods/1/rootfs/workspace/cache/hub'
    >>> on_machine("--out=/workspace/models", ["/workspace"], "/r")
    '--out=/r/workspace/models'
    >>> on_machine("cat /workspace/x", ["/workspace"], "/r")
    'cat /workspace/x'
    """
    head, sign, tail = text.partition("=") if text.startswith("-") else ("", "", text)
    path = PurePosixPath(tail)
    if tail.startswith("/") and any(path.is_relative_to(root) for root in roots):
        return f"{head}{sign}{rootfs}{tail}"
    return text


def process_environment(
    image: Mapping[str, str], declared: Mapping[str, str], own: Mapping[str, str], roots: Sequence[str], rootfs: str
) -> dict[str, str]:
    """What the process gets: the image's, then the node's own, then the container's declared variables, which win."""
    placed = {name: on_machine(value, roots, rootfs) for name, value in declared.items()}
    return {**image, **own, **placed}
