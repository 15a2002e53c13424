"""The prefix tree, the grouping of rows and their layout in one flat row; no model."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from seg_zero.training.engine.shared_prefix.batch import (
    ImageNumbers,
    ImageTokens,
    common,
    flat_row,
    opening,
    prompt_keys,
)
from seg_zero.training.engine.shared_prefix.groups import (
    Lengths,
    balance,
    equal_rows,
    micro_batches,
    spread_groups,
)
from seg_zero.training.engine.shared_prefix.layout import Layout
from seg_zero.training.engine.shared_prefix.tree import Segment, prefix_tree, token_keys

IMAGE = 9


def keys(*ids: int) -> np.ndarray:
    return np.array(ids, dtype=np.int64)


def path_tokens(forest: list[Segment], sequences: list[np.ndarray], row: int) -> list[int]:
    """A sequence, read off the tree from its root to its end."""
    number = max(n for n, segment in enumerate(forest) if row in segment.rows)
    found: list[int] = []
    while number >= 0:
        segment = forest[number]
        found[:0] = sequences[segment.rows[0]][segment.start : segment.stop].tolist()
        number = segment.parent
    return found


def token_count(forest: list[Segment]) -> int:
    """Tokens of a forest, those shared counted once."""
    return sum(segment.stop - segment.start for segment in forest)


def test_answers_share_their_prompt_alone() -> None:
    """Answers that begin alike are not shared: only the prompt's three tokens may be."""
    rows = [keys(1, 2, 3, 7, 7), keys(1, 2, 3, 7, 8), keys(1, 2, 3, 7)]
    assert prefix_tree(rows, [3, 3, 3]) == [
        Segment((0, 1, 2), 0, 3, -1),
        Segment((0,), 3, 5, 0),
        Segment((1,), 3, 5, 0),
        Segment((2,), 3, 4, 0),
    ]


def test_rounds_of_a_dialogue_share_their_history() -> None:
    rows = [keys(1, 2, 3), keys(1, 2, 4, 5, 6), keys(1, 2, 4, 5, 7), keys(1, 2, 4, 5), keys(8)]
    forest = prefix_tree(rows)
    assert forest == [
        Segment((0, 1, 2, 3), 0, 2, -1),
        Segment((0,), 2, 3, 0),
        Segment((1, 2, 3), 2, 4, 0),
        Segment((1,), 4, 5, 2),
        Segment((2,), 4, 5, 2),
        Segment((4,), 0, 1, -1),
    ]
    assert token_count(forest) == 8


@pytest.mark.parametrize("seed", range(10))
def test_every_sequence_can_be_read_off_the_tree(seed: int) -> None:
    rng = random.Random(seed)
    rows = [keys(*(rng.randint(0, 1) for _ in range(rng.randint(1, 9)))) for _ in range(12)]
    forest = prefix_tree(rows, least=1 + seed % 3)
    assert [path_tokens(forest, rows, row) for row in range(12)] == [row.tolist() for row in rows]
    assert all(segment.parent < number for number, segment in enumerate(forest))
    if seed % 3 == 0:  # the fewest tokens that can hold them: one for each distinct prefix
        assert token_count(forest) == len({tuple(row[:n]) for row in rows for n in range(1, len(row) + 1)})


def test_short_prefixes_stay_separate() -> None:
    rows = [keys(1, 2, 3), keys(1, 2, 4)]
    assert prefix_tree(rows, least=3) == [Segment((0,), 0, 3, -1), Segment((1,), 0, 3, -1)]


def test_an_empty_sequence_is_named() -> None:
    with pytest.raises(ValueError, match="sequence 1 is empty"):
        prefix_tree([keys(1), keys()])


def test_keys_tell_images_apart() -> None:
    assert token_keys(keys(1, IMAGE, IMAGE, 2, IMAGE), IMAGE, [(5, 2), (0, 1)]).tolist() == [1, -6, -6, 2, -1]
    with pytest.raises(ValueError, match="a sequence has 1 image tokens, and its images have 2"):
        token_keys(keys(1, IMAGE), IMAGE, [(0, 2)])


def picture(value: float, *grids: tuple[int, int, int]) -> dict[str, torch.Tensor]:
    patches = [t * h * w for t, h, w in grids]
    pixels = torch.cat([torch.full((count, 3), value + place) for place, count in enumerate(patches)])
    return {"pixel_values": pixels, "image_grid_thw": torch.tensor(grids)}


