"""A pod's volumes as folders of this machine, and a container's mounts as symbolic links to them."""

import base64
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from devcluster.cluster import write_whole
from devcluster.node.api import Api, ApiError
from devcluster.node.environment import ConfigError, field_value, resource_value
from devcluster.node.tokens import Tokens

Object = dict[str, Any]

OWN_FILES = ("configMap", "secret", "downwardAPI", "projected")
"""Kinds of volume whose files the node writes itself."""


class VolumeError(Exception):
    """A volume is not there yet, or is of a kind devcluster does not know."""


@dataclasses.dataclass
class Volumes:
    """Prepares the volumes of one pod below `folder` and keeps their files up to date."""

    api: Api
    folder: Path
    tokens: Tokens
    allocatable: Mapping[str, str]

    async def prepare(self, pod: Object) -> dict[str, Path]:
        """Volume name -> its folder (or file, for a hostPath). Raises VolumeError; may be tried again."""
        return {volume["name"]: await self._prepare_one(volume, pod) for volume in pod["spec"].get("volumes", [])}

    def refresh(self, pod: Object) -> None:
        """Writes anew what depends on the pod itself: downward API files."""
        for volume in pod["spec"].get("volumes", []):
            sources = [volume, *volume.get("projected", {}).get("sources", [])]
            for source in (source["downwardAPI"] for source in sources if "downwardAPI" in source):
                write_files(self.folder / volume["name"], downward_files(source, pod, self.allocatable))

    async def _prepare_one(self, volume: Object, pod: Object) -> Path:
        if "hostPath" in volume:
            return host_path(volume["hostPath"])
        if "persistentVolumeClaim" in volume:
            claim: str = volume["persistentVolumeClaim"]["claimName"]
            return await self._claim(claim, pod["metadata"]["namespace"])
        if not ({"emptyDir", *OWN_FILES} & volume.keys()):
            kind = ", ".join(volume.keys() - {"name"})
            raise VolumeError(f"volume {volume['name']} is of kind {kind}, which devcluster does not support")
        folder: Path = self.folder / volume["name"]
        folder.mkdir(parents=True, exist_ok=True)
        for source in self._sources(volume):
            write_files(folder, await self._files(source, pod))
        return folder

    @staticmethod
    def _sources(volume: Object) -> list[Object]:
        """The parts of a volume of files, each as a projected volume would list it."""
        if "projected" in volume:
            return list(volume["projected"].get("sources", []))
        if "secret" in volume:  # a secret volume says secretName where a projected one says name
            return [{"secret": {**volume["secret"], "name": volume["secret"].get("secretName")}}]
        return [volume] if "emptyDir" not in volume else []

    async def _files(self, source: Object, pod: Object) -> dict[str, bytes]:
        if "downwardAPI" in source:
            return downward_files(source["downwardAPI"], pod, self.allocatable)
        if "serviceAccountToken" in source:
            wanted = source["serviceAccountToken"]
            return {wanted["path"]: (await self.tokens.token(pod, wanted.get("audience"))).encode()}
        for key, kind in (("configMap", "configmaps"), ("secret", "secrets")):
            if key in source:
                return chosen_files(source[key], await self._data(kind, source[key], pod))
        raise VolumeError(f"devcluster does not support projected volumes from {', '.join(source)}")

    async def _data(self, kind: str, source: Object, pod: Object) -> dict[str, bytes]:
        namespace = pod["metadata"]["namespace"]
        try:
            return data_of(
                await self.api.for_pod("GET", f"/api/v1/namespaces/{namespace}/{kind}/{source['name']}"), kind
            )
        except ApiError as error:
            if error.status == 404 and source.get("optional"):
                return {}
            raise VolumeError(f"{kind[:-1]} {source['name']}: {error}") from error

    async def _claim(self, name: str, namespace: str) -> Path:
        try:
            claim = await self.api.for_pod("GET", f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}")
            volume_name = claim["spec"].get("volumeName")
            if not volume_name:
                raise VolumeError(f"claim {name} is not bound")
            spec = (await self.api.for_pod("GET", f"/api/v1/persistentvolumes/{volume_name}"))["spec"]
        except ApiError as error:
            raise VolumeError(f"claim {name}: {error}") from error
        if "hostPath" in spec:
            return host_path(spec["hostPath"])
        if "local" in spec:
            return host_path({"path": spec["local"]["path"], "type": "Directory"})
        raise VolumeError(f"claim {name} is bound to {volume_name}, which is neither of kind hostPath nor local")


