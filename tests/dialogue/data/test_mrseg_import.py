"""``seg-zero data dialogues --mrseg`` with masks and records that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seg_zero.cli.main import main
from seg_zero.dialogue.data.records import read_dialogues
from seg_zero.masks import encode_mask


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Two pictures in a folder, and an annotation of each."""
    (tmp_path / "img").mkdir()
    mask = np.zeros((12, 20), dtype=bool)
    mask[3:9, 4:10] = True
    for name in ("a", "b"):
        Image.new("RGB", (20, 12)).save(tmp_path / "img" / f"{name}.png")
    sizes = {"width": 20, "height": 12}
    of = {"segmentation": encode_mask(mask)}
    instances = {
        "images": [{"id": 1, "file_name": "a.png", **sizes}, {"id": 2, "file_name": "b.png", **sizes}],
        "categories": [{"id": 1, "name": "mug"}, {"id": 2, "name": "cup"}],
        "annotations": [
            {"id": 17, "image_id": 1, "category_id": 1, **of},
            {"id": 50, "image_id": 2, "category_id": 2, **of},
        ],
    }
    (tmp_path / "instances.json").write_text(json.dumps(instances))
    return tmp_path


def record(asked: str, answered: str = "[MASK-DECODE:a.png|refcoco|17]") -> dict[str, Any]:
    return {"conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": answered}]}


GOOD = record("[IMAGE256:img/a.png] the mug")


def imported(folder: Path, *records: Any, masks: str = "instances.json") -> int:
    (folder / "mr.json").write_text(json.dumps(records))
    given = ["--mrseg", folder / "mr.json", "--images", folder, "--masks", f"refcoco={folder / masks}"]
    return main(["data", "dialogues", *map(str, given), "--out", str(folder / "mr.jsonl"), "--skip-bad"])


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (record("[IMAGE256:img/a.png] the \ud800"), "round 1: the text of a turn holds half a character"),
        ({**GOOD, "conv_id": "\udce9"}, "its conv_id holds half a character"),
        (record("[IMAGE256:img/a.png the mug"), "'[IMAGE256:img/a.png the mug' cannot be read: it is not closed"),
        (record(f"[IMAGE256:{'x' * 3000}] the mug"), "image 'xxx"),
        (record("[IMAGE256:img/a.png] x", "[MASK-DECODE:a.png|refcoco|50]"), "is of the picture 'b.png', and the"),
        (record("[IMAGE256:img/a.png] x", "[MASK-DECODE:b.png|refcoco|50]"), "is of the picture 'b.png', and the"),
    ],
)
def test_one_bad_record_is_told_and_the_rest_go_on(
    coco: Path, bad: Any, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert imported(coco, GOOD, bad, record("[IMAGE256:img\\a.png] the mug")) == 0
    assert words in capsys.readouterr().out
    assert (coco / "mr.jsonl.skipped.txt").read_text().startswith("record 2: ")
    first, second = read_dialogues(coco / "mr.jsonl").usable()
    assert first.rounds[0].mask == second.rounds[0].mask and second.image == coco / "img" / "a.png"


@pytest.mark.parametrize(
    ("changed", "words"),
    [({"image_id": "\ud800"}, "its id holds half a character"), ({"image_path": "\udce9.png"}, "picture holds half")],
)
def test_a_name_that_no_file_can_hold_is_one_bad_record_of_regiondial(
    coco: Path, changed: dict[str, str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (coco / "img" / "a.png").rename(coco / "\udce9.png")
    good: dict[str, Any] = {"image_id": 1, "image_path": "img/b.png"}
    good["conversational_turns"] = [{"question": "the mug", "masks": [np.ones((12, 20), dtype=int).tolist()]}]
    (coco / "rd.json").write_text(json.dumps([good, {**good, **changed}]))
    given = ["--regiondial", coco / "rd.json", "--images", coco, "--out", coco / "rd.jsonl", "--skip-bad"]
    assert main(["data", "dialogues", *map(str, given)]) == 0
    assert words in capsys.readouterr().out and len(read_dialogues(coco / "rd.jsonl").usable()) == 1


@pytest.mark.parametrize("content", ['{"annotations": [', "[]", '{"annotations": [{"id": 1}, {"id": 1}]}'])
def test_a_broken_file_of_masks_is_one_error(coco: Path, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    (coco / "broken.json").write_text(content)
    assert imported(coco, GOOD, GOOD, masks="broken.json") == 2
    said = capsys.readouterr()
    assert not said.out and "broken.json" in said.err and said.err.count("\n") == 1
    assert not (coco / "mr.jsonl").exists()


@pytest.mark.parametrize(
    ("section", "place", "key", "value", "words"),
    [
        ("annotations", 1, "segmentation", [], "annotation 50: its segmentation has no polygon"),
        ("images", 1, "file_name", "b\udce9.png", "its file_name holds half a character"),
        ("categories", 1, "name", "m\ud800g", "the name of category 2 holds half a character"),
    ],
)
def test_an_entry_of_an_instances_file_that_cannot_be_used_is_named(
    coco: Path, section: str, place: int, key: str, value: Any, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    instances = json.loads((coco / "instances.json").read_text())
    instances[section][place][key] = value
    (coco / "img" / "b.png").rename(coco / "img" / instances["images"][1]["file_name"])
    (coco / "instances.json").write_text(json.dumps(instances))
    given = ["--instances", coco / "instances.json", "--images", coco / "img", "--out", coco / "made.jsonl"]
    assert main(["data", "dialogues", *map(str, given)]) == 2
    assert f"record 2 (2): {words}" in capsys.readouterr().out