def test_equal_prompts_about_different_images_are_not_shared() -> None:
    """One value in the middle differs, which the sample by which images are sorted does not see."""
    prompt = torch.tensor([1, IMAGE, 2])
    pixels = torch.zeros(4, 300)
    other = pixels.clone()
    other[2, 101] = 1
    grid = torch.tensor([[1, 2, 2]])
    images = [{"pixel_values": p, "image_grid_thw": grid} for p in (pixels, pixels.clone(), other)]
    assert [ImageNumbers()(image) for image in images] == [[0]] * 3
    number = ImageNumbers()
    assert [number(image) for image in images] == [[0], [0], [1]]
    found = prompt_keys([prompt] * 3, images, ImageTokens(IMAGE, 2))
    assert equal_rows([key.tobytes() for key in found]) == [[0, 1], [2]]


def test_prompts_without_images_have_keys_too() -> None:
    found = prompt_keys([torch.tensor([1, 2])], [{}], ImageTokens(IMAGE, 2))
    assert found[0].tolist() == [1, 2]


@pytest.mark.parametrize("seed", range(20))
def test_micro_batches_keep_to_the_limit_and_share_where_they_can(seed: int) -> None:
    rng = random.Random(seed)
    groups: list[list[int]] = []
    prompts: list[int] = []
    answers: list[int] = []
    for _ in range(rng.randint(1, 8)):
        size, prompt = rng.randint(1, 9), rng.randint(1, 60)
        groups.append(list(range(len(prompts), len(prompts) + size)))
        prompts += [prompt] * size
        answers += [rng.randint(1, 40) for _ in range(size)]
    count = rng.choice((0, 3, 1000))
    lengths = Lengths.of_equal_prompts(prompts, answers)
    batches = micro_batches(groups, lengths, 160, count)
    assert sorted(row for batch in batches for part in batch for row in part) == list(range(len(prompts)))
    owner = {row: number for number, group in enumerate(groups) for row in group}
    for batch in batches:
        assert sum(map(lengths.cost, batch)) <= 160
        assert all(len({owner[row] for row in part}) == 1 for part in batch)
    assert len(batches) >= min(count, len(prompts))
    if count == 0:  # cut only if it is too large as a whole
        whole = [group for group in groups if lengths.cost(group) <= 160]
        parts = [sorted(part) for batch in batches for part in batch]
        assert all(sorted(group) in parts for group in whole)


def test_a_group_above_the_limit_is_cut_into_parts_that_share_again() -> None:
    equal = Lengths.of_equal_prompts
    assert micro_batches([[0, 1, 2, 3]], equal([10] * 4, [5, 2, 5, 2]), 20) == [[[0, 2]], [[1, 3]]]
    assert micro_batches([[0, 1]], equal([10] * 2, [50, 1]), 20) == [[[0]], [[1]]]  # a row above it stands alone


def test_rounds_of_a_conversation_are_cut_where_they_have_least_in_common() -> None:
    """Rows 0, 2 and 1, 3 are two conversations about one picture; each later prompt goes on from the earlier one."""
    prompts = [keys(-1, -1, 5), keys(-1, -1, 6), keys(-1, -1, 5, 7, 7), keys(-1, -1, 6, 8, 8)]
    assert [opening(one).tolist() for one in prompts] == [[-1, -1]] * 4
    lengths = Lengths(
        [len(one) for one in prompts],
        [1] * 4,
        shared=lambda row, other: common(prompts[row], prompts[other]),
        order=lambda row: prompts[row].tobytes(),
    )
    assert lengths.cost([0, 2, 1, 3]) == 2 + 3 + 3 + 4  # the picture, what follows it in each, the answers
    assert micro_batches([[0, 1, 2, 3]], lengths, 12) == [[[0, 2, 1, 3]]]
    assert micro_batches([[0, 1, 2, 3]], lengths, 8) == [[[0, 2]], [[1, 3]]]


def test_prompts_about_one_picture_share_it_and_no_later_one() -> None:
    """Three questions about one picture, of which two show a second one; only the pictures of these differ."""
    prompts = [[1, IMAGE, 2, 3], [1, IMAGE, 2, IMAGE, 4], [1, IMAGE, 2, IMAGE, 5]]
    rows = [torch.tensor([*prompt, 7]) for prompt in prompts]
    images = [picture(0.5, (1, 2, 2)), picture(0.5, (1, 2, 2), (1, 2, 2)), picture(0.5, (1, 2, 2), (1, 2, 2))]
    images[2]["pixel_values"][5] += 1
    row = flat_row(rows, [4, 5, 5], [3], images, ImageTokens(IMAGE, 2))
    joined = torch.cat(rows)
    assert joined[row.tokens].tolist() == [1, IMAGE, 2, 3, 7, IMAGE, 4, 7, IMAGE, 5, 7]
    assert row.images == ((0, 0), (1, 1), (2, 1))
    assert joined[row.predicted + 1].tolist() == [7, 7, 7]


