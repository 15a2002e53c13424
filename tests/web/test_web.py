"""The page keeps its users apart, shows and hands out what the Python API gives, and says what is wrong in words."""

from __future__ import annotations

import io
import json
import signal
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.pictures import encoded
from helpers.scripted_policy import ScriptedPolicy
from PIL import Image

from seg_zero import extras
from seg_zero.assets import EXAMPLE_IMAGE
from seg_zero.cli.main import main as cli
from seg_zero.cli.web import trained_offer
from seg_zero.data.source import open_rows
from seg_zero.errors import InputError
from seg_zero.objects import PromptObject
from seg_zero.pipeline import ReasoningSegmenter
from seg_zero.results.result import SegmentationResult, SegmentedObject
from seg_zero.segmenter import Segmenter, load_segmenter
from seg_zero.serving.service import Refused
from seg_zero.serving.uploads import Limits
from seg_zero.visualize import colour_of
from seg_zero.web import show
from seg_zero.web.asker import Asker, Waiting
from seg_zero.web.session import HISTORY, Item, Picture, Session, Turn, read_box, read_points, usable

LIMITS = Limits()


def answer(size: tuple[int, int] = (60, 40), boxes: int = 2, **changes: Any) -> tuple[Picture, SegmentationResult]:
    """A navy picture of (width, height) and an answer with that many objects, side by side."""
    picture = Picture.read("navy sea.png", encoded(Image.new("RGB", size, (0, 0, 128))), LIMITS)
    masks, objects = np.zeros((boxes, size[1], size[0]), dtype=bool), []
    for number, mask in enumerate(masks):
        x = 2 + number * 20
        mask[5:15, x : x + 10] = True
        objects.append(SegmentedObject((x, 5, x + 10, 15), ((x + 5.0, 9.0),), mask=mask, score=0.9))
    text = "<think>two of them</think><answer>[]</answer>"
    values: dict[str, Any] = {"thinking": "two of them", "text": text, "problem": None, "texts": (text,)}
    seconds = {"policy": 1.0, "embedding": 0.25, "segmenter": 0.125}
    values |= {"question": "the fish", "objects": tuple(objects), "masks": masks, "mask": masks.any(axis=0)}
    values |= {"seconds": seconds, "image": picture.view, "name": "navy sea.png"}
    return picture, SegmentationResult(**{**values, **changes})


def test_the_files_are_those_of_the_answer() -> None:
    picture, result = answer()
    turn = Turn.of(picture, result)
    made = {name: data for name, _, data, _ in show.files_of(turn)}
    assert json.loads(made["navy_sea_rle.json"]) == json.loads(result.to_json())
    assert (np.asarray(Image.open(io.BytesIO(made["navy_sea_mask.png"]))) == result.mask * 255).all()
    links = show.downloads(turn)
    assert 'download="navy_sea_mask.png"' in links and 'download="navy_sea_rle.json"' in links
    turn.show_only([1])
    assert (turn.result().mask == result.mask).all(), "hiding is for the eye only"
    turn.remove(1)
    assert (turn.result().mask == result.objects[0].mask).all() and turn.record(turn.result())["edited"] is True


def test_a_warning_about_the_policy_is_with_the_answer() -> None:
    assert "only shapes" not in show.headline(Turn.of(*answer()))
    turn = Turn.of(*answer(warning="it knows only shapes"))
    assert 'class="notice warning"' in show.headline(turn) and "It knows only shapes." in show.headline(turn)
    turn.remove(0)
    assert (
        "It knows only shapes." in show.headline(turn)
        and turn.record(turn.result())["warning"] == "it knows only shapes"
    )


def test_the_policy_of_the_demo_is_offered_in_place_of_the_embedded_one(tmp_path: Path) -> None:
    assert trained_offer("tiny", tmp_path) == ""
    (tmp_path / "config.json").touch()
    assert f"seg-zero web --model {tmp_path}" in trained_offer("tiny", tmp_path)
    assert trained_offer("Ricky06662/VisionReasoner-7B", tmp_path) == ""


