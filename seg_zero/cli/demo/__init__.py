"""The demo: the whole pipeline on the embedded models, and a page that shows the results.

    make demo
    seg-zero demo --steps 40 --out outputs/demo

Data, evaluation of the start, GRPO training, merging, evaluation of the result, a question, a conversation; a second
training, on questions that take several steps of reasoning; one page.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from seg_zero.assets import EXAMPLE_DIALOGUE, EXAMPLE_IMAGE, EXAMPLE_QUESTION
from seg_zero.command_line import CommandParser
from seg_zero.errors import INTERRUPTED, InputError, counted
from seg_zero.extras import TRAINING, VLLM, require
from seg_zero.files import check_folder_place

if TYPE_CHECKING:
    from seg_zero.cli.demo import hops

PROMPTS_PER_STEP = 16
HOPS_SHARE = 6  # 300 held-out questions of scenes go with 50 of each number of steps
# Exit codes of a training that was stopped: by itself, or by the signal as it starts.
STOPPED = (INTERRUPTED, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM)
# What training_scripts/run_tiny_cpu.sh gives the launcher; that file is not part of an installed package.
TINY_RUN = (
    *("policy=tiny", "data=synthetic", "reward=seg_zero", "hardware=cpu_2core", "schedule=tiny", "algorithm=grpo"),
    "trainer.experiment_name=tiny_cpu",
)


class Stages:
    """Numbers the stages, prints them, and keeps how long each took."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        print(f"\n[{len(self.seconds) + 1}/{self.count}] {name}", flush=True)
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start
        print(f"      {self.seconds[name]:.0f} s", flush=True)


def describe_machine() -> str:
    """Cores, memory, GPU if any, and the versions that matter, of what is installed."""
    from importlib.metadata import PackageNotFoundError, version

    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    versions = [f"Python {platform.python_version()}"]
    for name in ("torch", "transformers", "verl", "ray"):
        with suppress(PackageNotFoundError):
            versions.append(f"{name} {version(name)}")
    today = time.strftime("%Y-%m-%d")
    return f"{today}: {os.cpu_count()} cores, {memory:.0f} GiB, {device}; {', '.join(versions)}"


def _train(out: Path, steps: int, seed: int, extra: Sequence[str]) -> Path:
    """Train as a user would, in a process of its own; returns the last checkpoint folder."""
    from seg_zero.command_line import quoted

    run = out / "train"
    last = run / "checkpoints" / f"global_step_{steps}"
    saved = last.with_name("latest_checkpointed_iteration.txt")  # verl's, written when the folder is whole
    if saved.is_file() and saved.read_text().strip() == str(steps):
        print("      trained already", flush=True)
        return last
    command = [
        *(sys.executable, "-m", "seg_zero.training.launch"),
        *TINY_RUN,
        f"data.train_files={quoted(out / 'data' / 'train.parquet')}",
        f"data.val_files={quoted(out / 'data' / 'held_out.parquet')}",
        f"data.train_batch_size={PROMPTS_PER_STEP}",
        f"data.seed={seed}",
        f"trainer.total_training_steps={steps}",
        f"trainer.save_freq={steps}",
        "trainer.test_freq=-1",
        "trainer.val_before_train=false",  # the demo evaluates before and after
        f"output_dir={quoted(run)}",
        *extra,
    ]
    print("      " + " ".join(map(in_shell, command)), flush=True)
    code = _follow(command)
    if code in STOPPED:
        raise KeyboardInterrupt("the demo was stopped during training; the same command goes on")
    if code != 0:
        raise InputError(f"training ended with exit code {code}; see {run / 'train.log'}")
    return last


def is_unfinished(out: Path, asked: str) -> bool:
    """Whether ``out`` holds a demo of the same arguments that has not come to its page."""
    marker = out / MARKER
    return marker.is_file() and marker.read_text() == asked and not (out / "index.html").exists()


def _follow(command: Sequence[str]) -> int:
    """Run a command to its end. Ctrl-C and SIGTERM are for it to answer: it has a run to end in order."""
    with subprocess.Popen(command) as child:

        def pass_on(number: int, _frame: FrameType | None) -> None:
            if number != signal.SIGINT:  # the terminal sends Ctrl-C to both
                child.send_signal(number)

        before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            return child.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def in_shell(word: str) -> str:
    """A word as it is typed in a shell: with double quotes around a Hydra override whose value has single ones."""
    if "'" in word and not re.search(r'["$`\\!]', word):
        return f'"{word}"'
    return shlex.quote(word)


