"""Starts a training run: ``python -m seg_zero.training.launch [HYDRA OVERRIDES] [--dry-run [--yaml]] [--skip-bad]``.

Composes and checks the configuration and the rows (those with errors are refused, or skipped with --skip-bad),
then runs verl with our trainer (seg_zero/training/run.py), follows its metrics and stops it if it hangs.
The run's folder holds config.yaml, metrics.jsonl, tensorboard/, train.log and checkpoints/.

    small machine:  bash training_scripts/run_tiny_cpu.sh
    eight GPUs:     bash training_scripts/run_visionreasoner_7b_8x140G.sh
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from seg_zero.errors import InputError, print_warning
from seg_zero.files import check_folder_place, make_folder, write_text
from seg_zero.policy.model_files import TINY_POLICY
from seg_zero.training.launch import checks, cluster, dialogue_checks, plan
from seg_zero.training.launch.config import load_config, package_folder
from seg_zero.training.row_files import names_of, write_bad_rows
from seg_zero.training.run_files import RunFiles
from seg_zero.training.settings import PolicySettings, read
from seg_zero.training.supervision.supervise import supervise
from seg_zero.training.trainer.checkpoints import Checkpoints
from seg_zero.training.trainer.metrics_log import read_metrics

EMBEDDED_POLICY = "tiny"
_SHARD = re.compile(r"model_world_size_(\d+)_")
SYNTHETIC_ROWS = {"train_files": 1920, "val_files": 120}
SYNTHETIC_DIALOGUES = {"train_files": 480, "val_files": 40}


def resolve_policy(config: DictConfig) -> None:
    """Replace the name of the embedded policy by its folder, and local folders by absolute paths.

    Ray's workers have another working directory.
    """
    model = config.actor_rollout_ref.model
    folder = TINY_POLICY if model.path == EMBEDDED_POLICY else Path(model.path).expanduser()
    if model.path == EMBEDDED_POLICY or folder.is_dir():
        model.path = str(folder.resolve())


def resolve_agent_loops(config: DictConfig) -> None:
    """Name the file in which verl finds our rollout loops."""
    agent = config.actor_rollout_ref.rollout.agent
    if agent.agent_loop_config_path is None:
        agent.agent_loop_config_path = str(package_folder("seg_zero.configs") / "agent_loops.yaml")


def make_synthetic_data(config: DictConfig) -> None:
    """Write the synthetic splits that the configuration names by default, if they do not exist."""
    if checks.of_dialogues(config):
        _make_dialogues(config)
        return
    from seg_zero.data.synthetic.rows import HELD_OUT_SEED, TRAIN_SEED, write_split

    for key, seed in (("train_files", TRAIN_SEED), ("val_files", HELD_OUT_SEED)):
        if plan.will_be_made(config, key):
            path = Path(config.data[key])
            print(f"writing {SYNTHETIC_ROWS[key]} synthetic rows to {path}", flush=True)
            write_split(path, seed, SYNTHETIC_ROWS[key], side=read(config, PolicySettings).image_size)


def _make_dialogues(config: DictConfig) -> None:
    from seg_zero.dialogue.data.records import write_dialogues
    from seg_zero.dialogue.data.synthetic import SEEDS, make_dialogues

    for key, seed in (("train_files", SEEDS["train"]), ("val_files", SEEDS["val"])):
        if plan.will_be_made(config, key):
            path = Path(config.data[key])
            print(f"writing {SYNTHETIC_DIALOGUES[key]} synthetic dialogues to {path}", flush=True)
            side = read(config, PolicySettings).image_size
            images = path.with_name(f"{path.stem}_images")
            write_dialogues(path, make_dialogues(images, seed, SYNTHETIC_DIALOGUES[key], side=side, parts=True))


def total_steps(config: DictConfig) -> int:
    """Total steps of the run, including those before a resume."""
    if config.trainer.total_training_steps is not None:
        return int(config.trainer.total_training_steps)
    return checks.count_rows(config, "train_files") // config.data.train_batch_size * config.trainer.total_epochs


def steps_done(config: DictConfig) -> int:
    """The step of the checkpoint that verl will resume from; 0 if it starts anew. Refuses a finished run."""
    if config.trainer.resume_mode != "auto":
        return 0
    done, wanted = Checkpoints(Path(config.trainer.default_local_dir), 0, False).latest() or 0, total_steps(config)
    if done >= wanted:
        raise InputError(
            f"{config.output_dir} already holds a run of {done} steps and {wanted} were asked; give "
            "trainer.experiment_name=NEW for a new run, or a larger trainer.total_training_steps to continue"
        )
    check_shards(Path(config.trainer.default_local_dir) / f"global_step_{done}", config)
    return done


def validation_missing(config: DictConfig, done: int) -> bool:
    """Whether the step to resume from was due for validation and the run ended before it was logged."""
    if config.trainer.test_freq < 1 or done % config.trainer.test_freq:
        return False
    row = next((row for row in read_metrics(Path(config.output_dir) / "metrics.jsonl") if row["step"] == done), {})
    return not any(name.startswith(("val-", "validation/")) for name in row)


def check_shards(checkpoint: Path, config: DictConfig) -> None:
    """Check that a run resumes with as many workers as wrote its checkpoint. Raises InputError with both numbers."""
    workers = config.trainer.n_gpus_per_node * config.trainer.nnodes
    parts = (_SHARD.match(path.name) for path in (checkpoint / "actor").glob("model_world_size_*"))
    wrote = {int(part[1]) for part in parts if part is not None}
    if wrote and workers not in wrote:
        raise InputError(
            f"{checkpoint} was written by {max(wrote)} workers, now there are {workers} (trainer.nnodes x "
            "trainer.n_gpus_per_node); use as many, or merge it and start a new run from "
            "that with worker.actor.model.model_path="
        )


def launch(overrides: Sequence[str], *, dry_run: bool = False, print_yaml: bool = False, skip_bad: bool = False) -> int:
    """Check everything, then train. Raises InputError before anything is started or written.

    Raises SystemExit, having said what can be resumed, if it is stopped at once.
    """
    config = load_config(overrides)
    resolve_policy(config)
    resolve_agent_loops(config)
    joined = cluster.choose(config)
    if dry_run:
        made = SYNTHETIC_DIALOGUES if checks.of_dialogues(config) else SYNTHETIC_ROWS
        print(plan.dry_run(config, made, skip_bad, print_yaml), end="")
        return 0
    checks.check_run(config)
    output = Path(config.output_dir).resolve()
    check_folder_place(output)
    for key in ("train_files", "val_files"):
        if not plan.will_be_made(config, key):
            checks.count_rows(config, key)  # a name with a typo is told before the other rows are made
    print_warning(checks.prompt_warning(config))
    make_synthetic_data(config)
    checks.check_data(config)
    if joined:
        cluster.use_absolute_names(config)
        config.ray_kwargs.ray_init.address = cluster.check_cluster(config, output)
    bad = checks.find_bad_rows(config, skip_bad)
    if bad:
        config.data.bad_rows = str(output / "bad_rows.json")
        write_bad_rows(output / "bad_rows.json", bad)
        checks.check_data(config)  # enough must be left
    done = steps_done(config)
    config.output_dir, config.trainer.default_local_dir = str(output), str(output / "checkpoints")
    if done:
        config.trainer.val_before_train = validation_missing(config, done)
    write_text(make_folder(output) / "config.yaml", OmegaConf.to_yaml(config))
    if done:
        print(f"resuming {output} after step {done}")
    started = "vLLM" if joined else "Ray, vLLM"
    print(f"starting {started} and the trainer; their log is {output / 'train.log'}", flush=True)
    checkpoints = Checkpoints(output / "checkpoints", 0, False)
    steps = total_steps(config)
    dialogue_checks.forget_files()
    try:
        code = supervise(config, output, steps, checkpoints.metrics(done))
    except SystemExit:  # Ctrl-C or SIGTERM, and no step to end first
        print(stopped_line(output, checkpoints.latest()), flush=True)
        raise
    last = checkpoints.latest()
    if code == 0 and last is not None:
        print(next_commands(output / "checkpoints" / f"global_step_{last}", evaluation_data(config)), flush=True)
    return code


def stopped_line(output: Path, last: int | None) -> str:
    """What is left of a run that was stopped at once; ``last``: the step of its last checkpoint."""
    if last is not None:
        return f"\nstopped; rerun the same command to resume after step {last}: {output}"
    before = "step" if RunFiles(output).read_phase() is None else "checkpoint"
    return f"\nstopped before the first {before}; nothing to resume"


def evaluation_data(config: DictConfig) -> str:
    """What a run's policy can be evaluated on: its first validation rows, or a named set if they may lack masks."""
    return names_of(config.data.val_files)[0] if checks.segments_held_out(config) else "reasonseg_val"


def next_commands(checkpoint: Path, data: str) -> str:
    """What to run after the training that ended with this checkpoint; ``data``: what to evaluate on."""
    merged, out = checkpoint / "actor" / "merged", checkpoint.parents[1] / "evaluation"
    return (
        f"next:  {shlex.join(['seg-zero', 'merge', '--local_dir', str(checkpoint)])}\n"
        f"then:  {shlex.join(['seg-zero', 'evaluate', '--model', str(merged), '--data', data, '--out', str(out)])}\n"
        f'       seg-zero infer --model {shlex.quote(str(merged))} photo.jpg "what can hold water"'
    )
