"""Prompts read from source code. All wordings and repositories here are invented."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seg_zero.cli.main import main
from seg_zero.errors import InputError
from seg_zero.prompt_import import PUBLISHED, Imported, Published, import_prompt, sha256_of
from seg_zero.prompting import PromptSpec, PromptTemplate, build_messages

SINGLE_TEXT = (
    "Show me '{question}' by a box.Take the one that fits.Muse in <think> </think>."
    "e.g. <think> musing </think><answer>{'bbox': [1,2,3,4], 'points_1': [2,3], 'points_2': [3,3]}</answer>"
)
MULTI_TEXT = (
    'Show me all "{question}" by boxes.Take those that fit.Muse in <think> </think>.'
    'e.g. <think> musing </think><answer>[{"bbox_2d": [1,2,3,4], "point_2d": [2,3]}]</answer>'
)

SINGLE_TRAINING = """
import shutil; shutil.rmtree("/")  # never run
class Rows(Dataset):
    def __init__(self, path):
        # self.user_prompt = "<image>" "an old one '{Question}' {Answer}"
        self.user_prompt = "<image>" \\
            "Show me '{Question}' by a box." \\
            "Take the one that fits." \\
            "Muse in <think> </think>." \\
            "e.g. <think> musing </think>" \\
            "<answer>{Answer}</answer>"

    def __getitem__(self, index):
        row = self.rows[index]
        return self.user_prompt.format(Question=row["problem"].lower().strip("."),
                                       Answer="{'bbox': [1,2,3,4], 'points_1': [2,3], 'points_2': [3,3]}")
"""
MULTI_TRAINING = r"""
class Rows(Dataset):
    def __init__(self, path):
        self.user_prompt = "<image>\n" \
            "Show me all \"{Question}\" by boxes." \
            "Take those that fit." \
            "Muse in <think> </think>." \
            "e.g. <think> musing </think>" \
            "<answer>{Answer}</answer>"

    def __getitem__(self, index):
        prompt = self.user_prompt.format(
            Question=self.rows[index]["problem"].lower().strip("."),
            Answer="[{\"bbox_2d\": [1,2,3,4], \"point_2d\": [2,3]}]",
        )
"""
MULTI_INFERENCE = r"""
def main(args):
    QUESTION_TEMPLATE = (
        "Show me all \"{Question}\" by boxes." + "Take those that fit."
        "Muse in <think> </think>."
        "e.g. <think> musing </think>"
        "<answer>{Answer}</answer>"
    )
    text = QUESTION_TEMPLATE.format(Question=args.text.lower().strip(".\"?!"),
                                    Answer='[{"bbox_2d": [1,2,3,4], "point_2d": [2,3]}]')
"""


def _checkout(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of published prompts that holds the two invented ones."""
    table = {
        sha256_of(SINGLE_TEXT): Published("Alpha", "single", False),
        sha256_of(MULTI_TEXT): Published("Beta", "multi", True),
    }
    monkeypatch.setattr("seg_zero.prompt_import.PUBLISHED", table)
    monkeypatch.setattr("seg_zero.cli.prompt.PUBLISHED", table)


def test_the_table_names_the_published_prompts_and_holds_no_text() -> None:
    assert {key: (one.name, one.format, one.newline) for key, one in PUBLISHED.items()} == {
        "1212f3a35b0175a12220c34fbb1329415e35a8630240d1b034ddd8b9f4cfc710": ("Seg-Zero", "single", False),
        "486b441f69daca53e889a76c8120afd05153f04d99b0be33758b36c5fe5b60fd": ("VisionReasoner", "multi", True),
    }
    assert {(one.image_size, one.coordinates, one.normalisation) for one in PUBLISHED.values()} == {
        (840, "pixels", "published")
    }


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (SINGLE_TRAINING, PromptTemplate(SINGLE_TEXT, "single", False, "published", 840, "pixels")),
        (MULTI_TRAINING, PromptTemplate(MULTI_TEXT, "multi", True, "published", 840, "pixels")),
        # Training had the newline and kept quotes, ? and !; what is published for inference does not.
        (MULTI_INFERENCE, PromptTemplate(MULTI_TEXT, "multi", True, "published", 840, "pixels")),
    ],
    ids=["single training", "multi training", "multi inference"],
)
def test_an_exact_prompt_gets_what_its_checkpoint_was_trained_with(
    code: str, expected: PromptTemplate, tmp_path: Path
) -> None:
    found = import_prompt(_checkout(tmp_path, rows=code) / "rows.py")
    assert found.template == expected
    assert (found.exact, found.sha256) == ("Alpha" if expected.format == "single" else "Beta", sha256_of(expected.text))


