"""The demo's command with its training replaced: every other stage, the page and what it prints at the end."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from importlib import import_module, metadata
from pathlib import Path

import pytest

from seg_zero.cli import demo
from seg_zero.cli.demo import _train, describe_machine, is_unfinished
from seg_zero.cli.main import main
from seg_zero.policy.model_files import TINY_POLICY


def test_the_machine_is_described_without_the_packages_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(name: str) -> str:
        if name in ("verl", "ray"):
            raise metadata.PackageNotFoundError(name)
        return "1.2.3"

    import_module("torch")  # reads versions of other packages, once
    monkeypatch.setattr(metadata, "version", installed)
    assert describe_machine().endswith(", torch 1.2.3, transformers 1.2.3")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_demo_goes_on_after_an_interrupted_training_and_ends_with_a_page_and_the_next_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"

    def train(folder: Path, steps: int, seed: int, extra: list[str]) -> Path:
        (folder / "train").mkdir(exist_ok=True)
        if folder.name == "hops" and not stopped:
            stopped.append(folder)
            raise KeyboardInterrupt("stopped")
        lines = [json.dumps({"step": i, "reward/score/mean": float(i)}) for i in range(1, steps + 1)]
        (folder / "train" / "metrics.jsonl").write_text("\n".join(lines))
        return folder / "train"

    def merge(checkpoint: Path, folder: Path) -> Path:
        shutil.copytree(TINY_POLICY, folder)
        return folder

    stopped: list[Path] = []
    monkeypatch.setattr("seg_zero.cli.demo._train", train)
    monkeypatch.setattr("seg_zero.cli.demo.PROMPTS_PER_STEP", 1)
    monkeypatch.setattr("seg_zero.export.merge.merge", merge)
    monkeypatch.chdir(tmp_path)
    command = ["demo", "--out", str(out), "--steps", "8", "--reasoning_steps", "2", "--held_out", "6"]
    assert main(command) == 130
    before = (out / "hops" / "data" / "train.parquet").stat().st_mtime_ns
    capsys.readouterr()
    assert main(command) == 0
    assert (out / "hops" / "data" / "train.parquet").stat().st_mtime_ns == before
    said = capsys.readouterr().out
    assert said.startswith("going on with the demo that was interrupted")
    assert "seg-zero web --model demo/merged" in said and "-> 1 object;" in said
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "went from" in page and "on 6 questions" in page and "<h3>Score</h3>" in page
    assert "The trained model is in <code>demo/merged</code>" in page
    assert "<b>3. “the green circle left of instance 2”</b>" in page
    assert all((out / name).is_file() for name in ("before_after.png", "round_1.png", "round_3.png", "chains.png"))
    assert "[12/12] write the page" in said and "<h2>Several steps of reasoning</h2>" in page


@pytest.mark.parametrize(
    ("left", "goes_on"),
    [
        ({".seg-zero-demo": "ASKED"}, True),
        ({".seg-zero-demo": "ASKED", "train/metrics.jsonl": "{}"}, True),
        ({".seg-zero-demo": "other arguments"}, False),
        ({".seg-zero-demo": "ASKED", "index.html": "<html>"}, False),  # it is finished
        ({}, False),
    ],
)
def test_a_demo_goes_on_where_the_same_one_was_interrupted(tmp_path: Path, left: dict[str, str], goes_on: bool) -> None:
    for name, text in left.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert is_unfinished(tmp_path, "ASKED") == goes_on


def test_a_demo_that_was_trained_is_not_trained_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoints = tmp_path / "train" / "checkpoints"
    (checkpoints / "global_step_3").mkdir(parents=True)
    (checkpoints / "latest_checkpointed_iteration.txt").write_text("3")
    assert _train(tmp_path, 3, 1, []) == checkpoints / "global_step_3"
    assert "trained already" in capsys.readouterr().out


@pytest.mark.parametrize(("number", "reaches"), [("SIGINT", False), ("SIGTERM", True)])
def test_the_training_of_the_demo_ends_in_its_own_way(number: str, reaches: bool) -> None:
    """Ctrl-C comes to both from the terminal; the demo passes on what comes to it alone, and waits."""
    code = (
        "import os, signal, sys, time\n"
        f"signal.signal(signal.{number}, lambda *_: sys.exit(7))\n"
        f"os.kill(os.getppid(), signal.{number})\n"
        f"time.sleep({20 if reaches else 0.5})\n"
        "sys.exit(5)"
    )
    assert demo._follow([sys.executable, "-c", code]) == (7 if reaches else 5)


@pytest.mark.parametrize("code", demo.STOPPED)
def test_a_demo_whose_training_was_stopped_is_no_error(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "_follow", lambda _: code)
    monkeypatch.setattr(demo, "run_demo", lambda out, *_: demo._train(out, 1, 1, ()) and 0)
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 130
    said = capsys.readouterr()
    assert said.err == "the demo was stopped during training; the same command goes on\n"


@pytest.mark.parametrize("word", ["a=b", "data.train_files='/tmp/my demo/x.parquet'", "a='$HOME'", "a b", 'it\'s "x"'])
def test_the_command_of_the_training_can_be_copied(word: str) -> None:
    shown = demo.in_shell(word)
    assert shlex.split(shown) == [word] and ("'\"'\"'" not in shown or "$" in word or '"' in word)
