"""The memory estimate: what goes in, what comes out, and how it compares with published peaks."""

from __future__ import annotations

from typing import Any

import pytest

from model_garden.contract.defaults import effective_spec
from model_garden.contract.memory_estimate import Estimate, RowShape
from model_garden.contract.spec import EffectiveSpec, TrainingJobSpec
from model_garden.estimate.estimate import GPU_SIZES, cannot_fit, estimate, explain, fits
from model_garden.estimate.gpus import Node, gpu_memory_gib, nodes_that_fit
from testing.model_configs import (
    LLAMA_3_1_8B,
    QWEN2_5_3B,
    QWEN2_5_7B,
    QWEN2_5_VL_3B,
    QWEN2_5_VL_7B,
    QWEN2_5_VL_72B,
)
from tests.contract.cases import NO_GPU

SMALL_PICTURES = RowShape(tokens=125, image_tokens=64, trained_tokens=30)


def spec(**given: Any) -> EffectiveSpec:
    base = {"baseModel": "org/model", "datasetPath": "./data/rows.jsonl"}
    return effective_spec(TrainingJobSpec.model_validate(base | given), "job")


def sizes(result: Estimate) -> dict[str, float]:
    return {part.name: part.size_gib for part in result.parts}


# Published peaks in GiB of what PyTorch reserves; docs/memory-estimate.md says what each was.
PUBLISHED: list[tuple[str, dict[str, Any], RowShape, dict[str, Any], float]] = [
    (
        "Qwen2.5-VL-7B 4-bit on a T4, vision and language, 2 small pictures",
        QWEN2_5_VL_7B
        | {
            "quantization_config": {
                "load_in_4bit": True,
                "llm_int8_skip_modules": ["lm_head", "multi_modal_projector", "merger", "modality_projection"],
            }
        },
        RowShape(tokens=180, image_tokens=80, trained_tokens=60),
        {"isVision": True, "loraConfig": {"finetuneVisionLayers": True}, "hyperparameters": {"batchSize": 2}},
        6.5,
    ),
    (
        "Qwen2.5-3B QLoRA",
        QWEN2_5_3B,
        RowShape(tokens=512),
        {"hyperparameters": {"batchSize": 1}},
        3.5,
    ),
    (
        "Llama-3.1-8B LoRA, rank 8, 2 x 2048",
        LLAMA_3_1_8B,
        RowShape(tokens=2048),
        {"quantization": "16bit", "loraConfig": {"r": 8}},
        16.2,
    ),
    (
        "Llama-3.1-8B QLoRA, rank 8, 2 x 2048",
        LLAMA_3_1_8B,
        RowShape(tokens=2048),
        {"loraConfig": {"r": 8}},
        7.4,
    ),
    (
        "Qwen2.5-VL-7B LoRA bf16, rank 8, 2048 tokens with a picture of 1003520 pixels",
        QWEN2_5_VL_7B,
        RowShape(tokens=2048, image_tokens=1280),
        {
            "isVision": True,
            "backend": "transformers",
            "quantization": "16bit",
            "loraConfig": {"r": 8},
            "hyperparameters": {"batchSize": 1},
        },
        23.0,
    ),
]


@pytest.mark.parametrize(("what", "config", "rows", "given", "published"), PUBLISHED, ids=[row[0] for row in PUBLISHED])
def test_it_is_within_a_tenth_of_published_peaks(
    what: str, config: dict[str, Any], rows: RowShape, given: dict[str, Any], published: float
) -> None:
    assert estimate(spec(**given), config, rows=rows).reserved_gib == pytest.approx(published, rel=0.1)


def test_the_parts_add_up_and_lie_within_their_bounds() -> None:
    result = estimate(spec(isVision=True), QWEN2_5_VL_3B)
    assert sum(sizes(result).values()) == pytest.approx(result.total_gib)
    assert result.min_gib < result.total_gib < result.max_gib
    assert all(part.min_gib <= part.size_gib <= part.max_gib for part in result.parts)
    assert all(part.detail for part in result.parts)
    assert result.reserved_gib == pytest.approx(result.total_gib - sizes(result)["CUDA context"])


