"""The recording of a scan for rerun's viewer, read back by rerun's own tool."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from helpers.rooms import ROOM, SETTINGS

from seg_zero.cli.main import main
from seg_zero.errors import InputError
from seg_zero.online3d.inputs.mask_sources import FolderMasks
from seg_zero.online3d.page.recording import write_recording
from seg_zero.online3d.scan import scan
from seg_zero.online3d.synthetic.files import EXACT, write_sequence
from seg_zero.online3d.synthetic.sequence import SyntheticSequence

FRAMES = 6


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    room = tmp_path / "room"
    write_sequence(SyntheticSequence(ROOM, FRAMES, 160, 120, turns=0.3), room)
    scan(room, tmp_path / "scan", FolderMasks(room / EXACT), "exact", settings=SETTINGS, say=lambda _: None)
    return tmp_path / "scan"


def entities(path: Path) -> Counter[str]:
    """How many rows a recording has for each entity."""
    tool = [sys.executable, "-m", "rerun", "rrd", "print", str(path)]
    text = subprocess.run(tool, capture_output=True, text=True, check=True, timeout=60).stdout
    rows: Counter[str] = Counter()
    for count, name in re.findall(r"with (\d+) rows? .* - (/.*?) - data columns", text):
        rows[name.replace("\\", "")] += int(count)
    return rows


def test_a_recording_has_objects_camera_pictures_and_masks(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "room" / "color" / "20.png").write_bytes(b"no picture")
    assert main(["scan", "show", str(finished), "--rerun"]) == 0
    said = capsys.readouterr().out
    assert "left out: frame 20" in said and said.endswith(f"open it with: rerun {finished / 'scan.rrd'}\n")
    found = entities(finished / "scan.rrd")
    for name in ("picture", "objects"):
        assert found[f"/world/camera/{name}"] == FRAMES - 1
    assert found["/world/points"] == found["/world/objects/1"] == found["/world/objects/no object"] == 1


def test_a_recording_needs_the_sequence(finished: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "room")
    with pytest.raises(InputError, match="room"):
        write_recording(finished, tmp_path / "scan.rrd")
    assert not (tmp_path / "scan.rrd").exists()
