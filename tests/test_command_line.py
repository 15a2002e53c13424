"""The argument parser of the commands: spellings, suggestions, defaults, and names as typed."""

from __future__ import annotations

import argparse
import sys

import pytest

from seg_zero.command_line import CommandParser, did_you_mean, program, unknown_command
from seg_zero.errors import InputError


@pytest.fixture
def parser() -> CommandParser:
    made = CommandParser("infer", "Words.")
    made.add_argument("--image_path", help="image")
    made.add_argument("--image_size", type=int, default=840, help="side")
    made.add_argument("--dry-run", action="store_true", help="explain")
    made.add_argument("--rule", choices=("lisa", "gres"), help="rule")
    made.add_argument("--former_name", dest="image_size", help=argparse.SUPPRESS)
    made.add_argument("--text", default="", help="question (default: none)")
    made.add_argument("rest", nargs="*", help="words")
    return made


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--image_path", "a"], {"image_path": "a"}),
        (["--image-path", "a"], {"image_path": "a"}),
        (["--image-path=a_b-c"], {"image_path": "a_b-c"}),
        (["--dry_run"], {"dry_run": True}),
        (["--image-si", "4"], {"image_size": 4}),
        (["--text", "--not an-option"], {"text": "--not an-option"}),
        (["--", "--image-path"], {"rest": ["--image-path"]}),
        (["a=b-c"], {"rest": ["a=b-c"]}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_dash_and_underscore_are_alike(
    parser: CommandParser, arguments: list[str], expected: dict[str, object]
) -> None:
    assert expected.items() <= vars(parser.parse_args(arguments)).items()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--imge-path", "a"], "unknown option --imge-path; did you mean --image_path?"),
        (["--image", "a"], "ambiguous option: --image could match"),
        (["--zebra"], "unknown option --zebra; `seg-zero infer --help` shows the options"),
        (["--former_nane", "1"], "unknown option --former_nane; `seg-zero infer --help` shows the options"),
        (["--rule", "lsa"], "did you mean lisa?"),
        (["--image_size", "big"], "argument --image_size: invalid int value: 'big' (`seg-zero infer --help`"),
        (["--image_size"], "expected one argument"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_option_is_one_line_with_the_nearest(parser: CommandParser, arguments: list[str], line: str) -> None:
    with pytest.raises(InputError) as raised:
        parser.parse_args(arguments)
    assert line in str(raised.value) and "\n" not in str(raised.value)


def test_help_shows_defaults_once(parser: CommandParser) -> None:
    text = " ".join(parser.format_help().split())
    assert "side (default: 840)" in text and "question (default: none)" in text and text.count("default") == 2


@pytest.mark.parametrize(
    ("typed", "called", "shown"),
    [
        (["/usr/bin/python3", "/opt/bin/seg-zero"], "/opt/bin/seg-zero", "seg-zero infer"),
        (["python3", "-m", "seg_zero.cli", "infer"], "/x/seg_zero/cli/__main__.py", "python3 -m seg_zero.cli infer"),
        (["python", "-m", "seg_zero.training.launch"], "/x/__main__.py", "python -m seg_zero.training.launch"),
        (["python3", "scripts/infer.py"], "scripts/infer.py", "python3 scripts/infer.py"),
    ],
    ids=["command", "module", "launcher", "script"],
)
def test_usage_names_the_program_as_typed(
    typed: list[str], called: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "orig_argv", typed)
    monkeypatch.setattr(sys, "argv", [called])
    assert program("infer") == shown


def test_a_wrong_command_is_met_with_the_nearest_or_with_all() -> None:
    assert did_you_mean("evalute", ["evaluate", "data"]) == "; did you mean evaluate?"
    assert str(unknown_command("command", "dance", ["infer", "web"])) == (
        "unknown command 'dance'; choose one of infer, web"
    )
