"""What the launcher looks at in files of dialogues: read once, and unusable records skipped where that was asked."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seg_zero.dialogue.data.records import DialogueRecord, Reading, TrueRound, read_dialogues, write_dialogues
from seg_zero.dialogue.references import read_question
from seg_zero.errors import InputError
from seg_zero.masks import encode_mask
from seg_zero.training.launch import checks, dialogue_checks, start
from seg_zero.training.launch.config import load_config
from seg_zero.training.row_files import write_bad_rows

SETTINGS = ["policy=tiny", "data=dialogues", "hardware=cpu_2core", "schedule=tiny", "data.train_batch_size=2"]
QUESTIONS = ["the left one", "right of instance 1"]


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    dialogue_checks.forget_files()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file is read, by its name."""
    found: Counter[str] = Counter()

    def counted(path: Path) -> Reading:
        found[path.name] += 1
        return read_dialogues(path)

    def earlier(path: str, *arguments: Any) -> None:
        found[Path(path).name] += 1

    monkeypatch.setattr(dialogue_checks, "read_dialogues", counted)
    monkeypatch.setattr(dialogue_checks, "earlier_answers", earlier)
    return found


def write_file(folder: Path, name: str, count: int, broken: int = 0) -> Path:
    mask = np.zeros((40, 60), dtype=bool)
    mask[5:15, 5:15] = True
    Image.new("RGB", (60, 40)).save(folder / "a.png")
    rounds = tuple(TrueRound(read_question(text), encode_mask(mask)) for text in QUESTIONS)
    path = folder / name
    write_dialogues(path, [DialogueRecord(f"talk-{n}", folder / "a.png", 60, 40, rounds) for n in range(count)])
    path.write_text('{"id": "broken"}\n' * broken + path.read_text())
    return path


def settings_of(train: Path, val: Path, *overrides: str) -> Any:
    return load_config([*SETTINGS, f"data.train_files={train}", f"data.val_files={val}", *overrides])


def all_checks(config: Any) -> int:
    checks.check_data(config)
    checks.find_bad_rows(config, skip_bad=False)
    checks.check_data(config)
    return start.total_steps(config)


@pytest.mark.parametrize("rows", ["rounds", "conversations"])
def test_a_file_is_read_once_however_many_checks_ask(tmp_path: Path, reads: Counter[str], rows: str) -> None:
    train, val = write_file(tmp_path, "train.jsonl", 4), write_file(tmp_path, "val.jsonl", 2)
    config = settings_of(train, val, f"dialogue={rows}", "trainer.total_epochs=3", "trainer.total_training_steps=null")
    assert all_checks(config) == all_checks(config) == (12 if rows == "rounds" else 6)
    assert reads == {"train.jsonl": 1, "val.jsonl": 1}


def test_a_file_that_was_written_again_is_read_again(tmp_path: Path, reads: Counter[str]) -> None:
    train = write_file(tmp_path, "train.jsonl", 4)
    config = settings_of(train, train, "dialogue=conversations")
    assert checks.count_rows(config, "train_files") == 4
    write_file(tmp_path, "train.jsonl", 6)
    assert checks.count_rows(config, "train_files") == checks.count_rows(config, "val_files") == 6
    dialogue_checks.forget_files()
    checks.count_rows(config, "train_files")
    assert reads == {"train.jsonl": 3}


def test_earlier_answers_are_checked_once(tmp_path: Path, reads: Counter[str]) -> None:
    train = write_file(tmp_path, "train.jsonl", 4)
    answers = tmp_path / "answers"
    answers.mkdir()
    own = ["dialogue=rounds", "dialogue.teacher_history=0.5", f"dialogue.predictions={answers}"]
    config = settings_of(train, write_file(tmp_path, "val.jsonl", 2), *own)
    all_checks(config)
    all_checks(config)
    assert reads["answers"] == 1
    (answers / "dialogues.jsonl").write_text("{}")
    all_checks(config)
    assert reads["answers"] == 2


def test_unusable_records_are_refused_or_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, val = write_file(tmp_path, "train.jsonl", 3, broken=2), write_file(tmp_path, "val.jsonl", 2)
    config = settings_of(train, val, "dialogue=conversations")
    checks.check_data(config)  # does not refuse what --skip-bad may skip
    with pytest.raises(InputError, match=r"2 records of .*train\.jsonl cannot be used, record 1 .*--skip-bad skips"):
        checks.find_bad_rows(config, skip_bad=False)
    bad = checks.find_bad_rows(config, skip_bad=True)
    assert bad == {str(train): [0, 1]} and "2 records of" in capsys.readouterr().out
    write_bad_rows(tmp_path / "bad.json", bad)
    config.data.bad_rows = str(tmp_path / "bad.json")
    assert checks.count_rows(config, "train_files") == 3
    train.write_text('{"id": "broken"}\n')
    with pytest.raises(InputError, match=r"train\.jsonl holds no dialogue"):
        checks.check_data(config)


def test_skipping_leaves_what_a_step_needs(tmp_path: Path) -> None:
    train = write_file(tmp_path, "train.jsonl", 1, broken=3)
    config = settings_of(train, train, "dialogue=conversations")
    assert json.loads(train.read_text().splitlines()[0]) == {"id": "broken"}
    with pytest.raises(InputError, match=r"has 1 rows, fewer than data\.train_batch_size=2"):
        checks.check_data(config)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("engine.group_rollouts=true", r"group_rollouts=true does not work with dialogue\.rows=conversations"),
        ("algorithm.adv_estimator=grpo", r"set it to dialogue_grpo"),
        ("data.augmentation.flip=0.5", r"would move what earlier rounds of a dialogue say"),
        ("data.train_files={val}", r"has 2 rows, fewer than data\.train_batch_size=4"),
        ("data.val_files={folder}/gone.jsonl", r"gone\.jsonl is no file of dialogues; `seg-zero data dialogues"),
        ("data.train_files={broken}", r"1 records of .* cannot be used, record 1 \(broken\).*--skip-bad skips them"),
    ],
)
def test_a_dry_run_refuses_what_a_run_would(override: str, words: str, tmp_path: Path) -> None:
    train, val = write_file(tmp_path, "train.jsonl", 4), write_file(tmp_path, "val.jsonl", 2)
    broken = write_file(tmp_path, "broken.jsonl", 4, broken=1)
    settings = [*SETTINGS[:-1], "dialogue=conversations", "data.train_batch_size=4", f"output_dir={tmp_path / 'run'}"]
    settings += ["worker.actor.global_batch_size=4", f"data.train_files={train}", f"data.val_files={val}"]
    with pytest.raises(InputError, match=words) as error:
        start.launch([*settings, override.format(val=val, folder=tmp_path, broken=broken)], dry_run=True)
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


def test_a_dry_run_reads_each_file_once(
    tmp_path: Path, reads: Counter[str], capsys: pytest.CaptureFixture[str]
) -> None:
    train, val = write_file(tmp_path, "train.jsonl", 5, broken=1), write_file(tmp_path, "val.jsonl", 2)
    settings = [*SETTINGS, "worker.actor.global_batch_size=2", f"data.train_files={train}", f"data.val_files={val}"]
    own = ["dialogue=conversations", f"output_dir={tmp_path / 'run'}"]
    assert start.launch([*settings, *own], dry_run=True, skip_bad=True) == 0
    said = capsys.readouterr()
    assert "5 training rows: 2 steps per epoch" in said.out and "1 records of" in said.err
    assert reads == {"train.jsonl": 1, "val.jsonl": 1}
