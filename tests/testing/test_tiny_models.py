import hashlib
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from model_garden.datasets.samples import create_vision_samples
from testing.tiny_models import make_tiny_model


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen3_vl"])
def test_a_vision_model_loads_and_reads_a_picture(tiny_model, kind, tmp_path):
    folder = tiny_model(kind)
    model, processor = AutoModelForImageTextToText.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    create_vision_samples(tmp_path / "data.jsonl", 1)
    image = Image.open(tmp_path / "data_images" / "0001.png")
    user = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is in this image?"}]}
    prompt = processor.apply_chat_template([user], tokenize=False, add_generation_prompt=True)
    inputs = processor(text=[prompt], images=[image], return_tensors="pt")
    patch = processor.image_processor.patch_size
    image_tokens = (inputs["input_ids"] == model.config.image_token_id).sum().item()
    expected = {14: 64, 16: 64}[patch]  # 224 = 8 x 28; 7 x 32 is below 65,536 pixels and grows to 8 x 32
    assert image_tokens == expected
    with torch.no_grad():
        answer = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    assert answer.shape[1] > inputs["input_ids"].shape[1]


@pytest.mark.parametrize("kind", ["qwen2", "llama"])
def test_a_text_model_loads_and_its_template_round_trips(tiny_model, kind):
    folder = tiny_model(kind)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    messages = [{"role": "user", "content": "Größe? 大きさ 🙂"}, {"role": "assistant", "content": "Ja."}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")
    assert tokenizer.decode(ids["input_ids"][0]) == text
    assert torch.isfinite(model(**ids, labels=ids["input_ids"]).loss)
    assert tokenizer.eos_token_id in ids["input_ids"]


def test_the_same_seed_gives_the_same_files_and_another_seed_other_weights(tmp_path):
    def digests(folder: Path) -> dict[str, str]:
        return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}

    first, again, other = (
        digests(make_tiny_model("qwen2", tmp_path / name, seed)) for name, seed in [("a", 0), ("b", 0), ("c", 1)]
    )
    assert first == again
    assert {name for name in first if first[name] != other[name]} == {"model.safetensors"}


def test_an_unknown_kind_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="'gpt2' is unknown; one of qwen2_5_vl, qwen3_vl, qwen2, llama"):
        make_tiny_model("gpt2", tmp_path / "model")
