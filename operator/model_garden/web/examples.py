"""A row of each format, and a row and settings for each use case: what the form and the vision guide show."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from model_garden.contract.methods import Method
from model_garden.contract.model import field_path


@dataclass(frozen=True)
class FormatExample:
    """A row of a format as it stands in a JSONL file; ``vision`` and ``text`` say which models it can train, and
    ``methods`` by which methods."""

    title: str
    row: str
    vision: bool
    text: bool
    methods: tuple[Method, ...] = ("sft",)


FORMATS: tuple[FormatExample, ...] = (
    FormatExample(
        "Question, image, answer",
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
        "Messages with images",
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
        "ShareGPT with images",
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
    FormatExample(
        "Image, prompt, chosen, rejected",
        '{"image": "images/cat.jpg", "prompt": "What is this?", "chosen": "A cat.", "rejected": "A dog."}',
        vision=True,
        text=False,
        methods=("dpo",),
    ),
    FormatExample(
        "Prompt, chosen, rejected",
        '{"prompt": [{"role": "user", "content": "Name a prime number."}], "chosen": [{"role": "assistant", '
        '"content": "7"}], "rejected": [{"role": "assistant", "content": "9"}]}',
        vision=False,
        text=True,
        methods=("dpo", "orpo"),
    ),
    FormatExample(
        "Preferences of OpenAI",
        '{"input": {"messages": [{"role": "user", "content": "Name a prime number."}]}, "preferred_output": '
        '[{"role": "assistant", "content": "7"}], "non_preferred_output": [{"role": "assistant", "content": "9"}]}',
        vision=False,
        text=True,
        methods=("dpo", "orpo"),
    ),
    FormatExample(
        "Conversations, chosen, rejected",
        '{"conversations": [{"from": "human", "value": "Name a prime number."}], "chosen": {"from": "gpt", '
        '"value": "7"}, "rejected": {"from": "gpt", "value": "9"}}',
        vision=False,
        text=True,
        methods=("dpo", "orpo"),
    ),
    FormatExample(
        "Instruction, chosen, rejected",
        '{"instruction": "Translate to French.", "input": "Good morning", "chosen": "Bonjour", "rejected": "Hola"}',
        vision=False,
        text=True,
        methods=("dpo", "orpo"),
    ),
    FormatExample(
        "Instruction and both answers",
        '{"instruction": "Translate to French.", "input": "Good morning", "output": ["Bonjour", "Hola"]}',
        vision=False,
        text=True,
        methods=("dpo", "orpo"),
    ),
    FormatExample(
        "Instruction and answer",
        '{"instruction": "What is 3 + 4?", "output": "7"}',
        vision=False,
        text=True,
        methods=("grpo",),
    ),
    FormatExample(
        "Prompt and answer",
        '{"prompt": [{"role": "user", "content": "What is 3 + 4?"}], "answer": "7"}',
        vision=False,
        text=True,
        methods=("grpo",),
    ),
    FormatExample(
        "Messages",
        '{"messages": [{"role": "user", "content": "What is 3 + 4?"}, {"role": "assistant", "content": "7"}]}',
        vision=False,
        text=True,
        methods=("grpo",),
    ),
    FormatExample(
        "Image, prompt, completion, label",
        '{"image": "images/cat.jpg", "prompt": "What is this?", "completion": "A cat.", "label": true}',
        vision=True,
        text=False,
        methods=("kto",),
    ),
    FormatExample(
        "Prompt, completion, label",
        '{"prompt": [{"role": "user", "content": "Name a prime number."}], "completion": [{"role": "assistant", '
        '"content": "9"}], "label": false}',
        vision=False,
        text=True,
        methods=("kto",),
    ),
    FormatExample(
        "Messages with kto_tag",
        '{"messages": [{"role": "user", "content": "Name a prime number."}, {"role": "assistant", "content": "7"}], '
        '"kto_tag": true}',
        vision=False,
        text=True,
        methods=("kto",),
    ),
    FormatExample(
        "Conversations with kto_tag",
        '{"conversations": [{"from": "human", "value": "Name a prime number."}, {"from": "gpt", "value": "7"}], '
        '"kto_tag": true}',
        vision=False,
        text=True,
        methods=("kto",),
    ),
    FormatExample(
        "Instruction, output, kto_tag",
        '{"instruction": "Translate to French.", "output": "Hola", "kto_tag": false}',
        vision=False,
        text=True,
        methods=("kto",),
    ),
)


@dataclass(frozen=True)
class UseCase:
    """What people train a vision-language model for.

    Attributes:
        key: its name in a link to the form.
        about: what the model does.
        question: ``text`` of the example row.
        answer: ``response`` of the example row.
        image: ``image`` of the example row.
        why: why the settings suit it, or what to know about its rows.
        settings: values that suit it better than the defaults, by their fields in the REST API.
    """

    key: str
    title: str
    about: str
    question: str
    answer: str
    image: str
    why: str
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def row(self) -> str:
        """The example as a line of a JSONL file."""
        row = {"text": self.question, "image": self.image, "response": self.answer}
        return json.dumps(row, ensure_ascii=False)


_SMALL_PRINT = {"image_options.max_pixels": "2007040"}
_NO_DETAIL = {"image_options.max_pixels": "200704"}
_VARIED = {"hyperparameters.num_epochs": "2", "lora_config.lora_dropout": "0.05"}
_VALUES = {"selective_loss": "conservative"}
USE_CASES: dict[str, tuple[UseCase, ...]] = {
    "Image understanding": (
        UseCase(
            "ocr",
            "OCR",
            "Extract text from images.",
            "Read the text.",
            "EXIT ONLY",
            "images/sign.jpg",
            "Small print needs more pixels. An image then takes up to 2,560 tokens with Qwen2.5-VL.",
            _SMALL_PRINT,
        ),
        UseCase(
            "question-answering",
            "Visual question answering",
            "Answer questions about images.",
            "How many dogs are there?",
            "Two.",
            "images/park.jpg",
            "The defaults suit it. Ask several questions about each image, with short answers in one style.",
        ),
        UseCase(
            "captioning",
            "Image captioning",
            "Generate descriptions of images.",
            "Describe the image.",
            "A red kite above a beach.",
            "images/kite.jpg",
            "A caption needs no fine detail. An image of 448 x 448 has a fifth of the default's pixels and tokens.",
            _NO_DETAIL,
        ),
        UseCase(
            "object-detection",
            "Object detection",
            "Identify objects in images.",
            "List the objects as JSON.",
            '[{"label": "cup", "bbox_2d": [40, 12, 96, 80]}]',
            "images/desk.jpg",
            "Boxes count pixels of the image as the model sees it. Scale images to at most maxPixels yourself, so that "
            "boxes stay right. The loss leaves out the brackets of the JSON.",
            _SMALL_PRINT | _VALUES,
        ),
    ),
    "Document analysis": (
        UseCase(
            "invoices",
            "Invoice processing",
            "Extract data from invoices.",
            "Extract the invoice as JSON.",
            '{"number": "A-17", "date": "2025-03-01", "total": 120.50}',
            "images/invoice.png",
            "Small print needs more pixels, and the loss leaves out the brackets of the JSON. Give every row the same "
            "keys.",
            _SMALL_PRINT | _VALUES,
        ),
        UseCase(
            "forms",
            "Form understanding",
            "Parse forms and documents.",
            "Extract the form as JSON.",
            '{"name": "Ada Lovelace", "married": false, "children": null}',
            "images/form.png",
            "As for invoices. Write null for a field that is left empty, so that the model does not invent a value.",
            _SMALL_PRINT | _VALUES,
        ),
        UseCase(
            "charts",
            "Chart analysis",
            "Understand graphs and charts.",
            "Which month sold most?",
            "June, with 410 units.",
            "images/sales.png",
            "Labels of axes are small print.",
            _SMALL_PRINT,
        ),
        UseCase(
            "tables",
            "Table extraction",
            "Extract tabular data from images.",
            "Extract the table as CSV.",
            "name,price\npen,1.20\nbook,9.90",
            "images/prices.png",
            "Small print needs more pixels, and a long table is a long answer.",
            _SMALL_PRINT | {"hyperparameters.max_seq_length": "8192"},
        ),
    ),
    "Creative applications": (
        UseCase(
            "image-to-story",
            "Image to story",
            "Generate stories from images.",
            "Tell a story.",
            "Once the lighthouse had a keeper who counted the ships.",
            "images/lighthouse.jpg",
            "No answer is the only right one: fewer passes and dropout keep the model from repeating the stories.",
            _NO_DETAIL | _VARIED,
        ),
        UseCase(
            "style",
            "Style analysis",
            "Describe artistic styles.",
            "Describe the style.",
            "Impressionist, with short, thick strokes.",
            "images/painting.jpg",
            "The default size of images keeps brush strokes. Fewer passes and dropout keep descriptions varied.",
            _VARIED,
        ),
        UseCase(
            "product-description",
            "Product description",
            "Generate product descriptions from photos.",
            "Write a product description.",
            "A light rain jacket for every day, with a hood that folds away.",
            "images/jacket.jpg",
            "A product fills its photo, so that 448 x 448 is enough. Write all descriptions in the tone of your shop.",
            _NO_DETAIL | _VARIED,
        ),
        UseCase(
            "scene",
            "Scene understanding",
            "Describe scenes in detail.",
            "Describe the scene in detail.",
            "A kitchen at dawn. A kettle steams on the stove, and two cups stand beside it.",
            "images/kitchen.jpg",
            "The defaults suit it: details need the default size of images.",
        ),
    ),
}


def use_case(key: str) -> UseCase | None:
    """The use case of that key; None if there is none."""
    return next((one for cases in USE_CASES.values() for one in cases if one.key == key), None)


def formats(*, vision: bool, method: Method = "sft") -> list[FormatExample]:
    """The formats that a model can be trained on by a method; those for text models if there is none with images."""
    of_method = [one for one in FORMATS if method in one.methods]
    return [one for one in of_method if (one.vision if vision else one.text)] or of_method


def use_case_table() -> str:
    """The table of use cases for the vision guide, in Markdown."""
    lines = ["| use case | row | settings | why |", "|---|---|---|---|"]
    for group, cases in USE_CASES.items():
        lines.append(f"| **{group}** | | | |")
        for one in cases:
            row = one.row.replace("|", "\\|")
            pairs = [f"`{field_path(tuple(name.split('.')))}: {value}`" for name, value in one.settings.items()]
            lines.append(f"| {one.title} | `{row}` | {', '.join(pairs) or 'defaults'} | {one.why} |")
    return "\n".join(lines)
