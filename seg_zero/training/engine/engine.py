"""The training engine: verl's FSDP2 engine with a frozen vision tower, little padding, and LoRA sent whole to vLLM.

Registered for NVIDIA GPUs here and for CPU in :mod:`seg_zero.training.cpu.engine`; verl looks for an engine of the
vendor before its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed
from torch.distributed.tensor import DTensor
from verl.utils import tensordict_utils as tu
from verl.utils.device import get_device_id
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead
from verl.workers.engine.utils import postprocess_batch_func

from seg_zero.policy.families import family_named
from seg_zero.policy.lora import base_name
from seg_zero.training.engine.glm4v import glm_put_right
from seg_zero.training.engine.micro_batches import group_by_length, padding_share
from seg_zero.training.engine.one_update import DETACH_ENTROPY, OWN_LOG_PROBS, OneUpdateLoss
from seg_zero.training.engine.vision_once import VisionOnce


def freeze_vision(module: torch.nn.Module, tower: str) -> int:
    """Switch gradients of the vision tower, the module named ``tower``, off; returns the number of its tensors.

    Raises ValueError if the model has no module of that name.
    """
    frozen = [weight for name, weight in module.named_parameters() if tower in name.split(".")]
    if not frozen:
        raise ValueError(f"policy.freeze_vision=true, but {type(module).__name__} has no module named {tower!r}")
    for weight in frozen:
        weight.requires_grad_(False)
    return len(frozen)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A whole sharded tensor, on the device. Do not modify it: with one worker it may be the weight itself."""
    here: Any = tensor.detach().to(get_device_id())
    return here.full_tensor() if isinstance(here, DTensor) else here


class PolicyEngine(FSDPEngineWithLMHead):
    """verl's engine for policies, with what it lacks in 0.9.1.

    The section ``engine`` of configs/grpo.yaml can switch off each optimisation.

    * ``actor.freeze_vision_tower`` has an effect (it comes as ``model.lora.freeze_vision_model``: the engine sees the
      model's section only). Can go when verl's FSDP engine reads that key.
    * The vision tower computes each image once, however many samples show it. Can go when verl does so.
    * Dynamic micro-batches of padded sequences are groups of like length (verl mixes lengths for equal sums, which
      is right for packed sequences only).
    * Steps of one update need no pass for the old log-probabilities (:mod:`seg_zero.training.engine.one_update`).
    * ``padding_share``, the fraction of computed positions that are padding, is logged with each update.
    * GLM-4.1V can be trained (:mod:`seg_zero.training.engine.glm4v`).
    * With ``model.lora.merge`` weights go to vLLM in their own dtype, whichever modules have adapters. verl rounds
      them to bfloat16 and omits adapters outside the sharded layers. Can go when it does neither.
    """

    def _build_module(self) -> torch.nn.Module:
        family = self.model_config.hf_config.model_type
        with glm_put_right(family):
            module: torch.nn.Module = super()._build_module()
        vision_tower = family_named(family).vision_tower
        for name, tower in module.named_modules() if self.model_config.lora.get("vision_once") else ():
            if name.split(".")[-1] == vision_tower:
                tower.forward = VisionOnce(tower)  # type: ignore[method-assign]
        if self.model_config.lora.get("freeze_vision_model") and not self.engine_config.forward_only:
            freeze_vision(module, vision_tower)
        return module

    def forward_backward_batch(self, data: Any, loss_function: Callable, forward_only: bool = False) -> Any:
        packed = tu.get_non_tensor_data(data=data, key="use_remove_padding", default=True)
        dynamic = tu.get_non_tensor_data(data=data, key="use_dynamic_bsz", default=True)
        self._shapes: list[list[int]] = []
        if not forward_only and tu.get_non_tensor_data(data=data, key=OWN_LOG_PROBS, default=False):
            detach = tu.get_non_tensor_data(data=data, key=DETACH_ENTROPY, default=False)
            loss_function = OneUpdateLoss(loss_function, detach)
        if packed or not dynamic or not self.model_config.lora.get("group_by_length"):
            output: Any = super().forward_backward_batch(data, loss_function, forward_only)
        else:
            output = self._length_grouped(data, loss_function, forward_only)
        if not forward_only:
            output["metrics"]["padding_share"] = [0.0 if packed else padding_share(self._shapes)]
        if isinstance(loss_function, OneUpdateLoss):
            output["metrics"].update(loss_function.metrics())
        return output

    def forward_step(self, micro_batch: Any, loss_function: Callable, forward_only: bool) -> Any:
        self._shapes.append(micro_batch["input_ids"].offsets().diff().tolist())
        return super().forward_step(micro_batch, loss_function, forward_only)

    def _length_grouped(self, data: Any, loss_function: Callable, forward_only: bool) -> Any:
        """verl's pass over a mini-batch, cut by :func:`group_by_length` instead."""
        ranks = self.get_data_parallel_group()
        tokens = data["loss_mask"].sum().to(get_device_id())
        torch.distributed.all_reduce(tokens, group=ranks)
        # The loss divides by these, so the cut does not change it.
        tu.assign_non_tensor(data, sp_size=1, batch_num_tokens=tokens.item(), dp_size=self.get_data_parallel_size())
        lengths = data["input_ids"].offsets().diff().tolist()
        groups = group_by_length(lengths, data["max_token_len_per_gpu"])
        # Every rank needs as many, since each micro-batch gathers the weights from all of them.
        most = torch.tensor(len(groups), device=get_device_id())
        torch.distributed.all_reduce(most, op=torch.distributed.ReduceOp.MAX, group=ranks)
        groups = group_by_length(lengths, data["max_token_len_per_gpu"], int(most))
        outputs = []
        for number, rows in enumerate(groups, start=1):
            micro_batch = tu.index_select_tensor_dict(data, rows)
            last = number == len(groups)
            sync = nullcontext() if forward_only else self._gradient_sync_context(is_last_micro_batch=last)
            with torch.no_grad() if forward_only else nullcontext(), sync:
                loss, output = self.forward_step(micro_batch, loss_function=loss_function, forward_only=forward_only)
                if not forward_only:
                    (loss if self.scaler is None else self.scaler.scale(loss)).backward()
                    output.pop("model_output", None)  # not used in training, and large
            outputs.append(output)
        return postprocess_batch_func(output_lst=outputs, indices=groups, data=data)

    def get_per_tensor_param(
        self, layered_summon: bool = False, base_sync_done: bool = False, **kwargs: Any
    ) -> tuple[Any, Any]:
        if self._is_lora and self.model_config.lora.get("merge", False):
            return self._merged_weights(), None
        found: tuple[Any, Any] = super().get_per_tensor_param(layered_summon, base_sync_done, **kwargs)
        return found

    @torch.no_grad()
    def _merged_weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Name and whole tensor of every weight of the base model, adapters added; the model stays as it is."""
        from peft.tuners.lora import LoraLayer

        adapted: dict[str, Any] = {n: layer for n, layer in self.module.named_modules() if isinstance(layer, LoraLayer)}
        for name, tensor in self.module.state_dict().items():
            if ".lora_" in name:
                continue
            weight = whole(tensor)
            layer = adapted.get(name.removesuffix(".base_layer.weight"))
            if layer is not None and name.endswith(".base_layer.weight"):
                a, b = whole(layer.lora_A["default"].weight), whole(layer.lora_B["default"].weight)
                weight = weight + (b.float() @ a.float() * layer.scaling["default"]).to(weight.dtype)
            yield base_name(name), weight


EngineRegistry.register(model_type="language_model", backend="fsdp2", device="cuda", vendor="nvidia")(PolicyEngine)
