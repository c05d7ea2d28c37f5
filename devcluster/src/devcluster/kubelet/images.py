"""Images without a registry: archives that containerd takes, and the pause image made of one static program."""

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

from devcluster.cluster import Cluster
from devcluster.kubelet.settings import PAUSE_IMAGE, socket
from devcluster.versions import go_platform


class ImageError(RuntimeError):
    """containerd refused an archive; the message is its own."""


def load(cluster: Cluster, programs: Path, archive: Path) -> None:
    """Imports the images of an archive (`docker save`, `podman save`, `buildah push ... docker-archive:`)."""
    _ctr(cluster, programs, "images", "import", "--local", str(archive))


def ensure_pause(cluster: Cluster, programs: Path) -> None:
    """Imports the image of the first process of each pod, unless it is there."""
    if PAUSE_IMAGE in _ctr(cluster, programs, "images", "list", "--quiet").split():
        return
    archive = cluster.directory / "pause.tar"
    archive.write_bytes(image_archive(PAUSE_IMAGE, {"pause": (programs / "pause").read_bytes()}, ["/pause"]))
    load(cluster, programs, archive)
    archive.unlink()


def image_archive(name: str, files: dict[str, bytes], command: list[str]) -> bytes:
    """An image of one layer as `docker save` writes it. `files`: path -> content of an executable.

    Source of the format: https://github.com/moby/docker-image-spec/blob/main/v1.2.md
    """
    layer = _tar(files)
    system, architecture = go_platform()
    config = {
        "architecture": architecture,
        "os": system,
        "config": {"Cmd": command},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    parts = {"config.json": config, "manifest.json": manifest}
    return _tar({"layer.tar": layer, **{part: json.dumps(content).encode() for part, content in parts.items()}})


def _tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def _ctr(cluster: Cluster, programs: Path, *arguments: str) -> str:
    command = [str(programs / "ctr"), f"--address={socket(cluster)}", "--namespace=k8s.io", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ImageError(f"ctr {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout
