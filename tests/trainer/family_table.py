"""docs/reference/models.md: read for comparison with what the tests find, or written by them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from testing.tiny_families import FAMILIES, UNAVAILABLE

PAGE = Path(__file__).parents[2] / "docs/reference/models.md"
CAPABILITIES = (
    "train",
    "mask",
    "mixed batches",
    "adapters",
    "resume",
    "packing",
    "merge, reload",
    "text alone",
    "estimate",
)
BEGIN, END = "<!-- matrix:begin -->", "<!-- matrix:end -->"


@dataclass
class Table:
    """The cells of the page: with ``write`` those that the tests found, else those that tests compare with."""

    write: bool
    cells: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def load(cls, *, write: bool) -> Table:
        """Read the page."""
        table = cls(write)
        lines = PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0].strip().splitlines()[2:]
        for line in lines:
            model, _, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            table.cells[model] = dict(zip(CAPABILITIES, cells, strict=True))
        return table

    @property
    def models(self) -> list[str]:
        """The models, in the order of the page."""
        return list(self.cells)

    def record(self, model: str, capability: str, found: str) -> None:
        """Note what a test found, or compare it with the page."""
        if self.write:
            self.cells.setdefault(model, {})[capability] = found
        else:
            assert self.cells[model][capability] == found, f"docs/reference/models.md is stale: {model}, {capability}"

    def save(self) -> None:
        """Write the page, if the tests are to."""
        if not self.write:
            return
        rows = [(family.model, f"`{family.kind}`") for family in FAMILIES]
        rows += [(model, f"`{kind}`") for model, kind, _ in UNAVAILABLE]
        lines = ["| model | `model_type` | " + " | ".join(CAPABILITIES) + " |", "|---" * (len(CAPABILITIES) + 2) + "|"]
        for model, kind in rows:
            cells = [self.cells.get(model, {}).get(capability, "") for capability in CAPABILITIES]
            lines.append(f"| {model} | {kind} | " + " | ".join(cells) + " |")
        before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{rest.split(END)[1]}", encoding="utf-8")
