"""What training on dialogues teaches a tiny policy: single rounds, and whole conversations in closed loop.

    python -m benchmarks.dialogue_learning                      # the start, and both stages with three seeds
    python -m benchmarks.dialogue_learning --arms conversations --seeds 1
    python -m benchmarks.dialogue_learning --start FOLDER       # of a policy by seg_zero.models.train_rounds
    python -m benchmarks.dialogue_learning --report             # only the table, of the runs that are there

Both stages train with training_scripts/run_tiny_dialogue_cpu.sh from the same start (the embedded policy, which was not
taught dialogues, unless --start is given), on the same dialogues, and get about the same number of answers a step. All
are judged on held-out synthetic dialogues, greedily, with predicted and with true history. Finished runs are kept in
--out, which is for one start. A run takes about ten minutes on two cores.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

from benchmarks.kept_runs import START, Result, kept_run, run_arms
from benchmarks.learning.runs import ROOT, without_validation
from seg_zero.command_line import quoted
from seg_zero.dialogue.data.records import read_dialogues, write_dialogues
from seg_zero.dialogue.data.synthetic import SEEDS, make_dialogues
from seg_zero.dialogue.renderers import renderer_for
from seg_zero.dialogue.session import Answerer
from seg_zero.evaluation.dialogues import HISTORIES, PREDICTED, TRUE, ModelPredictor, evaluate_dialogues
from seg_zero.evaluation.run import Models
from seg_zero.export.merge import merge

TRAINING, HELD_OUT = 480, 150  # dialogues
LATER = 2  # the first round with a history
RESAMPLES = 10_000


@dataclass(frozen=True)
class Arm:
    name: str
    overrides: tuple[str, ...]


# Rounds have one prompt each, so a step takes as many answers as conversations have rounds on average.
ARMS = (
    Arm("rounds", ("dialogue=rounds", "data.train_batch_size=16", "worker.actor.global_batch_size=16")),
    Arm("conversations", ("dialogue=conversations",)),
)


def write_sets(folder: Path) -> None:
    """``train.jsonl`` and ``held_out.jsonl``, if they are not there."""
    for name, split, count in (("train", "train", TRAINING), ("held_out", "val", HELD_OUT)):
        path = folder / f"{name}.jsonl"
        if not path.exists():
            write_dialogues(path, make_dialogues(folder / f"{name}_images", SEEDS[split], count, parts=True))


def train(arm: Arm | None, seed: int, steps: int, start: str | None, data: Path, out: Path) -> tuple[str | None, float]:
    """The folder of the merged policy, and the seconds that training took from its start to the last checkpoint; the
    start and 0 if there is no arm."""
    if arm is None:
        return start, 0.0
    command = [
        *("bash", str(ROOT / "training_scripts" / "run_tiny_dialogue_cpu.sh"), *arm.overrides),
        *([] if start is None else [f"worker.actor.model.model_path={quoted(start)}"]),
        f"data.train_files={quoted(data / 'train.jsonl')}",
        f"data.val_files={quoted(data / 'held_out.jsonl')}",
        *without_validation(seed, steps, out),
    ]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    return str(merge(out / "train" / "checkpoints" / f"global_step_{steps}", out / "policy")), seconds


def judge(policy: str | None, data: Path, out: Path) -> dict[str, list[list[float]]]:
    """By history the IoUs of each held-out dialogue's rounds."""
    records = read_dialogues(data / "held_out.jsonl").usable()
    models = Models(policy=policy, max_new_tokens=96)
    shutil.rmtree(out, ignore_errors=True)
    _, played = evaluate_dialogues(
        lambda: ModelPredictor(Answerer(*models.load(), renderer_for())), models.settings(), records, out
    )
    return {history: [[one.iou for one in item.rounds[history]] for item in played] for history in HISTORIES}


def run(name: str, seed: int, steps: int, start: str | None, out: Path) -> Result:
    """The result of a run; read from its file if it was made before. Checkpoints are not kept."""
    folder = out / (START if name == START else f"{name}_{seed}")

    def make() -> Result:
        write_sets(out)
        arm = next((arm for arm in ARMS if arm.name == name), None)
        policy, seconds = train(arm, seed, steps, start, out, folder)
        iou = judge(policy, out, folder / "held_out")
        return {"arm": name, "seed": seed, "steps": steps, "seconds": seconds, "iou": iou}

    return kept_run(folder, make, ("train/checkpoints", "policy"))


def later(ious: Sequence[Sequence[float]]) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the IoUs of each dialogue's rounds from the second on, and their number."""
    rounds = [some[LATER - 1 :] for some in ious]
    return np.array([sum(some) for some in rounds]), np.array([len(some) for some in rounds])


def gain(before: Sequence[Sequence[float]], after: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """Change of the gIoU of later rounds, and its 95 % interval: dialogues are drawn with replacement, since the rounds
    of one depend on each other."""
    (one, counts), (two, _) = later(before), later(after)
    drawn = np.random.default_rng(0).integers(len(counts), size=(RESAMPLES, len(counts)))
    changes = (two - one)[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(changes, (0.025, 0.975))
    return float((two - one).sum() / counts.sum()), float(low), float(high)


def table(results: Sequence[dict[str, Any]]) -> str:
    """Markdown: a line for each run; gIoU of the first round, and of later ones by history."""
    start = next((one for one in results if one["arm"] == START), None)
    lines = [
        "| | seed | minutes | round 1 | later rounds, predicted history | gain | later rounds, true history |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in results:
        first = np.mean([some[0] for some in one["iou"][TRUE]])
        sums = {history: later(one["iou"][history]) for history in HISTORIES}
        means = {history: float(some.sum() / counts.sum()) for history, (some, counts) in sums.items()}
        change = ""
        if start is not None and one is not start:
            mean, low, high = gain(start["iou"][PREDICTED], one["iou"][PREDICTED])
            change = f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"
        name, seed, minutes = (
            (START, "", "") if one is start else (one["arm"], one["seed"], f"{one['seconds'] / 60:.1f}")
        )
        lines.append(
            f"| {name} | {seed} | {minutes} | {first:.3f} | {means[PREDICTED]:.3f} | {change} | {means[TRUE]:.3f} |"
        )
    return "\n".join(lines) + "\n"


def report(results: Sequence[Result]) -> str:
    return f"{table(results)}\n{HELD_OUT} held-out dialogues"


if __name__ == "__main__":
    sys.exit(run_arms(__doc__, Path("outputs/dialogue_learning"), [arm.name for arm in ARMS], run, report))
