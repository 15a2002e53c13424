"""What a configuration means, in plain words: batches, steps, loss and memory. Starts nothing and needs no network."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from seg_zero.data.source import split_name
from seg_zero.errors import InputError
from seg_zero.files import make_folder, write_text
from seg_zero.policy.model_files import resolve_model
from seg_zero.policy.model_size import find_architecture
from seg_zero.training.engine import one_update
from seg_zero.training.environment import joins_cluster
from seg_zero.training.launch import checks, dialogue_checks
from seg_zero.training.launch.config import package_folder
from seg_zero.training.launch.memory import GIB, Memory, estimate
from seg_zero.training.row_files import names_of
from seg_zero.training.settings import CONVERSATIONS, EngineSettings, HardwareSettings, read


@dataclass(frozen=True)
class Batches:
    """The arithmetic of one step and of the run. Rows are questions; ``None`` where the rows are not here."""

    prompts: int
    samples_per_prompt: int
    workers: int
    updates: int
    update_micro: int
    experience_micro: int
    rows: int | None
    epochs: int
    total_steps: int | None

    @property
    def samples(self) -> int:
        return self.prompts * self.samples_per_prompt

    @property
    def samples_per_worker(self) -> int:
        return self.samples // self.workers

    @property
    def accumulation(self) -> int:
        """Micro-batches of one worker that make one update."""
        return self.samples_per_worker // self.updates // self.update_micro

    @property
    def steps_per_epoch(self) -> int | None:
        return None if self.rows is None else self.rows // self.prompts

    @property
    def rows_left(self) -> int | None:
        """Rows that an epoch skips, since verl drops the last incomplete batch; different ones each epoch."""
        return None if self.rows is None else self.rows % self.prompts

    @property
    def steps(self) -> int | None:
        if self.total_steps is not None:
            return self.total_steps
        return None if self.steps_per_epoch is None else self.steps_per_epoch * self.epochs


def batches(config: DictConfig, rows: int | None) -> Batches:
    """The batch arithmetic of a configuration that :func:`checks.check_batches` accepts."""
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    return Batches(
        prompts=config.data.train_batch_size,
        samples_per_prompt=rollout.n,
        workers=config.trainer.n_gpus_per_node * config.trainer.nnodes,
        updates=config.data.train_batch_size // actor.ppo_mini_batch_size * actor.ppo_epochs,
        update_micro=actor.ppo_micro_batch_size_per_gpu,
        experience_micro=rollout.log_prob_micro_batch_size_per_gpu,
        rows=rows,
        epochs=config.trainer.total_epochs,
        total_steps=config.trainer.total_training_steps,
    )


def is_local(name: str) -> bool:
    """Whether a dataset is, or should be, on this machine: everything that does not look like a hub id."""
    base = split_name(name)[0]
    return Path(base).expanduser().exists() or base.count("/") != 1 or base.endswith((".parquet", ".json", ".jsonl"))


def rows_here(config: DictConfig, key: str, synthetic: dict[str, int]) -> int | None:
    """Rows of ``data.<key>`` if they can be counted without a network, else None.

    ``synthetic``: rows of the splits that a run makes by itself. Raises InputError for local data that cannot be used.
    """
    if will_be_made(config, key):
        return synthetic[key]
    return checks.count_rows(config, key) if all(map(is_local, names_of(config.data[key]))) else None


def will_be_made(config: DictConfig, key: str) -> bool:
    """Whether ``data.<key>`` names synthetic rows that the launcher writes when a run starts."""
    name = "dialogues" if checks.of_dialogues(config) else "synthetic"
    default = OmegaConf.to_container(OmegaConf.load(package_folder("seg_zero.configs") / "data" / f"{name}.yaml"))
    assert isinstance(default, dict)
    return config.data[key] == default[key] and not Path(config.data[key]).exists()


def _gib(value: float) -> str:
    return f"{value / GIB:.1f}" if value >= GIB / 10 else f"{value / GIB:.3f}"


def _batch_lines(b: Batches, dynamic: bool, plays: bool) -> Iterator[str]:
    """plays: the samples are conversations, of as many answers as they have rounds."""
    what = ("dialogues", "plays", "conversations about") if plays else ("questions", "samples", "answers to")
    samples = "conversations" if plays else "samples"
    yield (
        f"Each step asks {b.prompts} {what[0]} and {what[1]} {b.samples_per_prompt} {what[2]} each: {b.samples} "
        f"{samples}, {b.samples_per_worker} for each of {b.workers} worker{'s' * (b.workers > 1)}."
    )
    each = b.samples // b.updates
    if dynamic:
        yield f"{b.updates} update(s) per step of {each} {samples}; micro-batches are filled by tokens."
    else:
        yield (
            f"{b.updates} update{'s' * (b.updates > 1)} per step of {each} samples: {b.accumulation} "
            f"micro-batch{'es' * (b.accumulation > 1)} of {b.update_micro} per worker. Log-probabilities: "
            f"micro-batches of {b.experience_micro}."
        )
    if b.rows is None:
        steps = "unknown until they are" if b.steps is None else str(b.steps)
        yield f"The training rows are not on this machine; steps in all: {steps}."
        return
    made = b.steps or 0
    yield (
        f"{b.rows:,} training rows: {b.steps_per_epoch} steps per epoch, {b.rows_left} rows left over (different ones "
        f"in each epoch); {made} steps in all = {made * b.prompts / b.rows:.2f} epochs, {made * b.samples:,} samples."
    )


def _loss_lines(config: DictConfig, b: Batches) -> Iterator[str]:
    actor, algorithm = config.actor_rollout_ref.actor, config.algorithm
    scaled = "divided by the group's standard deviation" if algorithm.norm_adv_by_std_in_grpo else "not divided"
    kl = f"KL x {actor.kl_loss_coef} ({actor.kl_loss_type})" if actor.use_kl_loss else "no KL, no reference model"
    constant = f" / {actor.loss_scale_factor}" if actor.loss_scale_factor else ""
    yield (
        f"Loss: {actor.policy_loss.loss_mode}, {actor.loss_agg_mode}{constant}; advantages {scaled}; ratio clipped to "
        f"{1 - actor.clip_ratio_low:g} .. {1 + actor.clip_ratio_high:g}; {kl}; entropy x {actor.entropy_coeff}."
    )
    if b.updates == 1:
        yield "With one update per step every ratio is 1: clipping has no effect (worker.actor.global_batch_size)."
    if algorithm.filter_groups.enable:
        yield (
            "Questions whose answers all score the same are replaced by others; an epoch is over after fewer steps. At "
            f"most {algorithm.filter_groups.max_num_gen_batches * b.prompts or 'any number of'} questions per step."
        )
    if algorithm.rollout_correction.rollout_is:
        correction = algorithm.rollout_correction
        yield (
            f"Importance sampling between vLLM and FSDP: per {correction.rollout_is}, weights truncated at "
            f"{correction.rollout_is_threshold}."
        )


# What each switch of the section `engine` does, in the order in which a step comes to it.
_CHANGES = {
    "group_rollouts": "all answers to a question are one request and one reward call",
    "processed_images_once": "each image is processed once",
    "vision_once": "the vision tower computes each image once",
    "sort_by_length": "micro-batches hold answers of similar length",
    "shared_prefix": "what prompts about one picture have in common is computed once, for all answers",
    "group_by_length": "micro-batches filled by tokens hold sequences of similar length",
    "one_update": "the old log-probabilities are the update's own, without a pass for them",
}


def _engine_lines(config: DictConfig) -> Iterator[str]:
    """What differs from verl's own step."""
    switches = vars(read(config, EngineSettings))
    padded = not config.actor_rollout_ref.model.use_remove_padding and not switches["shared_prefix"]
    used = {
        **switches,
        "one_update": one_update.applies(config),
        "group_by_length": switches["group_by_length"] and padded and config.actor_rollout_ref.actor.use_dynamic_bsz,
    }
    on = [f"{words} (engine.{key})" for key, words in _CHANGES.items() if used[key]]
    off = [f"engine.{key}" for key in _CHANGES if not switches[key]]
    yield f"Changed in verl's step: {'; '.join(on) or 'nothing'}. Off: {', '.join(off) or 'none'}."


