"""Questions of several hops: what a hop leads to, what is never trained, and that no shortcut answers them."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg_zero.cli.main import main
from seg_zero.data.source import open_rows
from seg_zero.data.synthetic.hops import (
    ALIKE,
    HOP_SETS,
    RELATIONS,
    Relation,
    draw_chain,
    follow,
    is_held_out,
    named_by_words,
)
from seg_zero.data.synthetic.rows import write_hops
from seg_zero.data.synthetic.scenes import Scene, SceneObject, make_scene, shape_mask
from seg_zero.data.synthetic.shortcuts import answer_by_shortcuts, draw_any, draw_one
from seg_zero.masks import mask_to_prompt_object

SIDE = 112


def make(*objects: tuple[str, str, float, float, float]) -> Scene:
    """A scene of colour, shape, centre and radius."""
    items = []
    for colour, shape, cx, cy, radius in objects:
        mask = shape_mask(shape, cx, cy, radius, SIDE)
        items.append(SceneObject(colour, shape, "small", cx, cy, radius, mask, mask_to_prompt_object(mask)))
    return Scene(Image.new("RGB", (SIDE, SIDE)), tuple(items))


ROW = make(
    ("red", "circle", 10, 50, 6),
    ("blue", "square", 40, 50, 9),
    ("blue", "cross", 60, 50, 6),
    ("green", "circle", 100, 50, 12),
)


@pytest.mark.parametrize(
    ("start", "relation", "found"),
    [
        (0, Relation("right of", "nearest"), 1),
        (0, Relation("right of", "largest"), 3),
        (0, Relation("right of", "smallest"), 2),
        (3, Relation("left of", "nearest"), 2),
        (3, Relation("right of", "nearest"), None),  # nothing is there
        (0, Relation("above", "nearest"), None),
        (1, Relation("colour"), 2),
        (0, Relation("colour"), None),  # no other is red
        (0, Relation("form"), 3),
    ],
)
def test_a_hop_leads_to_one_object(start: int, relation: Relation, found: int | None) -> None:
    assert follow(ROW, start, relation) == found


@pytest.mark.parametrize(
    ("scene", "relation"),
    [
        (make(("red", "circle", 50, 50, 6), ("blue", "cross", 20, 50, 6), ("red", "cross", 50 - 33, 60, 6)), "nearest"),
        (make(("red", "circle", 50, 50, 6), ("blue", "cross", 20, 50, 6), ("red", "cross", 5, 90, 6.5)), "largest"),
        (make(("red", "circle", 50, 50, 6), ("blue", "cross", 43, 90, 6)), "nearest"),  # hardly left of it
    ],
)
def test_an_unclear_hop_leads_nowhere(scene: Scene, relation: str) -> None:
    assert follow(scene, 0, Relation("left of", relation)) is None


def test_two_others_of_the_colour_are_not_one() -> None:
    scene = make(("red", "circle", 20, 50, 6), ("red", "cross", 50, 50, 6), ("red", "square", 80, 50, 6))
    assert follow(scene, 0, Relation("colour")) is None


def read_back(scene: Scene, text: str) -> int | None:
    """The object that a question asks for, from its words alone."""
    named = {words: index for index, words in named_by_words(scene).items()}
    if text in named:
        return named[text]
    alike = re.fullmatch(r"the other shape of the same (colour|form) as (.+)", text)
    towards = re.fullmatch(r"the (nearest|largest|smallest) shape (left of|right of|above|below) (.+)", text)
    assert alike or towards, text
    relation = Relation(alike[1]) if alike else Relation(towards[2], towards[1])  # type: ignore[index]
    inner = read_back(scene, (alike or towards).groups()[-1])  # type: ignore[union-attr]
    return None if inner is None else follow(scene, inner, relation)


@pytest.mark.parametrize("name", HOP_SETS)
def test_the_words_lead_to_the_target_and_pairs_are_of_the_set(name: str) -> None:
    wanted = HOP_SETS[name]
    for index in range(20):
        scene, chain = draw_any(np.random.default_rng((5, index)), wanted, 48)
        assert read_back(scene, chain.text) == chain.target
        assert chain.hops == wanted.hops == len(chain.path) - 1
        pairs = list(pairwise(chain.relations))
        assert all(is_held_out(a, b) == wanted.new for a, b in pairs)
        assert not any(a == b and a.where in ALIKE for a, b in pairs)


def test_a_quarter_of_all_pairs_is_held_out() -> None:
    held_out = [is_held_out(a, b) for a in RELATIONS for b in RELATIONS]
    assert 0.18 < np.mean(held_out) < 0.32


def test_every_chain_is_as_likely_as_any_other() -> None:
    """By count of the 2,000 draws, against all chains found by trying all relations."""
    scene = make_scene(np.random.default_rng(3), 48, 5)
    everything = {
        (start, a, b)
        for start in named_by_words(scene)
        for a in RELATIONS
        for b in RELATIONS
        if (middle := follow(scene, start, a)) is not None
        and follow(scene, middle, b) is not None
        and not is_held_out(a, b)
        and not (a == b and a.where in ALIKE)
    }
    rng = np.random.default_rng(0)
    drawn = [draw_chain(scene, 2, rng) for _ in range(2000)]
    counts = dict.fromkeys(everything, 0)
    for chain in drawn:
        assert chain is not None
        counts[chain.path[0], chain.relations[0], chain.relations[1]] += 1
    expected = len(drawn) / len(everything)
    assert len(everything) > 5
    assert all(abs(count - expected) < 5 * np.sqrt(expected) for count in counts.values())


def test_a_question_depends_on_seed_and_index_alone() -> None:
    first, again, other = (draw_one(seed, 7, HOP_SETS["2"], 48)[1] for seed in (1, 1, 2))
    assert first == again != other


def test_no_shortcut_answers_more_than_chance() -> None:
    found = answer_by_shortcuts([draw_one(9, index, HOP_SETS["2"], 56) for index in range(200)])
    for one in found:
        if one.points > 30:
            assert one.right <= one.chance + 4 * one.error, one


def test_shortcuts_answer_questions_drawn_without_care() -> None:
    """Negative control: among chains taken at random, shortcuts all together find the target."""
    drawn = [draw_any(np.random.default_rng((9, index)), HOP_SETS["2"], 56) for index in range(300)]
    together = answer_by_shortcuts(drawn)[-1]
    assert together.right > together.chance + 4 * together.error


def test_sets_take_turns_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "hops.parquet"
    assert write_hops(path, 2, 5, ["1", "2-new"], 48) == 5
    rows = list(open_rows(path))
    assert [row.kind for row in rows] == ["hops-1", "hops-2-new", "hops-1", "hops-2-new", "hops-1"]
    assert [row.id for row in rows][:2] == ["hops-2-000000", "hops-2-000001"]
    assert all(row.mask is not None for row in rows)


def test_the_command_writes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "hops.parquet"
    assert main(["data", "synthetic", "--out", str(path), "--count", "2", "--hops", "1", "3", "--side", "48"]) == 0
    assert "2 rows of split train" in capsys.readouterr().out
    assert [row.kind for row in open_rows(path)] == ["hops-1", "hops-3"]
