"""``seg-zero remote-sensing train``: a run on a folder of tiles, its dry run, and one line for what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.remote_sensing import Halves
from PIL import Image
from safetensors.torch import load_file

from seg_zero.cli.main import main

SHORT = ["recipe=tiny", "model.layers=1", "schedule.steps=2", "schedule.batch_size=2", "schedule.evaluate_tiles=1"]


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, made = tmp_path_factory.mktemp("tiles"), Halves(3)
    (folder / "classes.json").write_text(json.dumps(made.classes))
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (folder / split / kind).mkdir(parents=True)
        for index in range(len(made)):
            Image.fromarray(made.image(index)).save(folder / split / "images" / f"{index}.png")
            Image.fromarray(made.labels(index)).save(folder / split / "labels" / f"{index}.png")
    return folder


def test_a_run_and_what_it_says(tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert main(["remote-sensing", "train", *SHORT, f"data.train.folder={tiles}", f"output_dir={out}"]) == 0
    said = capsys.readouterr().out
    assert "step 2/2  loss" in said and "mIoU" in said and "best mIoU" in said.splitlines()[-1]
    assert (out / "step_000002" / "model.safetensors").is_file()


def test_a_dry_run_writes_nothing(tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*SHORT, f"data.train.folder={tiles}", f"output_dir={tmp_path / 'run'}", "--dry-run"]
    assert main(["remote_sensing", "train", *arguments]) == 0
    said = capsys.readouterr().out
    assert "batch_size: 2" in said and "of which trained" in said and "3 tiles to train on, 3 to evaluate on" in said
    assert not (tmp_path / "run").exists()


def test_a_dry_run_reads_the_files_to_start_from(
    tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "clip.pt").write_bytes(b"no weights")
    given = [*SHORT, f"data.train.folder={tiles}", f"pretrained.clip={tmp_path / 'clip.pt'}", "--dry-run"]
    assert main(["remote-sensing", "train", *given]) == 2
    printed = capsys.readouterr()
    assert "clip.pt is no checkpoint" in printed.err and not printed.out


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_take_the_steps_of_one(tiles: Path, tmp_path: Path) -> None:
    # Released: every pixel counts, so that the mean of two means is that of all.
    options = [*SHORT, f"data.train.folder={tiles}", "compat=released", "augmentation.colour=false"]
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*start, "-m", "seg_zero.cli", "remote-sensing", "train", *options, f"output_dir={tmp_path / 'two'}"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("best mIoU") == 1
    assert main(["remote-sensing", "train", *options, f"output_dir={tmp_path / 'one'}"]) == 0
    one, two = (load_file(tmp_path / name / "step_000002" / "model.safetensors") for name in ("one", "two"))
    # Adam moves a weight by the whole rate whose gradient is nothing but rounding; few have such.
    apart = torch.cat([(one[name] - two[name]).abs().flatten() for name in one])
    assert apart.mean() < 1e-6 and (apart > 1e-4).float().mean() < 1e-3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["recipe=tiny"], "data.train.folder has no value"),
        (["recipe=tiny", "data.train.folder=nowhere"], "nowhere does not exist"),
        (["recipe=tiny", "data.train.foldr=x"], "nearest existing: data.train.folder"),
        (["--dryrun"], "--dry-run"),
    ],
)
def test_one_line_for_what_is_wrong(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["remote-sensing", "train", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and len(error.strip().splitlines()) == 1