def test_a_prompt_like_no_other_is_taken_as_it_stands(tmp_path: Path) -> None:
    found = import_prompt(_checkout(tmp_path, deep__er__rows=MULTI_TRAINING))
    assert found == Imported(
        PromptTemplate(MULTI_TEXT, "multi", True, "published"), "deep/er/rows.py:4", training=True, exact=None
    )
    bare = SINGLE_TRAINING.replace('.lower().strip(".")', "")
    assert import_prompt(_checkout(tmp_path / "bare", rows=bare)).template.normalisation == "none"


def test_a_policy_is_asked_in_the_imported_words(tmp_path: Path) -> None:
    template = import_prompt(_checkout(tmp_path, rows=MULTI_TRAINING)).template
    (message,) = build_messages("The 'LEFT' cups?.", template.applied_to(PromptSpec()))
    assert message["content"][1]["text"] == "\n" + MULTI_TEXT.replace("{question}", "the 'left' cups?")


def test_training_goes_before_inference(tmp_path: Path) -> None:
    other = MULTI_INFERENCE.replace("Take those that fit.", "Take some.").replace('.strip(".\\"?!")', '.strip(".")')
    folder = _checkout(tmp_path, a_script=other, training__rows=MULTI_TRAINING)
    assert import_prompt(folder).where == "training/rows.py:4"
    assert import_prompt(folder / "a_script.py").template.text == MULTI_TEXT.replace("those that fit", "some")


@pytest.mark.usefixtures("known")
def test_an_exact_prompt_goes_before_any_other(tmp_path: Path) -> None:
    other = MULTI_TRAINING.replace("Take those that fit.", "Take some.")
    folder = _checkout(tmp_path, a_rows=other, z_script=MULTI_INFERENCE)
    assert import_prompt(folder).exact == "Beta"


def test_of_two_formats_one_must_be_chosen(tmp_path: Path) -> None:
    folder = _checkout(tmp_path, a=SINGLE_TRAINING, b=MULTI_TRAINING, copy__b=MULTI_TRAINING)
    with pytest.raises(InputError, match=r"prompts \(single in a.py:6, multi in b.py:4\); choose one with --format"):
        import_prompt(folder)
    assert import_prompt(folder, "single").template.text == SINGLE_TEXT
    assert import_prompt(folder, "multi").where == "b.py:4"
    mixed = _checkout(
        tmp_path / "mixed", a=MULTI_INFERENCE.replace('.strip(".\\"?!")', '.strip(".")'), b=SINGLE_TRAINING
    )
    with pytest.raises(InputError, match="choose one with --format"):
        import_prompt(mixed)
    different = _checkout(tmp_path / "two", a=MULTI_TRAINING, b=MULTI_TRAINING.replace("Muse", "Ponder"))
    with pytest.raises(InputError, match=r"multi in a.py:4, multi in b.py:4\); give the file of one of them"):
        import_prompt(different)


