"""Registration of a truth to a scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seg_zero.cli.main import main
from seg_zero.online3d.evaluation.register import moved_by, register
from seg_zero.online3d.results.files import write_result
from seg_zero.online3d.results.result import Result


def room(seed: int = 0) -> np.ndarray:
    """Points on three walls, in metres."""
    rng = np.random.default_rng(seed)
    flat = rng.uniform(0, 2, (900, 3))
    for axis in range(3):
        flat[axis * 300 : (axis + 1) * 300, axis] = 0
    return flat


def motion(degrees: float, shift: tuple[float, float, float]) -> np.ndarray:
    angle = np.radians(degrees)
    made = np.eye(4)
    made[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    made[:3, 3] = shift
    return made


def test_a_small_motion_is_found() -> None:
    true = motion(0.7, (0.015, -0.01, 0.02))
    found = register(room(), moved_by(true, room()))
    assert np.abs(moved_by(found, room()) - moved_by(true, room())).max() < 1e-3
    assert np.linalg.det(found[:3, :3]) == pytest.approx(1)


@pytest.mark.parametrize("fixed", [np.zeros((0, 3)), room() + 50], ids=["nothing there", "too far"])
def test_what_is_not_near_is_not_moved(fixed: np.ndarray) -> None:
    assert (register(room(), fixed) == np.eye(4)).all()


def test_the_command_registers_where_it_is_told_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two interlocked combs, 6 cm between their teeth; the truth is off by 4 cm, so a tooth meets the next one."""
    teeth = np.arange(240)
    combs = np.stack([0.06 * teeth, np.ones(240), np.ones(240)], axis=1)
    points = np.concatenate([room(), combs]).astype(np.float32)
    owner = np.concatenate([np.full(900, -1), np.random.default_rng(1).integers(0, 2, 240)])
    numbers, frames = np.arange(2), [np.array([0])] * 2
    masks = owner[:, None] == numbers
    found = Result(points, np.zeros(points.shape, np.uint8), masks, np.zeros((2, 0)), numbers, numbers, frames)
    write_result(found, tmp_path)
    np.savez(tmp_path / "truth.npz", points=points + np.array([0.04, 0, 0]), ids=np.where(owner < 0, 0, 1001 + owner))
    line = ["scan", "evaluate", str(tmp_path), "--truth", str(tmp_path / "truth.npz")]
    tables = []
    for words in ([], ["--register"]):
        assert main([*line, *words]) == 0
        tables.append(capsys.readouterr().out)
        assert ("brought onto" in (tmp_path / "evaluation.html").read_text()) == bool(words)
    assert " 0.000  0.000  " in tables[0] and "1.000  1.000  1.000" in tables[1]
