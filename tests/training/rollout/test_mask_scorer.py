"""SAM2 in the reward: alone, as a shared Ray actor, and with everything that can fail."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seg_zero.data.augmentation import View, whole
from seg_zero.data.rows import Row, write_rows
from seg_zero.data.synthetic.rows import HELD_OUT_SEED, sample_to_row
from seg_zero.data.synthetic.scenes import make_samples
from seg_zero.errors import InputError
from seg_zero.masks import encode_mask
from seg_zero.objects import PromptObject
from seg_zero.rewards import Response, needs
from seg_zero.rewards import response as response_module
from seg_zero.rewards.presets import preset_settings
from seg_zero.segmenter import Segmenter, load_segmenter
from seg_zero.segmenter.sam2_package import Sam2PackageSegmenter
from seg_zero.training.rollout.mask_scorer import MaskQuestion, MaskScore, MaskScorer

SIDE = 112
KINDS = ("attr", "plural")
MASK_SCORER = {
    "segmentation_model": "tiny",
    "device": "cpu",
    "actors": 1,
    "num_gpus": 0,
    "cache_images": 4,
    "timeout_seconds": 60,
}
TERMS = {
    "mask": {"function": "rewards.masks.mask", "weight": 2.0},
    "iou": {"function": "rewards.boxes.iou", "weight": 1.0},
}


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    samples = make_samples(HELD_OUT_SEED, 6, SIDE, KINDS)
    good = [sample_to_row(sample, f"row-{i}") for i, sample in enumerate(samples)]
    return [*good, replace(good[0], id="maskless", mask=None), replace(good[0], id="broken", image_bytes=b"no image")]


@pytest.fixture(scope="module")
def path(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    write_rows(path, rows)
    return str(path)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return load_segmenter(device="cpu")


def question(path: str, rows: list[Row], row: int, shift: float = 0.0, view: View | None = None) -> MaskQuestion:
    """The true objects of a row, moved, as a policy that saw ``view`` would have written them."""
    view = view or whole((SIDE, SIDE))
    scale = 56 / view.size[0]
    objects = [view.to_view(item).scaled(scale, scale) for item in rows[row].objects()]
    moved = [PromptObject(tuple(v + shift for v in o.box), ()) for o in objects if o.box]  # type: ignore[arg-type]
    return MaskQuestion(path, row, view, (56, 56), tuple(moved))


def test_true_boxes_score_high_and_wrong_ones_low(path: str, rows: list[Row], segmenter: Segmenter) -> None:
    scorer = MaskScorer(segmenter, cache_images=8)
    right = scorer.scores([question(path, rows, row) for row in range(6)])
    wrong = scorer.scores([question(path, rows, row, shift=25) for row in range(6)])
    assert np.mean([score.iou for score in right]) > 0.9
    assert np.mean([score.iou for score in wrong]) < 0.4
    assert all(score.problem is None for score in (*right, *wrong))


def test_samples_of_one_question_share_one_embedding(path: str, rows: list[Row], segmenter: Segmenter) -> None:
    """Whatever the order in which they come; and company does not change a score."""
    scorer = MaskScorer(segmenter, cache_images=8)
    mixed = [question(path, rows, row, shift) for shift in (0.0, 3.0, 6.0) for row in (0, 1, 2)]
    together = scorer.scores(mixed)
    assert scorer.images_embedded == 3
    scorer.scores(mixed[:2])
    assert scorer.images_embedded == 3
    for item, score in zip(mixed, together, strict=True):
        (alone,) = MaskScorer(segmenter, cache_images=1).scores([item])
        assert alone.iou == pytest.approx(score.iou, abs=0.01)


def test_old_embeddings_make_room(path: str, rows: list[Row], segmenter: Segmenter) -> None:
    scorer = MaskScorer(segmenter, cache_images=2)
    scorer.scores([question(path, rows, row) for row in range(6)])
    scorer.scores([question(path, rows, 5)])
    assert scorer.images_embedded == 6
    scorer.scores([question(path, rows, 0)])
    assert scorer.images_embedded == 7


def test_answers_about_a_flipped_or_zoomed_picture_are_taken_back(
    path: str, rows: list[Row], segmenter: Segmenter
) -> None:
    views = [View((0, 0, SIDE, SIDE), flipped=True), View((-28, -28, SIDE + 28, SIDE + 28), flipped=True)]
    scores = MaskScorer(segmenter, 8).scores([question(path, rows, 1, view=view) for view in views])
    assert all(score.iou is not None and score.iou > 0.85 for score in scores)


def test_one_failing_sample_costs_only_itself(
    path: str, rows: list[Row], segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = Sam2PackageSegmenter.segment_embedded

    def fails_on_wide_boxes(self: Segmenter, embedding: Any, objects: list[PromptObject]) -> Any:
        if any(o.box is not None and o.box[2] > 1000 for o in objects):
            raise RuntimeError("out of memory")
        return decode(self, embedding, objects)

    monkeypatch.setattr(Sam2PackageSegmenter, "segment_embedded", fails_on_wide_boxes)
    bad = replace(question(path, rows, 0), objects=(PromptObject((0, 0, 1000, 50)),))
    scores = MaskScorer(segmenter, 8).scores(
        [
            question(path, rows, 0),
            bad,
            question(path, rows, 6),
            question(path, rows, 7),
            replace(question(path, rows, 0), row=999),
        ]
    )
    assert scores[0].iou is not None and scores[0].iou > 0.9
    for score, words in zip(scores[1:], ("out of memory", "no mask", "cannot be read", "999"), strict=True):
        assert score.iou is None and words in str(score.problem)


def test_ignored_pixels_count_neither_way(rows: list[Row], segmenter: Segmenter, tmp_path: Path) -> None:
    truth = rows[0].truth()
    assert truth is not None
    half = truth.copy()
    half[:, : int(np.median(np.nonzero(truth)[1]))] = False
    row = replace(rows[0], mask=encode_mask(half), ignore=encode_mask(truth & ~half))
    write_rows(tmp_path / "rows.parquet", [row])
    (score,) = MaskScorer(segmenter, 1).scores([question(str(tmp_path / "rows.parquet"), rows, 0)])
    assert score.iou is not None and score.iou > 0.85


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


def ask(path: str, rows: list[Row], answers: list[str], **changes: Any) -> list[dict[str, float]]:
    """Score answers to row 0 as verl's reward worker does: all at once, in one event loop."""
    from seg_zero.training.rollout.reward import compute_score

    width = {
        "image_size": (SIDE, SIDE),
        "source": path,
        "row": 0,
        "view": {"window": [0, 0, SIDE, SIDE], "flipped": False},
    }
    settings = {"terms": TERMS, "mask_scorer": {**MASK_SCORER, **changes}}
    truth = rows[0].solution

    async def run() -> list[dict[str, float]]:
        texts = [f"<think>x</think><answer>{answer}</answer>" for answer in answers]
        return await asyncio.gather(*(compute_score("rows", text, truth, dict(width), **settings) for text in texts))

    return asyncio.run(run())


