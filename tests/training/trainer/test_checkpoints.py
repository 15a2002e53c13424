"""Checkpoints are whole or absent; the right ones stay."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from seg_zero.errors import InputError
from seg_zero.training.trainer.checkpoints import TRACKER, Checkpoints


def save(checkpoints: Checkpoints, step: int, content: str = "weights") -> None:
    with checkpoints.writing(step) as partial:
        folder = partial / f"global_step_{step}"
        folder.mkdir()
        (folder / "model.pt").write_text(content)


def test_a_checkpoint_counts_when_all_of_it_is_there(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep_last=0, keep_best=False)
    assert checkpoints.latest() is None
    with checkpoints.writing(2) as partial:
        (partial / "global_step_2").mkdir()
        assert checkpoints.steps() == [] and checkpoints.latest() is None
    assert checkpoints.steps() == [2] and checkpoints.latest() == 2


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), RuntimeError("no")])
def test_a_failed_save_leaves_the_earlier_ones(tmp_path: Path, error: BaseException) -> None:
    checkpoints = Checkpoints(tmp_path, keep_last=1, keep_best=False)
    save(checkpoints, 2)
    with pytest.raises(type(error)), checkpoints.writing(4) as partial:
        (partial / "global_step_4").mkdir()
        raise error
    assert checkpoints.steps() == [2] and checkpoints.latest() == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["global_step_2", TRACKER]


def test_what_a_kill_left_is_removed(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep_last=2, keep_best=False)
    (tmp_path / ".writing" / "global_step_9").mkdir(parents=True)
    (tmp_path / ".removing_3").mkdir()
    checkpoints.clean()
    assert list(tmp_path.iterdir()) == []


def test_a_step_done_again_replaces_its_checkpoint(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep_last=0, keep_best=False)
    save(checkpoints, 2, "old")
    save(checkpoints, 2, "new")
    assert (tmp_path / "global_step_2" / "model.pt").read_text() == "new"


def test_the_newest_and_the_best_stay(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep_last=2, keep_best=True)
    for step, value in ((1, 0.2), (2, 0.9), (3, 0.3), (4, 0.9), (5, 0.1)):
        save(checkpoints, step)
        assert checkpoints.note(step, "validation/gIoU", value) == (step in (1, 2))
    assert checkpoints.steps() == [2, 4, 5]
    best = checkpoints.best()
    assert best is not None and (best.step, best.value) == (2, 0.9)
    assert checkpoints.is_better("validation/gIoU", 0.95) and not checkpoints.is_better("validation/gIoU", 0.9)
    assert checkpoints.is_better("validation/cIoU", 0.1)  # of another metric nothing is known yet


@pytest.mark.parametrize("text", ["7", "", "two"])
def test_a_tracker_that_names_no_checkpoint_is_an_error(tmp_path: Path, text: str) -> None:
    """verl would silently start anew."""
    checkpoints = Checkpoints(tmp_path, keep_last=0, keep_best=False)
    save(checkpoints, 2)
    (tmp_path / TRACKER).write_text(text)
    with pytest.raises(InputError, match="the checkpoints here are: 2"):
        checkpoints.latest()


def test_a_full_disk_is_said_with_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch reports it as a RuntimeError about positions in its archive."""
    checkpoints = Checkpoints(tmp_path, keep_last=0, keep_best=False)
    save(checkpoints, 2)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    message = r"is full \(1 MiB free\), step 4 could not be saved.*\(2\); free some space"
    with pytest.raises(InputError, match=message), checkpoints.writing(4):
        raise RuntimeError("unexpected pos 3113344 vs 3113236")
    assert checkpoints.latest() == 2
