"""Questions about a scan: frames that show most, votes of masks in them, and the command with its page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.rooms import ROOM, SETTINGS, TrueAnswers

from seg_zero.cli.main import main
from seg_zero.cli.scan import ask as scan_ask
from seg_zero.errors import InputError
from seg_zero.online3d.answers.ask import SceneAnswer, ask
from seg_zero.online3d.config import SceneConfig
from seg_zero.online3d.inputs.mask_sources import FolderMasks
from seg_zero.online3d.questions import ask_scan, open_scan
from seg_zero.online3d.results.result import Result
from seg_zero.online3d.results.views import InstanceViews, best_frames
from seg_zero.online3d.scan import scan
from seg_zero.online3d.scene import OnlineScene
from seg_zero.online3d.synthetic.files import EXACT, read_truth, write_sequence
from seg_zero.online3d.synthetic.sequence import SyntheticSequence, Truth

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SEQUENCE = SyntheticSequence(ROOM, 12, 160, 120, turns=0.6)
BOX, SPHERE = 3001, 4001


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished scan, beside that of its sequence."""
    folder = tmp_path_factory.mktemp("ask")
    write_sequence(SEQUENCE, folder / "room")
    masks = FolderMasks(folder / "room" / EXACT)
    scan(folder / "room", folder / "scan", masks, "exact", settings=SETTINGS, say=lambda _: None)
    return folder / "scan"


@pytest.fixture(scope="module")
def truth(scanned: Path) -> Truth:
    return read_truth(scanned.parent / "room" / "truth.npz")


def identity(result: Result, column: int, truth: Truth) -> int:
    """The thing that most points of an instance belong to."""
    points = result.points[result.masks[:, column]][::5]
    nearest = ((truth.points[None] - points[:, None]) ** 2).sum(-1).argmin(1)
    names, counts = np.unique(truth.ids[nearest], return_counts=True)
    return int(names[counts.argmax()])


def identities(answer: SceneAnswer, result: Result, truth: Truth) -> list[int]:
    return [identity(result, column, truth) for column in answer.found]


@pytest.mark.parametrize("thing", [BOX, SPHERE])
def test_the_thing_that_the_masks_cover_is_the_answer(thing: int, scanned: Path, truth: Truth) -> None:
    done = open_scan(scanned)
    answerer = TrueAnswers(SEQUENCE, thing)
    answer = ask_scan(done, "the thing", answerer, frames=6)
    assert identities(answer, done.result, truth) == [thing]
    assert answer.scores[answer.found[0]] > 0.85 and np.delete(answer.scores, answer.found).max() < 0.2
    assert answerer.asked == sorted(answerer.asked) and len(answerer.asked) == 6
    assert not answer.left_out


def test_frames_outvote_a_wrong_answer_and_unreadable_ones_do_not_count(scanned: Path, truth: Truth) -> None:
    done = open_scan(scanned)
    chosen = best_frames(done.result.key_frames, 6)
    outvoted = ask_scan(done, "the thing", TrueAnswers(SEQUENCE, BOX, chosen[:1], SPHERE), frames=6)
    assert identities(outvoted, done.result, truth) == [BOX]
    unread = ask_scan(done, "the thing", TrueAnswers(SEQUENCE, BOX, chosen[1:]), frames=6)
    alone = ask(
        done.result, done.frames(6)[0][:1], "the thing", TrueAnswers(SEQUENCE, BOX), voxel_size=done.config.voxel_size
    )
    assert np.array_equal(unread.scores, alone.scores) and unread.asked.max() == 1


def test_a_thing_that_nothing_covers_is_no_answer(scanned: Path) -> None:
    answer = ask_scan(open_scan(scanned), "the dragon", TrueAnswers(SEQUENCE, 9999), frames=3)
    assert answer.found == [] and answer.scores.max() == 0 and answer.asked.max() == 3


def test_a_scene_is_asked_while_it_is_scanned(truth: Truth) -> None:
    scene = OnlineScene(SceneConfig.parse(SETTINGS))
    frames = []
    for frame, masks in SEQUENCE:
        scene.add(frame, masks)
        frames.append(frame)
    answer = scene.ask("the thing", TrueAnswers(SEQUENCE, SPHERE), frames[:6])
    assert identities(answer, scene.result(), truth) == [SPHERE]
    assert len(answer.scores) == len(scene.instances)


