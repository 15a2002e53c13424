"""The demo's command with its training replaced: every other stage, the page and what it prints at the end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

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