def test_workers_get_whole_groups_of_equal_cost() -> None:
    groups = [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert spread_groups(groups, [10, 1, 2, 9], 2) == [[0, 1, 2, 3], [6, 7, 4, 5]]


def test_workers_get_equally_many_rows_of_unequal_groups() -> None:
    shares = spread_groups([[0, 1, 2, 3, 4], [5, 6], [7]], [50, 20, 10], 2)
    assert [len(share) for share in shares] == [4, 4]
    assert sorted(row for share in shares for row in share) == list(range(8))
    with pytest.raises(ValueError, match="3 rows do not divide among 2 workers"):
        spread_groups([[0, 1, 2]], [1], 2)


def test_a_batch_is_ordered_by_worker_and_prompt() -> None:
    """The two costly prompts go to different workers; the rows of a prompt stay together."""
    names, answers = "dbcadbcadbca", {"a": 9, "b": 30, "c": 1, "d": 40}
    keys = [f"{name}_{number}_0" for number, name in enumerate(names)]
    tags = [{"prompt_len": 10, "response_len": answers[name]} for name in names]
    order, costs = balance(keys, tags, 2)
    assert "".join(names[row] for row in order) == "cccdddaaabbb"
    assert costs == [20 + 3 * 41, 20 + 3 * 39]


def seen_by(layout: Layout) -> torch.Tensor:
    """(tokens, tokens): which places each place attends to, by the levels' own masks."""
    places = torch.zeros(layout.tokens, layout.tokens, dtype=torch.bool)
    for depth, level in enumerate(layout.levels):
        own = torch.arange(level.start, level.start + level.count * level.length)
        own = (own if level.places is None else level.places).view(level.count, level.length)
        if depth == 0:
            seen = torch.ones(level.length, level.length, dtype=torch.bool).tril()[None].expand(level.count, -1, -1)
            keys, first = own, own
        else:
            past = first if level.history is None else level.history.view(len(level.children), level.past)
            keys = torch.cat([past.repeat_interleave(torch.tensor(level.children), 0), own], 1)
            seen = (level.bias(torch.float32)[:, 0] == 0).expand(level.count, -1, -1)
        for row in range(level.count):
            for place in range(level.length):
                if place and own[row, place] == 0:
                    break  # beyond the end of the segment
                places[own[row, place], keys[row][seen[row, place]]] = True
    return places


@pytest.mark.parametrize("seed", range(12))
def test_each_token_attends_to_its_path_and_nothing_else(seed: int) -> None:
    """Up to four levels, roots with and without children, equal and unequal lengths."""
    rng = random.Random(seed)
    rows = [keys(*(rng.randint(0, 1) for _ in range(rng.randint(1, 6)))) for _ in range(6)]
    layout = Layout(prefix_tree(rows, least=1 + seed % 2))
    seen = seen_by(layout)
    for row in range(len(rows)):
        path = layout.places(row)
        assert len(path) == len(rows[row])
        for place, at in enumerate(path.tolist()):
            assert seen[at].nonzero().flatten().tolist() == sorted(path[: place + 1].tolist())


def test_equal_groups_need_neither_indices_nor_a_mask_per_answer() -> None:
    layout = Layout(prefix_tree([keys(1, 2, 3), keys(1, 2, 4), keys(1, 2, 5)], [2, 2, 2]))
    assert layout.order is None and all(level.places is None for level in layout.levels)
    assert layout.levels[1].bias(torch.float32).shape == (1, 1, 1, 3)


def test_a_row_shows_each_image_once_and_predicts_the_answers() -> None:
    """Two groups: two images in the first prompt, none in the second; answers of one to three tokens."""
    first, second = [1, IMAGE, IMAGE, 2, IMAGE], [3, 4]
    rows = [torch.tensor(r) for r in ([*first, 5], [*first, 6, 7, 8], [*second, 5, 6], [*second, 1])]
    images = [picture(0.5, (1, 2, 4), (1, 2, 2))] * 2 + [{}] * 2
    row = flat_row(rows, [5, 5, 2, 2], [2, 2], images, ImageTokens(IMAGE, 2))
    joined = torch.cat(rows)
    assert joined[row.tokens].tolist() == [*first, 5, 6, 7, 8, *second, 5, 6, 1]
    assert joined[row.predicted + 1].tolist() == [5, 6, 7, 8, 5, 6, 1]
    assert row.logits_at.tolist() == [4, 4, 6, 7, 10, 11, 10]
    assert row.images == ((0, 0), (0, 1))
