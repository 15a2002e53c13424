"""``seg-zero data dialogues``: synthetic, from instances, imported, and checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from seg_zero.cli.main import main
from seg_zero.data.synthetic.rows import write_split
from seg_zero.dialogue.data import synthetic
from seg_zero.dialogue.data.proof import prove
from seg_zero.dialogue.data.records import read_dialogues
from seg_zero.files import write_image
from seg_zero.masks import encode_mask


def call(*arguments: object) -> int:
    return main(["data", "dialogues", *map(str, arguments)])


def test_synthetic_dialogues_are_written_and_proved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, val = tmp_path / "train.jsonl", tmp_path / "val.jsonl"
    assert call("--out", train, "--count", 4, "--parts", "--forms", "sentences", "--rounds", 3) == 0
    assert "4 dialogues of" in capsys.readouterr().out
    assert call("--out", val, "--count", 2, "--split", "val", "--side", 64) == 0
    first, other = read_dialogues(train).usable(), read_dialogues(val).usable()
    assert {item.image.parent.name for item in first} == {"train_images"} and other[0].width == 64
    assert not {item.id for item in first} & {item.id for item in other}
    assert all(len(item.rounds) <= 3 for item in first)
    capsys.readouterr()
    assert call("--check", train) == 0
    said = capsys.readouterr().out
    assert "4 records, 0 of which cannot be used" in said
    assert f"{sum(len(item.rounds) for item in first)} targets are proved to be unique" in said


def test_scenes_with_parts_are_written_and_proved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "parts.jsonl"
    assert call("--out", path, "--count", 12, "--scenes", "parts") == 0
    said = capsys.readouterr().out
    for relation in ("part of a named whole", "part of\n", "same whole as", "whole of"):
        assert relation in said
    assert call("--check", path) == 0
    assert "12 records, 0 of which cannot be used" in capsys.readouterr().out


def test_a_check_lists_bad_records_by_number_and_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "d.jsonl"
    assert call("--out", path, "--count", 3) == 0
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[1]["rounds"][0]["mask"] = lines[1]["rounds"][1]["mask"]
    lines[2]["image"] = "gone.png"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    capsys.readouterr()
    assert call("--check", path) == 1
    said = capsys.readouterr().out
    assert "3 records, 2 of which cannot be used" in said
    assert f"  record 2 ({lines[1]['id']}): round 1: " in said and "does not mean its target alone" in said
    assert f"  record 3 ({lines[2]['id']}): image 'gone.png' does not exist" in said


def test_a_check_goes_on_after_damaged_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "d.jsonl"
    assert call("--out", path, "--count", 5) == 0
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0]["rounds"][0]["rule"] = 5
    lines[1]["things"][0]["mask"] = None
    lines[2]["rounds"][0]["mask"]["size"] = []
    lines[3]["things"][0]["mask"]["counts"] = "0"
    path.write_text("".join(json.dumps(line) + "\n" for line in [*lines, lines[4]]))
    capsys.readouterr()
    assert call("--check", path) == 1
    said = capsys.readouterr()
    assert "6 records, 5 of which cannot be used" in said.out and not said.err
    assert "record 6" in said.out and "record 5 has the same id" in said.out


def test_a_check_of_an_empty_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "d.jsonl").write_text("\n")
    assert call("--check", tmp_path / "d.jsonl") == 2
    said = capsys.readouterr()
    assert not said.out and "d.jsonl holds no dialogue; check the file" in said.err


def test_an_interrupt_leaves_the_earlier_file_and_its_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "train.jsonl"
    assert call("--out", path, "--count", 4) == 0
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    drawn = 0

    def interrupt(place: Path, image: Image.Image) -> None:
        nonlocal drawn
        drawn += 1
        if drawn == 3:
            raise KeyboardInterrupt
        write_image(place, image)

    monkeypatch.setattr(synthetic, "write_image", interrupt)
    assert call("--out", path, "--count", 4, "--scenes", "parts", "--side", 64) == 130
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
    assert {file.name for file in tmp_path.iterdir()} == {"train.jsonl", "train_images"}
    monkeypatch.undo()
    assert call("--out", path, "--count", 2, "--side", 64) == 0
    assert {item.picture().width for item in read_dialogues(path).usable()} == {64}


def test_rows_with_one_id_become_dialogues_with_several(tmp_path: Path) -> None:
    write_split(tmp_path / "rows.parquet", 7, 3)
    table = pq.read_table(tmp_path / "rows.parquet")
    same = table.set_column(table.schema.get_field_index("id"), "id", pa.array(["row"] * 3))
    pq.write_table(same, tmp_path / "rows.parquet")
    assert call("--rows", tmp_path / "rows.parquet", "--out", tmp_path / "c.jsonl") == 0
    assert [item.id for item in read_dialogues(tmp_path / "c.jsonl").usable()] == ["row", "row-1", "row-2"]
    assert call("--check", tmp_path / "c.jsonl") == 0


def block(x: int, y: int) -> np.ndarray:
    mask = np.zeros((60, 80), dtype=bool)
    mask[y : y + 10, x : x + 10] = True
    return mask


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Eight pictures with two dogs, a cat with a tail and a paw, and a hat; one is missing, one has a crowd of dogs."""
    names = {1: "dog", 2: "cat", 3: "cat:tail", 4: "bowler_hat_(clothing)", 5: "cat:paw"}
    things = [
        (1, block(5, 25)),
        (1, block(65, 25)),
        (2, block(35, 25)),
        (4, block(35, 2)),
        (3, block(35, 25) & block(40, 30)),
        (5, block(35, 25) & block(28, 30)),
    ]
    images, annotations = [], []
    for number in range(1, 9):
        images.append({"id": number, "file_name": f"{number}.png", "width": 80, "height": 60})
        if number != 3:
            Image.new("RGB", (80, 60)).save(tmp_path / f"{number}.png")
        for category, mask in things:
            entry: dict[str, Any] = {"id": len(annotations) + 1, "image_id": number, "category_id": category}
            entry |= {"segmentation": encode_mask(mask), "iscrowd": int(number == 5 and category == 1)}
            annotations.append(entry)
            if category in (3, 5):
                entry["obj_ann_id"] = entry["id"] - (2 if category == 3 else 3)
    content = {"images": images, "annotations": annotations}
    content["categories"] = [{"id": number, "name": name} for number, name in names.items()]
    (tmp_path / "instances.json").write_text(json.dumps(content))
    return tmp_path


