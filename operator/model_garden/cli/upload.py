"""``upload``, and ``submit --upload``: a data set of this machine, checked, to the data claim of a cluster."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from model_garden.cli.access import with_cluster
from model_garden.cli.output import FAILED, CommandError, note, warn
from model_garden.cli.spec_flags import named_by_flag
from model_garden.cli.storage import Where
from model_garden.cli.transfer_bar import TransferBar
from model_garden.cluster import Cluster
from model_garden.services import format
from model_garden.services.data_check import Check, check_by_fields, check_data, reads_images, trainer_packages
from model_garden.services.in_use import jobs_using
from model_garden.storage.interface import FileDigest, Reading, Upload, UploadReport
from model_garden.storage.paths import data_path, folder_name

BLOCK = 1024 * 1024


def upload(data: str, to: str | None, fields: dict[str, Any], where: Where) -> None:
    """Upload a data set and print its path for a job, which has some fields of the spec."""
    with named_by_flag():
        check = check_by_fields(data, fields)
    print(upload_dataset(check, to, where))


def upload_dataset(check: Check, to: str | None, where: Where) -> str:
    """Check a data set, upload it, and return its path for a job.

    Args:
        check: a data file, or a folder with data files, and how a job reads it.
        to: the folder in ``./data``; None for the name of the file or folder.
        where: the cluster and its claims.

    Raises:
        CommandError: the data set is broken.
        ServiceError: the upload failed; nothing of it is kept.
    """
    data = Path(check.path)
    name = folder_name(to or (data.stem if data.is_file() else data.absolute().name))
    with tempfile.TemporaryDirectory(prefix="model-garden-") as copies:
        files, vision = _checked_files(data, check, Path(copies))
        reading = Reading(
            vision=vision,
            method=check.method,
            column_mapping=check.columns,
            fetch_pictures=check.pictures is not None,
        )
        digests = [_digest(path, file) for path, file in sorted(files.items())]

        async def session(cluster: Cluster, namespace: str) -> UploadReport:
            used_by = await jobs_using(cluster, namespace, data_path(name))
            async with where.storage(cluster, namespace).upload(name, used_by) as upload:
                return await _send(upload, files, digests, reading)

        report = with_cluster(session, context=where.context, namespace=where.namespace)
    skipped = f"; {format.count(report.skipped, 'file')} there already" if report.skipped else ""
    note(f"{format.count(report.added, 'file')} uploaded to {report.folder} ({format.size(report.size)}){skipped}")
    if report.replaced:
        warn(f"{format.count(report.replaced, 'file')} of {report.folder} had other content and is replaced")
    return report.path


def _checked_files(data: Path, check: Check, copies: Path) -> tuple[dict[str, Path], bool]:
    """The files of the data set by relative path, after every row was checked; and whether images are read."""
    with trainer_packages():
        from model_garden.datasets import DatasetError
        from model_garden.datasets.collect import collect, data_files
    try:
        files = data_files(data)
        checks = [replace(check, path=str(file), split="train") for file in files]
        results = [check_data(check) for check in checks]
        if problems := [problem for result in results for problem in _problems(result)]:
            raise CommandError([*problems, "nothing was uploaded"], FAILED)
        vision = any(map(reads_images, checks))
        found = collect(
            data,
            vision=vision,
            copies=copies,
            method=check.method,
            columns=check.columns,
            pictures=check.pictures,
        )
    except DatasetError as broken:
        raise CommandError([*str(broken).splitlines(), "nothing was uploaded"], FAILED) from broken
    rows, images = sum(result["rows"] for result in results), len(found.files) - len(files)
    note(f"{data}: {format.count(rows, 'row')}, {format.count(images, 'image')}: valid")
    for path, changed in found.rewritten.items():
        note(f"{path}: {format.count(changed, 'row')} of the uploaded copy name images inside the folder")
    return found.files, vision


def _problems(result: dict[str, Any]) -> list[str]:
    more = result["problem_count"] - len(result["problems"])
    return [*result["problems"], *([f"{result['path']}: and {format.count(more, 'more problem')}"] if more else [])]


def _digest(path: str, file: Path) -> FileDigest:
    with file.open("rb") as content:
        return FileDigest(
            path=path, size=file.stat().st_size, sha256=hashlib.file_digest(content, "sha256").hexdigest()
        )


async def _send(upload: Upload, files: dict[str, Path], digests: list[FileDigest], reading: Reading) -> UploadReport:
    missing = await upload.missing(digests)
    with TransferBar("Uploading", sum(file.size for file in missing)) as bar:
        for file in missing:
            await upload.add(file.path, file.size, _blocks(files[file.path], bar.advance))
    return await upload.finish(reading)


async def _blocks(file: Path, progress: Callable[[int], None]) -> AsyncIterator[bytes]:
    with file.open("rb", buffering=0) as content:
        while block := await asyncio.to_thread(content.read, BLOCK):
            yield block
            progress(len(block))
