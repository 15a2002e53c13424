"""Labels and their synonyms, from lists, a command line and files."""

from __future__ import annotations

from pathlib import Path

import pytest

from seg_zero.errors import InputError
from seg_zero.open_vocabulary.labels import parse_labels, split_labels, texts_and_classes


def test_synonyms_follow_commas() -> None:
    labels = parse_labels(["sky", "cat,  kitten", "草地"])
    assert [label.name for label in labels] == ["sky", "cat", "草地"]
    assert texts_and_classes(labels) == (["sky", "cat", "kitten", "草地"], [0, 1, 1, 2])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "there is no label"),
        (["sky", " "], "label 2, ' ', is empty"),
        (["cat,"], "label 1, 'cat,', is empty or holds an empty synonym"),
        (["!!!"], "label 1, '!!!', has no letter or digit"),
        (["cat", "Cat"], "'Cat' is given twice, in labels 1 and 2"),
        (["cat, kitten", "dog, kitten"], "'kitten' is given twice, in labels 1 and 2"),
        (["cat, cat"], "given twice, in labels 1 and 1"),
        (["x" * 201], "longer than 200"),
        ([f"label {i}" for i in range(5000)], "5,000 labels are more than 2,000"),
        ("sky", "are one string"),
        (["sky", 3], "label 2 is int"),
    ],
)
def test_bad_labels_are_named(given: list, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_labels(given)


def test_a_command_line_and_files_give_labels(tmp_path: Path) -> None:
    lines, listed = tmp_path / "names.txt", tmp_path / "names.json"
    lines.write_text("\ufeffsky\n\ncat, kitten\n")
    listed.write_text('["sky", "cat, kitten"]')
    assert split_labels("sky, grass") == ["sky", "grass"]
    assert (
        split_labels("sky; cat, kitten")
        == split_labels(str(lines))
        == split_labels(str(listed))
        == ["sky", "cat, kitten"]
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.txt", None, "cannot be read"),
        ("bad.json", "[", "are no JSON"),
        ("bad.json", '{"a": 1}', "hold no list of strings"),
        ("bad.txt", b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: str | bytes | None, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        split_labels(str(path))
