"""Training runs of the end-to-end tests, by the launch script for this machine's CPU."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.background import run

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "training_scripts" / "run_tiny_cpu.sh"
END_TO_END = ROOT / "tests" / "end_to_end"

# Rounding of float32, and the few tokens that verl bans in vLLM alone (image placeholders), differ by less.
ROUNDING = 2e-3


@dataclass(frozen=True)
class Trained:
    """A finished run: its rows, its folder, and the metrics of each step."""

    scenes: Path
    out: Path
    metrics: list[dict[str, Any]]


def write_scenes(folder: Path, count: int) -> Path:
    from seg_zero.data.synthetic.rows import TRAIN_SEED, write_split

    path = folder / "scenes.parquet"
    write_split(path, TRAIN_SEED, count)
    return path


def launch_command(scenes: Path, out: Path, *overrides: str) -> list[str]:
    files = [f"data.train_files={scenes}", f"data.val_files={scenes}", f"output_dir={out}"]
    return ["bash", str(SCRIPT), *files, *overrides]


def train(folder: Path, rows: int, steps: int, *overrides: str) -> Trained:
    """Run the launch script to its end; without warm-up, and without validation unless an override asks for it."""
    scenes, out = write_scenes(folder, rows), folder / "run"
    quiet = ["trainer.val_before_train=false", "trainer.test_freq=-1"]
    command = launch_command(
        scenes,
        out,
        f"trainer.total_training_steps={steps}",
        "actor_rollout_ref.actor.optim.lr_warmup_steps=0",
        *(default for default in quiet if not any(o.startswith(default.partition("=")[0]) for o in overrides)),
        *overrides,
    )
    result = run(command, 540, {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{END_TO_END}"})
    log = out / "train.log"
    assert result.returncode == 0, (
        f"{result.stdout}\n{result.stderr}\n{log.read_text()[-4000:] if log.exists() else ''}"
    )
    assert f"step {steps}/{steps}" in result.stdout
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    metrics = [m for m in metrics if m["step"]]  # without the validation before the first step
    assert [m["step"] for m in metrics] == list(range(1, steps + 1))
    return Trained(scenes, out, metrics)


GREEDY = """
import json, sys
from seg_zero.data.source import open_rows
from seg_zero.policy import Request, Sampling, TransformersPolicy, VllmPolicy
if __name__ == "__main__":
    folder, scenes, tokens, many = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    rows, texts = open_rows(scenes)[:6], {}
    for name, kind in {"transformers": TransformersPolicy, "vllm": VllmPolicy}.items():
        policy = kind.from_pretrained(folder, max_new_tokens=tokens)
        texts[name] = policy.generate([row.image() for row in rows], [row.problem for row in rows])
    requests = [Request(n, rows[n % 6].image(), rows[n % 6].problem) for n in range(many)]
    answers = sum(len(reply.texts) for reply in policy.stream(requests, Sampling(2, 1.0)))
    print("RESULT" + json.dumps([texts, answers]))
"""


def greedy_texts(model: Path, scenes: Path, tokens: int, many: int = 0) -> tuple[dict[str, list[str]], int]:
    """Greedy answers to six rows by transformers and by vLLM, in a process of their own.

    Second, the number of answers received from vLLM when ``many`` prompts are sampled twice each, all at once.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    result = run([sys.executable, "-c", GREEDY, str(model), str(scenes), str(tokens), str(many)], 300, environment)
    assert result.returncode == 0, result.stderr[-3000:]
    texts, answers = next(json.loads(line[6:]) for line in result.stdout.splitlines() if line.startswith("RESULT"))
    return texts, answers
