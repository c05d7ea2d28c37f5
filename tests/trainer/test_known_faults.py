"""Ways to train a wrong model without an error, as users of other trainers reported them, each with the right outcome.

``pytest -m known_fault`` runs these tests, and those that stand beside the code that they check.
docs/reference/known-faults.md lists them all.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from PIL import Image
from transformers import AutoModelForCausalLM, AutoTokenizer

from model_garden.datasets import open_examples
from model_garden.datasets.example import Example, ImageRef, Message, Role
from model_garden.datasets.origin import Origin
from model_garden.datasets.pictures import decode
from model_garden.datasets.rendering import Renderer
from model_garden_trainer.batches.collator import IGNORED, Collator
from model_garden_trainer.engine.stopping import StopRequests
from model_garden_trainer.errors import Stopped, TrainingError
from tests.trainer.workspace import QUICK, Told, Workspace, config

pytestmark = pytest.mark.train
fault = pytest.mark.known_fault
ROWS = [("One?", "A single word."), ("Two, and a longer question?", "Yes."), ("Three?", "A long answer of many words.")]
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST]{{ m.content }}[/INST]"
    "{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)


def chat(*turns: tuple[Role, Any]) -> Example:
    messages = tuple(Message(role, part if isinstance(part, tuple) else (part,)) for role, part in turns)
    return Example("chat", messages, Origin("rows.jsonl", 1))


def question(asked: str, answer: str) -> Example:
    return chat(("user", asked), ("assistant", answer))


def trained(collator: Collator, example: Example) -> str:
    """The text that carries loss."""
    batch = collator([example])
    return str(collator.tokenizer.decode(batch["input_ids"][0][batch["labels"][0] != IGNORED]))


@pytest.fixture(scope="module")
def qwen(tiny_model: Callable[[str], Path]) -> Path:
    return tiny_model("qwen2")


@pytest.fixture
def collator(qwen: Path) -> Collator:
    return Collator(AutoTokenizer.from_pretrained(qwen), vision=False)


@pytest.fixture
def llama(tiny_model: Callable[[str], Path]) -> Collator:
    return Collator(AutoTokenizer.from_pretrained(tiny_model("llama")), vision=False)


# Which tokens carry loss


@fault(
    "marin-community/marin#7237", "A chat template without generation marks gives a mask of zeros: nothing is trained"
)
def test_answers_are_found_in_a_template_without_generation_marks(collator: Collator) -> None:
    assert "generation %}" not in str(collator.renderer.format.template)
    assert trained(collator, question("Which?", "This one.")) == "This one.<|im_end|>"


@fault(
    "unslothai/unsloth#1290", "The answer of a template with one-token markers is not found, so all labels are ignored"
)
def test_answers_are_found_between_markers_of_one_token(llama: Collator) -> None:
    llama.renderer = Renderer(
        replace(llama.renderer.format, template=MISTRAL, controls=frozenset({"[INST]", "[/INST]"}))
    )
    two = chat(("user", "Which?"), ("assistant", "This."), ("user", "And?"), ("assistant", "That."))
    end = llama.renderer.format.end
    assert trained(llama, two) == f"This.{end}That.{end}"


@fault("huggingface/trl#1623", "With one token for padding and end, the end is masked and the model never stops")
@fault(
    "deepseek-ai/DeepSeek-Coder#163", "With one token for padding and end, the end is masked and the model never stops"
)
def test_the_end_carries_loss_where_it_is_also_the_padding(qwen: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(qwen)
    tokenizer.pad_token = tokenizer.eos_token
    collator = Collator(tokenizer, vision=False)
    batch = collator([question("A?", "B."), question("A much longer question than that?", "B.")])
    for ids, labels, mask in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True):
        assert tokenizer.decode(ids[labels != IGNORED]) == "B.<|im_end|>"
        assert not (labels[mask == 0] != IGNORED).any()


@fault("huggingface/trl#1400", "The template and the tokenizer both add a begin token")
@fault("OpenRLHF/OpenRLHF#393", "The template and the tokenizer both add a begin token")
def test_a_row_begins_with_one_begin_token(llama: Collator) -> None:
    ids = llama([question("A?", "B.")])["input_ids"][0]
    assert int((ids == llama.tokenizer.bos_token_id).sum()) == 1


@fault("tloen/alpaca-lora#306", "The mask is one token too long and takes the first token of the answer")
def test_the_first_token_of_an_answer_carries_loss(llama: Collator) -> None:
    assert trained(llama, question("Q", "A")).startswith("A")


@fault("huggingface/trl#4201", "The header of the answer, which the prompt gives at inference, carries loss")
def test_the_header_of_an_answer_carries_no_loss(llama: Collator) -> None:
    assert trained(llama, question("Who?", "Ada.")) == "Ada.<|eot_id|>"


@fault(
    "huggingface/trl#632",
    "An answer that also stands in the question is searched as text, and the question is trained",
)
def test_an_answer_that_stands_in_the_question_too_is_trained_once(collator: Collator) -> None:
    assert trained(collator, question("Say: yes. Say: yes.", "Say: yes.")) == "Say: yes.<|im_end|>"


@fault("huggingface/trl#1282", "Only the last or only the first answer of a conversation carries loss")
def test_each_answer_of_a_conversation_carries_loss(collator: Collator) -> None:
    turns: list[tuple[Role, Any]] = []
    for number in range(4):
        turns += [("user", f"{number}?"), ("assistant", f"{number}!")]
    assert trained(collator, chat(*turns)) == "".join(f"{number}!<|im_end|>" for number in range(4))


# What a row becomes


@fault("hiyouga/LlamaFactory#5964", "A row above the length limit is cut, with its answer or within its image tokens")
def test_a_row_above_the_length_limit_is_refused_and_not_cut(workspace: Workspace) -> None:
    with pytest.raises(TrainingError, match=r"text_test_dataset.jsonl row \d+"):
        workspace.train(config("cut", {**TEXT_JOB, "hyperparameters": {"maxSeqLength": 16}}))


@fault(
    "huggingface/datasets#4467", "A CSV reader turns the answers None, NA, null and 007 into empty cells and numbers"
)
def test_the_cells_of_a_csv_file_stay_text(tmp_path: Path) -> None:
    answers = ["None", "NA", "null", "NaN", "007", "1e5", "True", " "]
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("prompt", "completion"), *((f"{n}?", answer) for n, answer in enumerate(answers))])
    (tmp_path / "rows.csv").write_text(text.getvalue(), newline="")
    examples = open_examples(tmp_path / "rows.csv", vision=False)
    assert [examples[n].messages[1].parts[0] for n in range(7)] == answers[:7]
    with pytest.raises(Exception, match='row 9: "completion" is empty'):
        examples[7]


@fault("wbolster/jsonlines#53", "JSON lines are split at U+2028, U+0085 or a form feed within a string")
def test_json_lines_end_at_line_feeds_alone(tmp_path: Path) -> None:
    texts = ["one\u2028two", "one\u2029two", "one\u0085two", "one\x0ctwo", "one\rtwo"]
    rows = [json.dumps({"prompt": "A?", "completion": text}, ensure_ascii=False) for text in texts]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows) + "\n", newline="", encoding="utf-8")
    examples = open_examples(tmp_path / "rows.jsonl", vision=False)
    assert [examples[n].messages[1].parts[0] for n in range(len(examples))] == texts


@fault("v7labs/darwin-py#924", "The orientation of a photo is ignored: the model sees it lying on its side")
def test_a_photo_is_seen_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 32), "red").save(tmp_path / "photo.jpg", exif=exif)
    assert decode(ImageRef(tmp_path / "photo.jpg")).size == (32, 64)


@fault("kohya-ss/sd-scripts#1269", "The colors under transparent pixels show through: black in place of white")
def test_transparent_pixels_are_white(tmp_path: Path) -> None:
    Image.new("RGBA", (32, 32), (0, 0, 0, 0)).save(tmp_path / "logo.png")
    assert decode(ImageRef(tmp_path / "logo.png")).getpixel((5, 5)) == (255, 255, 255)


@fault("huggingface/transformers#49003", "The transparent color of an image without an alpha channel shows through")
def test_the_transparent_color_of_an_image_is_white_too(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), "red").save(tmp_path / "logo.png", transparency=(255, 0, 0))
    assert decode(ImageRef(tmp_path / "logo.png")).getpixel((5, 5)) == (255, 255, 255)


@fault("QwenLM/Qwen3-VL#1161", "Boxes count pixels of the stored image, and the model sees a smaller one")
@fault("modelscope/ms-swift#3407", "Boxes count pixels of the stored image, and the model sees a smaller one")
def test_boxes_of_an_image_that_is_scaled_are_a_warning(workspace: Workspace) -> None:
    rows = workspace.folder / "data" / "vision_test_dataset.jsonl"
    first, *others = rows.read_text().splitlines()
    boxes = json.loads(first) | {"response": '[{"bbox_2d": [10, 10, 200, 200], "label": "circle"}]'}
    rows.write_text("\n".join([json.dumps(boxes), *others]) + "\n")
    part = {"hyperparameters": {"maxSteps": 1}}
    small = {"imageOptions": {"maxPixels": 112 * 112}}
    _, told = workspace.train(config("scaled", VISION_JOB, QUICK, part, small))
    [warning] = told.warnings
    assert "1 row names boxes, and its image is scaled" in warning
    assert "row 1: 224 x 224 becomes 112 x 112 pixels" in warning
    assert workspace.train(config("whole", VISION_JOB, QUICK, part))[1].warnings == []


@fault("hiyouga/LlamaFactory#8733", "The lower part of a truncated image is gray")
def test_a_truncated_image_is_refused(workspace: Workspace) -> None:
    image = workspace.folder / "data" / "vision_test_dataset_images" / "0003.png"
    image.write_bytes(image.read_bytes()[:-40])
    with pytest.raises(TrainingError, match=r"row 3: the image .*0003.png.* cannot be decoded"):
        workspace.train(config("truncated", VISION_JOB))


# What a step computes


TEXT_JOB = {"baseModel": "./models/qwen2", "datasetPath": "./data/text_test_dataset.jsonl"}
VISION_JOB = {"isVision": True, "baseModel": "./models/qwen2_5_vl", "datasetPath": "./data/vision_test_dataset.jsonl"}


def rows_of(workspace: Workspace, rows: list[tuple[str, str]]) -> dict[str, Any]:
    """A text job on these questions and answers."""
    lines = [json.dumps({"prompt": asked, "completion": answer}) for asked, answer in rows]
    (workspace.folder / "data" / "rows.jsonl").write_text("\n".join(lines) + "\n")
    return TEXT_JOB | {"datasetPath": "./data/rows.jsonl"}


def first_loss(workspace: Workspace, job: dict[str, Any], name: str, **hyperparameters: Any) -> float:
    part = {"hyperparameters": {"maxSteps": 1} | hyperparameters}
    return workspace.train(config(name, job, QUICK, part))[1].losses[1]


@fault("huggingface/transformers#37766", "The loss grows, or the mean of means is taken, where batches are accumulated")
@fault("karpathy/nanochat#52", "The reported loss is that of the last of the accumulated batches")
@fault("huggingface/trl#2604", "The loss grows, or the mean of means is taken, where batches are accumulated")
def test_the_loss_of_a_step_is_the_mean_over_its_trained_tokens(workspace: Workspace, collator: Collator) -> None:
    job = rows_of(workspace, ROWS)
    model = AutoModelForCausalLM.from_pretrained("./models/qwen2", dtype=torch.float32)
    total, tokens = 0.0, 0
    for example in open_examples(workspace.folder / "data" / "rows.jsonl", vision=False):
        batch = collator([example])
        count = int((batch["labels"][:, 1:] != IGNORED).sum())
        with torch.no_grad():
            total += float(model(**batch).loss) * count
        tokens += count
    one = first_loss(workspace, job, "one", batchSize=1, gradientAccumulationSteps=3)
    three = first_loss(workspace, job, "three", batchSize=3, gradientAccumulationSteps=1)
    assert one == pytest.approx(total / tokens, abs=1e-5) == pytest.approx(three, abs=1e-5)


@fault("huggingface/transformers#26221", "With recomputed layers, adapters get no gradient and stay as they were")
@fault("locuslab/open-unlearning#178", "With recomputed layers, adapters get no gradient and stay as they were")
@fault("haotian-liu/LLaVA#1647", "Adapters land in the vision tower, which was to stay frozen")
def test_every_adapter_of_the_language_model_learns_and_none_is_in_the_tower(workspace: Workspace) -> None:
    workspace.train(config("adapters", VISION_JOB, QUICK, {"hyperparameters": {"maxSteps": 2, "warmupSteps": 0}}))
    weights = workspace.adapter("adapters")
    second = {name: weight for name, weight in weights.items() if "lora_B" in name}
    assert len(second) == 14 and all("language_model" in name for name in second)
    assert all(bool(weight.any()) for weight in second.values())


@fault("modelscope/ms-swift#10153", "A target module that matches no layer is skipped without a word")
def test_a_target_module_that_matches_nothing_is_refused(workspace: Workspace) -> None:
    with pytest.raises(TrainingError, match="query_proj"):
        workspace.train(config("target", TEXT_JOB, {"loraConfig": {"targetModules": ["q_proj", "query_proj"]}}))


@fault("huggingface/peft#2502", "The merged model answers like the base model")
@fault("huggingface/peft#2764", "The merged model answers like the base model")
def test_the_merged_model_is_the_trained_one(workspace: Workspace) -> None:
    job = config("merged", TEXT_JOB, QUICK, {"saveMethod": "merged_16bit", "hyperparameters": {"maxSteps": 4}})
    workspace.train(job)
    base = AutoModelForCausalLM.from_pretrained("./models/qwen2", dtype=torch.float32)
    merged = AutoModelForCausalLM.from_pretrained("./models/merged/merged", dtype=torch.float32)
    ids = torch.arange(40).unsqueeze(0)
    with torch.no_grad():
        of_base = base(ids).logits
        of_merged = merged(ids).logits
        of_adapter = PeftModel.from_pretrained(base, "./models/merged")(ids).logits
    assert (of_merged - of_adapter).abs().max() < 0.05 * (of_base - of_adapter).abs().max()


@fault("huggingface/lerobot#3668", "After an evaluation, dropout stays off")
@fault("ThilinaRajapakse/simpletransformers#941", "After an evaluation, dropout stays off")
def test_an_evaluation_changes_no_later_step(workspace: Workspace) -> None:
    part = {"hyperparameters": {"maxSteps": 4}, "loraConfig": {"loraDropout": 0.3}, "validationFraction": 0.2}
    often, never = {"hyperparameters": {"evalSteps": 1}}, {"hyperparameters": {"evalSteps": 100}}
    _, evaluated = workspace.train(config("often", TEXT_JOB, QUICK, part, often))
    _, trained_only = workspace.train(config("never", TEXT_JOB, QUICK, part, never))
    assert len(evaluated.eval_losses) == 4 and evaluated.losses == trained_only.losses


@fault(
    "keras-team/keras-hub#2629", "Adapters have the dtype of the base model, bfloat16, in which small updates are lost"
)
@fault("huggingface/trl#7273", "Adapters have the dtype of the base model, bfloat16, in which small updates are lost")
def test_adapters_of_a_16_bit_model_are_trained_in_32_bit(workspace: Workspace) -> None:
    part = {"quantization": "16bit", "loraConfig": {"useDora": True}, "hyperparameters": {"maxSteps": 2}}
    workspace.train(config("dora", TEXT_JOB, QUICK, part, {"hyperparameters": {"learningRate": 1e-6}}))
    weights = workspace.adapter("dora")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    assert all(bool(weight.any()) for name, weight in weights.items() if "lora_B" in name)


@pytest.fixture
def whole_and_resumed(workspace: Workspace) -> Iterator[tuple[Told, Told]]:
    """A run of three epochs, and one that was stopped in its second epoch and resumed."""
    steps = {
        "hyperparameters": {
            "batchSize": 1,
            "gradientAccumulationSteps": 1,
            "numEpochs": 3,
            "lrSchedulerType": "cosine",
        },
        "loraConfig": {"loraDropout": 0.2},
    }
    job = rows_of(workspace, ROWS)
    _, whole = workspace.train(config("whole", job, QUICK, steps))
    requests = StopRequests()

    def stop(event: Any) -> None:
        if getattr(getattr(event, "progress", None), "step", 0) == 4:
            requests.stop = True

    with pytest.raises(Stopped):
        workspace.train(config("broken", job, QUICK, steps), requests=requests, on_event=stop)
    _, resumed = workspace.train(config("broken", job, QUICK, steps))
    yield whole, resumed


@fault("modelscope/ms-swift#10050", "After a resume in the second epoch, rows come in the order of the first epoch")
@fault("PolymathicAI/the_well#77", "After a resume, the learning rate starts again")
def test_a_resumed_run_sees_the_rows_and_the_learning_rates_of_an_unbroken_one(
    whole_and_resumed: tuple[Told, Told],
) -> None:
    def seen(told: Told) -> dict[int, tuple[float | None, float | None]]:
        found = [event.progress for event in told.events if hasattr(event, "progress")]
        return {at.step: (at.loss, at.learning_rate) for at in found if at.step > 5}

    whole, resumed = map(seen, whole_and_resumed)
    assert sorted(whole) == [6, 7, 8, 9] and resumed == whole