def test_it_survives_json_in_both_spellings() -> None:
    result = estimate(spec(isVision=True), QWEN2_5_VL_3B)
    for text in (result.to_dict(), result.to_snake_dict()):
        again = Estimate.model_validate(text)
        assert again.to_dict() == result.to_dict()
        assert again.total_gib == pytest.approx(result.total_gib, abs=1e-4)
    assert {"totalGiB", "minGiB", "maxGiB", "smallestGpu"} <= set(result.to_dict())
    assert set(result.to_dict()["parts"][0]) == {"name", "sizeGiB", "minGiB", "maxGiB", "detail"}


def test_quantisation_shrinks_the_weights_and_leaves_the_vision_tower_in_16_bit() -> None:
    weights = {
        kind: sizes(estimate(spec(isVision=True, quantization=kind), QWEN2_5_VL_7B))["weights"]
        for kind in ("4bit", "8bit", "16bit")
    }
    assert weights["16bit"] == pytest.approx(2 * 8.292e9 / 2**30, rel=0.001)
    assert weights["4bit"] < weights["8bit"] < weights["16bit"]
    dense = 2 * (152_064 * 3584 * 2 + 0.676e9)  # embeddings, lm_head and vision tower
    packed = 0.5159 * (28 * (2 * 3584 * 3584 + 2 * 512 * 3584 + 3 * 18_944 * 3584))
    assert weights["4bit"] == pytest.approx((dense + packed) / 2**30, rel=0.01)


def test_a_checkpoint_that_comes_quantised_keeps_its_own_list() -> None:
    own = {
        "quantization_config": {"load_in_4bit": True, "llm_int8_skip_modules": ["lm_head", "visual", "layers.0.mlp"]}
    }
    listed = sizes(estimate(spec(isVision=True), QWEN2_5_VL_7B | own))["weights"]
    usual = sizes(estimate(spec(isVision=True), QWEN2_5_VL_7B))["weights"]
    one_mlp = 3 * 18_944 * 3584 * (2 - 0.5159) / 2**30
    assert listed == pytest.approx(usual + one_mlp, rel=0.001)


@pytest.mark.parametrize(
    ("optim", "bytes_each"),
    [("adamw_torch", 8), ("adamw_8bit", 2), ("paged_adamw_8bit", 2), ("lion_32bit", 4), ("lion_8bit", 1), ("sgd", 0)],
)
def test_the_optimizers_state(optim: str, bytes_each: float) -> None:
    result = estimate(spec(hyperparameters={"optim": optim}), LLAMA_3_1_8B)
    assert sizes(result)["optimizer"] == pytest.approx(bytes_each * result.trained_parameters / 2**30, rel=0.02)


def test_adafactor_keeps_less_than_lion() -> None:
    state = {
        optim: sizes(estimate(spec(hyperparameters={"optim": optim}), LLAMA_3_1_8B))["optimizer"]
        for optim in ("adafactor", "lion_8bit")
    }
    assert 0 < state["adafactor"] < state["lion_8bit"]


def test_longer_rows_bigger_batches_and_bigger_pictures_take_more() -> None:
    def total(batch: int = 1, tokens: int = 1000, image_tokens: int = 100) -> float:
        rows = RowShape(tokens=tokens, image_tokens=image_tokens)
        job = spec(isVision=True, backend="transformers", hyperparameters={"batchSize": batch})
        return estimate(job, QWEN2_5_VL_3B, rows=rows).total_gib

    assert total() < total(batch=2) < total(batch=4)
    assert total() < total(tokens=2000)
    assert total() < total(image_tokens=900)


def test_only_trained_tokens_have_logits() -> None:
    def loss(trained: int | None) -> float:
        job = spec(backend="transformers", quantization="16bit", hyperparameters={"batchSize": 1})
        rows = RowShape(tokens=2048, trained_tokens=trained)
        return sizes(estimate(job, QWEN2_5_7B, rows=rows))["working memory"]

    assert loss(None) == loss(2048) == pytest.approx(2048 * 152_064 * 16 / 2**30)
    assert loss(20) < loss(None) / 4


def test_unsloths_loss_of_a_text_model_reads_all_tokens_and_stays_in_bounds_on_a_large_gpu() -> None:
    """Measured on an H100: 3.16 GiB beside the weights for 8 rows of 151 tokens, 44 of them trained."""
    job = spec(backend="unsloth", hyperparameters={"batchSize": 8})
    rows = RowShape(tokens=151, trained_tokens=44)
    (loss,) = (each for each in estimate(job, QWEN2_5_3B, rows=rows).parts if each.name == "working memory")
    assert loss.size_gib == 1.0 and 3.16 < loss.max_gib < 4.0
    assert loss == next(
        each for each in estimate(job, QWEN2_5_3B, rows=RowShape(tokens=151)).parts if each.name == "working memory"
    )


