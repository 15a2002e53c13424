"""An estimate of the memory that a run needs on each GPU (or in each process on CPU), phase by phase.

Fixed parts (weights, gradients, optimizer, vLLM's share) follow from sizes and data types; activations and
logits are upper estimates for micro-batches whose answers all have the greatest length. Unit: bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import DictConfig

from seg_zero.errors import InputError
from seg_zero.policy.model_size import Architecture
from seg_zero.training.settings import EngineSettings, HardwareSettings, read

GIB = 2**30
# CUDA context, NCCL buffers and the allocator's slack of one process.
CONTEXT = GIB
# An upper estimate that exceeds the card by so much is refused; a smaller excess is a warning.
CLEARLY = 1.5
_BYTES = {"fp32": 4, "float32": 4, "bf16": 2, "bfloat16": 2, "fp16": 2, "float16": 2, "half": 2}


@dataclass(frozen=True)
class Training:
    """One rank during the update. Each part in bytes."""

    weights: int
    gradients: int
    optimizer: int
    gathered: int
    activations: int
    logits: int

    @property
    def fixed(self) -> int:
        """The memory needed however short the answers are."""
        return self.weights + self.gradients + self.optimizer + self.gathered + CONTEXT

    @property
    def peak(self) -> int:
        return self.fixed + self.activations + self.logits


@dataclass(frozen=True)
class Rollout:
    """One rank while vLLM samples. ``share``: what vLLM may take; ``resident``: what the training keeps beside it."""

    share: int
    weights: int
    bytes_per_token: int
    sequence: int
    resident: int

    @property
    def cache_tokens(self) -> int:
        """Tokens that the KV cache can hold if nothing but weights stood beside it in vLLM's share."""
        return max(0, self.share - self.weights) // self.bytes_per_token


@dataclass(frozen=True)
class Memory:
    """``reference``: bytes per rank, in main memory. ``host``: bytes per node for all that is kept there."""

    training: Training
    rollout: Rollout
    reference: int
    host: int
    on_cpu: bool


