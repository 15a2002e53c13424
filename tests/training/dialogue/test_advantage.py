"""Credit for rounds, against values computed by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from verl import DataProto
from verl.trainer.ppo.core_algos import get_adv_estimator_fn
from verl.trainer.ppo.v1.utils import compute_advantage_for_multi_trajectories

from seg_zero.training.dialogue.advantage import (
    compare_rounds,
    dialogue_grpo,
    round_returns,
    sizes_by_round,
)
from seg_zero.training.settings import DIALOGUE_GRPO

# Two sessions of one script, three rounds each, in any order, and a session of another script.
KEYS = ["a_0_0", "a_1_0", "a_0_1", "a_1_2", "a_1_1", "a_0_2", "b_0_0"]
SCORES = [1.0, 3.0, 0.0, 2.0, 4.0, 6.0, 5.0]


@pytest.mark.parametrize(
    ("discount", "returns"),
    [
        (0.0, SCORES),
        (0.5, [1 + 0 + 1.5, 3 + 2 + 0.5, 0 + 3, 2.0, 4 + 1, 6.0, 5.0]),
        (1.0, [7.0, 9.0, 6.0, 2.0, 6.0, 6.0, 5.0]),
    ],
)
def test_a_round_is_worth_itself_and_discounted_later_rounds(discount: float, returns: list[float]) -> None:
    assert round_returns(SCORES, KEYS, discount) == pytest.approx(returns)


def test_each_round_is_compared_with_the_same_round_of_its_script() -> None:
    returns = np.array(SCORES)
    assert compare_rounds(returns, KEYS, by_std=False) == pytest.approx([-1.0, 1.0, -2.0, -2.0, 2.0, 2.0, 0.0])
    half = 1 / np.sqrt(2)  # two values d apart have the deviation d / sqrt(2) of a sample
    wanted = [-half, half, -half, -half, half, half, 0.0]
    assert compare_rounds(returns, KEYS, by_std=True) == pytest.approx(wanted, abs=1e-5)


def test_a_round_that_one_conversation_alone_came_to_teaches_nothing() -> None:
    keys = ["a_0_0", "a_1_0", "a_1_1"]
    assert compare_rounds(np.array([1.0, 2.0, 9.0]), keys, by_std=True)[2] == 0.0


def test_equal_rounds_have_no_advantage() -> None:
    assert compare_rounds(np.array([2.0, 2.0]), ["a_0_0", "a_1_0"], by_std=True).tolist() == [0.0, 0.0]


def test_what_each_round_taught_is_told() -> None:
    found = sizes_by_round([-1.0, 3.0, 0.0, -2.0, 0.0, 0.5, 0.0], KEYS)
    assert found == {
        "dialogue/round_1/advantage": pytest.approx(4 / 3),
        "dialogue/round_2/advantage": 0.0,
        "dialogue/round_3/advantage": pytest.approx(1.25),
    }


def rewards() -> tuple[torch.Tensor, torch.Tensor]:
    """Scores on the last token of answers of 1 to 3 tokens."""
    lengths = [1, 2, 3, 1, 2, 3, 2]
    values, mask = torch.zeros(7, 3), torch.zeros(7, 3, dtype=torch.int64)
    for row, (length, score) in enumerate(zip(lengths, SCORES, strict=True)):
        values[row, length - 1] = score
        mask[row, :length] = 1
    return values, mask


def test_every_token_of_an_answer_has_its_rounds_advantage() -> None:
    values, mask = rewards()
    config = SimpleNamespace(gamma=1.0, norm_adv_by_std_in_grpo=False)
    advantages, returns = dialogue_grpo(values, mask, np.array(KEYS, dtype=object), config)
    wanted = torch.tensor([-1.0, 1.0, 0.0, -2.0, 0.0, 2.0, 0.0])[:, None] * mask
    assert torch.allclose(advantages, wanted)
    assert torch.allclose(returns, torch.tensor([7.0, 9.0, 6.0, 2.0, 6.0, 6.0, 5.0])[:, None] * mask)


def test_verl_knows_the_estimator_and_leaves_rounds_apart() -> None:
    """verl's own grouping would give all rounds of a session the last one's advantage."""
    assert get_adv_estimator_fn(DIALOGUE_GRPO) is dialogue_grpo
    values, mask = rewards()
    data = DataProto.from_dict(
        tensors={"token_level_rewards": values, "response_mask": mask},
        non_tensors={"uid": np.array(KEYS, dtype=object)},
    )
    config = OmegaConf.create({"gamma": 0.0, "norm_adv_by_std_in_grpo": False})
    found = compute_advantage_for_multi_trajectories(data, KEYS, DIALOGUE_GRPO, gamma=0.0, config=config)
    assert found.batch["advantages"][:, 0].tolist() == [-1.0, 1.0, -2.0, -2.0, 2.0, 2.0, 0.0]