@pytest.mark.timeout(120)
def test_reward_workers_share_one_actor(path: str, rows: list[Row], cluster: Any) -> None:
    """Right, empty and unreadable answers; then the actor dies: its samples score 0, are counted, and it comes back."""
    right = rows[0].solution
    scores = ask(path, rows, [right, "[]", "nonsense", right])
    assert [set(score) for score in scores] == [{"score", "mask", "mask_iou", "iou", "box_iou", "failures"}] * 4
    assert [score["mask"] for score in scores] == [1.0, 0.0, 0.0, 1.0]
    assert [score["score"] for score in scores] == [3.0, 0.0, 0.0, 3.0]
    assert all(score["failures"] == 0.0 for score in scores)

    actor = cluster.get_actor("seg_zero_MaskScorer_0")
    cluster.kill(actor, no_restart=False)
    tries = [ask(path, rows, [right])[0] for _ in range(20)]
    assert all(score["mask"] == 1.0 - score["failures"] for score in tries)
    assert tries[-1]["failures"] == 0.0

    with pytest.raises(Exception, match="neither a file, a folder nor a hub id"):
        ask(path, rows, [right], segmentation_model="no-such-model", actors=2)  # a second actor, which cannot load


@needs("mask")
def outline(response: Response) -> float:
    """A user's own term: the IoU itself, for questions of one kind."""
    return (response.mask_iou or 0.0) * (response.kind == "attr" and response.question == "the dog")


class Scorers:
    """SAM2's masks without SAM2: an IoU of 0.7 for everything."""

    def __init__(self) -> None:
        self.asked: list[MaskQuestion] = []

    async def score(self, question: MaskQuestion) -> MaskScore:
        self.asked.append(question)
        return MaskScore(0.7)