def kv_bytes_per_token(model: Architecture, tensor_parallel: int, width: int) -> int:
    """Keys and values of all layers: 2 x layers x heads x head size x bytes; a rank holds its part of the heads.

    Kwon et al. 2023 (PagedAttention), arXiv 2309.06180, section 1; grouped heads as in Ainslie et al. 2023,
    arXiv 2305.13245. vLLM repeats heads if there are fewer than ranks.
    """
    heads = max(1, model.kv_heads // tensor_parallel)
    return 2 * model.layers * heads * model.head_dim * width


def activation_bytes(
    model: Architecture, tokens: int, image_tokens: int, width: int, checkpointing: bool, frozen_vision: bool
) -> int:
    """What the forward pass keeps for the backward pass of one micro-batch.

    With checkpointing each layer keeps its input, and one layer at a time everything (Chen et al. 2016,
    arXiv 1604.06174). Everything: the inputs of each operation, counted as in Korthikanti et al. 2022, arXiv
    2205.05198, section 4, for a gated block with flash attention: 4 x hidden, 2 x queries, keys and values, and
    4 x intermediate values per token. The encoder has four patches per image token.
    """
    queries, keys = model.heads * model.head_dim, model.kv_heads * model.head_dim
    layer = tokens * (4 * model.hidden + 2 * queries + 2 * keys + 4 * model.intermediate) * width
    v, patches = model.vision, 4 * image_tokens
    block = patches * (9 * v.hidden + 4 * v.intermediate) * width
    if not checkpointing:
        return model.layers * layer + (0 if frozen_vision else v.layers * block)
    inputs = model.layers * tokens * model.hidden * width
    vision_inputs = 0 if frozen_vision else v.layers * patches * v.hidden * width
    return inputs + vision_inputs + max(layer, block)


def logits_bytes(model: Architecture, tokens: int, width: int, entropy: bool) -> int:
    """Logits and their gradient in the computing type; the entropy holds two more copies in float32.

    Counted in verl 0.9.1: ``entropy_from_logits`` keeps the softmax and its product with the logits.
    """
    return tokens * model.vocabulary * (2 * width + (8 if entropy else 0))


def training_memory(config: DictConfig, model: Architecture, image_tokens: int) -> Training:
    """Memory of a rank during the update, FSDP with everything sharded.

    Weights, gradients and Adam's two moments are divided by the number of ranks (Rajbhandari et al. 2020, ZeRO
    stage 3, arXiv 1910.02054, section 5; Zhao et al. 2023, FSDP, arXiv 2304.11277). Gathered at a time: the
    embeddings, this and the next layer in the computing type, and one layer's gradient.
    """
    actor = config.actor_rollout_ref.actor
    ranks = config.trainer.n_gpus_per_node * config.trainer.nnodes
    shards = ranks if actor.fsdp_config.fsdp_size in (-1, None) else min(ranks, actor.fsdp_config.fsdp_size)
    stored = _BYTES.get(str(actor.fsdp_config.model_dtype), 4)
    mixed = actor.fsdp_config.get("mixed_precision") or {}
    width = _BYTES.get(str(mixed.get("param_dtype", "bf16")), 2)
    rank = config.actor_rollout_ref.model.get("lora_rank", 0) or 0
    trained = model.lora_parameters(rank) if rank > 0 else model.parameters
    gathered = 0
    if shards > 1 or width != stored:
        gathered = (model.embedding_parameters + 2 * model.layer_parameters) * width + model.layer_parameters * stored
    longest = config.data.max_prompt_length + config.data.max_response_length
    engine = read(config, EngineSettings)
    limit = actor.ppo_max_token_len_per_gpu if actor.use_dynamic_bsz else None
    if engine.shared_prefix and engine.shared_prefix_tokens:
        limit = engine.shared_prefix_tokens
    micro = actor.ppo_micro_batch_size_per_gpu if limit is None else max(1, limit // longest)
    tokens = micro * longest if limit is None else limit
    checkpointing = bool(config.actor_rollout_ref.model.enable_gradient_checkpointing)
    frozen = bool(actor.freeze_vision_tower)
    return Training(
        weights=(model.parameters + (trained if rank > 0 else 0)) * stored // shards,
        gradients=trained * stored // shards,
        optimizer=2 * trained * stored // shards,
        gathered=gathered,
        activations=activation_bytes(model, tokens, micro * image_tokens, width, checkpointing, frozen),
        logits=logits_bytes(model, tokens, width, bool(actor.entropy_coeff) or bool(actor.calculate_entropy)),
    )


def rollout_memory(config: DictConfig, model: Architecture, training: Training) -> Rollout:
    """Memory of a rank while vLLM samples: its share of the GPU, and the training state that is not offloaded."""
    rollout, fsdp = config.actor_rollout_ref.rollout, config.actor_rollout_ref.actor.fsdp_config
    width, parallel = _BYTES.get(str(rollout.dtype), 2), rollout.tensor_model_parallel_size
    weights, per_token = model.parameters * width // parallel, kv_bytes_per_token(model, parallel, width)
    share = round(rollout.gpu_memory_utilization * (read(config, HardwareSettings).device_memory_gib or 0) * GIB)
    fixed_cache = (rollout.engine_kwargs.get("vllm") or {}).get("kv_cache_memory_bytes")
    if fixed_cache is not None:
        share = weights + fixed_cache
    resident = 0 if fsdp.param_offload else training.weights
    resident += 0 if fsdp.optimizer_offload else training.optimizer
    longest = rollout.max_model_len or model.max_positions
    return Rollout(share, weights, per_token, longest * per_token, resident + CONTEXT)


def estimate(config: DictConfig, model: Architecture, image_tokens: int) -> Memory:
    """The memory of a run. image_tokens: of one prompt.

    The reference is kept in main memory, whatever worker.ref.offload says: verl 0.9.1 offloads every FSDP2
    model that is not trained. With adapters it is the actor without them.
    """
    training = training_memory(config, model, image_tokens)
    actor, per_node = config.actor_rollout_ref.actor, config.trainer.n_gpus_per_node
    adapters = (config.actor_rollout_ref.model.get("lora_rank", 0) or 0) > 0
    used = actor.use_kl_loss or config.algorithm.use_kl_in_reward
    reference = training.weights if used and not adapters else 0
    host = reference
    host += training.weights if actor.fsdp_config.param_offload else 0
    host += training.optimizer if actor.fsdp_config.optimizer_offload else 0
    on_cpu = config.trainer.device == "cpu"
    return Memory(training, rollout_memory(config, model, training), reference, host * per_node, on_cpu)


def check_layout(config: DictConfig, model: Architecture | None) -> None:
    """Sequence lengths and tensor parallelism that the model and vLLM can do. Raises InputError with the remedy.

    vLLM gives each rank whole heads, or repeats the key and value heads if there are fewer than ranks.
    """
    rollout = config.actor_rollout_ref.rollout
    wanted, limit = config.data.max_prompt_length + config.data.max_response_length, rollout.max_model_len
    if limit is not None and wanted > limit:
        raise InputError(
            f"data.max_prompt_length={config.data.max_prompt_length} + data.max_response_length="
            f"{config.data.max_response_length} = {wanted} tokens exceed actor_rollout_ref.rollout.max_model_len="
            f"{limit}; raise that or lower one of the lengths"
        )
    if model is None:
        return
    if model.max_positions and max(wanted, limit or 0) > model.max_positions:
        raise InputError(
            f"sequences of {max(wanted, limit or 0)} tokens exceed the {model.max_positions} positions of the model; "
            "lower data.max_prompt_length, data.max_response_length or actor_rollout_ref.rollout.max_model_len"
        )
    parallel = rollout.tensor_model_parallel_size
    for what, heads in (("attention heads", model.heads), ("attention heads in its image encoder", model.vision.heads)):
        if heads % parallel:
            fitting = [n for n in range(1, heads + 1) if not heads % n and not model.heads % n]
            raise InputError(
                f"the model's {heads} {what} cannot be split over worker.rollout.tensor_parallel_size={parallel}; "
                f"choose one of {', '.join(map(str, fitting))}"
            )
    if model.kv_heads % parallel and parallel % model.kv_heads:
        raise InputError(
            f"the model's {model.kv_heads} key and value heads neither divide nor are divided by "
            f"worker.rollout.tensor_parallel_size={parallel}; choose {model.kv_heads} or a divisor of it"
        )


def check_memory(memory: Memory, card_gib: float | None) -> None:
    """Refuse a run that clearly exceeds a GPU of ``hardware.device_memory_gib``; InputError names what to lower."""
    if card_gib is None or memory.on_cpu:
        return
    card, training, rollout = card_gib * GIB, memory.training, memory.rollout
    if rollout.weights + rollout.sequence > rollout.share:
        raise InputError(
            f"vLLM may take {rollout.share / GIB:.1f} GiB of each GPU, but needs {rollout.weights / GIB:.1f} for "
            f"weights and {rollout.sequence / GIB:.2f} to cache one sequence; raise "
            "worker.rollout.gpu_memory_utilization or worker.rollout.tensor_parallel_size"
        )
    if rollout.share + rollout.resident > card:
        raise InputError(
            f"while vLLM samples it takes {rollout.share / GIB:.1f} GiB and the training state "
            f"{rollout.resident / GIB:.1f}, more than the {card_gib} of hardware.device_memory_gib; lower "
            "worker.rollout.gpu_memory_utilization or set worker.actor.offload.param_offload=true "
            "worker.actor.offload.optimizer_offload=true"
        )
    if training.fixed > card:
        raise InputError(
            f"weights, gradients and optimizer alone need {training.fixed / GIB:.1f} GiB on each GPU, more than the "
            f"{card_gib} of hardware.device_memory_gib; use more GPUs (trainer.n_gpus_per_node, trainer.nnodes), a "
            "smaller model or adapters (policy.lora.rank=64)"
        )
    if training.peak > CLEARLY * card:
        raise InputError(
            f"an update may need {training.peak / GIB:.0f} GiB on each GPU, far more than the {card_gib} of "
            "hardware.device_memory_gib; lower worker.actor.micro_batch_size_per_device_for_update or "
            "data.max_response_length"
        )
