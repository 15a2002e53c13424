"""The synthetic aerial world: the same for a seed, all classes in it, two sensors that differ, folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seg_zero.cli.main import main
from seg_zero.errors import InputError
from seg_zero.metrics.semantic import IGNORE
from seg_zero.remote_sensing.class_names import check_names
from seg_zero.remote_sensing.data.aerial.tiles import AerialTiles, other_names
from seg_zero.remote_sensing.data.aerial.world import CLASSES, OTHER_NAMES, TRAINED, UNSEEN
from seg_zero.remote_sensing.data.folders import open_tiles


def test_the_same_seed_gives_the_same_tiles_in_any_order() -> None:
    first, second = AerialTiles("plane", 3, size=64), AerialTiles("plane", 5, size=64)
    later = [second.image(2), second.image(1)]
    assert np.array_equal(first.image(2), later[0]) and np.array_equal(first.image(1), later[1])
    assert not np.array_equal(first.image(0), AerialTiles("plane", 3, seed=1, size=64).image(0))
    shifted = AerialTiles("plane", 1, size=64, start=2)
    assert np.array_equal(shifted.labels(0), first.labels(2)) and shifted.name(0) == first.name(2) == "plane_00002"


def test_every_class_occurs_and_the_sensors_differ() -> None:
    means = []
    for sensor in ("plane", "satellite"):
        tiles = AerialTiles(sensor, 12, size=128)
        pixels = np.bincount(np.concatenate([tiles.labels(i).ravel() for i in range(12)]), minlength=len(CLASSES))
        assert len(pixels) == len(CLASSES) and (pixels > 20).all(), dict(zip(CLASSES, pixels, strict=True))
        means.append(np.mean([tiles.image(i).mean(axis=(0, 1)) for i in range(12)], axis=0))
        assert tiles.image(0).shape == (128, 128, 3) and tiles.image(0).dtype == tiles.labels(0).dtype == np.uint8
    assert means[1][2] - means[0][2] > 15, "the second sensor is bluish"


def test_untrained_classes_are_ignored_and_names_replaced() -> None:
    whole, trained = AerialTiles("plane", 4, size=96), AerialTiles("plane", 4, size=96, kept=TRAINED)
    for index in range(4):
        unseen = np.isin(whole.labels(index), [CLASSES.index(name) for name in UNSEEN])
        assert np.array_equal(trained.labels(index) == IGNORE, unseen)
        assert np.array_equal(trained.labels(index)[~unseen], whole.labels(index)[~unseen])  # TRAINED come first
    assert set(TRAINED) | set(UNSEEN) == set(CLASSES) and not set(TRAINED) & set(UNSEEN)
    assert AerialTiles("plane", 1, kept=TRAINED, names=other_names(TRAINED)).classes[3] == "building"
    assert not set(OTHER_NAMES.values()) & set(CLASSES)
    check_names([*CLASSES, *OTHER_NAMES.values()], "the world")


def test_the_command_writes_folders_that_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "world"
    given = ["remote-sensing", "aerial", str(out), "--train", "3", "--evaluate", "2", "--size", "64"]
    assert main(given) == 0
    train = open_tiles("folder", out / "plane", "train")
    assert (len(train), train.classes) == (3, TRAINED) and len(open_tiles("folder", out / "plane")) == 5
    transfer = open_tiles("folder", out / "satellite_transfer")
    named = open_tiles("folder", out / "satellite_other_names")
    assert transfer.classes == CLASSES and named.classes == other_names(CLASSES)
    assert np.array_equal(transfer.image(1), AerialTiles("satellite", 2, size=64).image(1))
    assert np.array_equal(transfer.labels(1), named.labels(1))
    assert main(["remote-sensing", "check", "folder", str(out / "satellite_transfer")]) == 0
    assert main([*given, "--size", "8"]) == 2
    assert "--size 8: give 32 or more" in capsys.readouterr().err


def test_what_does_not_fit_is_one_line() -> None:
    for options, message in (
        ({"sensor": "drone", "count": 1}, "sensor 'drone' is unknown; choose one of plane, satellite"),
        ({"sensor": "plane", "count": 0}, "0 tiles of 256 pixels; give at least 1 tile"),
        ({"sensor": "plane", "count": 1, "kept": ("castle",)}, "classes castle: the world has grass"),
        ({"sensor": "plane", "count": 1, "names": ("x",)}, "1 names for 8 classes; give one for each"),
    ):
        with pytest.raises(InputError, match=message):
            AerialTiles(**options)  # type: ignore[arg-type]
