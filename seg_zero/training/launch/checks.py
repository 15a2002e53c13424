"""Checks of a training run before anything is started. Imports nothing heavy."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from tokenizers import Tokenizer
from tqdm import tqdm

from seg_zero.data.augmentation import Augmentation
from seg_zero.data.check import ERRORS, check_once, count_cores
from seg_zero.errors import InputError
from seg_zero.hub import check_here
from seg_zero.policy.families import spec_of_family
from seg_zero.policy.model_files import folder_of, model_type_of, resolve_model, wording_warning
from seg_zero.policy.model_size import find_architecture
from seg_zero.policy.weights import check_weights_apart
from seg_zero.prompting import PromptSpec, prompt_text
from seg_zero.rewards.presets import Term, read_terms
from seg_zero.segmenter import files_of
from seg_zero.training.environment import joins_cluster
from seg_zero.training.launch import dialogue_checks
from seg_zero.training.launch.memory import check_layout, check_memory, estimate
from seg_zero.training.row_files import chosen_rows, names_of, open_all
from seg_zero.training.settings import (
    CONVERSATIONS,
    QUESTIONS,
    ROUNDS,
    EngineSettings,
    HardwareSettings,
    MaskScorerSettings,
    PolicySettings,
    read,
)


def prompt_spec(config: DictConfig) -> PromptSpec:
    """The prompt settings of a run. Raises InputError if they are not valid."""
    try:
        return spec_of_family(**config.data.prompt)
    except InputError as error:
        raise InputError(f"policy: {error}") from error


def check_policy(config: DictConfig) -> None:
    """The prompt settings are valid and the model is a hub id or a folder with all its parts, of that family."""
    prompt_spec(config)
    try:
        model = resolve_model(config.actor_rollout_ref.model.path)
    except InputError as error:
        raise InputError(f"worker.actor.model.model_path: {error}") from error
    family = model_type_of(model) if os.path.isdir(model) else None
    stated = read(config, PolicySettings).family
    if family not in (None, stated):
        raise InputError(
            f"policy.family={stated}, but the model {model} is of the family {family}; set policy.family={family}"
        )


def check_weights(config: DictConfig) -> None:
    """The weights in a local folder are those of its configuration, by name and shape."""
    folder = folder_of(resolve_model(config.actor_rollout_ref.model.path))
    if folder is not None:
        check_weights_apart(folder)


def prompt_warning(config: DictConfig) -> str | None:
    """One line if a published checkpoint is trained on with other words than its own, else None."""
    model = config.actor_rollout_ref.model.path
    return wording_warning(model, prompt_spec(config), "policy.prompt_template=FILE", ask_hub=False)


def check_prompt_fits(config: DictConfig) -> None:
    """The image alone leaves room for words within data.max_prompt_length."""
    tokens, side = prompt_spec(config).image_tokens, read(config, PolicySettings).image_size
    limit = config.data.max_prompt_length
    if tokens >= limit:
        raise InputError(
            f"an image of {side} x {side} pixels is {tokens} tokens, but "
            f"data.max_prompt_length={limit} counts image and text; raise it or lower policy.image_size"
        )
    policy = read(config, PolicySettings)
    if not policy.min_pixels <= side**2 <= policy.max_pixels:
        raise InputError(
            f"an image of {side} x {side} pixels is {side**2:,} pixels, outside of policy.min_pixels="
            f"{policy.min_pixels} to policy.max_pixels={policy.max_pixels}, so it would be resized once more; "
            "correct them or policy.image_size"
        )


def of_dialogues(config: DictConfig) -> bool:
    """Whether the data are dialogues."""
    return bool(config.dialogue.rows != QUESTIONS)


def check_words_fit(config: DictConfig) -> None:
    """Image and prompt template leave room for a question within data.max_prompt_length.

    The template's tokens are those of the model's tokenizer if that lies in a folder, else at least its words.
    """
    spec, limit = prompt_spec(config), config.data.max_prompt_length
    text = prompt_text("x", spec)
    file = Path(resolve_model(config.actor_rollout_ref.model.path)) / "tokenizer.json"
    words = len(Tokenizer.from_file(str(file)).encode(text).ids) if file.is_file() else len(text.split())
    if spec.image_tokens + words > limit:
        raise InputError(
            f"the image of {spec.image_tokens} tokens and the prompt of {words} tokens or more leave no room for a "
            f"question in data.max_prompt_length={limit}; raise it or lower policy.image_size"
        )


def count_rows(config: DictConfig, key: str) -> int:
    """Rows that ``data.<key>`` names, without those in data.bad_rows. Raises InputError if they cannot be opened."""
    training = key == "train_files"
    limit = config.data["train_max_samples" if training else "val_max_samples"]
    try:
        if of_dialogues(config):
            return dialogue_checks.count_rows(config, config.data[key], limit)
        return sum(map(len, chosen_rows(config.data[key], training, limit, config.data.bad_rows)))
    except InputError as error:
        raise InputError(f"data.{key}: {error}") from error


def check_data(config: DictConfig) -> None:
    rows, batch = count_rows(config, "train_files"), config.data.train_batch_size
    if rows < batch:
        raise InputError(f"data.train_files has {rows} rows, fewer than data.train_batch_size={batch}; lower it")
    count_rows(config, "val_files")
    augmented = Augmentation(**config.data.augmentation) != Augmentation()
    if augmented and names_of(config.data.train_files) == names_of(config.data.val_files):
        raise InputError(
            "data.augmentation would vary the validation rows too, since data.val_files names the training rows; "
            "give other validation rows"
        )


def find_bad_rows(config: DictConfig, skip_bad: bool) -> dict[str, list[int]]:
    """Look at every training and validation row once; rows with errors by dataset name.

    Raises InputError with counts and the first errors if there are any, unless ``skip_bad``.
    """
    if of_dialogues(config):
        return dialogue_checks.find_bad(config, skip_bad)
    bad: dict[str, list[int]] = {}
    by_reward = [term.name for term in reward_terms(config) if term.needs_mask]
    held_out = open_all(config.data.val_files, False)
    held_out_names = {source.name for source in held_out} if segments_held_out(config) else set()
    sources = open_all(config.data.train_files, True) + held_out
    for source in {source.name: source for source in sources}.values():
        with tqdm(total=len(source), unit="row", desc="checking rows", leave=False, disable=None) as bar:
            report, known = check_once(source, config.data.prompt.template, bar.update)
        if report.maskless and (by_reward or source.name in held_out_names):
            who, remedy = _VALIDATION
            if by_reward:
                who, remedy = f"the reward term {by_reward[0]!r}", f"reward.terms.{by_reward[0]}.weight=0"
            raise InputError(
                f"{who} needs true masks, but {report.maskless:,} of {report.rows:,} rows of {source.name} have none; "
                f"give data with masks or set {remedy}"
            )
        when = ", as checked before" if known else ""
        if not report.errors:
            print(f"data: all {report.rows:,} rows of {source.name} can be used{when}", flush=True)
            continue
        counts = ", ".join(f"{count} {what}" for what, count in report.counts().items() if what in ERRORS)
        if not skip_bad:
            first = "; ".join(problem.line() for problem in report.errors[:3])
            raise InputError(
                f"{len(report.bad_rows)} of {report.rows} rows of {source.name} have errors ({counts}): {first}. "
                f"`seg-zero data check {source.name}` lists all; --skip-bad skips them"
            )
        print(f"data: {len(report.bad_rows):,} of {report.rows:,} rows of {source.name} are skipped ({counts}){when}")
        bad[source.name] = report.bad_rows
    return bad


_VALIDATION = ("validation by gIoU", "data.segment_held_out=false")


def segments_held_out(config: DictConfig) -> bool:
    """Whether the run will ask SAM2 for masks of held-out rows."""
    validates = config.trainer.test_freq > 0 or config.trainer.val_before_train
    return bool(validates and config.data.segment_held_out)


def reward_terms(config: DictConfig) -> tuple[Term, ...]:
    """The terms of ``reward.terms`` with a weight. Raises InputError for one that cannot be used."""
    try:
        return read_terms(OmegaConf.to_container(config.reward.terms))  # type: ignore[arg-type]
    except ValueError as error:
        raise InputError(f"reward: {error}") from error


def check_reward(config: DictConfig) -> None:
    """Every term can be imported and takes its settings; SAM2 is there if a term needs it."""
    plays = config.dialogue.rows == CONVERSATIONS
    if plays or segments_held_out(config) or any(term.needs_mask for term in reward_terms(config)):
        check_mask_scorer(config)


def check_mask_scorer(config: DictConfig) -> None:
    try:
        # Fetches a published id before the run starts.
        files_of(read(config, MaskScorerSettings).segmentation_model)
    except InputError as error:
        raise InputError(f"reward.mask_scorer.segmentation_model: {error}") from error


def check_batches(config: DictConfig) -> None:
    """Prompts, samples, workers and micro-batches divide one another without remainder."""
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    workers = config.trainer.n_gpus_per_node * config.trainer.nnodes
    batch, update, samples = config.data.train_batch_size, actor.ppo_mini_batch_size, rollout.n
    tensor_parallel = rollout.tensor_model_parallel_size
    for name, value in (
        ("data.train_batch_size", batch),
        ("worker.actor.global_batch_size", update),
        ("worker.rollout.n", samples),
        ("trainer.n_gpus_per_node", workers),
        ("worker.rollout.tensor_parallel_size", tensor_parallel),
        ("worker.actor.micro_batch_size_per_device_for_update", actor.ppo_micro_batch_size_per_gpu),
        ("worker.actor.micro_batch_size_per_device_for_experience", rollout.log_prob_micro_batch_size_per_gpu),
    ):
        if not isinstance(value, int) or value < 1:
            raise InputError(f"{name}={value} is not a whole number above 0; set it to 1 or more")
    if workers % tensor_parallel:
        raise InputError(
            f"{workers} workers cannot be split into groups of worker.rollout.tensor_parallel_size={tensor_parallel}; "
            "choose a divisor of the number of workers"
        )
    if batch % update:
        raise InputError(
            f"data.train_batch_size={batch} prompts cannot be split into updates of "
            f"worker.actor.global_batch_size={update} prompts; choose a divisor of {batch}"
        )
    if update * samples % workers:
        raise InputError(
            f"an update of {update} prompts x {samples} samples = {update * samples} cannot be split over {workers} "
            "workers; change worker.actor.global_batch_size, worker.rollout.n or trainer.n_gpus_per_node"
        )
    if actor.use_dynamic_bsz or config.dialogue.rows == CONVERSATIONS:
        return
    for name, total, micro in (
        ("update", update * samples // workers, actor.ppo_micro_batch_size_per_gpu),
        ("experience", batch * samples // workers, rollout.log_prob_micro_batch_size_per_gpu),
    ):
        if total % micro:
            raise InputError(
                f"{total} samples per worker cannot be split into micro-batches of "
                f"worker.actor.micro_batch_size_per_device_for_{name}={micro}; choose a divisor of {total}"
            )


def _refuse(config: DictConfig, switch: str, harmless: Mapping[str, object]) -> None:
    """Raises InputError for the first key whose value is not the one, or among those, with which the switch works."""
    for name, wanted in harmless.items():
        value = OmegaConf.select(config, name)
        allowed = wanted if isinstance(wanted, tuple) else (wanted,)
        if value not in allowed:
            raise InputError(
                f"{switch}=true does not work with {name}={str(value).lower()}; set it to "
                f"{' or '.join(str(one).lower() for one in allowed)} or set {switch}=false"
            )


def check_shared_prefix(config: DictConfig) -> None:
    """Nothing is asked for that replaces the attention or the logits which shared prefixes need."""
    if not read(config, EngineSettings).shared_prefix:
        return
    policy = "actor_rollout_ref"
    harmless = {
        f"{policy}.actor.ulysses_sequence_parallel_size": 1,
        f"{policy}.actor.fsdp_config.ulysses_sequence_parallel_size": 1,
        f"{policy}.model.use_fused_kernels": False,
    }
    _refuse(config, "engine.shared_prefix", harmless)
    if config.distillation.enabled:
        raise InputError("engine.shared_prefix=true does not work with distillation; set engine.shared_prefix=false")


def check_group_rollouts(config: DictConfig) -> None:
    """Nothing is asked for that only verl's own requests, one for each answer, can do."""
    if not read(config, EngineSettings).group_rollouts:
        return
    rollout = "actor_rollout_ref.rollout"
    harmless = {
        f"{rollout}.name": "vllm",
        "dialogue.rows": (QUESTIONS, ROUNDS),
        f"{rollout}.agent.default_agent_loop": "seeded",
        f"{rollout}.full_determinism": False,
        f"{rollout}.enable_rollout_routing_replay": False,
        f"{rollout}.disaggregation.enabled": False,
        "actor_rollout_ref.model.lora.merge": True,
        "reward.reward_model.enable": False,
        "distillation.enabled": False,
    }
    _refuse(config, "engine.group_rollouts", harmless)