def test_frames_that_show_what_is_still_missing_are_chosen_first() -> None:
    objects = [np.array(frames) for frames in ([0, 10, 20], [10, 20], [30], [20, 40])]
    assert best_frames(objects, 2) == [20, 30]  # 20 shows three of four, 30 the fourth
    assert best_frames(objects, 3) == [10, 20, 30]
    assert best_frames(objects, 99) == [0, 10, 20, 30, 40]
    assert best_frames([], 5) == []


def test_views_say_which_object_a_pixel_shows(scanned: Path, truth: Truth) -> None:
    result = open_scan(scanned).result
    seen = InstanceViews(result, 0.05).see(SEQUENCE.frame(4))
    ids = SEQUENCE.view(4).ids
    names = np.array([identity(result, column, truth) for column in range(result.count)])
    known = (seen >= 0) & np.isin(ids, names)
    assert known.mean() > 0.8
    assert (names[seen[known]] == ids[known]).mean() > 0.97
    nowhere = SEQUENCE.frame(4)
    nowhere.pose[:3, 3] += 100
    assert (InstanceViews(result, 0.05).see(nowhere) == -1).all()


def test_a_frame_that_is_gone_is_named_and_the_others_are_asked(scanned: Path) -> None:
    done = open_scan(scanned)
    first, second = best_frames(done.result.key_frames, 2)
    depth = scanned.parent / "room" / "depth" / f"{first}.png"
    content = depth.read_bytes()
    depth.write_bytes(b"damaged")
    try:
        answerer = TrueAnswers(SEQUENCE, BOX)
        answer = ask_scan(done, "the box", answerer, frames=2)
        assert answerer.asked == [second] and f"frame {first}" in answer.left_out[0]
        with pytest.raises(InputError, match=f"no frame could be asked about: frame {first}"):
            ask(done.result, [], "the box", answerer, voxel_size=0.05, left_out=answer.left_out)
    finally:
        depth.write_bytes(content)


def test_the_command_writes_the_answer_and_its_page(
    scanned: Path, truth: Truth, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], browser: Browser
) -> None:
    monkeypatch.setattr(scan_ask, "segmenter_of", lambda *_: TrueAnswers(SEQUENCE, BOX))
    assert main(["scan", "ask", str(scanned), "The <box>, red?", "--frames", "3"]) == 0
    printed = capsys.readouterr().out
    folder = scanned / "answers" / "the-box-red"
    stored = json.loads((folder / "answer.json").read_text())
    (number,) = stored["found"]
    column = stored["instances"][0]["column"]
    assert open_scan(scanned).result.numbers[column] == number
    assert f"1. object {column + 1}: score 0." in printed and "asked on 3 frames" in printed
    assert stored["instances"][0]["number"] == number and stored["instances"][0]["score"] > 0.8
    assert len(stored["frames"]) == 3 and any(frame["votes"].get(str(number), 0) > 0.8 for frame in stored["frames"])
    assert len(list(folder.glob("frame-*.png"))) == 3
    for width in (1280, 390):
        view = browser.new_page(viewport={"width": width, "height": 900})
        problems: list[str] = []
        view.on("pageerror", lambda error, problems=problems: problems.append(str(error)))
        view.goto((folder / "index.html").as_uri())
        assert view.locator("h1").inner_text() == "The <box>, red?"
        assert view.locator("#instances li").first.locator("span").inner_text().startswith("score 0.")
        captions = " ".join(view.locator(".case").all_inner_texts())
        listed = view.locator("#instances li input").first
        assert set(re.findall(r"(?i)object (\d+)", captions)) == {f"{column + 1}"}
        assert listed.input_value() == f"object {column + 1}"
        listed.fill("crate")
        listed.blur()
        facts = view.locator("#instances li").first.locator("span").inner_text()
        assert facts.startswith(f"object {column + 1}, score 0.")
        assert view.locator("#only").is_checked() and view.locator(".case").count() == 3
        assert view.evaluate("document.documentElement.scrollWidth") <= width
        view.close()
        assert problems == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["NOWHERE", "the box"], "holds no ckpt_final.npz"),
        (["SCAN", " "], "question"),
        (["SCAN", "the box", "--frames", "0"], "frames=0 is less than 1"),
        (["SCAN", "the box", "--min_score", "0"], "min_score=0.0 is not above 0"),
    ],
)
def test_bad_words_are_one_line(
    words: list[str], message: str, scanned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"NOWHERE": str(tmp_path / "nowhere"), "SCAN": str(scanned)}
    assert main(["scan", "ask", *(places.get(word, word) for word in words), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error
    assert not (tmp_path / "out").exists()
