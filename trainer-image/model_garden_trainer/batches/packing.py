"""``hyperparameters.packing``: the samples of an optimizer step laid end to end in as few rows as hold them.

A collator around the encoder, for text and for Qwen's vision models. A batch of the data loader is one optimizer step:
exactly the batchSize x gradientAccumulationSteps samples that the unpacked run takes at that step, in rows of at most
maxSeqLength tokens, batchSize rows to a micro-batch. So order, resuming, the number of steps and the samples of each
are those of the unpacked run, a micro-batch takes no more memory than batchSize of the longest samples would, and the
losses agree, because the loss is a sum over the step's trained tokens divided by their number.

Within a row each sample sees only itself: there is no attention mask, the positions start again with each sample, and
transformers derives the mask from where they do (``transformers.masking_utils.find_packed_sequence_indices``).
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heapreplace
from typing import Any, TypedDict

import torch
from transformers import PreTrainedConfig

from model_garden.datasets.example import Example
from model_garden.families import FAMILIES
from model_garden_trainer.batches.collator import IGNORED, Batch
from model_garden_trainer.batches.vision_inputs import RopeIndex, rope_index, tower_inputs
from model_garden_trainer.errors import TrainingError

MOST_MORE_ROWS = 31
"""How many more rows than the fewest are considered."""


class PackedStep(TypedDict):
    """One optimizer step: its samples as the encoder made them, by which the loop counts samples, tokens and trained
    tokens (each samples x length), and the packed micro-batches, which the model gets."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor
    micro_batches: list[dict[str, Any]]


def refusal(model_type: str, attention: str | None) -> str | None:
    """Why a model cannot be packed, in a sentence with the fix; None where it can.

    Args:
        model_type: of the model's config.json.
        attention: the attention implementation in use, None before it is known.
    """
    family = FAMILIES.get(model_type)
    if family is None or not family.packs:
        shown = ", ".join(sorted(name for name, each in FAMILIES.items() if each.packs))
        return (
            f"spec.hyperparameters.packing: packing is not tested for models of type {model_type!r} and may mix rows; "
            f"set packing: false (tested types: {shown})"
        )
    if attention not in (None, "sdpa"):
        return (
            f"spec.hyperparameters.packing: packing works only with PyTorch's attention (sdpa), but the model uses "
            f"{attention!r}; set packing: false, or backend: transformers"
        )
    return None


@dataclass(frozen=True)
class Layout:
    """The rows of a step, each the indices of its samples, and how many of these rows the model takes at once."""

    rows: list[list[int]]
    at_once: int


