"""Checks a data set of remote storage on this machine, with credentials from the environment."""

from __future__ import annotations

from dataclasses import replace

from model_garden.contract.addresses import HUB_DATASET, RULE, is_readable, is_remote
from model_garden.services.data_check import Check, Checked, examine, open_rows, reads_images, refused, trainer_packages


def examine_anywhere(check: Check) -> Checked:
    """``examine`` for a data set that may be in remote storage: it is fetched into the cache of this machine first.

    For the command line alone: a server that fetched any address for its callers could be used to reach others.

    Raises:
        MissingPackages: the packages that read data sets are not installed.
    """
    if "://" in check.path and not check.path.startswith(HUB_DATASET) and not is_readable(check.path):
        return refused(check.path, [f"{check.path} {RULE}"])
    if not is_remote(check.path) and not check.pictures:
        return examine(check)
    with trainer_packages():
        from model_garden.datasets import DatasetError
        from model_garden.remote.errors import RemoteError
    try:
        fetched = _fetched(check) if is_remote(check.path) else check
        return examine(with_images(fetched) if check.pictures else fetched)
    except (RemoteError, DatasetError) as error:
        return refused(check.path, [str(error)])


def with_images(check: Check, rows: int | None = None) -> Check:
    """The check with the images that rows name by their addresses, of the first rows or of all.

    Raises:
        DatasetError: the data set cannot be read.
        RemoteError: there are too many images, or the cache cannot be written.
    """
    from model_garden.datasets.fetched_pictures import Pictures
    from model_garden.remote.row_images import fetch_images

    examples = open_rows(check, vision=True)
    wanted = range(len(examples) if rows is None else min(rows, len(examples)))
    return replace(check, pictures=Pictures(fetch_images(examples.addresses(wanted)).path))


def _fetched(check: Check) -> Check:
    from model_garden.datasets import DatasetError
    from model_garden.remote.fetch import fetch_dataset, mirror_of

    def fetch(*, vision: bool) -> Check:
        fetched = fetch_dataset(
            check.path,
            vision=vision,
            splits=[check.split],
            columns=check.columns,
            fetch_pictures=check.pictures is not None,
            endpoint=check.endpoint,
        )
        mirror = mirror_of(check.path, fetched.path)
        return replace(check, path=str(fetched.path), root=mirror.folder, mirror=mirror)

    rows = fetch(vision=False)
    try:
        vision = reads_images(rows)
    except DatasetError:
        return rows  # whose check reports it
    return fetch(vision=True) if vision else rows
