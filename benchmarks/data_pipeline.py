"""Pictures per second from disk to a training batch, and memory: our pipeline beside a plain ``datasets`` one.

Both read the same JSONL of photo-like JPEGs and hand the same image processor the same bounds. The plain one is what
the documentation of ``datasets`` shows: ``load_dataset("json")``, ``cast_column("image", Image())``, then the
processor. They take turns in one process. Without loader workers a second is one of this process's CPU time, so that a
busy machine changes little; with workers it is one on the clock. The best round counts.

    python -m benchmarks.data_pipeline [--write]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import datasets
import psutil
import torch
from PIL import Image
from torch.utils.data import DataLoader
from transformers import AutoProcessor

from benchmarks.sections import machine, table, write_section
from model_garden.datasets import check_examples, open_examples
from model_garden.datasets.pictures import decode
from testing.tiny_models import make_tiny_model

SETS = ((480, (224, 224)), (160, (640, 480)), (48, (2000, 1500)), (32, (4000, 3000)))
"""Pictures and their size."""
BATCH, ROUNDS, WORKERS, PASSES = 8, 3, 2, 6
MIN_PIXELS, MAX_PIXELS = 3136, 1_003_520

Opened = Callable[[Any], list[Image.Image]]


def write_photos(folder: Path, number: int, size: tuple[int, int]) -> Path:
    """Pictures with a photo's detail: noise of several scales on a gradient, as JPEG of quality 85."""
    gradient = Image.linear_gradient("L").resize(size)
    coarse = Image.effect_noise((size[0] // 16, size[1] // 16), 90).resize(size, Image.Resampling.BICUBIC)
    fine = Image.effect_noise((size[0] // 2, size[1] // 2), 40).resize(size, Image.Resampling.BICUBIC)
    path = folder / "photos.jsonl"
    with path.open("w") as file:
        for index in range(number):
            turned = coarse.transpose(Image.Transpose(index % 7)).resize(size)
            Image.merge("RGB", (gradient, turned, fine)).save(folder / f"{index}.jpg", quality=85)
            row = {"text": "What is it?", "image": str(folder / f"{index}.jpg"), "response": "A photo."}
            file.write(json.dumps(row) + "\n")
    return path


class Collate:
    """Rows -> what the model takes of their pictures; picklable for loader workers."""

    def __init__(self, processor: Any, opened: Opened) -> None:
        self.processor, self.opened = processor, opened

    def __call__(self, rows: list[Any]) -> dict[str, torch.Tensor]:
        pictures = [picture for row in rows for picture in self.opened(row)]
        return dict(self.processor(images=pictures, return_tensors="pt", min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS))


def ours(row: Any) -> list[Image.Image]:
    return [decode(image, MIN_PIXELS, MAX_PIXELS) for image in row.images]


def ours_whole(row: Any) -> list[Image.Image]:
    return [decode(image) for image in row.images]


def plain(row: Any) -> list[Image.Image]:
    return [row["image"].convert("RGB")]


def decoded(data: Any, opened: Opened) -> float:
    """Pictures per CPU second, decoded one after another in their full size."""
    started = time.process_time()
    number = sum(len(opened(data[index])) for index in range(len(data)))
    return number / (time.process_time() - started)


def collated(data: Any, collate: Collate, workers: int) -> float:
    """Pictures a second in batches; the first batch, which waits for workers to start, is not counted."""
    clock = time.perf_counter if workers else time.process_time
    loader = iter(DataLoader(data, batch_size=BATCH, collate_fn=collate, num_workers=workers))
    next(loader)
    started = clock()
    number = sum(len(batch["image_grid_thw"]) for batch in loader)
    return number / (clock() - started)


def memory_by_pass(data: Any, collate: Collate) -> list[int]:
    """MiB of this process after each of some passes over the data, without loader workers."""
    sizes = []
    for _ in range(PASSES):
        for _batch in DataLoader(data, batch_size=BATCH, collate_fn=collate):
            pass
        sizes.append(psutil.Process().memory_info().rss >> 20)
    return sizes


def measure(folder: Path, number: int, size: tuple[int, int], processor: Any) -> list[list[str]]:
    """The table's rows for one set of pictures."""
    folder.mkdir()
    path = write_photos(folder, number, size)
    examples = open_examples(path, vision=True)
    rows = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(folder / "cache"))
    rows = rows.cast_column("image", datasets.Image())
    sides = ((examples, ours, ours_whole), (rows, plain, plain))
    best: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for side, (data, opened, whole) in enumerate(sides):
            collate = Collate(processor, opened)
            rates = {
                "decoded": decoded(data, whole),
                "in batches": collated(data, collate, 0),
                f"in batches, {WORKERS} workers": collated(data, collate, WORKERS),
            }
            for what, rate in rates.items():
                pair = best.setdefault(what, [0.0, 0.0])
                pair[side] = max(pair[side], rate)
    started = time.process_time()
    check_examples(examples, processes=1)
    checked = number / (time.process_time() - started)
    name = f"{size[0]} x {size[1]}"
    result = [[name, what, f"{a:.0f}", f"{b:.0f}", f"{a / b:.2f}"] for what, (a, b) in best.items()]
    return [*result, [name, "checked, every byte decoded", f"{checked:.0f}", "", ""]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="put the figures into docs/benchmarks.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    lines = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        processor = AutoProcessor.from_pretrained(make_tiny_model("qwen2_5_vl", folder / "model")).image_processor
        for number, size in SETS:
            lines += measure(folder / str(size[0]), number, size, processor)
        memory = memory_by_pass(open_examples(folder / "2000" / "photos.jsonl", vision=True), Collate(processor, ours))
    content = (
        f"{machine()}; batches of {BATCH}, Qwen2.5-VL's image processor, area at most {MAX_PIXELS} pixels.\n\n"
        f"{table(['JPEGs', 'pictures a second', 'ours', 'datasets', 'ratio'], lines)}\n\n"
        f"Memory after each of {PASSES} passes over 48 pictures of 2000 x 1500, in MiB: {', '.join(map(str, memory))}."
    )
    print(content)
    if options.write:
        write_section("data_pipeline", f"## From pictures on disk to batches\n\n{content}")


if __name__ == "__main__":
    main()
