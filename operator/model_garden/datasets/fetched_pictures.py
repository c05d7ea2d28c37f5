"""Images that rows name by an http(s) address, and that were fetched into a folder (``fetchPictures``)."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from model_garden.datasets.errors import RowError, shown

ADDRESSES = "addresses.json"
"""The address of each file of the folder, as messages show it: without its secrets."""
SCHEMES = ("http://", "https://")
_FIX = "correct the address, or download the image next to the data file and give its path"


def file_of(address: str) -> str:
    """The name of the file of an image: the SHA-256 of its address."""
    return hashlib.sha256(address.encode()).hexdigest()


def problem_file_of(address: str) -> str:
    """The name of the file that says why an image could not be fetched."""
    return f"{file_of(address)}.problem"


@dataclass(frozen=True, slots=True)
class Pictures:
    """Images at addresses. ``folder`` holds a file for each; None where they are fetched later, by the preflight."""

    folder: Path | None = None

    def find(self, address: str, name: str) -> Path | str:
        """The file of an image; the address itself where it is fetched later.

        Args:
            address: as the row gives it.
            name: its field, for messages.

        Raises:
            RowError: the image could not be fetched.
        """
        if self.folder is None:
            return address
        path = self.folder / file_of(address)
        if path.exists():
            return path
        problem = self.folder / problem_file_of(address)
        reason = problem.read_text(encoding="utf-8") if problem.exists() else "it was not fetched with the other images"
        raise RowError(f"{name} is {shown(address, 200)}, which cannot be fetched: {reason}", _FIX)

    def named(self, text: str) -> str:
        """A message that names addresses instead of files."""
        prefix = f"{self.folder}/"
        if self.folder is None or prefix not in text:
            return text
        addresses = json.loads((self.folder / ADDRESSES).read_text(encoding="utf-8"))
        return re.sub(re.escape(prefix) + "([0-9a-f]{64})", lambda found: str(addresses.get(found[1], found[0])), text)