def _memory_lines(memory: Memory, card_gib: float | None, longest: int) -> Iterator[str]:
    t, r, where = memory.training, memory.rollout, "process" if memory.on_cpu or card_gib is None else "GPU"
    where += f" of {card_gib}" * (where == "GPU")
    yield (
        f"Update, GiB per {where}: weights {_gib(t.weights)}, gradients {_gib(t.gradients)}, optimizer "
        f"{_gib(t.optimizer)}, gathered layers {_gib(t.gathered)}, activations up to {_gib(t.activations)}, logits up "
        f"to {_gib(t.logits)}, context 1: {_gib(t.fixed)} to {_gib(t.peak)}."
    )
    full = r.cache_tokens // longest
    yield (
        f"Sampling, GiB per {where}: vLLM {_gib(r.share)}, of which weights {_gib(r.weights)} and KV cache at most "
        f"{_gib(max(0, r.share - r.weights))} = {r.cache_tokens:,} tokens = {full} answers of full length at a time."
    )
    yield (
        f"Main memory per node: {_gib(memory.host)} GiB for what is offloaded, including the reference "
        f"({_gib(memory.reference)} per worker)."
    )
    if card_gib is None or memory.on_cpu:
        return
    if t.peak > card_gib * GIB:
        yield (
            f"WARNING: {_gib(t.peak)} GiB for the update if all answers are long, and the GPU has {card_gib}; lower "
            "worker.actor.micro_batch_size_per_device_for_update if it runs out."
        )
    if r.share - r.weights < 2 * GIB:
        yield (
            f"WARNING: vLLM's own buffers take 1 to 2 of the {_gib(r.share - r.weights)} GiB left for its cache; raise "
            "worker.rollout.gpu_memory_utilization if it does not start."
        )


