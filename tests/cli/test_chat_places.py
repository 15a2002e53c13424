"""Where ``seg-zero chat`` writes: other dialogues and other files are kept, and nothing is there before a round."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from seg_zero.cli.main import main
from seg_zero.data.synthetic.scenes import make_samples

SCENE = next(s for s in make_samples(5, 20, kinds=("attr",)))
QUESTION = SCENE.question.text
FOREIGN = b'{"mine": 1}'


@pytest.fixture
def picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    SCENE.scene.image.save(tmp_path / "scene.png")
    return Path("scene.png")


@pytest.fixture
def no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading models fails the test."""
    monkeypatch.setattr("seg_zero.cli.chat.segmenter_of", lambda *_: pytest.fail("models were loaded"))


def talk(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path, say: tuple[str, ...] = ()) -> int:
    typed = "".join(f"{line}\n" for line in say).encode("utf-8", "surrogateescape")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(typed), encoding="utf-8"))
    return main(["chat", *map(str, arguments), "--max_new_tokens", "8"])


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    return said


def saved(folder: Path, picture: Path, rounds: int = 2) -> None:
    """A dialogue of so many rounds, as a chat leaves it."""
    call = ["chat", str(picture), "--out", str(folder), "--max_new_tokens", "8", "--script", "talk.txt"]
    Path("talk.txt").write_text(f"{QUESTION}\n" * rounds)
    assert main(call) == 0


@pytest.mark.parametrize("default", [True, False])
def test_a_folder_that_holds_another_dialogue_is_refused_and_kept(
    picture: Path, default: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Path("outputs/chat/scene") if default else Path("keep")
    saved(place, picture)
    before = content(place)
    assert len(before) == 5
    capsys.readouterr()
    monkeypatch.setattr("seg_zero.cli.chat.segmenter_of", lambda *_: pytest.fail("models were loaded"))
    assert talk(monkeypatch, picture, *(() if default else ("--out", str(place))), say=("exit",)) == 2
    remedy = f"go on with --load {place}/dialogue.json, or give another --out"
    assert error_of(capsys) == f"error: {place} holds a dialogue of 2 rounds; {remedy}\n"
    assert content(place) == before


def test_a_loaded_dialogue_goes_on_in_its_own_folder(
    picture: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other, place = Path("outputs/chat/scene"), Path("talks/one")
    saved(other, picture)
    saved(place, picture)
    kept, before = content(other), content(place)
    assert talk(monkeypatch, "--load", place / "dialogue.json", say=("help", "exit")) == 0
    assert content(place) == before
    (place / "round_09_mask.png").write_bytes(b"mine")
    assert talk(monkeypatch, "--load", place / "dialogue.json", say=("undo",)) == 0
    assert sorted(content(place)) == [
        *("dialogue.json", "round_01_mask.png", "round_01_overlay.png", "round_09_mask.png")
    ]
    assert len(json.loads((place / "dialogue.json").read_text())["rounds"]) == 1
    assert content(other) == kept
    capsys.readouterr()
    assert talk(monkeypatch, "--load", place / "dialogue.json", "--out", other, say=("undo",)) == 2
    assert "outputs/chat/scene holds a dialogue of 2 rounds" in error_of(capsys)
    assert content(other) == kept


def test_a_loaded_dialogue_is_written_whole_to_another_folder(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(Path("one"), picture)
    before = content(Path("one"))
    assert talk(monkeypatch, "--load", "one/dialogue.json", "--out", "two", say=(QUESTION, "undo")) == 0
    assert content(Path("two")) == content(Path("one")) == before


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("dialogue.json", FOREIGN, "of/dialogue.json cannot be read as a dialogue, and is kept"),
        ("dialogue.json", b"", "of/dialogue.json cannot be read as a dialogue, and is kept"),
        ("dialogue.json", b"\xff", "of/dialogue.json cannot be read as a dialogue, and is kept"),
        ("dialogue.json", None, "of/dialogue.json is a folder, where the dialogue is to be written"),
        ("round_09_mask.png", b"mine", "of holds round_09_mask.png, but no dialogue.json"),
    ],
)
def test_files_that_are_not_of_a_dialogue_are_kept(
    picture: Path,
    name: str,
    data: bytes | None,
    words: str,
    no_models: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = Path("of")
    if data is None:
        (place / name).mkdir(parents=True)
    else:
        place.mkdir()
        (place / name).write_bytes(data)
    before = content(place)
    assert talk(monkeypatch, picture, "--out", place, say=(QUESTION,)) == 2
    said = error_of(capsys)
    assert words in said and said.endswith("give another --out\n")
    assert content(place) == before


def test_nothing_is_written_before_the_first_round_and_a_forgotten_dialogue_makes_room(
    picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert talk(monkeypatch, picture, "--out", "new", say=("help", "clear", "undo", "[REF:3] x", "exit")) == 0
    assert not Path("new").exists()
    assert talk(monkeypatch, picture, "--out", "new", say=(QUESTION, "clear")) == 0
    assert sorted(content(Path("new"))) == ["dialogue.json"]
    assert talk(monkeypatch, picture, "--out", "new", say=(QUESTION,)) == 0
    assert len(content(Path("new"))) == 3


def test_another_chat_that_began_meanwhile_is_kept(
    picture: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from seg_zero.cli import chat

    made = chat.segmenter_of

    def slow(*args: object) -> object:
        monkeypatch.setattr(chat, "segmenter_of", made)
        saved(Path("new"), picture)
        return made(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(chat, "segmenter_of", slow)
    assert talk(monkeypatch, picture, "--out", "new", say=(QUESTION,)) == 0
    assert "error: new holds a dialogue of 2 rounds" in capsys.readouterr().err
    assert len(json.loads(Path("new/dialogue.json").read_text())["rounds"]) == 2


def test_a_picture_that_is_not_here_can_be_named(
    picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(Path("one"), picture)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    capsys.readouterr()
    assert talk(monkeypatch, "--load", "../one/dialogue.json") == 2
    assert error_of(capsys) == (
        "error: dialogue ../one/dialogue.json was held about scene.png, which does not exist here; name the image, as "
        "in: chat IMAGE --load FILE\n"
    )
    assert talk(monkeypatch, "../scene.png", "--load", "../one/dialogue.json") == 0


def test_a_question_that_is_not_utf_8_is_refused_and_the_chat_goes_on(
    picture: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert talk(monkeypatch, picture, "--json", say=("the caf\udce9 circle", "?", QUESTION)) == 0
    said = capsys.readouterr()
    assert [json.loads(line)["question"] for line in said.out.splitlines()] == [QUESTION]
    assert "error: the question holds half a character (surrogates not allowed); write it as UTF-8\n" in said.err
    assert "\na question, with [REF:1]" in said.err


def test_infer_refuses_a_question_that_is_not_utf_8(picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["infer", str(picture), "the caf\udce9"]) == 2
    assert "the question holds half a character" in error_of(capsys)
