"""Shared prefixes in verl's FSDP2 engine on CPU, in one or several processes; run by tests as a script.

    python shared_engine.py FILE '{"MODEL_FOLDER": ["VARIANT", ...], ...}'

with RANK, WORLD_SIZE and DIST_INIT_METHOD in the environment. Rank 0 writes to FILE, for each model, what
:func:`compare` returns.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from helpers.real_engine import DYNAMIC, FIXED, LENGTHS, backward, batch, build

ANSWERS = 3  # to each question: groups of 3, 3 and 2
CUT = {"use_dynamic_bsz": True, "max_token_len_per_gpu": 90}  # a question with three answers takes more
ADAPTERS = {"lora_rank": 4, "lora_alpha": 8, "target_modules": "all-linear", "exclude_modules": ".*visual.*"}


Settings = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]
# Keys of the model's lora section, other keys of it, and how mini-batches are cut.
VARIANTS: dict[str, Settings] = {
    "fixed micro-batches": ({}, {}, FIXED),
    "dynamic micro-batches": ({}, {}, DYNAMIC),
    "groups cut": ({}, {}, CUT),
    "packed": ({}, {"use_remove_padding": True}, DYNAMIC),
    "own limit, checkpointing": ({"shared_prefix_tokens": 150}, {"enable_gradient_checkpointing": True}, FIXED),
    "frozen tower": ({"freeze_vision_model": True}, {}, DYNAMIC),
    "adapters": ({"merge": True}, ADAPTERS, DYNAMIC),
}


def rows(data: Any) -> Any:
    """This rank's rows: every worker has as many."""
    from verl.utils import tensordict_utils as tu

    each = len(LENGTHS) // int(os.environ["WORLD_SIZE"])
    first = each * int(os.environ["RANK"])
    return tu.index_select_tensor_dict(data, list(range(first, first + each)))


def results(engine: Any, folder: str, cut: dict[str, Any], temperature: float = 0.7) -> dict[str, Any]:
    """Loss, metrics and gradients of an update, and log-probabilities and entropy of a pass, of this rank's rows."""
    import torch
    from verl.utils import tensordict_utils as tu
    from verl.workers.config import FSDPActorConfig

    # Not verl's usual estimate of the KL, whose gradients are enormous far from the reference and hide all others.
    loss: dict[str, Any] = {"use_kl_loss": True, "kl_loss_type": "kl", "kl_loss_coef": 0.01, "entropy_coeff": 0.01}
    actor = FSDPActorConfig(rollout_n=8, ppo_micro_batch_size_per_gpu=1, **loss)
    torch.manual_seed(0)
    data = rows(batch(folder, ANSWERS))
    tu.assign_non_tensor(data, temperature=temperature, **cut)
    with engine.train_mode():
        output, found = backward(engine, data, actor)
    with engine.eval_mode():
        outputs = engine.forward_backward_batch(data, None, forward_only=True)["model_output"]
    metrics = {name: value for name, value in output["metrics"].items() if name in ("padding_share", "shared_fraction")}
    answers = data["responses"].offsets().diff().tolist()
    texts = {
        name: torch.cat([row[-n - 1 : -1] for row, n in zip(outputs[name].unbind(), answers, strict=True)])
        for name in ("log_probs", "entropy")
    }
    return {"loss": sum(output["loss"]), "gradients": found, "metrics": metrics, **texts}


def compare(folder: str, names: list[str]) -> dict[str, Any]:
    """For each variant, what verl's own step finds and what shared prefixes do."""
    import torch

    found = {}
    for name in names:
        lora, model, cut = VARIANTS[name]
        both = []
        for shared in (False, True):
            torch.manual_seed(0)
            # Without shared prefixes verl needs flash-attention to pack; the result is to be that of padded rows.
            packed = {"use_remove_padding": shared} if "use_remove_padding" in model else {}
            engine = build(folder, lora={**lora, "shared_prefix": shared}, on=False, **{**model, **packed})
            for weight in (w for n, w in engine.module.named_parameters() if "lora_B" in n):
                torch.nn.init.constant_(weight, 0.05)  # at zero, A would have no gradient
            both.append(results(engine, folder, {**cut, **packed}))
        found[name] = both
    return found


if __name__ == "__main__":
    import torch

    from seg_zero.training.cpu import worker  # noqa: F401  (as verl's external_lib: joins the process group)

    found = {folder: compare(folder, names) for folder, names in json.loads(sys.argv[2]).items()}
    if os.environ["RANK"] == "0":
        torch.save(found, sys.argv[1])
