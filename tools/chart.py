"""Packages the chart into dist/, with the images that it installs and the address of its source.

make chart ARGS="--images registry.example.com/team"
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from devcluster.binaries import ensure_binaries
from tools.generate import CHART, ROOT
from tools.images import PREFIX


def main(arguments: list[str]) -> int:
    """Write dist/model-garden-VERSION.tgz; helm's exit code."""
    parser = argparse.ArgumentParser(prog="make chart ARGS=…", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", default=PREFIX, help="what comes before /operator and /trainer")
    for image in ("operator", "trainer"):
        parser.add_argument(f"--{image}-digest", default="", help=f"of the {image}'s image, in place of its tag")
    parser.add_argument("--source", default="", help="address of the repository, for the chart's home and sources")
    options = parser.parse_args(arguments)
    helm = ensure_binaries(_say, ["helm"]) / "helm"
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / CHART.name
        shutil.copytree(CHART, copy)
        name_images(copy / "values.yaml", options.images, options.operator_digest, options.trainer_digest)
        if options.source:
            name_source(copy / "Chart.yaml", options.source)
        command = [str(helm), "package", str(copy), "--destination", str(ROOT / "dist")]
        return subprocess.run(command, check=False).returncode


def name_images(values: Path, prefix: str, operator_digest: str = "", trainer_digest: str = "") -> None:
    """Set the repositories and digests of both images in a values.yaml; all else stays as it is."""
    with _changed(values) as content:
        content["image"] |= {"repository": f"{prefix}/operator", "digest": operator_digest}
        content["trainer"]["image"] |= {"repository": f"{prefix}/trainer", "digest": trainer_digest}


def name_source(chart: Path, source: str) -> None:
    """Set ``home`` and ``sources`` of a Chart.yaml to the address of the repository."""
    with _changed(chart) as content:
        content |= {"home": source, "sources": [source]}


@contextmanager
def _changed(path: Path) -> Iterator[Any]:
    """The content of a YAML file, written back with its comments."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 120
    content = yaml.load(path)
    yield content
    yaml.dump(content, path)


def _say(message: str) -> None:
    print(message, file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