def test_two_answers_and_a_reference_take_more_than_one_answer_and_a_generation_is_part_of_a_row() -> None:
    sft = estimate(spec(backend="transformers"), QWEN2_5_7B)
    orpo = estimate(spec(method="orpo"), QWEN2_5_7B)
    dpo = estimate(spec(method="dpo"), QWEN2_5_7B)
    assert sft.batch_size * 2 == orpo.batch_size == dpo.batch_size
    assert sizes(sft)["working memory"] < sizes(orpo)["working memory"] < sizes(dpo)["working memory"]
    rewards = {"functions": ["exact_match"]}
    grpo = estimate(spec(method="grpo", rewards=rewards, grpo={"maxCompletionLength": 256}), QWEN2_5_7B)
    assert grpo.tokens_per_row == sft.tokens_per_row + 256


def test_without_data_a_vision_row_holds_a_picture_of_the_largest_size() -> None:
    result = estimate(spec(isVision=True), QWEN2_5_VL_3B)
    assert (result.tokens_per_row, result.image_tokens_per_row) == (4096, 1280)
    smaller = estimate(spec(isVision=True, imageOptions={"maxPixels": 50_176}), QWEN2_5_VL_3B)
    assert smaller.image_tokens_per_row == 64
    assert any("no data was measured" in assumption for assumption in result.assumptions)


@pytest.mark.parametrize(
    ("accumulation", "batch", "row"),
    [
        (2, 1, (1000, 600, 100)),  # the step has two samples, and no more is in its row
        (64, 1, (4096, 8 * 300, 410)),  # it has more than the row takes, which is filled up with shorter ones
        (8, 4, (4096, 8 * 300, 410)),
        (1, 4, (2000, 1200, 200)),  # four samples fit in one row, so that there is one
    ],
)
def test_a_packed_row_holds_what_its_length_and_the_step_allow(
    accumulation: int, batch: int, row: tuple[int, int, int]
) -> None:
    h = {"packing": True, "batchSize": batch, "gradientAccumulationSteps": accumulation}
    rows = RowShape(tokens=500, image_tokens=300, trained_tokens=50)
    given = spec(isVision=True, hyperparameters=h)
    packed = estimate(given, QWEN2_5_VL_3B, rows=rows)
    assert (packed.tokens_per_row, packed.image_tokens_per_row) == row[:2]
    assert packed.batch_size == (4 if (accumulation, batch) == (8, 4) else 1)
    whole = {"packing": False, "batchSize": packed.batch_size, "maxSeqLength": 4096}
    unpacked = spec(isVision=True, hyperparameters=whole)
    same = RowShape(tokens=row[0], image_tokens=row[1], trained_tokens=row[2])
    assert packed.total_gib == pytest.approx(estimate(unpacked, QWEN2_5_VL_3B, rows=same).total_gib)


def test_the_smallest_batch_is_the_least_that_auto_batch_size_needs() -> None:
    def least(auto: bool, batch: int) -> float:
        h = {"autoBatchSize": auto, "batchSize": batch}
        return estimate(spec(quantization="16bit", backend="transformers", hyperparameters=h), QWEN2_5_7B).min_gib

    assert least(True, 8) == pytest.approx(least(True, 1))
    assert least(False, 8) > least(False, 1) + 1


def test_several_gpus_each_hold_the_whole_model() -> None:
    one = estimate(spec(), LLAMA_3_1_8B)
    two = estimate(spec(resources={"limits": {"nvidia.com/gpu": 2}}), LLAMA_3_1_8B)
    assert sizes(two)["weights"] == sizes(one)["weights"]
    assert sizes(two)["gradient buckets"] == sizes(two)["LoRA gradients"]
    assert "every GPU holds the whole model" in two.assumptions


def test_on_a_cpu_weights_are_float32_and_it_is_host_memory() -> None:
    result = estimate(spec(resources=NO_GPU), QWEN2_5_3B)
    assert result.memory == "Host"
    assert sizes(result)["weights"] == pytest.approx(4 * result.parameters / 2**30)
    assert result.smallest_gpu is None
    assert "CUDA context" not in sizes(result)
    assert "libraries" in sizes(result)


