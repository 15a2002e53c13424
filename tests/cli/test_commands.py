"""All commands alike: quick help that shows defaults, completion, and scripts without the environment."""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from seg_zero import __version__
from seg_zero.cli.completion import SHELLS, all_commands
from seg_zero.cli.main import COMMANDS, main

ROOT = Path(__file__).resolve().parents[2]
# What takes a second or more to import.
HEAVY = {"torch", "transformers", "vllm", "ray", "verl", "gradio", "fastapi", "uvicorn", "datasets", "matplotlib"}
HEAVY |= {"sam2", "hydra", "pandas", "tensordict"}

_HELP = f"""
import contextlib, io, sys
from seg_zero.cli.main import main
for command in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
        main([*command.split(), "--help"])
    assert "usage: seg-zero " + command.split()[0] in printed.getvalue(), command
    assert not (found := {HEAVY!r} & set(sys.modules)), (command, found)
"""


def test_help_of_no_command_imports_what_takes_long() -> None:
    inner = ["rewards audit", "data refcoco", "data check", "data synthetic"]
    done = subprocess.run([sys.executable, "-c", _HELP, *COMMANDS, *inner], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def parsers_below(parser: argparse.ArgumentParser, name: str = "seg-zero") -> Iterator[tuple[str, argparse.Action]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner, below in action.choices.items():
                yield from parsers_below(below, f"{name} {inner}")
        else:
            yield name, action


def test_every_option_of_every_command_has_help() -> None:
    options = list(parsers_below(all_commands()))
    assert len(options) > 150 and {name.split()[1] for name, _ in options if " " in name} == set(COMMANDS)
    assert [(name, action.dest) for name, action in options if not action.help] == []


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"seg-zero {__version__}\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_knows_commands_and_options(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(word in script for word in (*COMMANDS, "refcoco", "image_path", "min_agreement", "transformers"))


def completed(tmp_path: Path, *words: str) -> list[str]:
    script = tmp_path / "completion.bash"
    with script.open("w") as stream, contextlib.redirect_stdout(stream):
        assert main(["completion", "bash"]) == 0
    code = '. "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _shtab_seg_zero; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", code, str(script), *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_bash_completes_commands_options_values_and_files(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    assert completed(tmp_path, "seg-zero", "ev") == ["evaluate"]
    assert completed(tmp_path, "seg-zero", "data", "gref") == ["grefcoco"]
    assert completed(tmp_path, "seg-zero", "infer", "--out") == ["--output_path", "--outputs"]
    assert completed(tmp_path, "seg-zero", "evaluate", "--rule", "li") == ["lisa"]
    assert completed(tmp_path, "seg-zero", "infer", "--image_path", "ph") == ["photo.jpg"]


@pytest.mark.parametrize("script", ["inference_scripts/infer.py", "training_scripts/model_merger.py"])
def test_a_script_without_the_environment_says_how_to_enter_it(script: str, tmp_path: Path) -> None:
    """-I -S: this Python without its installed packages, as the system's own would be."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(ROOT / script), "--help"], capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert done.stderr.startswith("error: ") and "numpy, PIL" in done.stderr
    assert f"{ROOT / '.venv' / 'bin' / 'activate'}" in done.stderr


def test_launch_scripts_take_relative_paths_from_where_the_user_stands(tmp_path: Path) -> None:
    rows = ["data", "synthetic", "--count", "16", "--out", str(tmp_path / "my.parquet")]
    assert main(rows) == 0
    script = ROOT / "training_scripts" / "run_tiny_cpu.sh"
    files = ["data.train_files=my.parquet", "data.val_files=my.parquet"]
    done = subprocess.run(
        ["bash", str(script), "--dry-run", *files], capture_output=True, text=True, cwd=tmp_path, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert f"all 16 rows of {tmp_path / 'my.parquet'} can be used" in done.stdout + done.stderr


def test_launch_scripts_run_the_package_they_stand_beside() -> None:
    scripts = sorted((ROOT / "training_scripts").glob("run_*.sh"))
    assert len(scripts) > 5
    for script in scripts:
        assert '. "$(dirname "$0")/environment.sh"\n' in script.read_text(), script
        assert "cd " not in script.read_text(), script