def test_a_corrected_answer_becomes_a_row_again(tmp_path: Path) -> None:
    picture, result = answer()
    turn = Turn.of(picture, result)
    wider = np.zeros((40, 60), dtype=bool)
    wider[2:30, 20:50] = True
    turn.put(1, Item.of(PromptObject((20, 2, 50, 30)), wider, 0.7), {})
    made = {name: data for name, _, data, _ in show.files_of(turn)}
    (tmp_path / "navy_sea.json").write_bytes(made["navy_sea.json"])
    rows = tmp_path / "rows"
    assert cli(["data", "labelme", "--root", str(tmp_path), "--out", str(rows), "--image_size", "original"]) == 0
    (row,) = open_rows(rows)
    assert row.problem == "the fish" and (row.truth() == (result.objects[0].mask | wider)).all()
    coco = json.loads(made["navy_sea_coco.json"])
    assert coco["images"][0]["file_name"] == "navy sea.png" and len(coco["annotations"]) == 2
    (task,) = json.loads(made["navy_sea_label_studio.json"])
    assert len(task["predictions"][0]["result"]) == 2


def test_coordinates_are_in_pixels_of_the_picture_and_follow_corrections() -> None:
    turn = Turn.of(*answer())
    page = show.reasoning(turn)
    assert "in pixels of the picture (60 × 40)" in page and "<td>22, 5, 32, 15</td><td>27, 9</td>" in page  # noqa: RUF001
    turn.put(1, Item.of(PromptObject((20.25, 4.0, 30.0, 16.0), ((1.0, 2.0), (3.0, 4.5))), turn.result().mask, 0.5), {})
    page = show.reasoning(turn)
    assert "<td>20.2, 4, 30, 16</td><td>1, 2; 3, 4.5</td>" in page and "22, 5, 32, 15" not in page
    turn.remove(0)
    assert '<th scope="row">1</th><td>20.2, 4' in show.reasoning(turn) and "2, 5, 12, 15" not in show.reasoning(turn)
    session = Session()
    session.answered(turn)
    session.clicked((9.26, 8.0), sets_box=True)
    assert show.first_corner(session) == "first corner at 9.3, 8; now click on the opposite corner"


@pytest.mark.parametrize("kind", ["PNG", "HEIF"])
def test_a_large_picture_is_answered_in_its_own_pixels(kind: str) -> None:
    """Models see it smaller; prompts, masks and files are those of the picture that was given."""
    limits = Limits(pixels=60 * 40)
    picture = Picture.read("photo.heic", encoded(Image.new("RGB", (600, 400)), kind), limits)
    assert (picture.size, picture.seen, picture.open(limits).image.size) == ((600, 400), (60, 40), (60, 40))
    assert show.about_picture(picture).endswith("600 × 400 pixels; the models see it at 60 × 40")  # noqa: RUF001
    turn = Turn.of(picture, answer()[1])
    assert turn.items[1].prompt == PromptObject((220, 50, 320, 150), ((270.0, 90.0),))
    whole = turn.result().mask
    assert whole.shape == (400, 600) and whole[50:150, 220:320].all() and whole.sum() == 2 * 100 * 100
    record = turn.record(turn.result())
    assert record["objects"][1]["box"] == [220, 50, 320, 150] and record["objects"][1]["segmentation"]["size"] == [
        400,
        600,
    ]
    files = {name: data for name, _, data, _ in show.files_of(turn)}
    assert Image.open(io.BytesIO(files["photo_mask.png"])).size == (600, 400)
    annotation = json.loads(files["photo.json"])
    assert (annotation["imageWidth"], annotation["imageHeight"]) == (600, 400)
    assert (annotation["imageData"] is None) == (kind == "HEIF"), "LabelMe does not read HEIC"
    drawn = show.draw(Session(current=turn), 0.5, prompts=True)
    assert drawn is not None and drawn.size == show.shown_size(picture)


def test_a_large_picture_stays_outside_its_annotation(monkeypatch: pytest.MonkeyPatch) -> None:
    turn = Turn.of(*answer())
    monkeypatch.setattr(show, "MOST_EMBEDDED", len(turn.picture.data) - 1)
    annotation = json.loads(next(data for name, _, data, _ in show.files_of(turn) if name == "navy_sea.json"))
    assert annotation["imageData"] is None and annotation["imagePath"] == "navy sea.png"


def test_hidden_objects_leave_the_picture_and_the_others_keep_their_colours() -> None:
    session = Session()
    session.answered(Turn.of(*answer()))
    assert session.current is not None
    both = np.asarray(show.draw(session, 0.5, prompts=False))
    scale = both.shape[1] // 60
    first, second = (10 * scale, 4 * scale), (10 * scale, 24 * scale)
    session.current.show_only([2])
    one = np.asarray(show.draw(session, 0.5, prompts=False))
    navy = [0, 0, 128]
    assert both[first].tolist() == navy != one[first].tolist(), "a hidden object is dimmed like its surroundings"
    assert one[second].tolist() == both[second].tolist() == navy
    hues = [[bool((drawn == colour_of(index)).all(axis=2).any()) for index in (0, 1)] for drawn in (both, one)]
    assert hues == [[True, True], [False, True]]
    assert np.asarray(show.draw(session, 0.0, prompts=False))[first].tolist() == navy
    assert (np.asarray(show.draw(session, 0.5, prompts=True)) != one).any()
    session.corner = (50.0, 30.0)
    assert (np.asarray(show.draw(session, 0.5, prompts=False)) != one).any(), "a corner that was set is seen"


