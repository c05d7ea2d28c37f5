"""One row of each format, and what each use case trains on: what the form shows beside the data set's path."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FormatExample:
    """A row of a format as it stands in a JSONL file; ``vision`` and ``text`` say which models it can train."""

    title: str
    row: str
    vision: bool
    text: bool


FORMATS: tuple[FormatExample, ...] = (
    FormatExample(
        "Question, picture, answer",
        '{"text": "What is in this image?", "image": "images/cat.jpg", "response": "A cat on a table."}',
        vision=True,
        text=False,
    ),
    FormatExample(
        "Messages",
        '{"messages": [{"role": "user", "content": "Name a prime number."}, {"role": "assistant", "content": "7"}]}',
        vision=False,
        text=True,
    ),
    FormatExample(
        "Messages with pictures",
        '{"messages": [{"role": "user", "content": [{"type": "image", "image": "images/cat.jpg"}, '
        '{"type": "text", "text": "What is this?"}]}, {"role": "assistant", "content": "A cat."}]}',
        vision=True,
        text=False,
    ),
    FormatExample(
        "ShareGPT",
        '{"conversations": [{"from": "human", "value": "Name a prime number."}, {"from": "gpt", "value": "7"}]}',
        vision=False,
        text=True,
    ),
    FormatExample(
        "ShareGPT with pictures",
        '{"conversations": [{"from": "human", "value": "<image>What is this?"}, {"from": "gpt", "value": "A cat."}], '
        '"image": "images/cat.jpg"}',
        vision=True,
        text=False,
    ),
    FormatExample(
        "Alpaca",
        '{"instruction": "Translate to French.", "input": "Good morning", "output": "Bonjour"}',
        vision=False,
        text=True,
    ),
    FormatExample(
        "Prompt and completion",
        '{"prompt": "The capital of France is", "completion": " Paris."}',
        vision=False,
        text=True,
    ),
    FormatExample("Plain text", '{"text": "Any text that the model should continue."}', vision=False, text=True),
)


@dataclass(frozen=True)
class UseCase:
    """What people train a vision-language model for, and a row of it."""

    group: str
    title: str
    question: str
    answer: str


USE_CASES: tuple[UseCase, ...] = (
    UseCase("Image understanding", "OCR", "Read the text.", "EXIT ONLY"),
    UseCase("Image understanding", "Question answering", "How many dogs are there?", "Two."),
    UseCase("Image understanding", "Captioning", "Describe the image.", "A red kite above a beach."),
    UseCase(
        "Image understanding", "Object detection", "List the objects.", '[{"label": "cup", "bbox": [40, 12, 96, 80]}]'
    ),
    UseCase("Document analysis", "Invoices", "Extract the invoice as JSON.", '{"number": "A-17", "total": 120.50}'),
    UseCase("Document analysis", "Forms", "Which boxes are ticked?", "Single; no children."),
    UseCase("Document analysis", "Charts", "Which month sold most?", "June."),
    UseCase("Document analysis", "Tables", "Extract the table as CSV.", "name,price\\npen,1.20"),
    UseCase("Creative", "Image to story", "Tell a story.", "Once the lighthouse had a keeper."),
    UseCase("Creative", "Style", "Describe the style.", "Impressionist, with short, thick strokes."),
    UseCase("Creative", "Product description", "Write a product text.", "A light rain jacket for every day."),
    UseCase("Creative", "Scene understanding", "Describe the scene in detail.", "A kitchen at dawn; a kettle steams."),
)


def formats(*, vision: bool) -> list[FormatExample]:
    """The formats that a model can be trained on."""
    return [one for one in FORMATS if (one.vision if vision else one.text)]
