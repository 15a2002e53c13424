"""``seg-zero chat`` with the embedded models: typed rounds, scripts, files, and what is refused."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seg_zero.cli.chat import read_script
from seg_zero.cli.main import main
from seg_zero.data.synthetic.scenes import make_samples
from seg_zero.errors import InputError
from seg_zero.masks import decode_mask
from seg_zero.policy.model_files import TINY_POLICY, embedded_warning

SHORT = ["--max_new_tokens", "32"]
WARNED = f"warning: {embedded_warning(str(TINY_POLICY))}\n"
SCENE = next(s for s in make_samples(5, 20, kinds=("attr",)))
QUESTION = SCENE.question.text


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scenes") / "scene.png"
    SCENE.scene.image.save(path)
    return path


def type_in(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))


def files_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_rounds_are_answered_written_taken_back_and_forgotten(
    picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "talk"
    type_in(
        monkeypatch,
        *(QUESTION, "[REF:7] its edge", "[REF:x]", "all shapes", "undo", "", "Clear  History", "left of instance 1"),
        *(QUESTION, "exit", "never asked"),
    )
    assert main(["chat", str(picture), "--out", str(out), *SHORT]) == 0
    said = capsys.readouterr()
    assert said.err.startswith(WARNED) and said.err.count("warning: ") == 1
    errors = said.err.removeprefix(WARNED).splitlines()
    assert [line.split(";")[0] for line in errors] == [
        "error: the question refers to round 7, but there is only round 1",
        "error: the marker '[REF:x]' cannot be read",
        "error: the question refers to round 1, but there is no earlier round",
    ]
    assert said.out.count(f"question:  {QUESTION}\n") == 2 and "never asked" not in said.out
    assert "round 2 is taken back\n" in said.out and "all rounds are forgotten\n" in said.out
    assert files_of(out) == ["dialogue.json", "round_01_mask.png", "round_01_overlay.png"]
    saved = json.loads((out / "dialogue.json").read_text())
    assert [item["question"] for item in saved["rounds"]] == [QUESTION]
    mask = decode_mask(saved["rounds"][0]["answer"]["segmentation"])
    assert np.array_equal(np.asarray(Image.open(out / "round_01_mask.png")) > 0, mask)


def test_a_script_is_a_fixed_conversation_that_another_call_goes_on_with(
    picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, script, more = tmp_path / "talk", tmp_path / "talk.txt", tmp_path / "more.txt"
    script.write_text(
        f"# a talk\n{QUESTION}\n\nthe green purple shape that is nowhere\n[REF:1,2] what is beside them\n"
    )
    call = ["chat", str(picture), "--out", str(out), "--script", str(script), "--json", *SHORT]
    assert main([*call, "--carry", "references"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(item["round"], item["references"]) for item in records] == [(1, []), (2, []), (3, [1, 2])]
    assert records[0]["question"] == QUESTION and records[0]["warning"] in WARNED
    assert set(records[0]["files"]) == {"overlay", "mask"} and records[1]["seconds"]["embedding"] == 0
    more.write_text("undo\n[REF:2] beside it\nexit\n[REF:9] never asked\n")
    out2 = tmp_path / "more"
    call = ["chat", "--load", str(out / "dialogue.json"), "--script", str(more), "--out", str(out2), *SHORT]
    assert main(call) == 0
    assert f"round 3, refers to 2\nquestion:  beside it\n" in capsys.readouterr().out  # noqa: F541
    assert files_of(out2) == files_of(out)
    again = json.loads((out2 / "dialogue.json").read_text())
    first = json.loads((out / "dialogue.json").read_text())
    assert again["rounds"][:2] == first["rounds"][:2] and again["rounds"][2]["question"] == "beside it"


def test_the_prompt_of_a_template_file_is_used(
    picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from seg_zero import prompting
    from seg_zero.prompting import PromptTemplate

    PromptTemplate('Seek "{question}"', "multi", image_size=112).write(tmp_path / "prompt.json")
    seen: list[str] = []
    written = prompting.prompt_text

    def watched(*args: Any) -> str:
        seen.append(written(*args))
        return seen[-1]

    monkeypatch.setattr(prompting, "prompt_text", watched)
    type_in(monkeypatch, QUESTION)
    call = ["chat", str(picture), "--out", str(tmp_path / "talk"), "--max_new_tokens", "4"]
    assert main([*call, "--prompt-template", str(tmp_path / "prompt.json")]) == 0
    assert {text for text in seen if QUESTION in text} == {f'Seek "{QUESTION}"'}


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("", "holds no question"),
        ("# nothing\n", "holds no question"),
        ("the cup\n[REF:2] x\n", "line 2: the question refers to round 2, but there is only round 1"),
        ("the cup\n\n[REF] x\n", r"line 3: the marker '\[REF\]' cannot be read"),
        ("undo\n", "line 1: there is no round to undo"),
        ("a\nclear\nleft of instance 1\n", "line 3: the question refers to round 1, but there is no earlier round"),
        ("a\nb\nc\n", "line 3: a dialogue has at most 2 rounds"),
        ("?\n", "line 1: the question '\\?' is empty"),
    ],
)
def test_what_a_script_gets_wrong_is_found_before_models_are_loaded(tmp_path: Path, script: str, words: str) -> None:
    path = tmp_path / "talk.txt"
    path.write_text(script)
    with pytest.raises(InputError, match=words):
        read_script(path, 0, 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.png"], "image nowhere.png does not exist"),
        (["--script", "nowhere.txt"], "script nowhere.txt cannot be read"),
        (["--load", "nowhere.json"], "dialogue nowhere.json cannot be read"),
        (["--max_rounds", "0"], "--max_rounds 0 must be at least 1"),
        (["--references", "mark"], "did you mean marks?"),
        (["--template", "multi", "--prompt_template", "x"], "were both given"),
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
    assert main(["chat", *arguments]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and words in said.err and said.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
