"""The training engine: verl's FSDP2 engine with a frozen vision tower, little padding, and LoRA sent whole to vLLM.

Registered for NVIDIA GPUs here and for CPU in :mod:`seg_zero.training.cpu.engine`; verl looks for an engine of the
vendor before its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
from seg_zero.training import queue_images
from seg_zero.training.engine.glm4v import glm_put_right
from seg_zero.training.engine.micro_batches import group_by_length, padding_share
from seg_zero.training.engine.one_update import DETACH_ENTROPY, OWN_LOG_PROBS, OneUpdateLoss
from seg_zero.training.engine.shared_prefix import passes
from seg_zero.training.engine.shared_prefix.forward import share_prefixes
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
    * The answers to one question compute its prompt once (:mod:`seg_zero.training.engine.shared_prefix`). verl's own
      prefix grouper takes no images, and nothing calls it.
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
        shares = bool(self.model_config.lora.get("shared_prefix"))
        packs, self.use_remove_padding = self.use_remove_padding, self.use_remove_padding and not shares
        try:  # for packed sequences verl replaces the attention, which shared prefixes need as it is
            with glm_put_right(family):
                module: torch.nn.Module = super()._build_module()
        finally:
            self.use_remove_padding = packs
        if shares:
            share_prefixes(module)
        vision_tower = family_named(family).vision_tower
        for name, tower in module.named_modules() if self.model_config.lora.get("vision_once") else ():
            if name.split(".")[-1] == vision_tower:
                tower.forward = VisionOnce(tower)  # type: ignore[method-assign]
        if self.model_config.lora.get("freeze_vision_model") and not self.engine_config.forward_only:
            freeze_vision(module, vision_tower)
        return module

    def forward_backward_batch(self, data: Any, loss_function: Callable, forward_only: bool = False) -> Any:
        data = queue_images.fetch(data)
        packed = tu.get_non_tensor_data(data=data, key="use_remove_padding", default=True)
        dynamic = tu.get_non_tensor_data(data=data, key="use_dynamic_bsz", default=True)
        self._shapes: list[list[int]] = []
        if not forward_only and tu.get_non_tensor_data(data=data, key=OWN_LOG_PROBS, default=False):
            detach = tu.get_non_tensor_data(data=data, key=DETACH_ENTROPY, default=False)
            loss_function = OneUpdateLoss(loss_function, detach)
        shares = bool(self.model_config.lora.get("shared_prefix"))
        if shares:
            output: Any = self._sharing_prefixes(data, loss_function, forward_only)
        elif packed or not dynamic or not self.model_config.lora.get("group_by_length"):
            output = super().forward_backward_batch(data, loss_function, forward_only)
        else:
            output = self._length_grouped(data, loss_function, forward_only)
        if not forward_only:
            output["metrics"]["padding_share"] = [0.0 if packed or shares else padding_share(self._shapes)]
        if isinstance(loss_function, OneUpdateLoss):
            output["metrics"].update(loss_function.metrics())
        return output

    def forward_step(self, micro_batch: Any, loss_function: Callable, forward_only: bool) -> Any:
        self._shapes.append(micro_batch["input_ids"].offsets().diff().tolist())
        return super().forward_step(micro_batch, loss_function, forward_only)

    def prepare_model_inputs(self, micro_batch: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        row = tu.get_non_tensor_data(micro_batch, passes.ROW, default=None)
        if row is not None:
            return passes.model_inputs(micro_batch, row)
        found: tuple[dict[str, Any], dict[str, Any]] = super().prepare_model_inputs(micro_batch)
        return found

    def prepare_model_outputs(
        self, output: Any, output_args: dict[str, Any], micro_batch: Any, logits_processor_func: Any
    ) -> dict[str, Any]:
        row = tu.get_non_tensor_data(micro_batch, passes.ROW, default=None)
        if row is None:
            found: dict[str, Any] = super().prepare_model_outputs(
                output, output_args, micro_batch, logits_processor_func
            )
            return found
        # To verl, the answers alone are sequences that were packed.
        answers = passes.answers_alone(micro_batch)
        output.logits = output.logits[None]
        found = super().prepare_model_outputs(output, output_args, answers, None)
        return passes.among_all_tokens(found, micro_batch, row)

    def _sharing_prefixes(self, data: Any, loss_function: Callable, forward_only: bool) -> Any:
        """verl's pass over a mini-batch, in micro-batches of whole groups that compute their prompt once."""
        groups = passes.Groups.of(data, self.model_config.hf_config)
        lengths = data["input_ids"].offsets().diff().tolist()
        limit = self.model_config.lora.get("shared_prefix_tokens") or passes.usual_limit(data, lengths)
        batches = groups.cut(limit)
        batches = groups.cut(limit, self._most_of_all_ranks(len(batches)))
        rows = [groups.row(batch) for batch in batches]
        data = data.copy()
        tu.assign_non_tensor(data, use_dynamic_bsz=True)  # to verl: rows change their order
        indices = [[row for part in batch for row in part] for batch in batches]
        output = self._in_micro_batches(data, indices, loss_function, forward_only, [{passes.ROW: row} for row in rows])
        if not forward_only:
            computed = sum(row.layout.tokens for row in rows)
            output["metrics"]["shared_fraction"] = [1.0 - computed / len(data["input_ids"].values())]
        return output

    def _length_grouped(self, data: Any, loss_function: Callable, forward_only: bool) -> Any:
        """verl's pass over a mini-batch, cut by :func:`group_by_length` instead."""
        lengths, limit = data["input_ids"].offsets().diff().tolist(), data["max_token_len_per_gpu"]
        groups = group_by_length(lengths, limit)
        groups = group_by_length(lengths, limit, self._most_of_all_ranks(len(groups)))
        return self._in_micro_batches(data, groups, loss_function, forward_only)

    def _most_of_all_ranks(self, count: int) -> int:
        """Every rank needs as many micro-batches, since each of them gathers the weights from all ranks."""
        most = torch.tensor(count, device=get_device_id())
        torch.distributed.all_reduce(most, op=torch.distributed.ReduceOp.MAX, group=self.get_data_parallel_group())
        return int(most)

    def _in_micro_batches(
        self,
        data: Any,
        groups: list[list[int]],
        loss_function: Callable,
        forward_only: bool,
        extras: Sequence[dict[str, Any]] = (),
    ) -> Any:
        """verl's pass over a mini-batch, cut into these rows. extras: non-tensors to go with each micro-batch."""
        tokens = data["loss_mask"].sum().to(get_device_id())
        torch.distributed.all_reduce(tokens, group=self.get_data_parallel_group())
        # The loss divides by these, so the cut does not change it.
        tu.assign_non_tensor(data, sp_size=1, batch_num_tokens=tokens.item(), dp_size=self.get_data_parallel_size())
        outputs = []
        for number, rows in enumerate(groups):
            micro_batch = tu.index_select_tensor_dict(data, rows)
            tu.assign_non_tensor(micro_batch, **(extras[number] if extras else {}))
            last = number == len(groups) - 1
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
