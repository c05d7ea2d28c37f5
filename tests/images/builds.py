"""The project's images, really built for a test: with the builder that is there, from a base that is there.

On Debian, as root, buildah and debootstrap need no registry. Elsewhere MODEL_GARDEN_BASE_IMAGE may name another base
than the public one.
"""

import os
import shutil
import subprocess
from pathlib import Path

from tools.images import ROOT, NoBuilder, build_command, find_builder

BASE = "localhost/model-garden/base:bookworm"

PACKAGES = "python3-venv,python3-dev,ca-certificates"
"""What the Dockerfiles ask of a base; only the trainer's needs the headers."""

CA_BUNDLE = Path("etc/ssl/certs/ca-certificates.crt")


def base_image(builder: str, folder: Path) -> str | None:
    """The image that the Dockerfiles start from, of Debian's packages where that is possible; None is their own.

    Raises:
        NoBuilder: no base can be made, since no mirror answers.
    """
    if given := os.environ.get("MODEL_GARDEN_BASE_IMAGE"):
        return given
    if builder != "buildah" or os.geteuid() != 0 or not shutil.which("debootstrap"):
        return None
    if subprocess.run([builder, "inspect", BASE], capture_output=True, check=False).returncode:
        root = folder / "base"
        debootstrap = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(root)]
        done = subprocess.run(debootstrap, capture_output=True, text=True, check=False)
        if "Failed getting release file" in done.stdout + done.stderr:
            raise NoBuilder(f"debootstrap reaches no mirror of Debian: {done.stdout.strip()}")
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        # The certificates that this machine trusts: a build may reach a package index through a proxy.
        shutil.copyfile(Path("/") / CA_BUNDLE, root / CA_BUNDLE)
        container = run(builder, "from", "scratch").strip()
        run(builder, "add", "--quiet", container, f"{root}/", "/")
        run(builder, "config", "--env", f"SSL_CERT_FILE=/{CA_BUNDLE}", container)  # uv reads no file unless told
        run(builder, "commit", "--quiet", "--rm", container, BASE)
        shutil.rmtree(root)
    return BASE


def build(image: str, name: str, folder: Path, trainer_extra: str | None = None) -> Path:
    """Builds the ``operator`` or the ``trainer`` and returns an archive of it, in `folder`."""
    builder = find_builder()
    command = build_command(builder, image, name, base_image(builder, folder), trainer_extra)
    if builder == "buildah":
        command[2:2] = ["--isolation=chroot", "--pull-never"]
    run(*command, cwd=ROOT)
    return archive(builder, name, folder / f"{image}.tar")


def archive(builder: str, name: str, path: Path) -> Path:
    """The image in a file, as `docker save` writes it."""
    if builder == "buildah":
        run(builder, "push", "--quiet", name, f"docker-archive:{path}:docker.io/{name}")
    else:
        run(builder, "save", "--output", str(path), name)
    return path


def run(*command: str, cwd: Path | None = None) -> str:
    """What a command printed; fails the test with all that it printed unless its exit code is 0."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout
