"""Speed of GRPO on the embedded policy: our training against TRL's GRPOTrainer, one after the other on this machine.

    uv venv --python .venv/bin/python /tmp/trl/venv
    uv pip install --python /tmp/trl/venv/bin/python --override requirements/overrides.txt \\
        --requirement benchmarks/trl_requirements.txt
    python benchmarks/training_speed.py --trl_python /tmp/trl/venv/bin/python --steps 8 --rounds 2
    python benchmarks/training_speed.py --steps 8 -- worker.actor.micro_batch_size_per_device_for_update=8

Ours is training_scripts/run_tiny_cpu.sh with all weights trained (what follows -- are Hydra overrides), TRL's
benchmarks/trl_side.py, whose docstring says what is equal. Both see the same rows in the same order: 16 prompts x 8
answers per step. Start-up is until the first step begins; steady are the steps after the second.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from seg_zero.command_line import quoted
from seg_zero.data.synthetic.rows import TRAIN_SEED, write_split
from seg_zero.training.trainer.metrics_log import read_metrics

ROOT = Path(__file__).resolve().parents[1]
PROMPTS, SAMPLES = 16, 8
# What TRL's side does, where the tiny schedule does otherwise: all weights are trained, at one rate.
EQUAL = ("policy.freeze_vision=false", "worker.actor.optim.lr=1e-4", "actor_rollout_ref.actor.optim.lr_warmup_steps=0")
WARM_UP = 2  # steps that do not count
PHASES = {
    "sampling and reward": "gen",
    "log-probabilities": "old_log_prob",
    "reference": "ref",
    "update": "update_actor",
    "weights to vLLM": "update_weights",
    "advantages": "adv",
}


@dataclass
class Side:
    """What the rounds of one trainer gave; seconds, tokens and reward of every step that counts."""

    start_up: list[float] = field(default_factory=list)
    first_step: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    tokens: list[float] = field(default_factory=list)
    reward: list[float] = field(default_factory=list)
    phases: dict[str, list[float]] = field(default_factory=dict)

    @property
    def step(self) -> float:
        return statistics.median(self.seconds)

    def add_steps(self, steps: Sequence[dict[str, float]]) -> None:
        """seconds, tokens (per answer) and reward of all steps of a run."""
        for step in steps[WARM_UP:]:
            self.seconds.append(step["seconds"])
            self.tokens.append(step["tokens"])
            self.reward.append(step["reward"])


def timed_lines(command: Sequence[str], environment: dict[str, str]) -> list[tuple[float, str]]:
    """Run a command; its lines, each with the seconds since the start. Ends the program if it fails."""
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        assert process.stdout is not None
        lines = [(time.perf_counter() - started, line.rstrip()) for line in process.stdout]
        if process.wait():
            errors.seek(0)
            shown = "\n".join(line for _, line in lines)
            raise SystemExit(f"{' '.join(command)} failed:\n{shown}\n{errors.read()[-3000:]}")
    return lines


def run_ours(side: Side, rows: Path, steps: int, folder: Path, overrides: Sequence[str]) -> None:
    """One run of the launch script; its metrics.jsonl has the times of the phases."""
    command = ["bash", str(ROOT / "training_scripts" / "run_tiny_cpu.sh"), f"data.train_files={quoted(rows)}"]
    command += [
        f"data.val_files={quoted(rows)}",
        f"output_dir={quoted(folder)}",
        f"trainer.total_training_steps={steps}",
    ]
    command += ["data.shuffle=false", "trainer.val_before_train=false", "trainer.save_freq=-1", "trainer.test_freq=-1"]
    lines = timed_lines([*command, *EQUAL, *overrides], {})
    found = read_metrics(folder / "metrics.jsonl")
    ended = next(at for at, line in lines if f"step 1/{steps}" in line)
    side.start_up.append(ended - found[0]["timing_s/step"])
    side.first_step.append(ended)
    names = {"seconds": "timing_s/step", "tokens": "response_length/mean", "reward": "reward/score/mean"}
    side.add_steps([{name: step[key] for name, key in names.items()} for step in found])
    for step in found[WARM_UP:]:
        spent = {name: step[f"timing_s/{key}"] for name, key in PHASES.items()}
        spent["rest"] = step["timing_s/step"] - sum(spent.values())
        for name, value in spent.items():
            side.phases.setdefault(name, []).append(value)


def run_trl(side: Side, rows: Path, steps: int, python: Path, options: Sequence[str]) -> None:
    """One run of trl_side.py in TRL's environment."""
    command = [str(python), str(ROOT / "benchmarks" / "trl_side.py"), "--rows", str(rows), "--steps", str(steps)]
    environment = {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "2"}
    # As our launcher sets them; see seg_zero/training/environment.py.
    environment |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    lines = timed_lines([*command, *options], environment)
    found = [(at, json.loads(line)) for at, line in lines if line.startswith('{"step"')]
    side.start_up.append(next(at for at, line in lines if line == "ready"))
    side.first_step.append(found[0][0])
    side.add_steps([{**step, "tokens": step["tokens"] / step["samples"]} for _, step in found])


def show(sides: dict[str, Side]) -> None:
    """Print the table, the ratios to ours, and where our step goes."""
    print(f"{PROMPTS} prompts x {SAMPLES} answers per step; medians")
    heads = ("start-up, s", "1st step done, s", "s per step", "samples/s", "tokens/answer", "reward")
    print(f"{'':<22}" + "".join(f"{head:>18}" for head in heads))
    for name, side in sides.items():
        values = [statistics.median(side.start_up), statistics.median(side.first_step), side.step]
        values += [PROMPTS * SAMPLES / side.step, statistics.mean(side.tokens), statistics.mean(side.reward)]
        print(f"{name:<22}" + "".join(f"{value:>18.2f}" for value in values))
    ours = sides["ours"]
    for name, side in sides.items():
        if side is not ours:
            print(f"{name}: {side.step / ours.step:.2f} times the seconds of ours per step")
    print("our step: " + ", ".join(f"{name} {statistics.median(found):.2f} s" for name, found in ours.phases.items()))
    spread = {name: (min(side.seconds), max(side.seconds)) for name, side in sides.items()}
    print("fastest and slowest step: " + ", ".join(f"{name} {a:.2f} to {b:.2f} s" for name, (a, b) in spread.items()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl_python", type=Path, help="interpreter of TRL's environment (default: ours alone)")
    parser.add_argument("--trl_vllm", action="store_true", help="also TRL with vLLM's CPU build in its process")
    parser.add_argument("--trl_micro_batch", type=int, default=16, help="(default: %(default)s, which was fastest)")
    parser.add_argument("--steps", type=int, default=8, help="of each run (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each side, in turn (default: %(default)s)")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides for our side, after --")
    args = parser.parse_args()
    if args.steps <= WARM_UP:
        parser.error(f"--steps {args.steps}: the first {WARM_UP} do not count; give at least {WARM_UP + 1}")
    if args.trl_python is not None and not args.trl_python.is_file():
        parser.error(f"--trl_python {args.trl_python}: no such file; make the environment as --help says")
    if args.trl_vllm and args.trl_python is None:
        parser.error("--trl_vllm needs --trl_python")
    sides = {"ours": Side()}
    micro_batch = ["--micro_batch", str(args.trl_micro_batch)]
    peers = {"TRL": micro_batch, **({"TRL with vLLM": [*micro_batch, "--vllm"]} if args.trl_vllm else {})}
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.parquet"
        write_split(rows, TRAIN_SEED, args.steps * PROMPTS)
        for number in range(args.rounds):
            run_ours(sides["ours"], rows, args.steps, Path(folder) / f"run_{number}", args.overrides)
            for name, options in peers.items() if args.trl_python is not None else ():
                run_trl(sides.setdefault(name, Side()), rows, args.steps, args.trl_python, options)
    show(sides)
    return 0


if __name__ == "__main__":
    sys.exit(main())
