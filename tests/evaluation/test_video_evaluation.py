"""Folders of ReVOS, MeViS and Ref-DAVIS, and their evaluation with the embedded models."""

from __future__ import annotations

import codecs
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seg_zero.cli.main import main
from seg_zero.data.synthetic.clips import Clip, make_clip
from seg_zero.data.synthetic.scenes import Scene, questions_of
from seg_zero.errors import InputError
from seg_zero.evaluation.video_sets import is_video_set, read_video_set
from seg_zero.masks import encode_mask
from seg_zero.metrics import ClipScore

COUNT = 6
NAMES = [f"{index * 5:05}" for index in range(COUNT)]


@pytest.fixture(scope="module")
def clip() -> Clip:
    return make_clip(21, shapes=3, max_speed=0.01)


def _frames(clip: Clip, folder: Path) -> None:
    folder.mkdir(parents=True)
    for index, name in enumerate(NAMES):
        clip.frame(index).image.save(folder / f"{name}.jpg", quality=97)


def _questions(clip: Clip) -> list[tuple[str, int]]:
    asked = questions_of(Scene(clip.frame(0).image, clip.objects), "attr")
    return [(question.text, question.targets[0]) for question in asked][:2]


def _by_masks(root: Path, clip: Clip, meta: str, frames: str, types: bool) -> Path:
    _frames(clip, root / frames / "shapes")
    masks: dict[str, list[Any]] = {str(10 + number): [] for number in range(3)}
    for index in range(COUNT):
        for number, mask in enumerate(clip.frame(index).masks):
            masks[str(10 + number)].append(encode_mask(mask) if mask.any() else None)
    (root / "mask_dict.json").write_text(json.dumps(masks))
    expressions = {
        str(row): {"exp": text, "obj_id": [target], "anno_id": [10 + target], **({"type_id": row} if types else {})}
        for row, (text, target) in enumerate(_questions(clip))
    }
    expressions["9"] = {"exp": "all shapes", "obj_id": [0, 1], "anno_id": [10, 11], **({"type_id": 1} if types else {})}
    (root / meta).write_text(json.dumps({"videos": {"shapes": {"frames": NAMES, "expressions": expressions}}}))
    return root


def mevis(root: Path, clip: Clip) -> Path:
    return _by_masks(root, clip, "meta_expressions.json", "JPEGImages", False)


def revos(root: Path, clip: Clip) -> Path:
    return _by_masks(root, clip, "meta_expressions_valid_.json", ".", True)


def ref_davis(root: Path, clip: Clip) -> Path:
    _frames(clip, root / "valid/JPEGImages/shapes")
    places = root / "valid/Annotations/shapes"
    places.mkdir(parents=True)
    for index, name in enumerate(NAMES):
        masks = clip.frame(index).masks
        values = sum((number + 1) * mask.astype(np.uint8) for number, mask in enumerate(masks))
        picture = Image.fromarray(np.asarray(values, dtype=np.uint8), mode="P")
        picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0])
        picture.save(places / f"{name}.png")
    expressions = {
        str(row): {"exp": text, "obj_id": str(target + 1)} for row, (text, target) in enumerate(_questions(clip))
    }
    meta = root / "meta_expressions/valid/meta_expressions.json"
    meta.parent.mkdir(parents=True)
    meta.write_text(json.dumps({"videos": {"shapes": {"frames": NAMES, "expressions": expressions}}}))
    return root


@pytest.mark.parametrize("write", [mevis, revos, ref_davis])
def test_each_layout_gives_questions_frames_and_true_masks(
    tmp_path: Path, clip: Clip, write: Callable[[Path, Clip], Path]
) -> None:
    root = write(tmp_path / "set", clip)
    assert is_video_set(str(root))
    found = read_video_set(root)
    assert [item.key for item in found][:2] == ["shapes/0", "shapes/1"]
    for item, (text, target) in zip(found, _questions(clip), strict=False):
        assert item.question == text
        assert [(item.folder / name).is_file() for name in item.frames] == [True] * COUNT
        for index in (0, COUNT - 1):
            assert (item.truth(index, (112, 112)) == clip.frame(index).masks[target]).all()
    if write is not ref_davis:
        assert (found[-1].truth(3, (112, 112)) == clip.frame(3).masks[:2].any(axis=0)).all()
        assert [item.kind for item in found] == (["type 0", "type 1", "type 1"] if write is revos else [None] * 3)
        with pytest.raises(InputError, match="annotation"):
            found[0].truth(0, (100, 112))
    else:
        with pytest.raises(InputError, match="must agree"):
            found[0].truth(0, (100, 112))


