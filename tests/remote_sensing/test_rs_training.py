"""Training: learns, resumes to the same weights, keeps the best, says what is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.remote_sensing import SMALL, Halves, telling_network
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from seg_zero.errors import InputError
from seg_zero.remote_sensing.model.files import load_network, save_network
from seg_zero.remote_sensing.model.network import RemoteSensingNetwork
from seg_zero.remote_sensing.segmenter import RemoteSensingSegmenter
from seg_zero.remote_sensing.training.loop import rate_factor, train
from seg_zero.remote_sensing.training.plan import memory_of, planned
from seg_zero.remote_sensing.training.settings import (
    AugmentationSettings,
    DataSettings,
    FinetuneSettings,
    OptimiserSettings,
    ScheduleSettings,
    TilesPlace,
    TrainSettings,
)


def settings(out: Path, steps: int = 4, **changes: object) -> TrainSettings:
    made = TrainSettings(
        output_dir=str(out),
        data=DataSettings(TilesPlace("folder", "tiles"), workers=0),
        model=SMALL,
        augmentation=AugmentationSettings(side=32, max_side=100),
        optimiser=OptimiserSettings(rate=5e-3, clip_norm=1.0),
        schedule=ScheduleSettings(
            steps=steps, batch_size=2, evaluate_every=2, save_every=1, log_every=1, evaluate_tiles=2, pictures=1
        ),
        device="cpu",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def weights(out: Path, folder: str | None = None) -> dict[str, torch.Tensor]:
    name = folder or json.loads((out / "checkpoints.json").read_text())["last"]
    return load_file(out / name / "model.safetensors")


class Stop(Exception):
    pass


def test_an_interrupted_and_resumed_run_equals_one_that_was_not(tmp_path: Path) -> None:
    tiles = Halves()
    train(settings(tmp_path / "whole"), tiles, tiles, lambda line: None)

    def stop(line: str) -> None:
        if line.startswith("step 3/4  loss"):
            raise Stop

    with pytest.raises(Stop):
        train(settings(tmp_path / "cut"), tiles, tiles, stop)
    assert json.loads((tmp_path / "cut" / "checkpoints.json").read_text())["step"] == 2
    lines: list[str] = []
    summary = train(settings(tmp_path / "cut"), tiles, tiles, lines.append)
    assert lines[0].startswith("resuming at step 2 of 4") and summary.steps == 4
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert whole.keys() == cut.keys() and all(torch.equal(whole[name], cut[name]) for name in whole)
    rows = [
        {name: value for name, value in json.loads(line).items() if "seconds" not in name}
        for out in ("whole", "cut")
        for line in (tmp_path / out / "metrics.jsonl").read_text().splitlines()
    ]
    assert rows[: len(rows) // 2] == rows[len(rows) // 2 :] and len(rows) == 12


def test_a_run_leaves_a_model_metrics_and_pictures(tmp_path: Path) -> None:
    tiles, out, lines = Halves(), tmp_path / "run", []
    summary = train(settings(out, 3), tiles, tiles, lines.append)
    pointer = json.loads((out / "checkpoints.json").read_text())
    assert pointer["last"] == "step_000003" and summary.best_miou == pointer["best_miou"]
    assert {path.name for path in out.glob("*step_*")} == {pointer["last"], pointer["best"]}
    assert any("mIoU" in line and "fwIoU" in line for line in lines) and any("left" in line for line in lines)
    segmenter = RemoteSensingSegmenter.from_pretrained(out, "cpu")
    assert segmenter.classes == tiles.classes
    assert segmenter.probabilities(tiles.image(0), ["meadow", "sea", "road"]).shape == (3, 40, 48)
    board = EventAccumulator(str(out / "tensorboard")).Reload()
    assert {"train/loss", "evaluation/mIoU"} <= set(board.Tags()["scalars"])
    assert board.Tags()["images"] == ["tile, truth, prediction"]


def test_it_learns_on_tiles(tmp_path: Path) -> None:
    start = telling_network(remote=None, dino=None)
    save_network(start, tmp_path / "start")
    chosen = replace(
        settings(tmp_path / "run", 120),
        model=start.settings,
        start_from=str(tmp_path / "start"),
        augmentation=AugmentationSettings(side=32, max_side=100, colour=False),
        finetune=FinetuneSettings(clip="frozen"),
        schedule=ScheduleSettings(
            steps=120, batch_size=4, evaluate_every=120, save_every=120, log_every=120, pictures=0
        ),
    )
    summary = train(chosen, Halves(), Halves(4, 36, 60), lambda line: None)
    assert summary.best_miou is not None and summary.best_miou > 0.85


def test_parts_of_a_batch_give_the_step_of_the_whole(tmp_path: Path) -> None:
    once = replace(settings(tmp_path / "once", 2), augmentation=AugmentationSettings(32, 100, 0.5, False))
    parts = replace(once, output_dir=str(tmp_path / "parts"), schedule=replace(once.schedule, accumulate=2))
    for chosen in (once, parts):
        train(chosen, Halves(), None, lambda line: None)
    first, second = weights(tmp_path / "once"), weights(tmp_path / "parts")
    changed = max((first[name] - second[name]).abs().max().item() for name in first)
    assert changed < 1e-3  # Adam turns small differences of rounding into steps


def test_frozen_weights_stay_and_those_named_change(tmp_path: Path) -> None:
    save_network(RemoteSensingNetwork(SMALL), tmp_path / "start")
    train(settings(tmp_path / "run", 2, start_from=str(tmp_path / "start")), Halves(), None, lambda line: None)
    before, _ = load_network(tmp_path / "start")
    changed = {
        name for name, value in weights(tmp_path / "run").items() if not torch.equal(value, before.state_dict()[name])
    }
    assert not any(name.startswith(("remote.", "dino.")) for name in changed)
    clip = {name for name in changed if name.startswith("clip.")}
    assert clip and all(name.endswith(("q_proj.weight", "v_proj.weight")) for name in clip)
    assert any(name.startswith("decoder.") for name in changed)


def test_a_rate_falls_as_a_cosine() -> None:
    assert [round(rate_factor(step, 4), 3) for step in range(5)] == [1.0, 0.854, 0.5, 0.146, 0.0]


class Named(Halves):
    def __init__(self, classes: tuple[str, ...], count: int = 2) -> None:
        super().__init__(count)
        self.classes = classes  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("changes", "tiles", "said"),
    [
        ({}, Named(("a", "b"), 0), "data.train has no tile"),
        ({}, Named(("Road", "road")), "differ only in case or spaces"),
        ({"start_from": "nowhere"}, Halves(), "nowhere is not there"),
    ],
)
def test_what_cannot_be_trained_leaves_nothing(changes: dict, tiles: Halves, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        train(settings(tmp_path / "run", **changes), tiles, None, lambda line: None)
    assert not (tmp_path / "run").exists()


def test_a_folder_with_another_run_is_refused(tmp_path: Path) -> None:
    train(settings(tmp_path, 1), Halves(), None, lambda line: None)
    with pytest.raises(InputError, match=r"holds a run with schedule.steps=1, not 3"):
        train(settings(tmp_path, 3), Halves(), None, lambda line: None)
    (tmp_path / "step_000001" / "training.pt").write_bytes(b"cut short")
    with pytest.raises(InputError, match=r"training.pt cannot be read"):
        train(settings(tmp_path, 1), Halves(), None, lambda line: None)


def test_memory_grows_with_the_batch_and_what_is_trained(tmp_path: Path) -> None:
    base = settings(tmp_path)
    one = memory_of(base, 3)
    double = memory_of(replace(base, schedule=replace(base.schedule, batch_size=4)), 3)
    full = memory_of(replace(base, finetune=FinetuneSettings(clip="full")), 3)
    assert one.weights == 4 * sum(weight.numel() for weight in RemoteSensingNetwork(SMALL).parameters())
    assert 1.8 < double.activations / one.activations < 2.2
    assert full.gradients > one.gradients and full.moments == 2 * full.gradients
    assert memory_of(replace(base, precision="bf16"), 3).activations == one.activations // 2
    assert memory_of(base, 3, processes=2).activations < one.activations


def test_the_plan_names_what_matters(tmp_path: Path) -> None:
    text = planned(settings(tmp_path), Halves(), None, 1)
    for part in ("of which trained", "6 tiles to train on", "2: grass, water", "4 of 2 tiles, 1.3 epochs", "about"):
        assert part in text


def test_every_epoch_has_an_order_of_its_own() -> None:
    from seg_zero.remote_sensing.training.samples import order

    first, second = order(50, 0, 0), order(50, 0, 1)
    assert sorted(first) == sorted(second) == list(range(50)) and not np.array_equal(first, second)