@pytest.fixture
def scorers(monkeypatch: pytest.MonkeyPatch) -> Scorers:
    from seg_zero.training.rollout import reward

    scorers = Scorers()
    monkeypatch.setattr(reward, "_scorers", lambda _settings: scorers)
    return scorers


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that were read as answers, one entry for each time."""
    texts: list[str] = []
    real = response_module.parse_answer
    monkeypatch.setattr(response_module, "parse_answer", lambda text: texts.append(text) or real(text))
    return texts


OWN = {"outline": {"function": "test_mask_scorer.outline", "weight": 1.0}}


BOX = '[{"bbox_2d":[20,20,60,60],"point_2d":[40,40]}]'


def score_one(terms: dict[str, Any], answer: str = BOX, truth: str = BOX, **info: Any) -> dict[str, Any]:
    from seg_zero.training.rollout.reward import compute_score

    view = {"window": [0, 0, SIDE, SIDE], "flipped": False}
    known = {
        "image_size": (SIDE, SIDE),
        "source": "rows",
        "row": 0,
        "view": view,
        "question": "the dog",
        "kind": "attr",
    }
    text = f"<think>x</think><answer>{answer}</answer>"
    return asyncio.run(compute_score("rows", text, truth, {**known, **info}, terms, MASK_SCORER))


@pytest.mark.parametrize("held_out", [False, True])
def test_a_users_own_term_gets_the_mask_it_declares(scorers: Scorers, held_out: bool) -> None:
    score = score_one(OWN, held_out=held_out)
    assert (score["outline"], score["mask_iou"], len(scorers.asked)) == (0.7, 0.7, 1)
    assert score_one(OWN, kind="plural")["outline"] == 0.0


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize(
    ("answer", "truth", "value"), [("[]", "[]", 1.0), ("nonsense", "[]", 0.0), (BOX, "[]", 0.0), ("[]", BOX, 0.0)]
)
def test_where_there_is_nothing_to_compare_training_and_validation_agree(
    scorers: Scorers, held_out: bool, answer: str, truth: str, value: float
) -> None:
    score = score_one(OWN, answer, truth, held_out=held_out)
    assert (score["outline"], score["mask_iou"], score["failures"]) == (value, value, 0.0)


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("own", [{}, OWN])
def test_a_response_is_read_once(
    scorers: Scorers, parsed: list[str], held_out: bool, own: dict[str, dict[str, Any]]
) -> None:
    terms = {**preset_settings("seg_zero"), **own}
    score_one(dict(terms), held_out=held_out)
    assert len(parsed) == 1


def test_points_are_judged_by_the_mask_that_the_policy_saw(scorers: Scorers) -> None:
    ring = np.zeros((SIDE, SIDE), dtype=bool)
    ring[20:61, 20:61] = True
    ring[30:51, 30:51] = False
    terms = dict(preset_settings("seg_zero"))
    assert score_one(terms)["point"] == 1.0
    assert score_one(terms, mask=None)["point"] == 1.0
    assert score_one(terms, mask=encode_mask(ring))["point"] == 0.0


def test_a_mask_that_no_term_looks_at_is_not_read(scorers: Scorers) -> None:
    broken = {"size": [SIDE, SIDE], "counts": "?"}
    terms: dict[str, Any] = {"think": {"function": "seg_zero.rewards.text.think", "weight": 1.0}}
    assert score_one(terms, mask=broken)["think"] == 1.0
    terms["point"] = {"function": "seg_zero.rewards.points.point", "weight": 1.0}
    with pytest.raises(InputError, match="mask is unreadable"):
        score_one(terms, mask=broken)


def test_json_of_settings_is_what_hydra_gives(path: str, rows: list[Row]) -> None:
    """No SAM2 is asked when the term is off, and OmegaConf's containers are taken as they are."""
    from omegaconf import OmegaConf

    from seg_zero.training.rollout.reward import compute_score

    terms = OmegaConf.create({**TERMS, "mask": {**TERMS["mask"], "weight": 0.0}})
    text = f"<think>x</think><answer>{json.dumps([])}</answer>"
    info = {"image_size": (SIDE, SIDE)}
    score = asyncio.run(compute_score("rows", text, "[]", info, terms=terms, mask_scorer=OmegaConf.create(MASK_SCORER)))
    assert score == {"score": 1.0, "iou": 1.0, "box_iou": 1.0, "failures": 0.0}


def test_data_without_masks_is_refused_before_a_run(rows: list[Row], tmp_path: Path) -> None:
    from seg_zero.errors import InputError
    from seg_zero.training.launch import checks
    from seg_zero.training.launch.config import load_config

    path = tmp_path / "rows.parquet"
    write_rows(path, [replace(rows[0], mask=None), rows[1]])
    settings = ["policy=tiny", "data=synthetic", "hardware=cpu_2core", "schedule=tiny"]
    settings += [f"data.train_files={path}", f"data.val_files={path}"]
    assert checks.find_bad_rows(load_config([*settings, "data.segment_held_out=false"]), skip_bad=False) == {}
    with pytest.raises(InputError, match=r"validation by gIoU needs true masks, but 1 of 2 rows"):
        checks.find_bad_rows(load_config(settings), skip_bad=False)
    with pytest.raises(InputError, match=r"the reward term 'mask' needs true masks, but 1 of 2 rows of .* have none"):
        checks.find_bad_rows(load_config([*settings, "reward.terms.mask.weight=1"]), skip_bad=False)
