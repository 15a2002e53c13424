"""The demo's command with its training replaced: every other stage, the page and what it prints at the end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from seg_zero.cli.demo import _train, is_unfinished
from seg_zero.cli.main import main
from seg_zero.policy.model_files import TINY_POLICY


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_demo_ends_with_a_page_and_the_next_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"

    def train(folder: Path, steps: int, seed: int, extra: list[str]) -> Path:
        (folder / "train").mkdir()
        lines = [json.dumps({"step": i, "reward/score/mean": float(i)}) for i in range(1, steps + 1)]
        (folder / "train" / "metrics.jsonl").write_text("\n".join(lines))
        return folder / "train"

    def merge(checkpoint: Path, folder: Path) -> Path:
        shutil.copytree(TINY_POLICY, folder)
        return folder

    monkeypatch.setattr("seg_zero.cli.demo._train", train)
    monkeypatch.setattr("seg_zero.cli.demo.PROMPTS_PER_STEP", 1)
    monkeypatch.setattr("seg_zero.export.merge.merge", merge)
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--out", str(out), "--steps", "8", "--held_out", "6"]) == 0
    said = capsys.readouterr().out
    assert "seg-zero web --model demo/merged" in said and "-> 1 object;" in said
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "went from" in page and "on 6 questions" in page and "<h3>Score</h3>" in page
    assert "The trained model is in <code>demo/merged</code>" in page
    assert (out / "before_after.png").is_file()


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
