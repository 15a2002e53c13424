"""Thresholds for features that adapt to the encoder, as the scene shows it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seg_zero.cli.main import main
from seg_zero.errors import InputError
from seg_zero.online3d.bank import MaskBank, NewMask
from seg_zero.online3d.calibration import LEAST_PAIRS, Calibration
from seg_zero.online3d.checkpoint import load_scene, save_scene
from seg_zero.online3d.config import SceneConfig
from seg_zero.online3d.scene import OnlineScene
from seg_zero.online3d.synthetic.features import ToyEncoder

OBJECTS = 8


def seen(rule: str, different: float, same: float) -> MaskBank:
    """A scene of 8 objects, each seen whole a few times, then each from two sides that share half of their voxels."""
    bank, encode = MaskBank(SceneConfig(rule=rule)), ToyEncoder(different, same)
    for start in (0, 0, 0, 0, 150):
        bank.add([NewMask(np.arange(300, dtype=np.int32) + 1000 * i + start, i, encode(i)) for i in range(OBJECTS)])
        for row in range(bank.rows):  # everything was in view in every frame
            for i in range(OBJECTS):
                bank.visibility.record(row, np.arange(1000 * i, 1000 * i + 450, dtype=np.int32))
    return bank


@pytest.mark.parametrize(("different", "same"), [(0.1, 0.5), (0.6, 0.9), (0.85, 0.95)])
def test_levels_are_those_of_the_encoder(different: float, same: float) -> None:
    levels = seen("adaptive", different, same).levels
    assert levels is not None and levels.tells_apart
    assert levels.different == pytest.approx(different, abs=0.05)
    assert levels.same == pytest.approx(same, abs=0.06)
    assert levels.different_pairs == 5 * OBJECTS * (OBJECTS - 1) // 2
    assert levels.same_pairs == OBJECTS * (1 + 2 + 3)


def test_half_overlaps_merge_where_features_agree_for_a_loose_encoder_too() -> None:
    """Its cosines of one thing lie below the fixed range, so that nothing merges there."""
    for rule, live in (("fixed", 5 * OBJECTS), ("adaptive", OBJECTS)):
        bank = seen(rule, 0.1, 0.5)
        bank.config = bank.config.replaced(merge_supporter_num=99, merge_contain_ratio=1)  # the similarity rule alone
        bank.update()
        assert len(bank.live) == live, rule


def test_features_that_tell_nothing_apart_do_not_count() -> None:
    bank = seen("adaptive", 0.7, 0.7)
    levels = bank.levels
    assert levels is not None and not levels.tells_apart and "did not count" in str(levels)
    bank.update()
    assert len(bank.live) == 2 * OBJECTS  # full overlaps merge, half ones do not, as without features


def test_the_mean_vector_of_merged_masks_teaches_nothing() -> None:
    """It is nearer to a new vector than a single one is, so useless features would seem to tell things apart."""
    bank = seen("adaptive", 0.7, 0.7)
    before = bank.levels
    bank.update()
    encode = ToyEncoder(0.7, 0.7, seed=1)
    bank.add([NewMask(np.arange(300, dtype=np.int32) + 1000 * i, i, encode(i)) for i in range(OBJECTS)])
    after = bank.levels
    assert before is not None and after is not None
    assert after.different_pairs > before.different_pairs and after.same_pairs == before.same_pairs


def test_the_fixed_values_hold_until_enough_is_known() -> None:
    calibration = Calibration()
    vector = np.array([1.0, 0.0])
    calibration.see_frame([vector] * 20)
    for _ in range(LEAST_PAIRS - 1):
        assert calibration.levels() is None
        calibration.see_same([(vector, vector)])
    assert calibration.levels() is None
    calibration.see_same([(vector, vector)])
    assert calibration.levels() is not None
    assert seen("fixed", 0.1, 0.5).levels is None


def test_what_was_learnt_is_in_the_checkpoint(tmp_path: Path) -> None:
    scene = OnlineScene(SceneConfig(rule="adaptive"))
    scene.bank = seen("adaptive", 0.6, 0.9)
    scene.numbers = list(range(scene.bank.rows))
    save_scene(scene, tmp_path / "state.npz", {})
    again = OnlineScene(SceneConfig(rule="adaptive"))
    load_scene(again, tmp_path / "state.npz")
    assert again.bank.levels == scene.bank.levels is not None


def test_memory_of_what_was_learnt_does_not_grow() -> None:
    calibration = Calibration()
    before = sum(array.nbytes for array in calibration.state().values())
    for _ in range(50):
        calibration.see_frame(list(np.random.default_rng(0).standard_normal((20, 8))))
    assert sum(array.nbytes for array in calibration.state().values()) == before


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rule": "learnt"}, "rule='learnt' is unknown; choose one of fixed, adaptive"),
        ({"rule": "adaptive", "compat": "released"}, "not part of compat='released'"),
    ],
)
def test_rules_that_do_not_exist_are_named(values: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SceneConfig().replaced(**values)


def test_the_rule_is_given_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["scan", str(tmp_path), "--masks", str(tmp_path), "--rule", "adaptive", "--set", "rule=fixed"]
    assert main([*line, "--out", str(tmp_path / "out")]) == 2
    assert "--rule adaptive and --set rule=... are the same setting" in capsys.readouterr().err