def test_instances_become_dialogues_whose_splits_share_no_picture(
    coco: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--instances", coco / "instances.json", "--images", coco, "--skip-bad"]
    assert call(*given, "--out", coco / "all.jsonl") == 0
    said = capsys.readouterr().out
    assert "skipped: record 3 (3): " in said and "3.png" in said
    assert (coco / "all.jsonl.skipped.txt").read_text().startswith("record 3 (3): ")
    found = read_dialogues(coco / "all.jsonl").usable()
    assert all(prove(item) == [] for item in found) and len(found) >= 5
    questions = [one.asked.question for item in found for one in item.rounds]
    assert all(any(noun in question for noun in ("dog", "cat", "tail", "paw", "bowler hat")) for question in questions)
    assert any(question == f"the tail of instance {k}" for question in questions for k in range(1, 6))
    assert {"hierarchical", "sibling"} <= {one.asked.relation for item in found for one in item.rounds}
    assert all("dog" not in one.asked.question for item in found if item.image.name == "5.png" for one in item.rounds)
    images = {}
    for split in ("train", "val"):
        assert call(*given, "--out", coco / f"{split}.jsonl", "--split", split, "--val_fraction", 0.4) == 0
        images[split] = {item.image.name for item in read_dialogues(coco / f"{split}.jsonl").usable()}
    assert images["train"] and images["val"] and not images["train"] & images["val"]


def test_published_conversations_are_imported(coco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    turns = [
        {"from": "human", "value": "[IMAGE256:1.png] the cat"},
        {"from": "gpt", "value": "[MASK-DECODE:1.png|coco|3]."},
        {
            "from": "human",
            "value": "[MASK-ENCODE:1.png|coco|3][BOX-ENCODE:1.png|coco|3] the tail of instance 1",
            "ind": 1,
        },
        {"from": "gpt", "value": "[MASK-DECODE:hierarchical:3:5:1.png:coco]."},
    ]
    bad = [{**turns[0]}, {"from": "gpt", "value": "[MASK-DECODE:1.png|coco|99]"}]
    (coco / "mr.json").write_text(json.dumps([{"conversations": turns}, {"conversations": bad}, {"conversations": 3}]))
    given = ["--mrseg", coco / "mr.json", "--images", coco, "--masks", f"coco={coco / 'instances.json'}"]
    assert call(*given, "--out", coco / "mr.jsonl") == 2
    said = capsys.readouterr()
    assert (
        "record 2: " in said.err and "and 1 more; correct or remove" in said.err and "has no mask of id 99" in said.out
    )
    assert not (coco / "mr.jsonl").exists()
    assert call(*given, "--out", coco / "mr.jsonl", "--skip-bad") == 0
    (found,) = read_dialogues(coco / "mr.jsonl").usable()
    assert [one.asked.references for one in found.rounds] == [(), (1,)]
    turns_of_regions = [{"question": "the cat", "masks": [encode_mask(block(35, 25))], "bboxes": []}]
    record = {"image_id": 1, "image_path": "1.png", "conversational_turns": turns_of_regions}
    (coco / "rd.json").write_text(json.dumps([record]))
    assert call("--regiondial", coco / "rd.json", "--images", coco, "--out", coco / "rd.jsonl") == 0
    assert read_dialogues(coco / "rd.jsonl").usable()[0].id == "1-1"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--out is missing"),
        (["--out", "a.parquet"], "does not end in .jsonl"),
        (["--out", "a.jsonl", "--count", "0"], "--count 0 must be at least 1"),
        (["--out", "a.jsonl", "--rounds", "1"], "--rounds 1 must be at least 2"),
        (["--out", "a.jsonl", "--masks", "x=y"], "--masks x=y is for --mrseg"),
        (["--out", "a.jsonl", "--mrseg", "x.json"], "--images is missing"),
        (["--out", "a.jsonl", "--mrseg", "x.json", "--images", ".", "--masks", "x"], "cannot be read"),
        (["--out", "a.jsonl", "--mrseg", "list.json", "--images", ".", "--masks", "x"], "'x' is not SET=PLACE"),
        (["--out", "a.jsonl", "--mrseg", "list.json", "--images", ".", "--masks", "x=no"], "no does not exist"),
        (
            ["--out", "a.jsonl", "--mrseg", "list.json", "--images", ".", "--split", "val"],
            "--split val is for synthetic pictures and --instances; leave it out",
        ),
        (["--out", "a.jsonl", "--mrseg", "list.json", "--images", "."], "holds no dialogue"),
        (["--check", "none.jsonl"], "cannot be read"),
        (["--check", "list.json", "--out", "a.jsonl"], "--out a.jsonl is for the command without --check"),
        (["--check", "list.json", "--skip-bad"], "--skip-bad is for the command without --check"),
        (["--check", "list.json", "--images", "."], "--images . is for --instances and --mrseg and --regiondial"),
        (["--out", "a.jsonl", "--images", "none"], "--images none is for --instances"),
        (["--out", "a.jsonl", "--turns", "3"], "--turns 3 is for --rows; leave it out"),
        (["--out", "a.jsonl", "--val_fraction", "2"], "--val_fraction 2.0 is for --instances; leave it out"),
        (["--out", "a.jsonl", "--rows", "x", "--split", "val"], "--split val is for synthetic pictures"),
        (["--out", "a.jsonl", "--rows", "x", "--turns", "99"], "--turns 99 must be at most 8"),
        (["--out", "a.jsonl", "--side", "100000"], "--side 100000 must be at most 2048"),
        (["--out", "a.jsonl", "--rounds", "9" * 30], "must be at most 100"),
        (["--out", "a.jsonl", "--mrseg", "list.json", "--images", ".", "--forms", "lisa"], "--forms lisa is for"),
        (
            ["--out", "a.jsonl", "--mrseg", "list.json", "--images", ".", "--masks", "x=a", "--masks", "x=b"],
            "--masks names the set 'x' twice, a and b; give one of them",
        ),
        (["--out", "a.jsonl", "--scenes", "parts", "--parts"], "leave it out with --scenes parts"),
        (["--out", "a.jsonl", "--scenes", "parts", "--mrseg", "list.json"], "--scenes parts is for synthetic pictures"),
    ],
)
def test_bad_options_are_one_line(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.json").write_text("[]")
    assert call(*arguments) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["list.json"]
