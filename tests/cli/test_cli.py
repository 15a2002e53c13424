"""The command line: one clear line for bad input, and real answers from the embedded models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from seg_zero.assets import EXAMPLE_IMAGE
from seg_zero.cli.main import main
from seg_zero.policy.model_files import TINY_POLICY


def one_error_line(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    # A question is refused when the policy is there, which has introduced itself by then, as has the example picture.
    before = ("warning: the embedded policy", "note: no image given")
    lines = [line for line in captured.err.strip().splitlines() if not line.startswith(before)]
    assert len(lines) == 1 and lines[0].startswith("error: ")
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["infer", "--image_path", "{tmp}/none.png"], "none.png does not exist"),
        (["infer", "--image_path", "{tmp}/work"], "holds no pictures"),
        (["infer", "--image_path", "{tmp}/text.png", "--text", "the cup"], "cannot be read"),
        (["infer", "--text", " ?! "], "is empty"),
        (["infer", "--output_path", "{tmp}"], "is a folder"),
        (["infer", "--reasoning_model_path", "{tmp}/none"], "neither a folder nor a hub id"),
        (["infer", "--reasoning_model_path", "{tmp}"], "no config.json"),
        (["infer", "--reasoning_model_path", "{tmp}/no_processor"], "no image processor"),
        (["infer", "--reasoning_model_path", "{tmp}/other_family"], "model_type 'bert'"),
        (["infer", "--segmentation_model_path", "{tmp}/none.pt"], "none.pt"),
        (["infer", "--image_size", "100"], "image_size 100"),
        (["infer", "--text", "the cup " * 2000], "tokens"),
        (["evaluate", "--data", "{tmp}/none.parquet", "--out", "{tmp}/out"], "none.parquet does not exist"),
        (["data", "synthetic", "--out", "{tmp}/x.parquet", "--count", "0"], "--count 0"),
        (["merge", "--local_dir", "{tmp}/none"], "none"),
        (["dance"], "unknown command 'dance'"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_bad_input_gives_one_line_and_writes_nothing(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    (tmp_path / "text.png").write_text("no picture")
    for name, left_out in (("no_processor", "processor_config.json"), ("other_family", "")):
        shutil.copytree(TINY_POLICY, tmp_path / name, ignore=shutil.ignore_patterns(left_out, "*.md"))
    (tmp_path / "other_family" / "config.json").write_text('{"model_type": "bert"}')
    assert main([argument.replace("{tmp}", str(tmp_path)) for argument in arguments]) == 2
    assert words in one_error_line(capsys)
    assert list(work.rglob("*")) == []


def test_infer_without_arguments_answers_the_default_question(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["infer"]) == 0
    printed = capsys.readouterr().out
    assert "reasoning:" in printed and "object 1:" in printed and "points [[" in printed
    size = Image.open(EXAMPLE_IMAGE).size
    mask = Image.open(tmp_path / "outputs/infer/answer_mask.png")
    assert mask.size == size and set(mask.convert("L").tobytes()) <= {0, 255}
    assert Image.open(tmp_path / "outputs/infer/answer.png").size == size


def test_evaluate_writes_a_report_of_every_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = tmp_path / "rows.parquet", tmp_path / "out"
    assert main(["data", "synthetic", "--split", "held_out", "--count", "24", "--out", str(data)]) == 0
    assert main(["evaluate", "--data", str(data), "--out", str(out), "--max_new_tokens", "96"]) == 0
    report = json.loads((out / "metrics.json").read_text())
    assert report["rows"] == 24 == len((out / "predictions.jsonl").read_text().splitlines())
    assert 0.05 < report["metrics"]["gIoU"]["value"] < 0.95
    assert report["metrics"]["format_rate"]["value"] > 0.8
    assert "gIoU" in capsys.readouterr().out


def test_help_is_a_command_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    wanted = capsys.readouterr().out
    assert main(["help"]) == 0 and capsys.readouterr().out == wanted
    with pytest.raises(SystemExit, match="0"):
        main(["help", "merge"])
    assert "--target_dir" in capsys.readouterr().out
    assert main(["help", "dance"]) == 2 and "unknown command 'dance'" in capsys.readouterr().err
