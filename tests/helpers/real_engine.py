"""verl's FSDP2 engine in one process on CPU, as a training worker builds it; run by tests as a script.

    python real_engine.py MODEL_FOLDER

Prints one line "RESULT" + JSON: what micro_batches, switches, one_update, freeze and lora below return.
"""

from __future__ import annotations

import json
import socket
import sys
from functools import partial
from typing import Any

LENGTHS = (9, 40, 12, 33, 10, 38, 11, 14)  # tokens of the responses


SWITCHES = ("vision_once", "group_by_length")


def build(folder: str, lora: dict[str, Any] | None = None, on: bool = True, **model: Any) -> Any:
    """The engine of a training worker for the model in ``folder``.

    on: whether it saves time where the section ``engine`` has a switch for it. model: keys of verl's model section.
    """
    from verl.trainer.config import CheckpointConfig
    from verl.workers.config import FSDPEngineConfig, FSDPOptimizerConfig, HFModelConfig
    from verl.workers.engine.base import EngineRegistry

    precision = {"param_dtype": "fp32", "reduce_dtype": "fp32", "buffer_dtype": "fp32"}
    engine = EngineRegistry.new(
        model_type="language_model",
        backend="fsdp2",
        model_config=HFModelConfig(
            path=folder,
            external_lib="seg_zero.training.cpu.worker",
            override_config={"attn_implementation": "sdpa"},
            lora={**dict.fromkeys(SWITCHES, on), **(lora or {})},
            **{"use_remove_padding": False, "enable_gradient_checkpointing": False, **model},
        ),
        engine_config=FSDPEngineConfig(strategy="fsdp2", mixed_precision=precision, use_torch_compile=False),
        optimizer_config=FSDPOptimizerConfig(lr=1e-2, clip_grad=1.0, total_training_steps=4, lr_warmup_steps=0),
        checkpoint_config=CheckpointConfig(),
    )
    engine.initialize()
    return engine