@pytest.mark.parametrize("size", [(60, 40), (600, 500), (3000, 1500)])
def test_a_click_is_in_pixels_of_the_picture(size: tuple[int, int]) -> None:
    picture, result = answer(size, boxes=1)
    session = Session(current=Turn.of(picture, result))
    drawn = show.draw(session, 0.4, prompts=True)
    assert drawn is not None and drawn.size == show.shown_size(picture) == show.plain(picture).size
    x, y = show.in_picture((drawn.width // 2, drawn.height // 2), picture)
    assert abs(x - size[0] / 2) < 2 and abs(y - size[1] / 2) < 2
    assert show.in_picture((drawn.width - 1, drawn.height - 1), picture) <= size


def test_what_came_of_a_question_is_said_in_words() -> None:
    assert "2 objects found." in show.headline(Turn.of(*answer()))
    assert "1 object found." in show.headline(Turn.of(*answer(boxes=1)))
    assert "The policy found no such object." in show.headline(Turn.of(*answer(boxes=0)))
    unread = show.headline(Turn.of(*answer(boxes=0, problem="no <answer>...</answer> block")))
    assert "could not be read: no &lt;answer&gt;...&lt;/answer&gt; block." in unread
    turn = Turn.of(*answer(question="<script>"))
    assert "&lt;script&gt;" in show.headline(turn) and "policy 1.00 s · embedding 0.25 s" in show.headline(turn)
    turn.put(
        2, Item.of(PromptObject(None, ((1.0, 1.0),)), turn.result().mask, 0.5), {"embedding": 0.0, "segmenter": 0.01}
    )
    assert "3 objects, corrected by hand." in show.headline(turn)
    assert "policy" not in show.times(turn) and "embedding 0.00 s" in show.times(turn)


@pytest.mark.parametrize(
    ("text", "thinking", "rest"),
    [
        ("<think>it is <b>red", "it is &lt;b&gt;red", None),
        ("<think>red</think><answer>[{", "red", "[{"),
        ("<think>red</think><answer>[]</answer>", "red", "[]"),
        ("no tags at all", None, "no tags at all"),
        ("", None, None),
    ],
)
def test_the_reasoning_is_shown_as_far_as_it_is_written(text: str, thinking: str | None, rest: str | None) -> None:
    page = show.writing(text)
    assert ("thinking" in page) is (thinking is not None) and (thinking is None or f">{thinking}</p>" in page)
    assert ("<pre>" in page) is (rest is not None) and (rest is None or f"<pre>{rest}</pre>" in page)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: read_points("1, 2; x"), "point 'x' is not two numbers"),
        (lambda: read_points("1 2 3"), "not two numbers"),
        (lambda: read_points("nan, 1"), "not two numbers"),
        (lambda: read_box((1, None, 3, 4)), "the box lacks a number"),
        (lambda: usable(PromptObject(None), (60, 40)), "neither a box nor a point"),
        (lambda: usable(PromptObject((5, 5, 5, 9)), (60, 40)), "has no area in the picture of 60x40"),
        (lambda: usable(PromptObject((70, 5, 90, 9)), (60, 40)), "has no area"),
        (lambda: usable(PromptObject((1, 1, float("inf"), 9)), (60, 40)), "not finite"),
        (lambda: usable(PromptObject(None, ((61, 3),)), (60, 40)), "61, 3 is outside"),
    ],
)
def test_a_correction_that_makes_no_sense_is_refused(call: Callable[[], object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        call()


def test_boxes_and_points_given_by_hand_are_put_in_order() -> None:
    assert read_points(" 144, 40; (150 60.5) \n") == ((144.0, 40.0), (150.0, 60.5)) and read_points("") == ()
    assert read_box((None,) * 4) is None
    assert usable(PromptObject((50, 30, -5, 10)), (60, 40)).box == (0, 10, 50, 30)
    session = Session()
    session.answered(Turn.of(*answer()))
    assert session.clicked((9.0, 9.0), sets_box=True) is None and session.corner == (9.0, 9.0)
    made = session.clicked((3.0, 4.0), sets_box=True)
    assert made == PromptObject((9.0, 9.0, 3.0, 4.0), ((7.0, 9.0),)) and session.corner is None
    session.select(2)
    assert session.clicked((1.0, 2.0), sets_box=False) == PromptObject(None, ((1.0, 2.0),)), "a new object"


def test_history_is_bounded_and_a_picture_is_read_once(tmp_path: Path) -> None:
    session = Session()
    for _ in range(HISTORY + 3):
        session.answered(Turn.of(*answer()))
    assert len(session.turns) == HISTORY == len(show.thumbnails(session)) and session.current is session.turns[0]
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.new("RGB", (30, 20))))
    opened = session.open(str(path), LIMITS)
    path.unlink()
    assert opened is not None and opened.size == (30, 20) and session.open(str(path), LIMITS) is opened
    assert session.open(None, LIMITS) is None and session.picture is None
    path.write_bytes(b"no picture")
    with pytest.raises(Refused, match="cannot be read"):
        session.open(str(path), LIMITS)
    assert session.path is None


