"""Sample data sets with true answers: images of shapes and colors, and short instructions.

``model-garden create-vision-dataset`` and ``create-dataset``, the files in ``data/`` and the demo use them. The same
number of rows gives the same files, and a longer set starts with the rows of a shorter one.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

SIZE = 224
"""Width and height of a sample image in pixels."""
_SMOOTH = 4  # images are drawn this much larger and then scaled down, which smooths edges

COLORS = {
    "red": (214, 40, 40),
    "green": (42, 157, 70),
    "blue": (38, 84, 200),
    "yellow": (247, 206, 48),
    "purple": (128, 60, 170),
    "orange": (240, 132, 30),
    "black": (24, 24, 24),
    "white": (250, 250, 250),
}
BACKGROUNDS = {"white": (250, 250, 250), "gray": (150, 150, 150), "black": (24, 24, 24), "light blue": (180, 215, 240)}
SIZES = {"small": 30, "medium": 42, "large": 54}
"""Radius in pixels."""
ROWS = {"top": 1, "middle": 2, "bottom": 3}
COLUMNS = {"left": 1, "center": 2, "right": 3}


@dataclass(frozen=True)
class Scene:
    """One image: a shape of a size and color at a place on a background."""

    shape: str
    color: str
    size: str
    row: str
    column: str
    background: str

    @property
    def place(self) -> str:
        """Where the shape stands, in words: ``top left``, ``center``."""
        return "center" if (self.row, self.column) == ("middle", "center") else f"{self.row} {self.column}"


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


QUESTIONS: tuple[tuple[str, Callable[[Scene], str]], ...] = (
    (
        "What is in this image?",
        lambda s: f"A {s.size} {s.color} {s.shape} at the {s.place}, on a {s.background} background.",
    ),
    ("Which shape do you see?", lambda s: f"The shape is {_with_article(s.shape)}."),
    ("What color is the shape?", lambda s: f"The {s.shape} is {s.color}."),
    ("Where is the shape, and what is behind it?", lambda s: f"At the {s.place}, on a {s.background} background."),
)


def create_vision_samples(path: str | Path, n: int) -> Path:
    """Write ``n`` rows of ``{"text", "image", "response"}`` to ``path``, their images to ``<stem>_images`` beside it.

    The images are PNG, RGB, ``SIZE`` x ``SIZE`` pixels. Image paths in the rows are relative to ``path``'s folder.

    Raises:
        ValueError: ``n`` is below 1.
        FileExistsError: ``path`` exists with other content; nothing was written.
    """
    path = Path(path)
    folder = path.parent / f"{path.stem}_images"
    scenes = list(vision_scenes(_positive(n)))
    names = [f"{folder.name}/{number:04}.png" for number in range(1, n + 1)]
    rows = [
        {"text": question, "image": name, "response": answer(scene)}
        for name, (scene, (question, answer)) in zip(names, scenes, strict=True)
    ]
    text = _jsonl(rows)
    _refuse_other_content(path, text)
    folder.mkdir(parents=True, exist_ok=True)
    for name, (scene, _) in zip(names, scenes, strict=True):
        draw(scene).save(path.parent / name, optimize=True)
    path.write_text(text, encoding="utf-8")
    return path


def create_text_samples(path: str | Path, n: int) -> Path:
    """Write ``n`` rows of ``{"messages": [...]}`` to ``path``: extraction to JSON, sorting, sums and polite rewording.

    Raises:
        ValueError: ``n`` is below 1.
        FileExistsError: ``path`` exists with other content; nothing was written.
    """
    path = Path(path)
    text = _jsonl(text_rows(_positive(n)))
    _refuse_other_content(path, text)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def vision_scenes(n: int) -> Iterator[tuple[Scene, tuple[str, Callable[[Scene], str]]]]:
    """``n`` scenes, each with its question and the function that answers it; shapes and questions alternate."""
    rng = random.Random("vision")
    shapes, colors = list(SHAPES), list(COLORS)
    for number in range(n):
        background = rng.choice(list(BACKGROUNDS))
        scene = Scene(
            shape=shapes[number % len(shapes)],
            color=rng.choice([color for color in colors if color != background]),
            size=rng.choice(list(SIZES)),
            row=rng.choice(list(ROWS)),
            column=rng.choice(list(COLUMNS)),
            background=background,
        )
        yield scene, QUESTIONS[(number + number // len(shapes)) % len(QUESTIONS)]


def draw(scene: Scene) -> Image.Image:
    """The image of a scene: RGB, ``SIZE`` x ``SIZE`` pixels."""
    large = SIZE * _SMOOTH
    image = Image.new("RGB", (large, large), BACKGROUNDS[scene.background])
    center = (COLUMNS[scene.column] * large / 4, ROWS[scene.row] * large / 4)
    SHAPES[scene.shape](ImageDraw.Draw(image), *center, SIZES[scene.size] * _SMOOTH, COLORS[scene.color])
    return image.resize((SIZE, SIZE), Image.Resampling.BOX)


Fill = tuple[int, int, int]
Draw = Callable[[ImageDraw.ImageDraw, float, float, float, Fill], None]


def _ellipse(width: float, height: float, hollow: float = 0) -> Draw:
    def drawn(canvas: ImageDraw.ImageDraw, x: float, y: float, r: float, fill: Fill) -> None:
        box = (x - r * width, y - r * height, x + r * width, y + r * height)
        if hollow:
            canvas.ellipse(box, outline=fill, width=int(r * hollow))
        else:
            canvas.ellipse(box, fill=fill)

    return drawn


def _rectangle(*boxes: tuple[float, float]) -> Draw:
    def drawn(canvas: ImageDraw.ImageDraw, x: float, y: float, r: float, fill: Fill) -> None:
        for width, height in boxes:
            canvas.rectangle((x - r * width, y - r * height, x + r * width, y + r * height), fill=fill)

    return drawn


def _polygon(*radii: float, corners: int) -> Draw:
    """Corners at even angles from straight up; their distances from the center repeat ``radii``."""

    def drawn(canvas: ImageDraw.ImageDraw, x: float, y: float, r: float, fill: Fill) -> None:
        points = []
        for corner in range(corners):
            angle = 2 * math.pi * corner / corners - math.pi / 2
            reach = r * radii[corner % len(radii)]
            points.append((x + reach * math.cos(angle), y + reach * math.sin(angle)))
        canvas.polygon(points, fill=fill)

    return drawn


SHAPES: dict[str, Draw] = {
    "circle": _ellipse(0.9, 0.9),
    "square": _rectangle((0.8, 0.8)),
    "triangle": _polygon(1.0, corners=3),
    "star": _polygon(1.0, 0.4, corners=10),
    "diamond": _polygon(1.0, 0.65, corners=4),
    "hexagon": _polygon(0.95, corners=6),
    "cross": _rectangle((0.9, 0.28), (0.28, 0.9)),
    "ring": _ellipse(0.95, 0.95, hollow=0.4),
    "rectangle": _rectangle((0.95, 0.5)),
    "ellipse": _ellipse(1.0, 0.55),
}

_NAMES = ("Ada", "Ben", "Chen", "Dora", "Emil", "Fatima", "Grace", "Hugo", "Ines", "Jamal")
_ITEMS = ("apples", "notebooks", "lamps", "chairs", "teacups", "batteries", "pencils", "shirts")
_CITIES = ("Lisbon", "Nairobi", "Oslo", "Lima", "Kyoto", "Toronto")
_REVIEWS = (
    ("The delivery was quick and the lamp looks lovely.", "positive"),
    ("It broke after two days and nobody answered my letter.", "negative"),
    ("The chairs arrived on Tuesday in three boxes.", "neutral"),
    ("I would buy these teacups again at once.", "positive"),
    ("The shirt is thinner than the picture shows.", "negative"),
)
_REQUESTS = (
    ("Send me the report.", "Could you please send me the report?"),
    ("Move the meeting to Friday.", "Could we please move the meeting to Friday?"),
    ("Fix the printer.", "Would you please have a look at the printer?"),
    ("Call me back.", "Could you please call me back when you have a moment?"),
)


def text_rows(n: int) -> Iterator[dict[str, Any]]:
    """``n`` rows in the ``messages`` format; the four tasks alternate, and some rows have several turns."""
    rng = random.Random("text")
    tasks = (_extraction, _sorting, _review, _rewording)
    for number in range(n):
        yield {"messages": tasks[number % len(tasks)](rng)}


def _extraction(rng: random.Random) -> list[dict[str, str]]:
    order = {"name": rng.choice(_NAMES), "quantity": rng.randint(2, 40), "item": rng.choice(_ITEMS)}
    city = rng.choice(_CITIES)
    text = f"{order['name']} from {city} orders {order['quantity']} {order['item']}."
    return [
        _turn("system", "Extract the order as JSON with the keys name, quantity, item and city."),
        _turn("user", text),
        _turn("assistant", json.dumps(order | {"city": city})),
    ]


def _sorting(rng: random.Random) -> list[dict[str, str]]:
    numbers = rng.sample(range(1, 100), 4)
    ordered = ", ".join(map(str, sorted(numbers)))
    return [
        _turn("user", f"Sort these numbers: {', '.join(map(str, numbers))}"),
        _turn("assistant", ordered),
        _turn("user", "Which of them is the largest?"),
        _turn("assistant", f"The largest is {max(numbers)}."),
    ]


def _review(rng: random.Random) -> list[dict[str, str]]:
    review, mood = rng.choice(_REVIEWS)
    return [
        _turn("system", "Answer with one word: positive, negative or neutral."),
        _turn("user", f"{rng.choice(_NAMES)} writes: {review}"),
        _turn("assistant", mood),
    ]


def _rewording(rng: random.Random) -> list[dict[str, str]]:
    blunt, polite = rng.choice(_REQUESTS)
    name = rng.choice(_NAMES)
    return [
        _turn("user", f"Say it politely to {name}: {blunt}"),
        _turn("assistant", f"{name}, {polite[0].lower()}{polite[1:]}"),
    ]


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _positive(n: int) -> int:
    if n < 1:
        raise ValueError(f"number of examples: {n} makes no data set; give 1 or more")
    return n


def _jsonl(rows: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _refuse_other_content(path: Path, text: str) -> None:
    if path.exists() and path.read_bytes() != text.encode():
        raise FileExistsError(f"{path} exists with other data; choose another path or delete it")