def run_demo(out: Path, steps: int, reasoning_steps: int, held_out: int, seed: int, extra: Sequence[str]) -> int:
    # Heavy imports late, so that --help is quick.
    from seg_zero.cli.demo.curves import read_curves
    from seg_zero.cli.demo.page import Page, Spoken, draw_before_after, next_commands, write_page
    from seg_zero.data.source import open_rows
    from seg_zero.data.synthetic.rows import HELD_OUT_SEED, TRAIN_SEED, write_split
    from seg_zero.evaluation.predictions import Prediction
    from seg_zero.evaluation.run import Models, evaluate
    from seg_zero.evaluation.store import read_predictions
    from seg_zero.evaluation.summary import Summary
    from seg_zero.export.merge import merge
    from seg_zero.files import make_folder, write_image, write_text
    from seg_zero.pipeline import ReasoningSegmenter
    from seg_zero.policy.loading import quiet_transformers
    from seg_zero.visualize import mask_image, overlay

    quiet_transformers()
    asked = json.dumps(
        {
            "steps": steps,
            "reasoning_steps": reasoning_steps,
            "held_out": held_out,
            "seed": seed,
            "overrides": list(extra),
        }
    )
    if is_unfinished(out, asked):
        print(f"going on with the demo that was interrupted in {out}", flush=True)
        for folder in (out, out / "hops"):
            shutil.rmtree(folder / "merged", ignore_errors=True)
    else:
        if out.exists():
            shutil.rmtree(out)  # the folder is the demo's own; main() has checked that
        make_folder(out)
        write_text(out / MARKER, asked)
    stages = Stages(12 if reasoning_steps else 8)

    with stages.stage("make scenes"):
        for name, split, count in (
            ("train", TRAIN_SEED, steps * PROMPTS_PER_STEP),
            ("held_out", HELD_OUT_SEED, held_out),
        ):
            if not (out / "data" / f"{name}.parquet").is_file():  # a file that is made anew would be other data
                write_split(out / "data" / f"{name}.parquet", split, count)
        rows = open_rows(out / "data" / "held_out.parquet")
        print(f"      {steps * PROMPTS_PER_STEP} training and {held_out} held-out questions in {out / 'data'}")

    def judge(name: str, policy: str | None) -> tuple[Summary, list[Prediction]]:
        summary = evaluate(Models(policy, max_new_tokens=96), rows, out / name)
        print("      " + summary.table().replace("\n", "\n      "), flush=True)
        return summary, read_predictions(out / name)

    with stages.stage("evaluate the policy before training"):
        before, before_predictions = judge("before", None)
    with stages.stage(f"train: {steps} GRPO steps, rollouts in vLLM, updates in FSDP, on Ray"):
        checkpoint = _train(out, steps, seed, extra)
    with stages.stage("merge the checkpoint"):
        merged = merge(checkpoint, out / "merged")
        print(f"      {merged}")
    with stages.stage("evaluate the policy after training"):
        after, after_predictions = judge("after", str(merged))
    with stages.stage(f"ask one question: {EXAMPLE_QUESTION!r}"):
        trained = ReasoningSegmenter.from_pretrained(merged, max_new_tokens=96)
        result = trained(EXAMPLE_IMAGE, EXAMPLE_QUESTION)
        from PIL import Image

        picture = overlay(Image.open(EXAMPLE_IMAGE), result.masks, result.objects, min_side=448)
        write_image(out / "answer.png", picture)
        write_image(out / "answer_mask.png", mask_image(result.mask))
        print(f"      {result.thinking!r} -> {counted(len(result.objects), 'object')}; {out / 'answer.png'}")
    spoken = []
    with stages.stage("hold a conversation about the same scene"):
        dialogue = trained.dialogue(EXAMPLE_IMAGE)
        for question in EXAMPLE_DIALOGUE:
            result = dialogue.ask(question, allow_empty=True)
            picture = overlay(Image.open(EXAMPLE_IMAGE), result.masks, result.objects, min_side=448)
            spoken.append(Spoken(question, result.thinking, picture))
            write_image(out / f"round_{len(spoken)}.png", picture)
            print(f"      {question!r}: {result.thinking!r} -> {counted(len(result.objects), 'object')}")
    chained = None
    if reasoning_steps:
        questions = max(1, held_out // HOPS_SHARE)
        chained = _learn_to_chain(stages, out, reasoning_steps, questions, seed, extra)
    shown = os.path.relpath(merged)
    with stages.stage("write the page"):
        page = Page(
            before, after, before_predictions, after_predictions, rows,
            read_curves(out / "train" / "metrics.jsonl"), trained.policy.spec, stages.seconds, describe_machine(),
            shown, spoken, chained,
        )  # fmt: skip
        write_page(out / "index.html", page)
        write_image(out / "before_after.png", draw_before_after(page))

    gain = page.mean_gain
    start, end = before.metrics["gIoU"].value, after.metrics["gIoU"].value
    print(f"\nmean IoU on {held_out} held-out questions: {start:.3f} -> {end:.3f}")
    print(f"gain {gain.mean:+.3f}, 95 % interval {gain.low:+.3f} to {gain.high:+.3f} over the questions")
    print(f"whole demo: {sum(stages.seconds.values()) / 60:.1f} minutes")
    print(f"open {(out / 'index.html').resolve()}")
    print(f"the trained policy is in {shown}; next:")
    for what, command in next_commands(shown):
        print(f"  {what}:\n    {command}")
    print("It knows only synthetic shapes. For photos: docs/README.md, Which model do I need?")
    return 0


def _learn_to_chain(
    stages: Stages, out: Path, steps: int, questions: int, seed: int, extra: Sequence[str]
) -> hops.Chained:
    """The second training, in ``out/hops``; answers to ``questions`` questions of each number of steps of reasoning."""
    from seg_zero.cli.demo import hops
    from seg_zero.export.merge import merge
    from seg_zero.files import write_image
    from seg_zero.policy.model_files import HOP_START

    folder, rows = out / "hops", steps * PROMPTS_PER_STEP
    with stages.stage("make questions that take several steps of reasoning"):
        hops.write_questions(folder / "data", rows)
        print(f"      {rows} of one and two steps in {folder / 'data'}")
    with stages.stage("evaluate a policy that writes single steps"):
        single = hops.judge(HOP_START, questions)
    with stages.stage(f"train it on one and two steps of reasoning: {steps} GRPO steps"):
        checkpoint = _train(folder, steps, seed, hops.overrides(extra))
    with stages.stage("merge and evaluate it on one to four steps of reasoning"):
        merged = merge(checkpoint, folder / "merged")
        chained = hops.Chained(single, hops.judge(merged, questions))
        print("      " + chained.table().replace("\n", "\n      "), flush=True)
        write_image(out / "chains.png", chained.picture())
        print(f"      {merged}; {out / 'chains.png'}")
    return chained


MARKER = ".seg-zero-demo"


def parser() -> CommandParser:
    made = CommandParser("demo", __doc__.splitlines()[0] if __doc__ else "")
    made.add_argument(
        "--out",
        default="outputs/demo",
        help="folder; a finished demo in it is replaced, an interrupted one goes on (default: %(default)s)",
    )
    made.add_argument("--steps", type=int, default=40, help="GRPO steps (default: %(default)s)")
    made.add_argument(
        "--reasoning_steps",
        type=int,
        help="GRPO steps of the second training, on questions that take several steps of reasoning; 0 leaves it out "
        "(default: as --steps)",
    )
    made.add_argument("--held_out", type=int, default=300, help="evaluation questions of scenes (default: %(default)s)")
    made.add_argument("--seed", type=int, default=1, help="for question order and sampling (default: %(default)s)")
    made.add_argument("overrides", nargs="*", help="Hydra overrides for both trainings, e.g. worker.rollout.n=16")
    return made


def main(argv: Sequence[str]) -> int:
    args = parser().parse_args(argv)
    if args.steps < 1:
        raise InputError(f"--steps {args.steps} must be at least 1")
    reasoning_steps = args.steps if args.reasoning_steps is None else args.reasoning_steps
    if reasoning_steps < 0:
        raise InputError(f"--reasoning_steps {reasoning_steps} must be at least 0, which leaves that training out")
    if args.held_out < 2:
        raise InputError(f"--held_out {args.held_out} must be at least 2, as the gain needs an interval")
    require("the demo", (*TRAINING, *VLLM))
    out = Path(args.out)
    check_folder_place(out)
    if out.exists() and any(out.iterdir()) and not (out / MARKER).exists():
        raise InputError(f"--out {out} holds other files; name an empty or new folder")
    return run_demo(out.resolve(), args.steps, reasoning_steps, args.held_out, args.seed, args.overrides)