def test_each_text_of_a_file_is_filled_by_the_call_that_follows_it(tmp_path: Path) -> None:
    folder = _checkout(tmp_path, rows=SINGLE_TRAINING + MULTI_TRAINING)
    assert import_prompt(folder, "single").template.text == SINGLE_TEXT
    assert import_prompt(folder, "multi").template.text == MULTI_TEXT


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("print('hello')", "holds no prompt that can be imported"),
        ("QUESTION_TEMPLATE = 'where is {Question}? {Answer}'", "rows.py:1: no call QUESTION_TEMPLATE.format"),
        (
            "user_prompt = f'{Question} {Answer}'",
            "holds no prompt .*rows.py:1: user_prompt is an f-string; write it as",
        ),
        ("self.user_prompt = 'a' + f'{b}' + '{Question} {Answer}'", "rows.py:1: user_prompt is an f-string"),
        (
            MULTI_TRAINING.replace('"[{', '"[{,'),
            r"the literal for Answer, '\[\{,.*, is no answer: .* not JSON .*; correct it",
        ),
        (MULTI_INFERENCE, "the question is prepared by .lower\\(\\).strip\\('.\"\\?!'\\), for which"),
        (MULTI_TRAINING.replace("fit.", "fit {Colour}."), "its fields are not {Question} and {Answer} alone"),
        (MULTI_TRAINING.replace("{Answer}", "{Answer.__class__}"), "its fields are not"),
        (MULTI_TRAINING.replace("{Answer}", "{Answer:>999999999}"), "its fields are not"),
        (MULTI_TRAINING.replace("fit.", "fit}."), "its fields are not"),
        (MULTI_TRAINING.replace('"[{', '"boxes [{'), "the literal for Answer, 'boxes .* neither a JSON object nor"),
        (MULTI_TRAINING.replace('Answer="[', 'Answer=example + "['), "no call user_prompt.format"),
        (MULTI_TRAINING.replace("fit.", "fit <|image_pad|>."), "control token '<\\|image_pad\\|>'"),
        (MULTI_TRAINING.replace("fit.", "fit\\ud800."), "half a character"),
        ("user_prompt = (", "rows.py is not Python source"),
        ("user_prompt = " + "(" * 5000, "rows.py is not Python source"),
        ("user_prompt = " + "+".join(["'a'"] * 20_000), "rows.py is not Python source"),
    ],
)
def test_code_without_a_usable_prompt_is_named_in_one_line(code: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as error:
        import_prompt(_checkout(tmp_path, rows=code))
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_files_that_are_no_text_are_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"user_prompt = '\xff\x00'")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "b.py").write_text(SINGLE_TRAINING)
    assert import_prompt(_checkout(tmp_path, rows=MULTI_TRAINING)).template.text == MULTI_TEXT
    with pytest.raises(InputError, match="neither a file nor a folder"):
        import_prompt(tmp_path / "nowhere")


@pytest.mark.usefixtures("known")
def test_the_command_writes_a_template_and_says_what_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = _checkout(tmp_path / "checkout", a=SINGLE_TRAINING, b=MULTI_TRAINING)
    assert main(["prompt", "import", str(folder), "--format", "multi"]) == 0
    printed = capsys.readouterr().out
    assert "exact: Beta\n" in printed and f"{sha256_of(MULTI_TEXT)} ({len(MULTI_TEXT)} characters)" in printed
    written = json.loads((tmp_path / "prompt_multi.json").read_text())
    assert written == {
        "text": MULTI_TEXT,
        "format": "multi",
        "newline": True,
        "normalisation": "published",
        "image_size": 840,
        "coordinates": "pixels",
    }
    assert PromptTemplate.read(tmp_path / "prompt_multi.json").format == "multi"
    different = _checkout(tmp_path / "other", b=MULTI_TRAINING.replace("Muse", "Ponder"))
    assert main(["prompt", "import", str(different), "--out", str(tmp_path / "prompt_multi.json")]) == 0
    printed = capsys.readouterr().out
    assert "exact:" not in printed.replace("not exact:", "") and "not exact: not the prompt of Alpha or Beta" in printed
    assert "Ponder" in PromptTemplate.read(tmp_path / "prompt_multi.json").text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prompt", "export", "{tmp}"], "unknown prompt command 'export'"),
        (["prompt", "import", "{tmp}/none"], "neither a file nor a folder"),
        (
            ["prompt", "import", "{tmp}", "--format", "single"],
            "no single-object prompt that can be imported (that in rows.py:4 is a multi-object one)",
        ),
        (["prompt", "import", "{tmp}", "--out", "{tmp}/rows.py"], "rows.py exists and is no prompt template"),
    ],
)
def test_bad_input_to_the_command_is_one_line_and_writes_nothing(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _checkout(tmp_path, rows=MULTI_TRAINING)
    assert main([argument.replace("{tmp}", str(tmp_path)) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["rows.py"]
    assert (tmp_path / "rows.py").read_text() == MULTI_TRAINING