# The models, shared by all -------------------------------------------------------------------------------------------


class EndlessPolicy(ScriptedPolicy):
    """Writes until nobody reads, but for the question "short"; counts the stops."""

    def __init__(self) -> None:
        super().__init__({})
        self.stops, self.writing = 0, threading.Event()

    def stream_text(self, image: Image.Image, question: str) -> Iterator[str]:
        if question == "fails":
            raise InputError("the prompt has too many tokens; shorten the question")
        try:
            for number in count() if question == "long" else range(1):
                yield f"{number} "
                self.writing.set()
                threading.Event().wait(0.005)
        finally:
            self.stops += 1


@pytest.fixture(scope="module")
def sam2() -> Segmenter:
    return load_segmenter()


def test_one_user_who_leaves_or_stops_holds_nobody_up(sam2: Segmenter) -> None:
    policy, image = EndlessPolicy(), Image.new("RGB", (60, 40))
    asker = Asker(ReasoningSegmenter(policy, sam2))
    first = asker.ask(image, "long", threading.Event())
    assert next(first) and next(first)
    stop = threading.Event()
    second = asker.ask(image, "long", stop)
    assert next(second) == Waiting(1)
    first.close()  # type: ignore[attr-defined]  # what happens when a tab is closed
    texts = [next(second) for _ in range(3)]
    assert str(texts[-1]).startswith("0 1 ") and policy.stops == 1
    stop.set()
    assert not [event for event in second if isinstance(event, SegmentationResult)]
    left = asker.ask(image, "short", threading.Event())
    next(left)  # and never read again, nor closed
    *_, result = asker.ask(image, "short", threading.Event())
    assert isinstance(result, SegmentationResult) and result.text == "0 " and result.problem is not None


def test_what_ends_a_question_is_raised_to_its_user_alone(sam2: Segmenter) -> None:
    asker = Asker(ReasoningSegmenter(EndlessPolicy(), sam2))
    with pytest.raises(InputError, match="shorten the question"):
        list(asker.ask(Image.new("RGB", (60, 40)), "fails", threading.Event()))
    assert isinstance(list(asker.ask(Image.new("RGB", (60, 40)), "short", threading.Event()))[-1], SegmentationResult)


def test_a_correction_does_not_wait_for_the_policy(sam2: Segmenter) -> None:
    policy, image = EndlessPolicy(), Image.open(EXAMPLE_IMAGE).convert("RGB")
    asker = Asker(ReasoningSegmenter(policy, sam2))
    asking = asker.ask(image, "long", threading.Event())
    next(asking)
    prompt = PromptObject((90.0, 5.0, 190.0, 100.0))
    found, seconds = asker.segment(image, [prompt])
    assert seconds["embedding"] == 0 and policy.stops == 0
    assert (found.masks == sam2.segment(image, [prompt]).masks).all()
    asking.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "0"], "--port 0 is no port"),
        (["--max_upload_mb", "-1"], "--max_upload_mb -1.0 is not above 0"),
        (["--max_question", "0"], "--max_question 0"),
        (["--model", "/no/such/model"], "neither a folder nor a hub id"),
    ],
)
def test_bad_options_end_in_one_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert cli(["web", *arguments]) == 2
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert words in capsys.readouterr().err


def test_missing_gradio_is_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "gradio" else find_spec(name))
    assert cli(["web"]) == 2
    assert "pip install 'seg-zero[web]'" in capsys.readouterr().err