def lay_out(lengths: Sequence[int], *, capacity: int, rows: int, hidden_size: int) -> Layout:
    """Lay the samples of a step in rows: in as few micro-batches as can be, of the fewest rows that are not too dear.

    No row is longer than ``capacity`` tokens, and no micro-batch takes more than ``rows`` x ``capacity``, padding
    included. Attention is computed over a whole row, what its mask hides included, so that one row of 1000 tokens costs
    more than four of 250: for each token and layer a forward pass takes 24 h^2 + 4 l h operations, h the hidden size
    and l the length of the row (Narayanan et al. 2021, appendix), that is in proportion to 6 h + l. More rows are taken
    only where that saves a quarter: with one row logits are computed for its trained tokens alone, with several for
    nearly all.

    Raises:
        ValueError: a length exceeds ``capacity``.
    """
    fewest = best_fit(lengths, capacity)
    counts = range(len(fewest), min(len(lengths), len(fewest) + MOST_MORE_ROWS) + 1)
    candidates = [fewest, *(spread(lengths, count) for count in counts)]
    best, best_batches, best_cost = Layout(fewest, rows), math.inf, math.inf
    for candidate in candidates:
        width = max((sum(lengths[index] for index in row) for row in candidate), default=1)
        if width > capacity:
            continue
        at_once = rows * capacity // width
        batches = math.ceil(len(candidate) / at_once)
        cost = len(candidate) * width * (6 * hidden_size + width)
        if batches < best_batches or (batches == best_batches and cost < 0.75 * best_cost):
            best, best_batches, best_cost = Layout(candidate, at_once), batches, cost
    return best


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Indices of ``lengths`` in few rows whose sums stay within ``capacity``: longest first, each to the fullest row
    that takes it (best fit decreasing, Johnson 1973: for many samples at most 11/9 of the fewest rows possible).

    ``best_fit([3, 9, 1, 6], 10)`` is ``[[1, 2], [3, 0]]``. The same lengths give the same rows.

    Raises:
        ValueError: a length exceeds ``capacity``.
    """
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (free tokens, row), in order
    for index in _longest_first(lengths):
        if lengths[index] > capacity:
            raise ValueError(f"sample {index} has {lengths[index]} tokens, a row holds {capacity}")
        best = bisect_left(room, (lengths[index], -1))
        if best < len(room):
            free, row = room.pop(best)
            rows[row].append(index)
        else:
            free, row = capacity, len(rows)
            rows.append([index])
        insort(room, (free - lengths[index], row))
    return rows


def spread(lengths: Sequence[int], count: int) -> list[list[int]]:
    """Indices of ``lengths`` in ``count`` rows of about the same sum: longest first, each to the emptiest row (longest
    processing time first, Graham 1969: the longest row is at most 4/3 of the shortest possible).

    ``spread([3, 9, 1, 6], 2)`` is ``[[1, 2], [3, 0]]``.
    """
    rows: list[list[int]] = [[] for _ in range(count)]
    filled = [(0, row) for row in range(count)]
    for index in _longest_first(lengths):
        total, row = filled[0]
        rows[row].append(index)
        heapreplace(filled, (total + lengths[index], row))
    return rows


def _longest_first(lengths: Sequence[int]) -> list[int]:
    return sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))


class PackedSteps:
    """The collator: the examples of one optimizer step -> its packed micro-batches.

    A micro-batch holds input_ids and labels (rows x length), position_ids (rows x length; for a vision model 4 x rows x
    length: the position by which the mask tells samples apart, then the three rotary ones) and the pixel_values and
    image_grid_thw of its samples in order. Shorter rows are filled up with padding that counts as one more sample.

    Args:
        encode: the encoder, which pads on the right.
        capacity: tokens of a row at most; maxSeqLength.
        rows: rows of a micro-batch at most; batchSize.
        pad_token_id: what fills up a row.
        config: the model's config.
    """

    def __init__(
        self,
        encode: Callable[[list[Example]], Batch],
        *,
        capacity: int,
        rows: int,
        pad_token_id: int,
        config: PreTrainedConfig,
    ) -> None:
        self._encode = encode
        self._capacity, self._rows = capacity, rows
        self._pad_token_id = pad_token_id
        self._hidden_size: int = config.get_text_config().hidden_size
        self._config, self._rope_index = config, rope_index(config)

    def __call__(self, examples: list[Example]) -> PackedStep:
        """Encode and pack one optimizer step.

        Raises:
            TrainingError: InvalidDataset for a row that the encoder refuses or that is longer than a packed row.
        """
        encoded = self._encode(examples)
        samples = list(split(encoded, [len(example.images) for example in examples]))
        lengths = [sample["input_ids"].shape[-1] for sample in samples]
        for example, length in zip(examples, lengths, strict=True):
            if length > self._capacity:
                raise TrainingError(
                    "InvalidDataset",
                    f"{example.origin} has {length} tokens, more than maxSeqLength ({self._capacity}); "
                    "raise hyperparameters.maxSeqLength, shorten the row or make its images smaller",
                )
        layout = lay_out(lengths, capacity=self._capacity, rows=self._rows, hidden_size=self._hidden_size)
        rows = [[samples[index] for index in row] for row in layout.rows]
        chunks = [rows[start : start + layout.at_once] for start in range(0, len(rows), layout.at_once)]
        batches = [packed_batch(chunk, self._pad_token_id, self._rope_index) for chunk in chunks]
        return {
            "input_ids": encoded["input_ids"],
            "attention_mask": encoded["attention_mask"],
            "labels": encoded["labels"],
            "micro_batches": [{**batch, **tower_inputs(batch, self._config)} for batch in batches],
        }


def split(batch: Batch, images: Sequence[int]) -> Iterator[Batch]:
    """The samples of an encoded batch, each (1, its own length) without its padding, with its own images.

    Args:
        batch: input_ids, attention_mask, labels and, where there are images, mm_token_type_ids (each batch x length),
            pixel_values (patches of all images x values) and image_grid_thw (images x 3).
        images: how many images each sample has.
    """
    grids = batch["image_grid_thw"].split(list(images)) if "image_grid_thw" in batch else None
    patches = None
    if grids is not None:
        patches = batch["pixel_values"].split([int(grid.prod(dim=-1).sum()) for grid in grids])
    for row, length in enumerate(batch["attention_mask"].sum(dim=1).tolist()):
        names = [name for name in ("input_ids", "labels", "mm_token_type_ids") if name in batch]
        sample: Batch = {name: batch[name][row : row + 1, :length] for name in names}
        if grids is not None and patches is not None and len(grids[row]):
            sample |= {"pixel_values": patches[row], "image_grid_thw": grids[row]}
        yield sample


def packed_batch(rows: Sequence[Sequence[Batch]], pad_token_id: int, rope: RopeIndex | None) -> Batch:
    """The micro-batch of ``rows``, each a list of samples as ``split`` gives them (``PackedSteps`` has the shapes)."""
    length = max(sum(sample["input_ids"].shape[-1] for sample in row) for row in rows)
    batch = {
        "input_ids": _stacked([[sample["input_ids"] for sample in row] for row in rows], length, pad_token_id),
        "labels": _stacked([[_labels(sample) for sample in row] for row in rows], length, IGNORED),
        "position_ids": _stacked([[_positions(sample, rope) for sample in row] for row in rows], length, None),
    }
    pictured = [sample for row in rows for sample in row if "pixel_values" in sample]
    if pictured:
        batch["pixel_values"] = torch.cat([sample["pixel_values"] for sample in pictured])
        batch["image_grid_thw"] = torch.cat([sample["image_grid_thw"] for sample in pictured])
    return batch


def _labels(sample: Batch) -> torch.Tensor:
    """A sample's labels, the first ignored: in a row it would be predicted from the end of another sample."""
    labels = sample["labels"].clone()
    labels[:, 0] = IGNORED
    return labels


def _positions(sample: Batch, rope: RopeIndex | None) -> torch.Tensor:
    """(1, length), or (4, 1, length) for a model with Qwen's rotary positions."""
    text = torch.arange(sample["input_ids"].shape[-1])[None]
    if rope is None:
        return text
    kinds = sample.get("mm_token_type_ids", torch.zeros_like(sample["input_ids"]))
    rotary, _ = rope(
        input_ids=sample["input_ids"], mm_token_type_ids=kinds, image_grid_thw=sample.get("image_grid_thw")
    )
    return torch.cat([text[None], rotary])


def _stacked(rows: Sequence[list[torch.Tensor]], length: int, fill: int | None) -> torch.Tensor:
    """Tensors (…, 1, a sample's length) end to end: (…, rows, ``length``), filled up with ``fill``, or with positions
    from 0 where that is None."""
    full = []
    for row in rows:
        shape = (*row[0].shape[:-1], length - sum(part.shape[-1] for part in row))
        filling = torch.full(shape, fill) if fill is not None else torch.arange(shape[-1]).expand(shape)
        full.append(torch.cat([*row, filling], dim=-1))
    return torch.cat(full, dim=-2)