def host_path(source: Object) -> Path:
    """The path of a hostPath source, made or checked as its type asks."""
    path, kind = Path(source["path"]), source.get("type", "")
    if kind == "DirectoryOrCreate":
        path.mkdir(parents=True, exist_ok=True)
    elif kind == "FileOrCreate":
        path.touch()
    elif kind == "Directory" and not path.is_dir():
        raise VolumeError(f"hostPath {path} is not a folder")
    elif not path.exists():
        if kind:
            raise VolumeError(f"hostPath {path} does not exist")
        path.mkdir(parents=True)  # as a container runtime does for an untyped path
    return path


def data_of(found: Object, kind: str) -> dict[str, bytes]:
    """The content of a ConfigMap or Secret, decoded."""
    binary = found.get("data" if kind == "secrets" else "binaryData") or {}
    decoded = {key: base64.b64decode(value) for key, value in binary.items()}
    text = (found.get("data") or {}) if kind == "configmaps" else {}
    return decoded | {key: value.encode() for key, value in text.items()}


def chosen_files(source: Object, data: Mapping[str, bytes]) -> dict[str, bytes]:
    """File path -> content: all keys, or those that `items` names, at the paths it gives them."""
    if not source.get("items"):
        return dict(data)
    lacking = [item["key"] for item in source["items"] if item["key"] not in data]
    if lacking and not source.get("optional"):
        raise VolumeError(f"{source.get('name')} has no key {', '.join(lacking)}")
    return {item["path"]: data[item["key"]] for item in source["items"] if item["key"] in data}


def downward_files(source: Object, pod: Object, allocatable: Mapping[str, str]) -> dict[str, bytes]:
    """File path -> content of a downwardAPI source."""
    files = {}
    for item in source.get("items", []):
        try:
            if field := item.get("fieldRef"):
                value = field_value(pod, field["fieldPath"])
            else:
                wanted = item["resourceFieldRef"]
                container = next(c for c in pod["spec"]["containers"] if c["name"] == wanted.get("containerName"))
                value = resource_value(container, wanted["resource"], wanted.get("divisor", "1"), allocatable)
        except (ConfigError, StopIteration) as error:
            raise VolumeError(f"downwardAPI file {item['path']}: {error}") from error
        files[item["path"]] = value.encode()
    return files


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes those files whose content changed; a reader sees the old or the new, whole."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_bytes() != content:
            write_whole(path, content, 0o644)


def link_mounts(container: Object, volumes: Mapping[str, Path], rootfs: Path) -> None:
    """Makes each mount of a container a symbolic link below `rootfs`; a mount inside another lies in its volume."""
    for mount in sorted(container.get("volumeMounts", []), key=lambda mount: str(mount["mountPath"]).count("/")):
        target = volumes[mount["name"]]
        if mount.get("subPath"):
            target = target / mount["subPath"]
            if not target.exists():
                target.mkdir(parents=True)
        link = inside(rootfs, mount["mountPath"])
        link.parent.mkdir(parents=True, exist_ok=True)
        if link.is_symlink() or not link.exists():
            link.unlink(missing_ok=True)
        elif link.is_dir() and not any(link.iterdir()):
            link.rmdir()  # the mount point that another run left in the outer volume
        else:
            raise ConfigError(f"mount path {mount['mountPath']} is taken: {link} exists and is not empty")
        link.symlink_to(target)


def inside(rootfs: Path, container_path: str) -> Path:
    """Where a container's absolute path lies on this machine."""
    return rootfs / container_path.lstrip("/")