def _here_lines(config: DictConfig) -> Iterator[str]:
    """What this machine lacks for the run, which is no fault of the configuration, and which cluster it would join."""
    if joins_cluster(config):
        nodes, gpus = config.trainer.nnodes, config.trainer.n_gpus_per_node
        address = config.ray_kwargs.ray_init.address
        where = "started on this machine" if address == "auto" else f"at {address}"
        yield (
            f"Joins the Ray cluster {where}, which needs {nodes} node{'s' * (nodes > 1)} with {gpus} "
            f"GPU{'s' * (gpus > 1)} each; a run checks that it has them."
        )
    for check in (checks.check_devices, checks.check_attention):
        try:
            check(config)
        except InputError as error:
            yield f"Not on this machine: {error}."


def plan(config: DictConfig, rows: int | None) -> list[str]:
    """The plan of a configuration, one sentence or two per line.

    Raises InputError for an impossible layout, as a run would.
    """
    checks.reward_terms(config)
    checks.check_settings(config)
    checks.check_policy(config)
    checks.check_words_fit(config)
    checks.check_fit(config)
    checks.check_weights(config)
    model = find_architecture(resolve_model(config.actor_rollout_ref.model.path))
    b, name = batches(config, rows), config.actor_rollout_ref.model.path
    dynamic, plays = config.actor_rollout_ref.actor.use_dynamic_bsz, config.dialogue.rows == CONVERSATIONS
    lines = [*_batch_lines(b, dynamic, plays), *_loss_lines(config, b)]
    lines += [*dialogue_checks.plan_lines(config), *_engine_lines(config)]
    if (warning := checks.prompt_warning(config)) is not None:
        lines.append(f"WARNING: {warning}.")
    if model is None:
        lines.append(f"Memory: unknown, the model {name} is not on this machine.")
    else:
        image_tokens = checks.prompt_spec(config).image_tokens
        memory = estimate(config, model, image_tokens)
        longest = config.data.max_prompt_length + config.data.max_response_length
        lines.append(
            f"Model: {name}, {model.parameters / 1e9:.3g} billion parameters; an image is {image_tokens} tokens."
        )
        lines += _memory_lines(memory, read(config, HardwareSettings).device_memory_gib, longest)
    return [*lines, *_here_lines(config)]


def dry_run(config: DictConfig, synthetic: dict[str, int], skip_bad: bool, print_yaml: bool) -> str:
    """The plan, one sentence a line; the resolved configuration goes to dry_run.yaml in the run's folder.

    With ``print_yaml`` it comes before the plan, whose lines are comments then, and no file is written.
    Checks everything that can be checked without starting a process, including rows on this machine.
    Raises InputError for what a run would refuse anywhere.
    """
    keys = ("train_files", "val_files")
    rows = {key: rows_here(config, key, synthetic) for key in keys}
    lines = plan(config, rows["train_files"])
    if not any(count is None or will_be_made(config, key) for key, count in rows.items()):
        checks.check_data(config)
        with contextlib.redirect_stdout(sys.stderr):  # the output stays one YAML file
            checks.find_bad_rows(config, skip_bad)
    text: str = OmegaConf.to_yaml(config)
    if print_yaml:
        return text + "".join(f"# {line}\n" for line in lines)
    place = Path(config.output_dir) / "dry_run.yaml"
    make_folder(place.parent)
    write_text(place, text)
    shown = f"All {text.count(chr(10)):,} lines of configuration: {place} (--yaml prints them instead)."
    return "".join(f"{line}\n" for line in [*lines, shown])