def batch(folder: str, answers: int = 1) -> Any:
    """A mini-batch of questions, two about each image, and random answers of unequal length.

    answers: rows in a row that have the same question and image.
    """
    import torch
    from PIL import Image
    from transformers import AutoProcessor
    from verl.utils import tensordict_utils as tu

    from seg_zero.prompting import PromptSpec, build_messages

    processor: Any = AutoProcessor.from_pretrained(folder)
    spec = PromptSpec.load(folder)  # type: ignore[arg-type]
    assert spec is not None
    generator = torch.Generator().manual_seed(0)
    fields: dict[str, list[Any]] = {}
    for row_number, length in enumerate(LENGTHS):
        number = row_number // answers
        text = processor.apply_chat_template(
            build_messages("the cup " * (1 + number % 3), spec), tokenize=False, add_generation_prompt=True
        )
        image = Image.new("RGB", (spec.image_size, spec.image_size), (60 * (number // 2), 90, 255 - 40 * (number // 2)))
        inputs = processor(text=[text], images=[image], return_tensors="pt")
        prompt, response = inputs["input_ids"][0], torch.randint(20, 400, (length,), generator=generator)
        total = len(prompt) + length
        row = {
            "prompts": prompt,
            "responses": response,
            "input_ids": torch.cat([prompt, response]),
            "position_ids": torch.arange(total).expand(4, total).clone(),
            "loss_mask": torch.ones(length),
            "response_mask": torch.ones(length),
            "old_log_probs": -6 + torch.rand(length, generator=generator),
            "ref_log_prob": -6 + torch.rand(length, generator=generator),
            "advantages": torch.randn(1, generator=generator).expand(length).clone(),
            "multi_modal_inputs": {key: inputs[key] for key in ("pixel_values", "image_grid_thw")},
        }
        for key, value in row.items():
            fields.setdefault(key, []).append(value)
    tensors: dict[str, Any] = {
        key: tu.nested_tensor_from_tensor_list(values, ragged_idx=2)
        if key == "position_ids"
        else torch.nested.as_nested_tensor(values, layout=torch.jagged)
        for key, values in fields.items()
        if key != "multi_modal_inputs"
    }
    tensors["multi_modal_inputs"] = fields["multi_modal_inputs"]
    settings = {"temperature": 1.0, "use_remove_padding": False, "calculate_entropy": True}
    return tu.get_tensordict(tensors, {**settings, "global_batch_size": len(LENGTHS)})


def backward(engine: Any, data: Any, actor: Any) -> tuple[Any, dict[str, Any]]:
    """What the engine returns for a mini-batch, and the gradient of every weight that has one."""
    from verl.workers.utils.losses import ppo_loss

    output = engine.forward_backward_batch(data, partial(ppo_loss, actor))
    return output, {n: w.grad.full_tensor().clone() for n, w in engine.module.named_parameters() if w.grad is not None}


def gradients(
    engine: Any, folder: str, step: bool = False, **cut: Any
) -> tuple[float, dict[str, Any], dict[str, Any], Any]:
    """Loss, gradients, metrics and log-probabilities of a mini-batch cut in a given way; ``step``: update as well."""
    from verl.utils import tensordict_utils as tu
    from verl.workers.config import FSDPActorConfig

    actor = FSDPActorConfig(
        rollout_n=8, ppo_micro_batch_size_per_gpu=1, use_kl_loss=True, kl_loss_coef=0.01, entropy_coeff=0.01
    )
    data = batch(folder)
    tu.assign_non_tensor(data, **cut)
    with engine.train_mode():
        output, found = backward(engine, data, actor)
        if step:
            engine.optimizer_step()
    data = batch(folder)
    tu.assign_non_tensor(data, **cut)
    with engine.eval_mode():
        texts = engine.forward_backward_batch(data, None, forward_only=True)["model_output"]["log_probs"]
    return sum(output["loss"]), found, output["metrics"], texts.unbind()


FIXED = {"use_dynamic_bsz": False, "micro_batch_size_per_gpu": 4}
DYNAMIC = {"use_dynamic_bsz": True, "max_token_len_per_gpu": 240}


def micro_batches(folder: str) -> dict[str, Any]:
    """Fixed against dynamic micro-batches of one mini-batch."""
    engine = build(folder)
    (loss, grads, metrics, texts), other = (gradients(engine, folder, **cut) for cut in (FIXED, DYNAMIC))
    scale = max(float(g.abs().max()) for g in grads.values())
    return {
        "losses": [loss, other[0]],
        "gradients": len(grads),
        "difference": max(float((grads[name] - other[1][name]).abs().max()) for name in grads) / scale,
        "log_probs": max(float((a - b).abs().max()) for a, b in zip(texts, other[3], strict=True)),
        "padding": [metrics["padding_share"], other[2]["padding_share"]],
        "same_weights": set(grads) == set(other[1]),
    }


def switches(folder: str) -> dict[str, Any]:
    """An update with every switch of the engine on, and one with all of them off."""
    found = {}
    for on in (True, False):
        engine = build(folder, on=on)
        patches: list[int] = []
        (tower,) = [module for name, module in engine.module.named_modules() if name.endswith("visual.patch_embed")]
        tower.register_forward_hook(lambda _module, inputs, _output, seen=patches: seen.append(len(inputs[0])))
        found[on] = (*gradients(engine, folder, **DYNAMIC), sum(patches))
    (loss, grads, metrics, texts, seen), other = found[True], found[False]
    scale = max(float(g.abs().max()) for g in grads.values())
    return {
        "losses": [loss, other[0]],
        "same_weights": set(grads) == set(other[1]),
        "difference": max(float((grads[n] - other[1][n]).abs().max()) for n in grads) / scale,
        "log_probs": max(float((a - b).abs().max()) for a, b in zip(texts, other[3], strict=True)),
        "padding": [metrics["padding_share"][0], other[2]["padding_share"][0]],
        "patches": [seen, other[4]],
    }


def one_update(folder: str) -> dict[str, Any]:
    """An update with the old log-probabilities of a pass before it, and one that takes its own."""
    import torch
    from verl.utils import tensordict_utils as tu
    from verl.workers.config import FSDPActorConfig
    from verl.workers.utils.padding import response_from_nested

    from seg_zero.training.engine.one_update import DETACH_ENTROPY, OWN_LOG_PROBS

    engine = build(folder)
    settings: dict[str, Any] = {"rollout_n": 8, "ppo_micro_batch_size_per_gpu": 1, "use_kl_loss": True}
    actor = FSDPActorConfig(kl_loss_coef=0.01, entropy_coeff=0.0, **settings)
    data = batch(folder)
    tu.assign_non_tensor(data, **DYNAMIC)
    with engine.eval_mode():
        before = engine.forward_backward_batch(data, None, forward_only=True)["model_output"]["log_probs"]
    found: dict[str, Any] = {}
    for name in ("pass", "own"):
        data = batch(folder)
        tu.assign_non_tensor(data, **DYNAMIC, **({OWN_LOG_PROBS: True, DETACH_ENTROPY: True} if name == "own" else {}))
        old = response_from_nested(before, data["response_mask"])
        rows = [row + 0.1 * (number == 0) for number, row in enumerate(old.unbind())]
        data["rollout_log_probs"] = torch.nested.as_nested_tensor(rows, layout=torch.jagged)
        data["old_log_probs"] = old if name == "pass" else data["rollout_log_probs"]  # as verl leaves them
        with engine.train_mode():
            output, grads = backward(engine, data, actor)
        found[name] = sum(output["loss"]), grads, output["metrics"]
    (loss, grads, _), (own_loss, own_grads, metrics) = found["pass"], found["own"]
    scale = max(float(g.abs().max()) for g in grads.values())
    return {
        "losses": [loss, own_loss],
        "same_weights": set(grads) == set(own_grads),
        "difference": max(float((grads[n] - own_grads[n]).abs().max()) for n in grads) / scale,
        "metrics": {n: v for n, v in metrics.items() if n.startswith(("training/", "rollout_corr/"))},
    }


def _weights(engine: Any) -> dict[str, Any]:
    return {name: weight.full_tensor().clone() for name, weight in engine.module.state_dict().items()}


def freeze(folder: str) -> dict[str, Any]:
    """One update with a frozen vision tower."""
    engine = build(folder, lora={"freeze_vision_model": True})
    before = _weights(engine)
    gradients(engine, folder, step=True, **DYNAMIC)
    after = _weights(engine)
    moved = {name for name in before if not before[name].equal(after[name])}
    return {"moved": sorted(moved), "all": sorted(before)}


def lora(folder: str) -> dict[str, Any]:
    """One update of adapters outside of the vision tower, and what is then sent to vLLM."""
    settings = {"lora_rank": 4, "lora_alpha": 8, "target_modules": "all-linear", "exclude_modules": ".*visual.*"}
    engine = build(folder, lora={"merge": True, "freeze_vision_model": False}, **settings)
    before = _weights(engine)
    gradients(engine, folder, step=True, **DYNAMIC)
    sent = dict(engine.get_per_tensor_param()[0])
    after = _weights(engine)
    from seg_zero.export.lora import merge_adapters
    from seg_zero.export.shards import LazyTensor

    lazy = {name: LazyTensor(w.shape, w.dtype, w.to) for name, w in after.items()}
    expected = {name: w.load() for name, w in merge_adapters(lazy, 8).items()}
    base = {name.replace(".base_layer.", ".").removeprefix("base_model.model."): w for name, w in before.items()}
    return {
        "adapters": sorted(name for name in after if ".lora_" in name),
        "moved": sorted(name for name in before if not before[name].equal(after[name])),
        "same_names": set(sent) == set(expected),
        "difference": max(float((sent[n] - expected[n]).abs().max()) for n in expected),
        "dtypes": sorted({str(w.dtype) for w in sent.values()}),
        "changed": sorted(n for n in sent if not sent[n].equal(base[n])),
    }


def start_process_group() -> None:
    """What a Ray worker's environment brings: rank 0 of 1."""
    import os

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        os.environ.update(RANK="0", WORLD_SIZE="1", DIST_INIT_METHOD=f"tcp://127.0.0.1:{probe.getsockname()[1]}")


if __name__ == "__main__":
    start_process_group()
    tasks = (micro_batches, switches, one_update, freeze, lora)
    print("RESULT" + json.dumps({task.__name__: task(sys.argv[1]) for task in tasks}), flush=True)
