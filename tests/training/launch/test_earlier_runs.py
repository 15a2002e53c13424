"""Runs begun before modules moved: their folders resume, and their module names are refused in one line."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from seg_zero.data.synthetic.rows import write_split
from seg_zero.errors import InputError
from seg_zero.training.launch import start
from seg_zero.training.launch.config import load_config
from seg_zero.training.launch.renamed_keys import MOVED_MODULES
from seg_zero.training.trainer.checkpoints import Checkpoints

TINY = ["policy=tiny", "data=synthetic", "hardware=cpu_2core", "schedule=tiny"]
# What such a run wrote into config.yaml, as far as it names code.
OLD_CONFIG = {
    "data": {"custom_cls": {"path": "pkg://seg_zero.training.dataset", "name": "SegmentationDataset"}},
    "actor_rollout_ref": {"model": {"external_lib": "seg_zero.training.gpu_worker", "path": "/models/tiny"}},
    "reward": {
        "custom_reward_function": {"path": "pkg://seg_zero.training.reward"},
        "terms": {"think": {"function": "rewards.text.think", "weight": 1.0}},
    },
    "trainer": {"checkpoint_callback_class": "seg_zero.training.checkpoint_files.PromptSpecCallback"},
}
STEP = {"step": 2, "reward/score/mean": 1.5, "validation/gIoU": 0.25}


def write_old_run(folder: Path) -> None:
    """The files that a launcher reads, of a run that ended after step 2."""
    checkpoint = folder / "checkpoints" / "global_step_2"
    (checkpoint / "actor" / "huggingface").mkdir(parents=True)
    for kind in ("model", "optim", "extra_state"):
        (checkpoint / "actor" / f"{kind}_world_size_1_rank_0.pt").write_bytes(b"")
    (checkpoint / "data.pt").write_bytes(b"")
    (checkpoint / "metrics.json").write_text(json.dumps(STEP))
    (checkpoint.parent / "latest_checkpointed_iteration.txt").write_text("2")
    best = {"step": 2, "metric": "validation/gIoU", "value": 0.25}
    (checkpoint.parent / "best.json").write_text(json.dumps(best))
    (folder / "config.yaml").write_text(yaml.safe_dump(OLD_CONFIG))
    (folder / "metrics.jsonl").write_text(json.dumps({"step": 1}) + "\n" + json.dumps(STEP) + "\n")
    (folder / "phase.json").write_text(json.dumps({"step": 2, "doing": "saving a checkpoint", "since": 0.0}))


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for inner in value.values() for text in strings(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in strings(inner)]
    return [value] if isinstance(value, str) else []


def test_a_run_from_before_the_move_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, rows = tmp_path / "run", tmp_path / "rows.parquet"
    write_old_run(run)
    write_split(rows, seed=4, count=16)
    given: list[tuple[Any, ...]] = []
    monkeypatch.setattr(start, "supervise", lambda *arguments: given.append(arguments) or 0)
    arguments = [*TINY, f"data.train_files={rows}", f"data.val_files={rows}", f"output_dir={run}"]
    assert start.launch([*arguments, "data.train_batch_size=8", "trainer.total_training_steps=4"]) == 0
    ((config, output, total, resumed),) = given
    assert (output, total, resumed) == (run, 4, STEP)
    assert f"resuming {run} after step 2" in capsys.readouterr().out
    # The validation of step 2 is in its row, so it is not done again.
    assert config.trainer.val_before_train is False
    written = strings(yaml.safe_load((run / "config.yaml").read_text()))
    assert not [text for text in written if text.removeprefix("pkg://").startswith(tuple(MOVED_MODULES))]
    best = Checkpoints(run / "checkpoints", 0, True).best()
    assert best is not None and (best.step, best.value) == (2, 0.25)


@pytest.mark.parametrize(
    ("override", "remedy"),
    [
        ("actor_rollout_ref.model.external_lib=seg_zero.training.gpu_worker", "seg_zero.training.engine.gpu_worker"),
        (
            "trainer.checkpoint_callback_class=seg_zero.training.checkpoint_files.PromptSpecCallback",
            "seg_zero.training.trainer.checkpoint_files.PromptSpecCallback",
        ),
        ("data.custom_cls.path=pkg://seg_zero.training.dataset", "pkg://seg_zero.training.trainer.dataset"),
    ],
)
def test_former_module_names_are_refused_with_the_new_one(override: str, remedy: str) -> None:
    with pytest.raises(InputError) as error:
        load_config([*TINY, override])
    assert str(error.value) == f"{override} names a module that has moved; give {remedy}"


def test_moved_modules_are_where_the_messages_say() -> None:
    assert all(importlib.util.find_spec(new) for new in MOVED_MODULES.values())
    assert not any(importlib.util.find_spec(old) for old in MOVED_MODULES)
