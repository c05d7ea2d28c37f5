"""The folder of packages for a machine without a network."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import gpu_packages

EXPORTED = "\n".join(
    f"{name}==1.0 ; sys_platform == 'linux' \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb"
    for name in (*gpu_packages.PACKAGES, "torch")
)


def test_the_folder_holds_the_locks_versions_by_their_hashes() -> None:
    wanted = gpu_packages.requirements(EXPORTED)
    assert [line.split("==")[0] for line in wanted] == list(gpu_packages.PACKAGES)
    assert wanted[0] == "annotated-types==1.0 ; sys_platform == 'linux' --hash=sha256:aa --hash=sha256:bb"


def test_a_lock_that_lacks_a_package_is_told() -> None:
    with pytest.raises(SystemExit, match=r"uv.lock has no unsloth-zoo"):
        gpu_packages.requirements(EXPORTED.replace("unsloth-zoo==", "other=="))


def test_of_bitsandbytes_one_library_stays_and_the_lists_of_files_name_what_stays(tmp_path: Path) -> None:
    files = ("bitsandbytes/__init__.py", "bitsandbytes/libbitsandbytes_cuda130.so", "unsloth/models/llama.py")
    unused = ("bitsandbytes/libbitsandbytes_cuda128.so", "unsloth/studio/app.js", "bin/unsloth")
    for name in (*files, *unused):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    record = tmp_path / "unsloth-1.dist-info" / "RECORD"
    record.parent.mkdir()
    record.write_text("".join(f"{name},sha256=x,1\n" for name in (*unused, *files)))
    before = gpu_packages.digest(tmp_path)
    gpu_packages.trim(tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()} == {
        *files,
        "unsloth-1.dist-info/RECORD",
    }
    assert record.read_text().splitlines() == sorted(f"{name},sha256=x,1" for name in files)
    after = gpu_packages.digest(tmp_path)
    assert after != before
    gpu_packages.trim(tmp_path)
    assert gpu_packages.digest(tmp_path) == after