def check_fit(config: DictConfig) -> None:
    """The model can be laid out as asked, and the memory it needs is not clearly more than a GPU has."""
    model = find_architecture(resolve_model(config.actor_rollout_ref.model.path))
    check_layout(config, model)
    if model is not None:
        check_memory(
            estimate(config, model, prompt_spec(config).image_tokens), read(config, HardwareSettings).device_memory_gib
        )


def count_gpus() -> int:
    """NVIDIA GPUs that a run may use, without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1")])
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return len([line for line in listed.stdout.splitlines() if line.startswith("GPU ")])


def check_devices(
    config: DictConfig, cpus: Callable[[], int] = count_cores, gpus: Callable[[], int] = count_gpus
) -> None:
    """This machine has a core or GPU for each worker that the layout asks of it.

    For an existing cluster, seg_zero/training/launch/cluster.py counts its resources.
    """
    if joins_cluster(config):
        return
    asked = config.trainer.n_gpus_per_node
    if config.trainer.device == "cpu":
        have, what = cpus(), "CPU cores"
    else:
        have, what = gpus(), "GPUs"
    if asked > have:
        raise InputError(
            f"trainer.n_gpus_per_node={asked} requests {asked} {what}, this machine has {have}; "
            "lower it or choose another hardware= (hardware=cpu_2core needs no GPU)"
        )


def check_forks(config: DictConfig) -> None:
    """A copy of a process cannot use CUDA if the process itself, by an import, has begun to."""
    if config.trainer.device != "cpu" and read(config, HardwareSettings).fork_processes:
        raise InputError(
            f"hardware.fork_processes=true needs trainer.device=cpu, here it is {config.trainer.device}; "
            "set hardware.fork_processes=false"
        )


def check_attention(config: DictConfig, installed: Callable[[str], object] = importlib.util.find_spec) -> None:
    """Packed sequences and flash_attention_2 need the flash-attn package, which pip has to compile."""
    model = config.actor_rollout_ref.model
    attention = model.override_config.get("attn_implementation", "flash_attention_2")
    if attention == "flash_attention_2" and installed("flash_attn") is None:
        raise InputError(
            "actor_rollout_ref.model.override_config.attn_implementation=flash_attention_2 but flash-attn is not "
            "installed; pip install flash-attn==2.8.3 --no-build-isolation, or set it to sdpa together with "
            "actor_rollout_ref.model.use_remove_padding=false; sequences are then padded, which is slower, unless "
            "engine.shared_prefix=true"
        )


def check_settings(config: DictConfig) -> None:
    """What a run of this configuration would compute is possible on some machine: batches, switches, prompts."""
    check_batches(config)
    check_shared_prefix(config)
    check_group_rollouts(config)
    dialogue_checks.check(config, prompt_spec(config))
    check_prompt_fits(config)


def check_run(config: DictConfig) -> None:
    """All checks above that need no data files; raises InputError at the first fault."""
    check_reward(config)
    check_settings(config)
    check_devices(config)
    check_forks(config)
    check_attention(config)
    check_policy(config)
    check_words_fit(config)
    check_here("worker.actor.model.model_path: policy", config.actor_rollout_ref.model.path)
    check_fit(config)
    check_weights(config)
