"""Prompt templates, and the warning where a published checkpoint lacks its own, through the commands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from seg_zero.cli import serve, web
from seg_zero.cli.main import main
from seg_zero.cli.server_options import prompt_of, warning_of
from seg_zero.errors import InputError
from seg_zero.evaluation.run import Models
from seg_zero.pipeline import ReasoningSegmenter
from seg_zero.policy.model_files import TINY_POLICY
from seg_zero.prompting import PromptSpec, PromptTemplate
from seg_zero.segmenter.files import TINY_FOLDER

WORDS = PromptTemplate('Find "{question}". Reply <think></think><answer></answer>.', "multi", image_size=112)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded policy under the name of a published one, without prompt settings."""
    folder = tmp_path_factory.mktemp("models") / "VisionReasoner-7B"
    shutil.copytree(TINY_POLICY, folder, ignore=shutil.ignore_patterns("seg_zero.json"))
    return folder


@pytest.fixture(scope="module")
def sam2(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A SAM2 that is not the embedded one by its place."""
    return str(shutil.copytree(TINY_FOLDER, tmp_path_factory.mktemp("models") / "sam2"))


@pytest.fixture
def template(tmp_path: Path) -> Path:
    WORDS.write(tmp_path / "prompt.json")
    return tmp_path / "prompt.json"


def test_infer_warns_once_and_in_each_answer_until_a_template_is_given(
    published: Path,
    sam2: str,
    template: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [
        "infer",
        "--json",
        "--outputs",
        "rle",
        "--max_new_tokens",
        "4",
        "--model",
        str(published),
        "--segmenter",
        sam2,
    ]
    given += ["--output_path", str(tmp_path / "out" / "answer.png")]
    assert main([*given, "--image_size", "112"]) == 0
    said = capsys.readouterr()
    answer = json.loads(said.out)
    assert "seg-zero prompt import" in answer["warning"] and "VisionReasoner-7B" in answer["warning"]
    assert [line for line in said.err.splitlines() if line.startswith("warning: ")] == [f"warning: {answer['warning']}"]
    assert json.loads((tmp_path / "out" / "answer_rle.json").read_text())["warning"] == answer["warning"]
    assert main([*given, "--prompt_template", str(template)]) == 0
    said = capsys.readouterr()
    assert "warning" not in json.loads(said.out) and "warning: " not in said.err


def test_evaluate_warns_and_says_so_in_its_metrics(
    published: Path, sam2: str, template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "rows.parquet"
    assert main(["data", "synthetic", "--split", "held_out", "--count", "2", "--out", str(data)]) == 0
    given = ["evaluate", "--data", str(data), "--max_new_tokens", "4", "--model", str(published), "--segmenter", sam2]
    capsys.readouterr()
    assert main([*given, "--out", str(tmp_path / "a"), "--image_size", "112"]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    metrics = json.loads((tmp_path / "a" / "metrics.json").read_text())
    assert line == f"warning: {metrics['warning']}" and "VisionReasoner-7B" in line
    assert f"Warning: {metrics['warning']}." in (tmp_path / "a" / "report.md").read_text()
    assert main([*given, "--out", str(tmp_path / "b"), "--prompt_template", str(template)]) == 0
    assert "warning: " not in capsys.readouterr().err
    metrics = json.loads((tmp_path / "b" / "metrics.json").read_text())
    assert "warning" not in metrics and metrics["settings"]["prompt"]["text"] == WORDS.text


@pytest.mark.parametrize("parse", [serve.parse, web.parse])
def test_servers_take_a_template_and_warn_without_it(parse: object, published: Path, sam2: str, template: Path) -> None:
    assert callable(parse)
    args = parse(["--model", str(published), "--segmenter", sam2, "--prompt_template", str(template)])
    spec = prompt_of(args)
    assert spec == WORDS.applied_to(PromptSpec())
    assert warning_of(args, spec) is None
    bare = parse(["--model", str(published)])
    said = str(warning_of(bare, prompt_of(bare)))
    assert "VisionReasoner-7B" in said and "; also, the embedded SAM2 knows only flat shapes" in said
    with pytest.raises(InputError, match="--template multi and --prompt_template were both given"):
        prompt_of(parse(["--prompt_template", str(template), "--template", "multi"]))


def test_a_remote_policy_is_known_by_the_name_it_is_served_under(
    template: Path, sam2: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seg_zero.policy.model_files.hub_file", lambda *_: None)
    remote = ["--policy_url", "http://nowhere/v1", "--segmenter", sam2]
    args = serve.parse(remote)
    assert warning_of(args, prompt_of(args), "somewhere/Seg-Zero-7B") is not None
    assert warning_of(args, prompt_of(args), "policy") is None
    given = serve.parse([*remote, "--prompt_template", str(template)])
    assert warning_of(given, prompt_of(given), "somewhere/Seg-Zero-7B") is None


def test_python_takes_a_template_or_its_file(template: Path) -> None:
    for given in (WORDS, template, str(template)):
        made = ReasoningSegmenter.from_pretrained(prompt_template=given)
        assert made.policy.spec == WORDS.applied_to(PromptSpec()) and "prompt import" not in str(made.warning)


def test_data_check_counts_the_prompts_of_a_template(
    template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "rows.parquet"
    assert main(["data", "synthetic", "--split", "held_out", "--count", "2", "--out", str(data)]) == 0
    given = ["data", "check", str(data), "--policy", "tiny", "--max_prompt_length", "60"]
    PromptTemplate("{question} " * 20, "multi").write(tmp_path / "long.json")
    capsys.readouterr()
    assert main([*given, "--prompt_template", str(template)]) == 0
    assert "over-long prompt" not in capsys.readouterr().out
    assert main([*given, "--prompt_template", str(tmp_path / "long.json")]) == 0
    assert "over-long prompt" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["infer", "evaluate", "serve", "web", "merge", "data check"])
def test_every_command_names_a_template_that_cannot_be_read(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    needed = {
        "evaluate": ["--data", "synthetic", "--out", "out"],
        "merge": ["--local_dir", "none"],
        "data check": ["none"],
    }
    assert main([*command.split(), *needed.get(command, []), "--prompt_template", "none.json"]) == 2
    captured = capsys.readouterr()
    assert (
        captured.err == "error: prompt template none.json cannot be read (No such file or directory); check the path\n"
    )
    assert not list(tmp_path.iterdir())


def test_the_embedded_policy_is_named_in_answers_and_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--output_path", str(tmp_path / "x.png"), "--json", "--max_new_tokens", "4"]
    assert main(["infer", *out]) == 0
    said = capsys.readouterr()
    warning = json.loads(said.out)["warning"]
    assert "knows only synthetic shapes" in warning and "--model" in warning
    assert said.err.splitlines().count(f"warning: {warning}") == 1
    for parse in (serve.parse, web.parse):
        args = parse([])
        assert warning_of(args, prompt_of(args)) == warning
    assert Models().warning() == warning