def test_a_byte_order_mark_before_the_expressions_is_no_matter(clip: Clip, tmp_path: Path) -> None:
    root = mevis(tmp_path, clip)
    before = read_video_set(root)
    for path in root.glob("*.json"):
        path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    assert [item.question for item in read_video_set(root)] == [item.question for item in before]


def _without(name: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def _edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        path = root / "meta_expressions.json"
        meta = json.loads(path.read_text())
        change(meta["videos"]["shapes"])
        path.write_text(json.dumps(meta))

    return apply


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_without("meta_expressions.json"), "holds none of"),
        (_without("mask_dict.json"), "nothing to score"),
        (_without("JPEGImages/shapes"), "unpack them there"),
        (_without("JPEGImages/shapes/00010.jpg"), "names frame 00010"),
        (lambda root: (root / "meta_expressions.json").write_text("{"), "cannot be read"),
        (lambda root: (root / "meta_expressions.json").write_text("[]"), "'videos'"),
        (lambda root: (root / "meta_expressions.json").write_text('{"videos": {}}'), "no expressions"),
        (lambda root: (root / "mask_dict.json").write_text("{}"), "annotation 1"),
        (_edit(lambda video: video.pop("frames")), "'frames'"),
        (_edit(lambda video: video["frames"].pop()), "does not have 5 frames"),
        (_edit(lambda video: video["expressions"]["0"].pop("exp")), "'exp'"),
        (_edit(lambda video: video["expressions"].update({"0": 3})), "'anno_id'"),
    ],
)
def test_malformed_sets(tmp_path: Path, clip: Clip, change: Callable[[Path], object], words: str) -> None:
    root = mevis(tmp_path / "set", clip)
    change(root)
    with pytest.raises(InputError, match=words) as caught:
        read_video_set(root)
    assert "\n" not in str(caught.value)


def test_an_evaluation_scores_resumes_and_refuses_other_settings(
    tmp_path: Path, clip: Clip, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = revos(tmp_path / "set", clip), tmp_path / "out"
    arguments = ["evaluate", "--data", str(root), "--out", str(out), "--device", "cpu"]
    assert main(arguments) == 0
    table = capsys.readouterr().out
    metrics = json.loads((out / "metrics.json").read_text())
    assert list(metrics) == ["all", "type 0", "type 1"]
    assert metrics["all"]["count"] == 3 and metrics["type 1"]["count"] == 2
    assert metrics["type 0"]["J&F"] > 0.7
    assert f"| all | {metrics['all']['J']:.4f} |" in table and (out / "report.md").read_text() == table

    # A run that was killed while it wrote its last line: only that expression is answered again.
    lines = (out / "expressions.jsonl").read_text().splitlines(keepends=True)
    (out / "expressions.jsonl").write_text("".join(lines[:2]) + lines[2][:30])
    answered = []

    def score(segmenter: object, item: Any, key_every: object) -> ClipScore:
        answered.append(item.key)
        return ClipScore(1.0, 1.0, COUNT)

    monkeypatch.setattr("seg_zero.evaluation.video.score_expression", score)
    assert main(arguments) == 0
    assert answered == ["shapes/9"]
    again = [json.loads(line)["key"] for line in (out / "expressions.jsonl").read_text().splitlines()]
    assert again == ["shapes/0", "shapes/1", "shapes/9"]
    assert main([*arguments, "--key_every", "2"]) == 2
    assert "key_every was None and is 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--votes", "3"], "--votes"),
        (["--rule", "gres"], "--rule"),
        (["--key_every", "0"], "--key_every 0 must be at least 1"),
    ],
)
def test_options_that_do_not_go_with_clips(
    tmp_path: Path, clip: Clip, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    root = mevis(tmp_path / "set", clip)
    assert main(["evaluate", "--data", str(root), "--out", str(tmp_path / "out"), *options]) == 2
    assert words in capsys.readouterr().err


def test_key_every_is_for_clips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--data", "synthetic", "--out", str(tmp_path), "--key_every", "3"]) == 2
    assert "for sets of clips" in capsys.readouterr().err
