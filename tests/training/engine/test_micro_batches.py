"""Micro-batches of like length, the frozen vision tower and LoRA, in verl's real engine on one CPU process."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.real_engine import LENGTHS

from seg_zero.training.engine.micro_batches import group_by_length, padding_share


@pytest.mark.parametrize("seed", range(20))
def test_every_row_occurs_once_within_the_limit(seed: int) -> None:
    rng = random.Random(seed)
    lengths = [rng.randint(1, 90) for _ in range(rng.randint(1, 60))]
    groups = group_by_length(lengths, 200)
    assert sorted(row for group in groups for row in group) == list(range(len(lengths)))
    assert all(len(group) * max(lengths[row] for row in group) <= 200 for group in groups)
    assert groups == group_by_length(lengths, 200)


def test_groups_are_few_and_then_little_padded() -> None:
    assert group_by_length([10, 40, 10, 40], 80) == [[1, 3], [0, 2]]
    assert group_by_length([10, 40, 10, 40], 1000) == [[1, 3, 0, 2]]
    # Three groups are needed; 30+30 | 29..., not 30 | 30+29.
    assert group_by_length([30, 30, 10, 10, 10, 10, 10], 60) == [[0, 1], [2, 3, 4, 5, 6]]


def test_a_row_beyond_the_limit_stands_alone() -> None:
    assert group_by_length([5, 500, 5], 20) == [[1], [0, 2]]


def test_other_workers_may_need_more_groups() -> None:
    groups = group_by_length([10] * 6, 1000, count=4)
    assert len(groups) == 4 and sorted(row for group in groups for row in group) == list(range(6))
    assert len(group_by_length([10, 10], 1000, count=4)) == 2


def test_padding_share_is_weighted_by_positions() -> None:
    assert padding_share([[10, 10], [4]]) == 0.0
    assert padding_share([[10, 5], [1] * 10]) == pytest.approx(5 / 30)
    assert padding_share([]) == 0.0


@pytest.fixture(scope="module")
def engine_results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What tests/helpers/real_engine.py finds; a process of its own, for it joins a process group."""
    from helpers.tiny_models import save_tiny_model

    folder = save_tiny_model("qwen2_5_vl", tmp_path_factory.mktemp("model"))
    environment = {
        **os.environ,
        "VERL_PLATFORM": "cpu",
        "HF_HUB_OFFLINE": "1",
        "TORCHDYNAMO_DISABLE": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    result = subprocess.run(
        [sys.executable, str(Path(__file__).parents[2] / "helpers" / "real_engine.py"), str(folder)],
        capture_output=True, text=True, timeout=280, check=False, env=environment,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    return next(json.loads(line[6:]) for line in result.stdout.splitlines() if line.startswith("RESULT"))


@pytest.mark.timeout(300)
def test_dynamic_micro_batches_give_the_same_update_with_less_padding(engine_results: dict[str, Any]) -> None:
    """Loss, every gradient and every log-probability, in the order of the rows, up to float32 rounding."""
    found = engine_results["micro_batches"]
    assert found["losses"][0] == pytest.approx(found["losses"][1], abs=1e-5)
    assert found["same_weights"] and found["gradients"] > 50 and found["difference"] < 1e-5
    assert found["log_probs"] < 1e-4
    (fixed,), (dynamic,) = found["padding"]
    assert dynamic < 0.1 < fixed


@pytest.mark.timeout(300)
def test_without_what_saves_time_the_update_is_verls_own_and_the_same(engine_results: dict[str, Any]) -> None:
    """Off, each image is computed for both of its answers and lengths are mixed; results differ by rounding only."""
    found = engine_results["switches"]
    assert found["losses"][0] == pytest.approx(found["losses"][1], abs=1e-5)
    assert found["same_weights"] and found["difference"] < 1e-5 and found["log_probs"] < 1e-4
    assert found["padding"][0] < found["padding"][1]
    assert found["patches"][0] < found["patches"][1]


@pytest.mark.timeout(300)
def test_a_single_update_needs_no_pass_for_the_old_log_probabilities(engine_results: dict[str, Any]) -> None:
    """Same loss and gradients; vLLM's first answer was made 0.1 too likely, and that is what the metrics see."""
    found = engine_results["one_update"]
    assert found["losses"][0] == pytest.approx(found["losses"][1], abs=1e-6)
    assert found["same_weights"] and found["difference"] < 1e-6
    (first, tokens), metrics = (LENGTHS[0], sum(LENGTHS)), found["metrics"]
    assert metrics["rollout_corr/kl"] == [pytest.approx(0.1 * first / tokens, abs=1e-5)]
    assert metrics["rollout_corr/log_ppl_diff_max"] == [pytest.approx(0.1, abs=1e-5)]
    assert 0 < metrics["training/rollout_probs_diff_mean"][0] < metrics["training/rollout_probs_diff_max"][0] < 0.1


@pytest.mark.timeout(300)
def test_a_frozen_vision_tower_does_not_move(engine_results: dict[str, Any]) -> None:
    moved = set(engine_results["freeze"]["moved"])
    assert moved == {name for name in engine_results["freeze"]["all"] if ".visual." not in name}


@pytest.mark.timeout(300)
def test_lora_trains_adapters_of_the_language_model_alone(engine_results: dict[str, Any]) -> None:
    """Every linear language layer has one, the vision tower none, and nothing else moves."""
    found = engine_results["lora"]
    assert all(".visual." not in name for name in found["adapters"])
    assert len(found["adapters"]) == 3 * 7 * 2  # layers, linear layers in each, A and B
    assert found["moved"] == found["adapters"]


@pytest.mark.timeout(300)
def test_vllm_gets_whole_weights_with_the_adapters_added(engine_results: dict[str, Any]) -> None:
    found = engine_results["lora"]
    assert found["same_names"] and found["dtypes"] == ["torch.float32"]  # verl would round to bfloat16
    assert found["difference"] < 1e-6
    assert len(found["changed"]) == 3 * 7 and all(name.endswith("_proj.weight") for name in found["changed"])
