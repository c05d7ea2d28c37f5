"""What a data set and a model consist of in remote storage, and how they are brought."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path

from model_garden.contract.addresses import folder_of, join, relative_to
from model_garden.datasets.errors import DatasetError, RowError
from model_garden.datasets.examples import Examples, open_examples
from model_garden.datasets.fetched_pictures import Pictures
from model_garden.datasets.files import SUFFIXES
from model_garden.datasets.mirror import Mirror
from model_garden.remote.cache import Cache, cache_folder
from model_garden.remote.errors import RemoteError
from model_garden.remote.snapshot import (
    DOWNLOADS,
    Fetched,
    Progress,
    Snapshot,
    keep,
    kept,
    names_below,
    require,
    snapshot,
)
from model_garden.remote.store import Found, Store
from model_garden.remote.stores import open_store


def silent(_there: int, _total: int) -> None:
    """No progress."""


def mirror_of(address: str, path: Path) -> Mirror:
    """The folder of remote storage that a fetched data set is part of, and the one on disk."""
    if is_file(address):
        return Mirror(folder_of(address), path.parent)
    return Mirror(address.rstrip("/") + "/", path)


def is_file(address: str) -> bool:
    """Whether an address names a data file rather than a folder."""
    return address.lower().endswith(SUFFIXES)


def fetch_dataset(
    address: str,
    *,
    vision: bool,
    splits: Sequence[str] = ("train",),
    columns: Mapping[str, str] | None = None,
    fetch_pictures: bool = False,
    endpoint: str | None = None,
    expected: str | None = None,
    tell: Progress = silent,
) -> Fetched:
    """Bring the data files of a data set and the images that its rows name.

    Args:
        address: a data file, or in a bucket a folder of data files.
        vision: whether images are read.
        splits: the splits whose rows name images.
        columns: the job's ``columnMapping``.
        fetch_pictures: whether images elsewhere are fetched too, later.
        endpoint: see ``open_store``.
        expected: the digest of an earlier fetch; that version is used, and no other.
        tell: called with the bytes that arrived and the bytes in all.

    Raises:
        RemoteError: it cannot be brought, or ``Changed``.
    """
    cache = Cache(cache_folder())
    name = address.rsplit("/", 1)[1] if is_file(address) else ""
    if there := kept(cache, expected):
        return Fetched(address, there / name, str(expected))
    if address.startswith("https://") and not name:
        raise RemoteError(
            "NotFound", f"{address}: a web server lists no folder; give the address of a file ({', '.join(SUFFIXES)})"
        )
    folder = mirror_of(address, Path()).address
    with open_store(address, endpoint) as store, snapshot(cache, store, folder, tell) as made:
        made.add([store.find(address)] if name else _data_files(store, folder))
        for split in splits if vision else ():
            if rows := _open(made.place / name, split, folder, columns, Pictures() if fetch_pictures else None):
                made.add(_existing(made, names_below(made.place, _images(rows))))
        path, digest = keep(made)
    return require(Fetched(address, path / name, digest), expected)


def _data_files(store: Store, folder: str) -> list[Found]:
    files = [
        found
        for found in store.list(folder, deep=True)
        if is_file(found.address) and not any(part.startswith(".") for part in found.address.split("/")[3:])
    ]
    if not files:
        raise RemoteError("NotFound", f"{folder}: holds no data file; accepted: {', '.join(SUFFIXES)}")
    return files


def _open(
    path: Path, split: str, folder: str, columns: Mapping[str, str] | None, pictures: Pictures | None
) -> Examples | None:
    """The rows of fetched data files; None for broken ones, which the check of the data set reports."""
    place = path if path.is_dir() else path.parent
    try:
        mirror = Mirror(folder, place)
        return open_examples(
            path,
            vision=True,
            method=None,
            split=split,
            root=place,
            mirror=mirror,
            columns=columns,
            pictures=pictures,
        )
    except DatasetError:
        return None


def _images(rows: Examples) -> Iterator[Path]:
    for index in range(len(rows)):
        try:
            images = rows.convert(index).example.images
        except RowError:
            continue  # the check of the data set reports it
        yield from (image.source for image in images if isinstance(image.source, Path))


def _existing(made: Snapshot, names: Iterable[str]) -> list[Found]:
    """Those of some files that exist. The check of the data set reports the row of one that does not."""
    addresses = made.addresses(sorted(names))
    made.store = made.store.for_rows()
    if made.folder.startswith("https://"):
        return _find_each(made.store, addresses)
    folders = sorted({folder_of(address) for address in addresses})
    with ThreadPoolExecutor(DOWNLOADS) as pool:
        listed = pool.map(lambda folder: made.store.list(folder, deep=False), folders)
        objects = {found.address: found for listing in listed for found in listing}
    return [objects[address] for address in addresses if address in objects]


def _find_each(store: Store, addresses: Iterable[str]) -> list[Found]:
    with ThreadPoolExecutor(DOWNLOADS) as pool:
        return [found for found in pool.map(lambda address: _find(store, address), addresses) if found]


def _find(store: Store, address: str) -> Found | None:
    try:
        return store.find(address)
    except RemoteError as error:
        if error.kind == "NotFound":
            return None
        raise


WEB_MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "model.safetensors.index.json",
    "model.safetensors",
)
"""Files of a model, as transformers names them: those that are looked for on a web server, which lists none."""


def fetch_model(
    address: str,
    patterns: Iterable[str],
    *,
    more: Callable[[Path], Iterable[str]] = lambda _: (),
    endpoint: str | None = None,
    expected: str | None = None,
    tell: Progress = silent,
) -> Fetched:
    """Bring the files of a model's folder whose names match one of the patterns.

    Args:
        address: the folder.
        patterns: names, or patterns of the shell (``*.json``).
        more: the same for further files, given the folder on disk with the first: an index names the weights.
        endpoint: see ``open_store``.
        expected: the digest of an earlier fetch; that version is used, and no other.
        tell: called with the bytes that arrived and the bytes in all.

    Raises:
        RemoteError: it cannot be brought, or ``Changed``.
    """
    cache, folder, wanted = Cache(cache_folder()), address.rstrip("/") + "/", list(patterns)
    if there := kept(cache, expected):
        return Fetched(address, there, str(expected))
    with open_store(address, endpoint) as store, snapshot(cache, store, folder, tell) as made:
        objects = _model_files(store, folder, wanted)
        if not objects:
            raise RemoteError("NotFound", f"{folder}: holds no files of a model; give the folder with its config.json")
        made.add(objects)
        made.add(_model_files(store, folder, list(more(made.place))))
        path, digest = keep(made)
    return require(Fetched(address, path, digest), expected)


def _model_files(store: Store, folder: str, wanted: Sequence[str]) -> list[Found]:
    if not folder.startswith("https://"):
        listed = store.list(folder, deep=False)
        return [found for found in listed if _matches(relative_to(found.address, folder) or "", wanted)]
    names = [*WEB_MODEL_FILES, *(name for name in wanted if "*" not in name)]
    addresses = [join(folder, name) for name in dict.fromkeys(names) if _matches(name, wanted)]
    return _find_each(store, addresses)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)
