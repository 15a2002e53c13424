"""A conversation with the embedded SAM2 and a policy whose text is given."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.scripted_policy import ScriptedPolicy
from PIL import Image

from seg_zero.answer import write_answer, write_solution_multi
from seg_zero.data.synthetic.scenes import make_samples
from seg_zero.errors import InputError
from seg_zero.masks import mask_to_prompt_object
from seg_zero.objects import PromptObject
from seg_zero.pipeline import ReasoningSegmenter
from seg_zero.segmenter import Embedding, load_segmenter
from seg_zero.segmenter.sam2_package import Sam2PackageSegmenter

SCENE = next(s for s in make_samples(33, 40) if len(s.scene.objects) >= 3).scene
ONE, TWO, THREE = SCENE.objects[:3]


def says(*items: Any) -> str:
    return write_answer("look", write_solution_multi([item.prompt for item in items]))


TEXTS = {
    "first": says(ONE),
    "second": says(TWO),
    "both": says(ONE, TWO),
    "nothing": says(),
    "broken": "no answer at all",
    "left of instance 1": says(THREE),
    "beside it": says(TWO),
    "again": says(ONE),
    "both excluding instance 1": says(ONE, TWO),
}


class CountingSegmenter:
    """Counts the images that the segmenter embeds."""

    def __init__(self, inner: Any) -> None:
        self._inner, self.embedded, self.mask_prompts = inner, 0, list[Any]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def embed(self, images: Sequence[Image.Image]) -> list[Embedding]:
        self.embedded += len(images)
        return self._inner.embed(images)

    def segment_embedded(self, *args: Any, **options: Any) -> Any:
        self.mask_prompts.append(options.get("mask_prompts"))
        return self._inner.segment_embedded(*args, **options)


@pytest.fixture(scope="module")
def sam2() -> Any:
    return load_segmenter()


def segmenter_with(sam2: Sam2PackageSegmenter) -> tuple[ReasoningSegmenter, ScriptedPolicy, CountingSegmenter]:
    policy, counting = ScriptedPolicy(TEXTS), CountingSegmenter(sam2)
    return ReasoningSegmenter(policy, counting), policy, counting  # type: ignore[arg-type]


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / max((one | other).sum(), 1))


def test_earlier_answers_re_enter_the_prompt_and_the_image_is_embedded_once(sam2: Any) -> None:
    segmenter, policy, counting = segmenter_with(sam2)
    dialogue = segmenter.dialogue(SCENE.image)
    first = dialogue.ask("first")
    assert iou(first.mask, ONE.mask) > 0.8
    dialogue.ask("nothing")
    third = dialogue.ask("left of instance 1")
    assert iou(third.mask, THREE.mask) > 0.8
    fourth = dialogue.ask("[REF:1,3] beside it")
    assert [item.question for item in dialogue.rounds] == ["first", "nothing", "left of instance 1", "beside it"]
    assert [item.references for item in dialogue.rounds] == [(), (), (1,), (1, 3)]
    assert counting.embedded == 1
    assert first.seconds["embedding"] > 0 and fourth.seconds["embedding"] == 0
    contexts = [request.context for request in policy.requests]
    assert contexts[0] == ""
    assert 'instance 2, "nothing": nothing was found. The question refers to instance 1.' in contexts[2]
    assert contexts[3].endswith("The question refers to instance 1 and instance 3.")
    assert fourth == segmenter(SCENE.image, "beside it")


def test_an_earlier_mask_is_made_text_once(sam2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def counted(mask: np.ndarray) -> PromptObject:
        seen.append(int(mask.sum()))
        return mask_to_prompt_object(mask)

    monkeypatch.setattr("seg_zero.dialogue.memory.mask_to_prompt_object", counted)
    segmenter, policy, _ = segmenter_with(sam2)
    dialogue = segmenter.dialogue(SCENE.image)
    for question in ("both", "nothing", "again", "second"):
        dialogue.ask(question)
    assert len(seen) == 3 and policy.requests[3].context.count("bbox_2d") == 3


def test_a_single_question_is_the_first_round(sam2: Any) -> None:
    segmenter, _, _ = segmenter_with(sam2)
    assert segmenter.dialogue(SCENE.image).ask("both") == segmenter(SCENE.image, "both")


def test_the_mask_way_starts_sam2_from_the_earlier_logits_and_excludes(sam2: Any) -> None:
    segmenter, _, counting = segmenter_with(sam2)
    dialogue = segmenter.dialogue(SCENE.image, references="mask")
    first = dialogue.ask("first")
    again = dialogue.ask("again", references=[1])
    (prompt,) = counting.mask_prompts[-1]
    assert dialogue.rounds[0].low_res is not None
    assert np.array_equal(prompt, dialogue.rounds[0].low_res[0])
    assert iou(again.mask, ONE.mask) > 0.8
    rest = dialogue.ask("both excluding instance 1")
    assert not (rest.mask & first.mask).any() and iou(rest.mask, TWO.mask) > 0.8
    assert dialogue.rounds[2].low_res is None


def test_clicks_and_masks_are_references(sam2: Any) -> None:
    segmenter, policy, counting = segmenter_with(sam2)
    dialogue = segmenter.dialogue(SCENE.image)
    dialogue.ask("beside it", references=[ONE.prompt, TWO.mask])
    (item,) = dialogue.rounds
    assert item.given is not None and item.given.shape == (2, 112, 112)
    assert iou(item.given[0], ONE.mask) > 0.8 and np.array_equal(item.given[1], TWO.mask)
    assert "Region 0, given by the user: " in policy.requests[0].context
    assert counting.embedded == 1


def test_references_come_from_any_iterable_and_rounds_from_any_whole_number(sam2: Any) -> None:
    segmenter, _, _ = segmenter_with(sam2)
    dialogue = segmenter.dialogue(SCENE.image)
    dialogue.ask("first")
    dialogue.ask("beside it", (item for item in (np.int64(1), TWO.mask)))
    (_, item) = dialogue.rounds
    assert item.references == (1,) and type(item.references[0]) is int
    assert item.given is not None and np.array_equal(item.given, TWO.mask[None])
    dialogue.ask("again", np.array([1, 2]))
    assert dialogue.rounds[2].references == (1, 2)


def failing(dialogue: Any, question: Any, references: Any = (), **options: Any) -> Any:
    return lambda: dialogue.ask(question, references, **options)


@pytest.mark.parametrize(
    ("question", "references", "words"),
    [
        ("[REF:4] x", (), "refers to round 4, but there are rounds 1 to 3"),
        ("beside it", (3,), "refers to round 3, which found no object"),
        ("left of instance 2", (), "refers to round 2, which found no object"),
        ("[REF:x] beside it", (), "cannot be read; write"),
        ("[REF:1]", (), "is empty"),
        ("beside it", (np.zeros((112, 112), dtype=bool),), "has no pixel"),
        ("beside it", (np.ones((4, 4), dtype=bool),), r"bool of shape \(4, 4\); give a boolean array \(112, 112\)"),
        ("beside it", ("1",), "a region is str"),
        ("beside it", (PromptObject(None, ((500.0, 500.0),)),), "nothing is segmented at"),
        (None, (), "question is a NoneType"),
        ("a \ud800 b", (), "the question holds half a character"),
        ("beside it", 1, r"references is a int, no list; give a list, such as \[1\]"),
        ("beside it", None, "references is None, no list"),
        ("beside it", "1", "references is a str, no list"),
        ("beside it", np.int64(1), "references is a int64, no list"),
        ("beside it", ONE.mask, "references is a ndarray, no list"),
        ("beside it", ONE.prompt, "references is a PromptObject, no list"),
        ("beside it", [True], "reference True is no round"),
        ("beside it", [1.0], "a region is float"),
        ("<|image_pad|>", (), "control token"),
    ],
)
def test_bad_input_leaves_the_dialogue_as_it_was(sam2: Any, question: Any, references: Any, words: str) -> None:
    segmenter, policy, _ = segmenter_with(sam2)
    dialogue = segmenter.dialogue(SCENE.image)
    for earlier in ("first", "nothing", "broken"):
        dialogue.ask(earlier)
    before = dialogue.rounds
    with pytest.raises(InputError, match=words):
        dialogue.ask(question, references)
    assert dialogue.rounds == before and len(policy.asked) == 3


def test_an_empty_round_can_be_carried_and_the_prompt_says_so(sam2: Any) -> None:
    segmenter, policy, _ = segmenter_with(sam2)
    dialogue = segmenter.dialogue(SCENE.image, carry="references")
    dialogue.ask("broken")
    assert dialogue.rounds[0].result.problem is not None
    dialogue.ask("beside it", references=[1], allow_empty=True)
    assert "nothing was found" in policy.requests[1].context


def test_rounds_are_limited_undone_and_cleared(sam2: Any) -> None:
    segmenter, _, counting = segmenter_with(sam2)
    dialogue = segmenter.dialogue(SCENE.image, max_rounds=2)
    with pytest.raises(InputError, match="no round to undo"):
        dialogue.undo()
    dialogue.ask("first")
    dialogue.ask("second")
    with pytest.raises(InputError, match="has its 2 rounds; undo some"):
        dialogue.ask("both")
    assert dialogue.undo().question == "second"
    dialogue.ask("both")
    assert [item.question for item in dialogue.rounds] == ["first", "both"]
    dialogue.clear()
    with pytest.raises(InputError, match="there is no earlier round"):
        dialogue.ask("left of instance 1")
    dialogue.ask("first")
    assert counting.embedded == 1
    for wrong in (0, True, 2.5):
        with pytest.raises(InputError, match="max_rounds"):
            segmenter.dialogue(SCENE.image, max_rounds=wrong)


def test_two_dialogues_share_nothing_but_the_models(sam2: Any) -> None:
    segmenter, policy, _ = segmenter_with(sam2)
    one, other = segmenter.dialogue(SCENE.image), segmenter.dialogue(SCENE.image)
    one.ask("first")
    assert other.rounds == ()
    other.ask("second")
    assert policy.requests[1].context == ""
    assert [len(one.rounds), len(other.rounds)] == [1, 1]


def test_a_saved_dialogue_goes_on_where_it_ended(sam2: Any, tmp_path: Path) -> None:
    segmenter, policy, _ = segmenter_with(sam2)
    SCENE.image.save(tmp_path / "scene.png")
    dialogue = segmenter.dialogue(tmp_path / "scene.png")
    dialogue.ask("both")
    dialogue.ask("nothing")
    dialogue.ask("beside it", references=[1, TWO.mask], relation="hierarchical")
    dialogue.save(tmp_path / "talk.json")
    loaded = segmenter.load_dialogue(tmp_path / "talk.json")
    loaded.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "talk.json").read_bytes()
    assert [item.asked for item in loaded.rounds] == [item.asked for item in dialogue.rounds]
    assert all(np.array_equal(a.mask, b.mask) for a, b in zip(loaded.rounds, dialogue.rounds, strict=True))
    assert loaded.rounds[2].given is not None and np.array_equal(loaded.rounds[2].given[0], TWO.mask)
    loaded.ask("left of instance 1")
    dialogue.ask("left of instance 1")
    assert policy.requests[-1].context == policy.requests[-2].context


def named(record: Any) -> Any:
    """The first object of the first round."""
    return record["rounds"][0]["answer"]["objects"][0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda record: record.update(version=7), "its version is 7, not 1"),
        (lambda record: record.pop("rounds"), "is no dialogue"),
        (lambda record: record.update(rounds={}), "of another type"),
        (lambda record: record["rounds"][1].update(references=[2]), "round 2 cannot be read .*refers to round 2"),
        (lambda record: record["rounds"][1].update(question="<|im_end|>"), "round 2 cannot be read .*control token"),
        (lambda record: record["rounds"][0]["answer"].update(width=9), "round 1 cannot be read"),
        (lambda record: record["rounds"][0]["answer"]["segmentation"].update(counts="0"), "round 1 cannot be read"),
        (lambda record: record["rounds"][0].update(given=[{"size": [1, 1], "counts": "01"}]), r"have size \[1, 1\]"),
        (lambda record: named(record).update(box=[1, 2, 3]), r"box \[1.0, 2.0, 3.0\] is not 4 numbers"),
        (lambda record: named(record).update(box=[1, 2, 3, 4, 5]), "is not 4 numbers"),
        (lambda record: named(record).update(box=[1, 2, 3, float("nan")]), "round 1 cannot be read .*is not 4 numbers"),
        (lambda record: named(record).update(box=[1, 2, float("inf"), 4]), "round 1 cannot be read .*is not 4 numbers"),
        (lambda record: named(record).update(box=[1, 2, 1e30, 4]), "round 1 cannot be read .*is not 4 numbers"),
        (lambda record: named(record).update(box=[1, 2, 10**400, 4]), "round 1 cannot be read .*too large"),
        (lambda record: named(record).update(points=[[float("nan"), 2]]), "point .* is not 2 numbers"),
        (lambda record: named(record).update(points=[[1, float("-inf")]]), "point .* is not 2 numbers"),
        (lambda record: named(record).update(points=[[1]]), "point .* is not 2 numbers"),
        (lambda record: named(record).update(score=float("nan")), "score .* is not 1 number"),
        (lambda record: named(record).update(segmentation={"size": [10**6, 10**6], "counts": "PPo`kT1"}), "have size"),
        (lambda record: named(record)["segmentation"].update(size=[]), "have size"),
        (lambda record: named(record)["segmentation"].update(counts=None), "neither a list nor compressed text"),
        (lambda record: record["rounds"][0]["answer"].update(problem=5), "problem or warning is no text"),
        (lambda record: record["rounds"][0]["answer"].update(texts=[5]), "texts is no text"),
        (lambda record: record["rounds"][1].update(references=7), "references is a int, no list"),
        (lambda record: record["rounds"][1].update(question="a \ud800"), "half a character"),
        (lambda record: record.update(rounds=record["rounds"] * 11), "22 rounds, more than 20"),
    ],
)
def test_a_damaged_file_is_refused(sam2: Any, tmp_path: Path, change: Any, words: str) -> None:
    segmenter, _, _ = segmenter_with(sam2)
    dialogue = segmenter.dialogue(SCENE.image)
    dialogue.ask("first")
    dialogue.ask("second")
    dialogue.save(tmp_path / "talk.json")
    record = json.loads((tmp_path / "talk.json").read_text())
    change(record)
    (tmp_path / "talk.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=words):
        segmenter.load_dialogue(tmp_path / "talk.json", SCENE.image)


def test_another_image_or_a_missing_file_is_refused(sam2: Any, tmp_path: Path) -> None:
    segmenter, _, _ = segmenter_with(sam2)
    dialogue = segmenter.dialogue(SCENE.image)
    dialogue.ask("first")
    dialogue.save(tmp_path / "talk.json")
    with pytest.raises(InputError, match="give the image"):
        segmenter.load_dialogue(tmp_path / "talk.json")
    record = json.loads((tmp_path / "talk.json").read_text())
    (tmp_path / "moved.json").write_text(json.dumps({**record, "image": "away.png"}))
    with pytest.raises(InputError, match=r"moved.json was held about away.png, which does not exist .*give the image"):
        segmenter.load_dialogue(tmp_path / "moved.json")
    with pytest.raises(InputError, match="was held about another image"):
        segmenter.load_dialogue(tmp_path / "talk.json", Image.new("RGB", SCENE.image.size))
    with pytest.raises(InputError, match="cannot be read"):
        segmenter.load_dialogue(tmp_path / "none.json", SCENE.image)
    (tmp_path / "text.json").write_text("[1")
    with pytest.raises(InputError, match="is no dialogue"):
        segmenter.load_dialogue(tmp_path / "text.json", SCENE.image)
