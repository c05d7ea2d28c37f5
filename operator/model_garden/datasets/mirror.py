"""A folder of remote storage and its copy on disk: messages name the first, files are read from the second."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from model_garden.contract.addresses import join, relative_to


@dataclass(frozen=True, slots=True)
class Mirror:
    """A copy of a folder.

    Args:
        address: the address of the folder in remote storage, with a slash at its end.
        folder: its copy on disk.
    """

    address: str
    folder: Path

    def path_of(self, address: str) -> Path | None:
        """The copy of an object; None for an address that is not below the folder."""
        relative = relative_to(address, self.address)
        return None if relative is None else self.folder / relative

    def address_of(self, path: str) -> str:
        """The address of a copy; ``path`` itself if it is not below the folder."""
        prefix = f"{self.folder}/"
        return join(self.address, path.removeprefix(prefix)) if path.startswith(prefix) else path

    def named(self, text: str) -> str:
        """A message that names remote objects instead of their copies."""
        return text.replace(f"{self.folder}/", self.address).replace(str(self.folder), self.address.rstrip("/"))