def test_the_smallest_gpu_that_does() -> None:
    small = estimate(spec(isVision=True), QWEN2_5_VL_3B, rows=SMALL_PICTURES)
    large = estimate(spec(isVision=True, baseModel="Qwen/Qwen2.5-VL-72B-Instruct"), QWEN2_5_VL_72B)
    none = estimate(spec(isVision=True, quantization="16bit", hyperparameters={"batchSize": 64}), QWEN2_5_VL_72B)
    assert small.smallest_gpu == 16
    assert large.smallest_gpu in GPU_SIZES
    assert 48 < (large.smallest_gpu or 0) <= 80
    assert none.smallest_gpu is None
    assert f"too much for a GPU of {GPU_SIZES[-1]} GB" in explain(none)[0]


def test_between_fitting_and_hopeless_there_is_room_for_doubt() -> None:
    result = estimate(spec(), LLAMA_3_1_8B)
    doubtful = (result.min_gib + result.total_gib) / 2
    assert fits(result, result.total_gib + 0.1)
    assert not fits(result, doubtful)
    assert not cannot_fit(result, doubtful)
    assert cannot_fit(result, result.min_gib - 0.1)


def test_it_is_explained_in_words() -> None:
    lines = explain(estimate(spec(isVision=True), QWEN2_5_VL_3B, rows=SMALL_PICTURES))
    assert lines[0].startswith("GPU memory 4.4 GiB, between")
    assert lines[0].endswith("fits a GPU of 16 GB")
    assert lines[1] == (
        "weights 3.16 GiB (3.75 B parameters, 4-bit; embeddings, vision tower and norms in 16 bit, 0.98 B)"
    )
    assert any(line.startswith("assumed: batch 1 x 125 tokens, 64 of them image tokens") for line in lines)


def test_what_was_approximated_is_said_and_widens_the_bounds() -> None:
    result = estimate(spec(isVision=True), QWEN2_5_VL_3B | {"model_type": "unheard_of"})
    assert any("SigLIP" in assumption for assumption in result.assumptions)
    weights = result.parts[0]
    assert weights.min_gib < 0.9 * weights.size_gib


