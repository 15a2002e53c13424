"""Semantic metrics: the values of mmseg and detectron2, cases worked by hand, and torchmetrics-free properties."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.golden import golden_files, load_golden

from seg_zero.errors import InputError
from seg_zero.metrics.semantic import Confusion, reduce_zero_label


def confusion_of(data: dict[str, np.ndarray]) -> Confusion:
    confusion = Confusion(int(data["num_classes"]))
    for index in range(int(data["n"])):
        confusion.add(data[f"pred_{index}"], data[f"gt_{index}"])
    return confusion


@pytest.mark.parametrize("name", golden_files("metrics", "miou_mmseg_*"))
def test_the_rule_of_mmseg_meets_its_own_code(name: str) -> None:
    data = load_golden("metrics", name)
    confusion = confusion_of(data)
    result = confusion.result()
    for key in ("mIoU", "mAcc", "aAcc"):
        assert result[key] == pytest.approx(float(data[key]), abs=1e-6)
        assert result[key] * 100 == pytest.approx(float(data[f"rounded_percent_{key}"]), abs=0.01)
    assert np.allclose(confusion.iou(), data["iou"], atol=1e-6, equal_nan=True)
    assert np.allclose(confusion.accuracy(), data["acc"], atol=1e-6, equal_nan=True)
    assert confusion.matrix.sum(axis=1).tolist() == data["area_label"].tolist()
    assert confusion.matrix.diagonal().tolist() == data["area_intersect"].tolist()


@pytest.mark.parametrize("name", golden_files("metrics", "metrics_d2_*"))
def test_the_rule_of_detectron2_meets_its_own_code(name: str) -> None:
    data = load_golden("metrics", name)
    confusion = confusion_of(data)
    result = confusion.result("detectron2")
    for key in ("mIoU", "fwIoU", "mACC", "pACC"):
        assert result[key] * 100 == pytest.approx(float(data[key]), abs=1e-6)
    assert np.allclose(confusion.iou("detectron2") * 100, data["iou"], atol=1e-6, equal_nan=True)
    assert np.allclose(confusion.accuracy() * 100, data["acc"], atol=1e-6, equal_nan=True)


# Class 0: 3 of 4 pixels right; class 1: absent from the truth, predicted once; class 2: 1 right, 1 without a
# prediction; class 3: nowhere.
TRUTH = np.array([[0, 0, 0, 0], [2, 2, 255, 255]])
PREDICTION = np.array([[0, 0, 0, 1], [2, 255, 0, 3]])


def test_a_case_by_hand() -> None:
    confusion = Confusion(4)
    confusion.add(PREDICTION, TRUTH)
    assert np.array_equal(confusion.iou(), [3 / 4, 0, 1 / 2, np.nan], equal_nan=True)
    assert np.array_equal(confusion.iou("detectron2"), [3 / 4, np.nan, 1 / 2, np.nan], equal_nan=True)
    assert confusion.result() == pytest.approx({"mIoU": 1.25 / 3, "mAcc": (3 / 4 + 1 / 2) / 2, "aAcc": 4 / 6})
    wanted = {"mIoU": 1.25 / 2, "fwIoU": (4 * 3 / 4 + 2 / 2) / 6, "mACC": (3 / 4 + 1 / 2) / 2, "pACC": 4 / 6}
    assert confusion.result("detectron2") == pytest.approx(wanted)


def test_shards_merge_to_the_whole() -> None:
    rng = np.random.default_rng(0)
    whole, shards = Confusion(5), [Confusion(5), Confusion(5)]
    for index in range(6):
        truth, prediction = rng.integers(0, 5, (2, 7, 9))
        truth[0, :3] = 255
        whole.add(prediction, truth)
        shards[index % 2].add(prediction, truth)
    assert np.array_equal(shards[0].merge(shards[1]).matrix, whole.matrix)
    with pytest.raises(InputError, match="4 classes cannot be merged into 5"):
        whole.merge(Confusion(4))


def test_label_zero_is_reduced_to_ignored() -> None:
    assert reduce_zero_label(np.array([0, 1, 20, 255], dtype=np.uint8)).tolist() == [255, 0, 19, 255]


@pytest.mark.parametrize(
    ("prediction", "truth", "message"),
    [
        ([[0, 1]], [[0, 7]], "truth holds the value 7; with 4 classes give 0 to 3, and 255"),
        ([[0, 9]], [[0, 1]], "prediction holds the value 9"),
        ([[0, -1]], [[0, 1]], "prediction holds the value -1"),
        ([[0]], [[0, 1]], r"prediction has shape \(1, 1\), truth \(1, 2\)"),
    ],
)
def test_bad_label_maps_are_named(prediction: list, truth: list, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Confusion(4).add(np.array(prediction), np.array(truth))


def test_without_a_pixel_there_is_no_result() -> None:
    with pytest.raises(InputError, match="no pixel counts"):
        Confusion(2).result()
    with pytest.raises(InputError, match="rule 'voc' is unknown"):
        Confusion(2).result("voc")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="0 classes"):
        Confusion(0)