@pytest.mark.parametrize(
    ("job", "config", "message"),
    [
        (spec(isVision=True), LLAMA_3_1_8B, "no vision_config"),
        (spec(), {"model_type": "llama"}, "hidden_size is missing"),
    ],
    ids=["a text model for a vision job", "an empty config"],
)
def test_what_cannot_be_estimated_is_refused_with_the_reason(
    job: EffectiveSpec, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        estimate(job, config)


@pytest.mark.parametrize(
    ("labels", "gib"),
    [
        ({"nvidia.com/gpu.memory": "81559", "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}, 79.6),
        ({"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}, 77.6),
        ({"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb"}, 9.7),
        ({"nvidia.com/gpu.product": "NVIDIA-A100-PCIE-40GB-SHARED"}, 38.8),
        ({"nvidia.com/gpu.product": "Tesla-T4"}, 14.6),
        ({"nvidia.com/gpu.product": "NVIDIA-L40S"}, 45),
        ({"nvidia.com/gpu.product": "NVIDIA-L4"}, 22.5),
        ({"nvidia.com/gpu.product": "NVIDIA-GeForce-RTX-4090"}, 24),
        ({"cloud.google.com/gke-accelerator": "nvidia-tesla-t4"}, 14.6),
        ({"cloud.google.com/gke-accelerator": "nvidia-a100-80gb"}, 77.6),
        ({"karpenter.k8s.aws/instance-gpu-name": "a10g"}, 22.5),
        ({"nvidia.com/gpu.memory": "unknown", "nvidia.com/gpu.product": "NVIDIA-X9000"}, None),
        ({}, None),
    ],
)
def test_a_nodes_labels_tell_its_gpus_memory(labels: dict[str, str], gib: float | None) -> None:
    assert gpu_memory_gib(labels) == (None if gib is None else pytest.approx(gib, abs=0.1))


@pytest.mark.parametrize(
    ("resource", "labels", "gib"),
    [
        ("nvidia.com/gpu.shared", {"nvidia.com/gpu.memory": "15360"}, 15),
        ("nvidia.com/mig-1g.10gb", {"nvidia.com/gpu.memory": "81920"}, 9.7),
        ("nvidia.com/mig-1g.10gb.me", {}, 9.7),
        ("nvidia.com/mig-3g.40gb", {"nvidia.com/mig-3g.40gb.memory": "40448"}, 39.5),
        ("nvidia.com/mig-other", {"nvidia.com/gpu.memory": "81920"}, None),
        ("amd.com/gpu", {"amd.com/gpu.vram": "192G"}, 192),
        ("amd.com/gpu", {"nvidia.com/gpu.memory": "81920"}, None),
    ],
)
def test_the_memory_of_shared_and_other_gpus(resource: str, labels: dict[str, str], gib: float | None) -> None:
    assert gpu_memory_gib(labels, resource) == (None if gib is None else pytest.approx(gib, abs=0.1))


def test_nodes_are_left_out_only_where_it_is_known_that_they_cannot_do() -> None:
    def node(name: str, gpus: int, **labels: str) -> Node:
        status = {"allocatable": {"nvidia.com/gpu": str(gpus)} if gpus else {}}
        prefixed = {f"nvidia.com/gpu.{key}": value for key, value in labels.items()}
        return Node.read({"metadata": {"name": name, "labels": prefixed}, "status": status})

    nodes = [
        node("t4", 1, memory="15360"),
        node("h100", 1, memory="81559"),
        node("two-h100", 2, memory="81559"),
        node("unlabelled", 4),
        node("no-gpu", 0),
    ]
    large = estimate(spec(isVision=True, baseModel="Qwen/Qwen2.5-VL-72B-Instruct"), QWEN2_5_VL_72B)
    small = estimate(spec(isVision=True), QWEN2_5_VL_3B, rows=SMALL_PICTURES)
    on_cpu = estimate(spec(resources=NO_GPU), QWEN2_5_3B)

    def names(result: Estimate, gpus: int = 1) -> list[str]:
        return [node.name for node in nodes_that_fit(result, nodes, gpus=gpus)]

    assert names(large) == ["h100", "two-h100", "unlabelled"]
    assert names(large, gpus=2) == ["two-h100", "unlabelled"]
    assert names(small) == ["t4", "h100", "two-h100", "unlabelled"]
    assert names(on_cpu) == [node.name for node in nodes]


def test_dora_and_modules_that_are_trained_whole_add_their_weights_gradients_and_optimizer_state() -> None:
    plain = estimate(spec(backend="transformers"), QWEN2_5_3B)  # adamw_torch_fused: two moments in float32
    dora = estimate(spec(loraConfig={"useDora": True}), QWEN2_5_3B)
    outputs = 2048 + 2 * 256 + 2048 + 2 * 11008 + 2048  # of q, k, v, o, gate, up and down
    assert dora.trained_parameters - plain.trained_parameters == 36 * outputs

    matrix = 151936 * 2048
    for names, matrices in ((["lm_head"], 1), (["embed_tokens"], 1), (["embed_tokens", "lm_head"], 1)):  # they are tied
        whole = estimate(spec(loraConfig={"modulesToSave": names}), QWEN2_5_3B)
        assert whole.trained_parameters - plain.trained_parameters == matrices * matrix
        assert sizes(whole)["whole modules"] == pytest.approx(4 * matrix / 2**30)
        more = sizes(whole)["optimizer"] - sizes(plain)["optimizer"]
        assert more == pytest.approx(8 * matrix / 2**30)


def test_full_fine_tuning_counts_the_gradient_and_the_optimizer_state_of_every_trained_weight() -> None:
    given = {"adapter": "none", "hyperparameters": {"optim": "adamw_torch"}}
    result = estimate(spec(**given), QWEN2_5_3B)
    found, gib = sizes(result), result.parameters / 2**30
    assert result.trained_parameters == result.parameters
    assert found["weights"] == pytest.approx(4 * gib)
    assert found["gradients"] == pytest.approx(4 * gib)
    assert found["optimizer"] == pytest.approx(8 * gib)
    assert any(f"a checkpoint takes {12 * gib:.1f} GiB" in line for line in result.assumptions)
    half = sizes(estimate(spec(**given, quantization="16bit"), QWEN2_5_3B))
    assert half["weights"] == pytest.approx(2 * gib) and half["gradients"] == pytest.approx(2 * gib)
    assert "16-bit copies" not in half

    vision = estimate(spec(**given, isVision=True), QWEN2_5_VL_3B)
    tower = estimate(spec(**given, isVision=True, loraConfig={"finetuneVisionLayers": True}), QWEN2_5_VL_3B)
    assert vision.trained_parameters < tower.trained_parameters == tower.parameters
