"""``seg-zero infer`` with the embedded models: what goes in, what is written, and what is said about bad input."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seg_zero.assets import EXAMPLE_IMAGE
from seg_zero.cli import infer
from seg_zero.cli.infer.inputs import Question, find_images, plan_jobs, read_questions, sort_inputs
from seg_zero.cli.main import main
from seg_zero.data.synthetic.scenes import make_samples
from seg_zero.errors import InputError
from seg_zero.masks import decode_mask
from seg_zero.policy.model_files import TINY_POLICY, embedded_warning
from seg_zero.visualize import colour_of

SHORT = ["--max_new_tokens", "96"]
WARNED = f"warning: {embedded_warning(str(TINY_POLICY))}\n"  # all that is on standard error
NOTED = f"note: no image given: the example {EXAMPLE_IMAGE}\n"  # if none was given


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures of one name in two folders, a corrupt one, and files that are no pictures."""
    folder = tmp_path_factory.mktemp("scenes")
    for number, sample in enumerate(make_samples(5, 2)):
        (folder / f"{'ab'[number]}").mkdir()
        sample.scene.image.save(folder / f"{'ab'[number]}" / "scene.png")
    (folder / "a" / "corrupt.png").write_bytes((folder / "a" / "scene.png").read_bytes()[:200])
    (folder / "a" / "notes.txt").write_text("no picture")
    return folder


def pixels(path: str | Path, mode: str = "L") -> np.ndarray:
    return np.asarray(Image.open(path).convert(mode))


def test_every_output_holds_the_same_mask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["infer", "--text", "all red circles", "--output_path", str(tmp_path / "deep" / "out.png"), "--json"]
    assert main([*arguments, "--outputs", "overlay,mask,cutout,rle", "--per_object", *SHORT]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    record = json.loads(line)
    files = record.pop("files")
    assert sorted(Path(file).name for file in files.values()) == sorted(
        ["out.png", "out_rle.json"]
        + [f"out_{kind}{end}.png" for kind in ("mask", "cutout") for end in ("", "_1")]
        + [f"out_{kind}_{n}.png" for kind in ("mask", "cutout") for n in range(2, len(record["objects"]) + 1)]
    )
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == sorted(Path(f).name for f in files.values())
    image = pixels(EXAMPLE_IMAGE, "RGB")
    assert (record["width"], record["height"]) == (image.shape[1], image.shape[0])
    wanted = {"": record["segmentation"]}
    wanted |= {f"_{n}": item["segmentation"] for n, item in enumerate(record["objects"], start=1)}
    for ending, rle in wanted.items():
        mask = decode_mask(rle)
        assert mask.any()
        assert np.array_equal(pixels(files[f"mask{ending}"]), mask * np.uint8(255))
        cutout = np.asarray(Image.open(files[f"cutout{ending}"]))
        assert np.array_equal(cutout[..., 3], mask * np.uint8(255)) and np.array_equal(cutout[mask][:, :3], image[mask])
    assert record["area"] == decode_mask(record["segmentation"]).sum()
    saved = json.loads(Path(files["rle"]).read_text())
    assert set(record.pop("seconds")) == {"policy", "embedding", "segmenter"}
    assert saved == record
    changed = (pixels(files["overlay"], "RGB") != image).any(axis=2)
    inside = decode_mask(record["segmentation"])
    assert changed[~inside].mean() > 0.95 and changed[inside].mean() < 0.3, "the rest is dimmed"


def test_only_the_outputs_asked_for_are_written(tmp_path: Path) -> None:
    assert main(["infer", "--output_path", str(tmp_path / "x.png"), "--outputs", "rle", *SHORT]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["x_rle.json"]


def test_prompts_are_drawn_unless_they_are_not_wanted(tmp_path: Path) -> None:
    for name, options in {"with": [], "same": ["--show-prompts"], "without": ["--no-show_prompts"]}.items():
        out = ["--output_path", str(tmp_path / f"{name}.png"), "--outputs", "overlay"]
        assert main(["infer", *out, *options, *SHORT]) == 0
    shown, same, plain = (pixels(tmp_path / f"{name}.png", "RGB") for name in ("with", "same", "without"))
    assert np.array_equal(shown, same)
    hue = [(picture == colour_of(0)).all(axis=2).sum() for picture in (shown, plain)]
    assert hue[0] > hue[1], "the box has the hue of its object"


def test_a_folder_goes_on_over_a_corrupt_picture_and_names_it(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = tmp_path / "questions.txt"
    questions.write_text("\ufeffthe largest circle\n\n  all squares \n", encoding="utf-8")
    arguments = ["infer", "--image_path", f"{scenes}/*/*", "--questions", str(questions), "--json"]
    assert main([*arguments, "--output_path", str(tmp_path / "out"), *SHORT]) == 1
    captured = capsys.readouterr()
    records = [json.loads(line) for line in captured.out.splitlines()]
    assert [(Path(record["image"]).parent.name, record["question"]) for record in records] == [
        (folder, question) for folder in "ab" for question in ("the largest circle", "all squares")
    ]
    warning, *errors = captured.err.splitlines()
    assert warning.startswith("warning: the embedded policy knows only synthetic shapes")
    assert errors[0] == "error: 2 of 6 questions could not be answered:"
    assert len(errors) == 2 and str(scenes / "a" / "corrupt.png") in errors[1]
    written = [file for record in records for file in record["files"].values()]
    assert len(set(written)) == 8 == len(list((tmp_path / "out").iterdir()))
    for record in records:
        assert np.array_equal(pixels(record["files"]["mask"]) > 0, decode_mask(record["segmentation"]))


def test_a_question_too_long_for_the_policy_costs_the_others_nothing(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = scenes / "table.jsonl"
    rows = [("b/scene.png", "the cup " * 2000), ("b/scene.png", "all squares"), ("a/none.png", "all squares")]
    table.write_text("".join(json.dumps({"image": image, "question": question}) + "\n" for image, question in rows))
    assert main(["infer", "--questions", str(table), "--output_path", str(tmp_path / "out"), *SHORT]) == 1
    captured = capsys.readouterr()
    assert "2 of 3 questions" in captured.err and "tokens" in captured.err and "none.png does not exist" in captured.err
    assert captured.out.count("\n") == 1 and "all squares" in captured.out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["scene_q2_mask.png", "scene_q2_overlay.png"]


def test_a_folder_of_one_picture_has_a_folder_of_answers(scenes: Path, tmp_path: Path) -> None:
    assert (
        main(
            [
                "infer",
                "--image_path",
                str(scenes / "b"),
                "--text",
                "the shape",
                "--output_path",
                str(tmp_path / "out"),
                *SHORT,
            ]
        )
        == 0
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["scene_mask.png", "scene_overlay.png"]


def test_all_answers_go_into_one_file_of_each_tool(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = tmp_path / "questions.txt"
    questions.write_text("the largest circle\nall squares\n")
    pictures = [str(scenes / folder / "scene.png") for folder in "ab"]
    arguments = [
        "infer",
        "--image_path",
        *pictures,
        "--questions",
        str(questions),
        "--output_path",
        str(tmp_path / "o"),
    ]
    arguments += ["--outputs", "coco,coco_results,labelme,label_studio", *SHORT]
    assert main(arguments) == 0
    *answers, last = capsys.readouterr().out.splitlines()
    assert len(answers) == 4 and last.startswith("all answers: ") and str(tmp_path / "o" / "coco.json") in last
    written = sorted(path.relative_to(tmp_path / "o").as_posix() for path in (tmp_path / "o").rglob("*.*"))
    assert written == [
        *("coco.json", "coco_results.json", "label_studio.json", "label_studio.xml"),
        *("labelme/scene.json", "labelme/scene_2.json"),
    ]
    made = json.loads((tmp_path / "o" / "coco.json").read_text())
    assert [image["file_name"] for image in made["images"]] == ["a/scene.png", "b/scene.png"]
    assert [category["name"] for category in made["categories"]] == ["the largest circle", "all squares"]
    rows = ["--root", str(tmp_path / "o" / "labelme"), "--out", str(tmp_path / "rows")]
    assert main(["data", "labelme", *rows]) == 0, "imagePath leads to the pictures"
    capsys.readouterr()
    assert main(arguments) == 2, "annotations that may have been corrected are not replaced"
    assert "perhaps corrected by hand" in capsys.readouterr().err


def test_a_single_answer_names_its_files_after_itself(tmp_path: Path) -> None:
    out = ["--output_path", str(tmp_path / "x.png"), "--outputs", "coco,labelme"]
    assert main(["infer", *out, *SHORT]) == 0
    written = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.json"))
    assert written == ["labelme/x.json", "x_coco.json"]


def test_votes_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--output_path", str(tmp_path / "x.png"), "--json"]
    assert main(["infer", "--votes", "3", "--temperature", "1.0", *out, *SHORT]) == 0
    record = json.loads(capsys.readouterr().out)
    assert len(record["texts"]) == 3 and record["text"] in record["texts"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--image_path", "{tmp}/*.gif"], "matches no pictures"),
        (["--image_path", "{tmp}/a.png", "{tmp}/none.png"], "none.png does not exist"),
        (
            ["--image_path", "{tmp}/a.png", "{tmp}/b.png", "--output_path", "{tmp}/a.txt"],
            "several answers need a folder",
        ),
        (["--image_path", "{tmp}/a.png", "{tmp}/b.png", "--output_path", "new.png"], "several answers need a folder"),
        (["--image_path", "{tmp}/a.png", "{tmp}/b.png", "--output_path", "{tmp}"], "holds images that are asked"),
        (["--image_path", "{tmp}/a.png", "--output_path", "{tmp}/a.png"], "would overwrite the image"),
        (["--image_path", "{tmp}/c_mask_1.png", "--output_path", "{tmp}/c.png"], "would overwrite the image"),
        (["--output_path", "{tmp}/a.txt/x.png"], "a.txt is a file and no folder; give another place"),
        (["--outputs", "overlay,film"], "'film' is not known; choose of overlay,mask,cutout,rle"),
        (["--outputs", ","], "none is named"),
        (["--votes", "0"], "votes=0"),
        (["--refine", "99"], "--refine 99 is not a whole number from 0 to 8"),
        (["--votes", "3", "--temperature", "0"], "all votes are equal"),
        (["--temperature", "-1"], "temperature=-1"),
        (["--max_new_tokens", "0"], "--max_new_tokens 0"),
        (["--device", "cuda:99"], "device 'cuda:99' is not there"),
        (["--dtype", "int8"], "dtype 'int8' is unknown"),
        (["--questions", "{tmp}/none.txt"], "none.txt cannot be read"),
        (["--questions", "{tmp}/empty.txt"], "holds no question"),
        (["--questions", "{tmp}/latin.txt"], "is not UTF-8"),
        (["--questions", "{tmp}/blank.txt"], "blank.txt line 2: the question '?!' is empty"),
        (["--questions", "{tmp}/half.jsonl"], "half.jsonl line 2 names no image"),
        (["--questions", "{tmp}/text.jsonl"], "text.jsonl line 1 cannot be used"),
        (["--questions", "{tmp}/other.csv"], "question is not in ['image', 'text']"),
        (["--questions", "{tmp}/pairs.csv", "--image_path", "{tmp}/a.png"], "leave --image_path out"),
        (["{tmp}/a.png"], "a.png comes without a question; add it in quotes"),
        (["--image_path", "{tmp}/a.png", "{tmp}/b.png"], "a.png comes without a question"),
        (["--questions", "{tmp}/pic.csv"], "names no images; give --image_path, or call their column image"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_options_end_in_one_line_before_any_work(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("a.png", "b.png", "c_mask_1.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    texts: dict[str, Any] = {
        "a.txt": "",
        "empty.txt": "\n \n",
        "blank.txt": "the cup\n?!\n",
        "half.jsonl": '{"image": "a.png", "question": "the cup"}\n{"question": "the cup"}\n',
        "text.jsonl": "the cup\n",
        "other.csv": "image,text\na.png,the cup\n",
        "pic.csv": "pic,question\na.png,the cup\n",
        "pairs.csv": "image,question\na.png,the cup\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "latin.txt").write_bytes(b"la tasse caf\xe9")
    before = sorted(tmp_path.iterdir())
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr("seg_zero.policy.TransformersPolicy.from_pretrained", None)
    assert main(["infer", *(argument.replace("{tmp}", str(tmp_path)) for argument in arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and words in captured.err and captured.err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == [*before, tmp_path / "work"] and not list((tmp_path / "work").iterdir())


def test_names_of_answers_are_all_different() -> None:
    images = [Path(name) for name in ("a/x.png", "b/x.png", "x_2.png", "X.jpg", "x_q1.png", f"{'é' * 200}.png")]
    one = plan_jobs(images, [Question("the cup")])
    assert [job.name for job in one][:5] == ["x", "x_2", "x_2_2", "X_3", "x_q1"]
    several = plan_jobs(images, [Question("the cup"), Question("the bowl")])
    pairs = [Question("the cup", images[0]), Question("the cup", images[4]), Question("the bowl", images[0])]
    mixed = plan_jobs([], pairs)
    assert [(job.image, job.question) for job in mixed] == [(pairs[n].image, pairs[n].text) for n in (0, 2, 1)]
    for jobs in (one, several, mixed):
        assert len({job.name.casefold() for job in jobs}) == len(jobs)
        assert all(len(job.name.encode()) < 200 for job in jobs)


def test_tables_name_images_beside_them(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text('image,question\na.png,"the cup, full"\nsub/b.png,the bowl\n')
    assert read_questions(tmp_path / "table.csv") == [
        Question("the cup, full", tmp_path / "a.png"),
        Question("the bowl", tmp_path / "sub" / "b.png"),
    ]


def test_a_folder_gives_its_pictures_in_order_and_a_file_is_taken_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("b.JPG", "a.png", "c.HEIC", ".hidden.png", "notes.txt", "odd[1].dat"):
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.png").touch()
    capsys.readouterr()
    names = [path.name for path in find_images([str(tmp_path), str(tmp_path / "a.png"), str(tmp_path / "odd[1].dat")])]
    skipped = capsys.readouterr().err
    assert skipped.startswith(f"warning: image folder {tmp_path}: 2 files skipped, no .jpg .jpeg ")
    assert skipped.endswith(": notes.txt, odd[1].dat\n")
    assert names == ["a.png", "b.JPG", "c.HEIC", "odd[1].dat"]
    assert [path.name for path in find_images([f"{tmp_path}/**/*.png"])] == ["a.png", "c.png"]


def test_the_script_prints_json_alone(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "inference_scripts" / "infer.py"
    command = [sys.executable, str(script), "--json", "--output_path", str(tmp_path / "x.png"), *SHORT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["question"] == "the green circle"
    assert done.stderr == WARNED + NOTED


def test_on_a_terminal_the_answer_is_seen_while_it_is_written(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "inference_scripts" / "infer.py"
    command = [sys.executable, str(script), "--output_path", str(tmp_path / "x.png"), *SHORT]
    ours, theirs = pty.openpty()
    pieces = []
    with subprocess.Popen(command, stdout=theirs, stderr=subprocess.PIPE) as process:
        os.close(theirs)
        with contextlib.suppress(OSError):  # how the end of a terminal reads
            while piece := os.read(ours, 4096):
                pieces.append(piece.decode())
        assert (
            process.wait(100) == 0 and process.stderr is not None and process.stderr.read() == (WARNED + NOTED).encode()
        )
    os.close(ours)
    lines = "".join(pieces).splitlines()
    assert lines[0] == "question:  the green circle"
    assert lines[1].startswith("<think>") and lines[1].endswith("</answer>")
    assert lines[2].startswith("object 1:  box [")
    assert len([piece for piece in pieces if "mask:" not in piece]) > 3  # it came bit by bit


def test_a_reader_that_leaves_ends_the_command_quietly(scenes: Path, tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "inference_scripts" / "infer.py"
    images = [str(scenes / folder / "scene.png") for folder in "ab"]
    command = [sys.executable, str(script), "--image_path", *images, "--text", "the shape"]
    command += ["--output_path", str(tmp_path), *SHORT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == WARNED
        assert process.wait(100) == 1


@pytest.mark.parametrize(
    ("words", "images", "question"),
    [
        (["a.png", "the cup"], ["a.png"], "the cup"),
        (["a.png", "b.png", "the cup"], ["a.png", "b.png"], "the cup"),
        (["a.png"], ["a.png"], None),
        (["a.png", "b.png"], ["a.png", "b.png"], None),
        (["a.png", "--device", "cpu", "the cup"], ["a.png"], "the cup"),
        (["a.png", "c.png", "--text", "the cup"], ["a.png", "c.png"], "the cup"),
        (["--video", "frames", "the cup"], None, "the cup"),
        (["--video", "frames", "--text", "the cup"], None, "the cup"),
        ([], None, None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_images_and_question_may_be_given_without_options(
    words: list[str], images: list[str] | None, question: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").touch()
    (tmp_path / "b.png").touch()
    args = infer.parser().parse_intermixed_args(words)
    sort_inputs(args)
    assert (args.image_path, args.text) == (images, question)


@pytest.mark.parametrize(
    "words", [["a.MOV", "the cup"], ["a.MOV", "--text", "the cup"], ["--every", "2", "a.MOV", "the cup"]]
)
def test_a_clip_may_be_given_as_an_image_is(words: list[str]) -> None:
    args = infer.parser().parse_intermixed_args(words)
    sort_inputs(args)
    assert (args.video, args.image_path, args.text) == ("a.MOV", None, "the cup")


@pytest.mark.parametrize("question", ["the cup", "which cup is full?"])
def test_a_question_before_the_picture_is_told_where_it_belongs(
    question: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").touch()
    args = infer.parser().parse_intermixed_args([question, "a.png"])
    with pytest.raises(InputError) as caught:
        sort_inputs(args)
    assert str(caught.value).endswith(f"does not exist; if it is the question, give it last: a.png '{question}'")


def test_images_in_two_ways_are_refused() -> None:
    args = infer.parser().parse_intermixed_args(["b.png", "--image-path", "a.png"])
    with pytest.raises(InputError, match=r"'b.png' stands beside --image_path a.png"):
        sort_inputs(args)


@pytest.mark.parametrize("column", ["image", "Image_Path", "FILE NAME", "path"])
def test_the_column_of_pictures_may_have_other_names(column: str, tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "table.csv").write_text(f"{column},question\na.png,the cup\n")
    (tmp_path / "table.jsonl").write_text(json.dumps({column: "a.png", "question": "the cup"}))
    for name in ("table.csv", "table.jsonl"):
        (found,) = read_questions(tmp_path / name)
        assert found.image == tmp_path / "a.png"


def test_a_column_that_may_name_pictures_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("image_left,question\na.png,the cup\n")
    with pytest.raises(InputError, match="column 'image_left' is unknown; call it image"):
        read_questions(tmp_path / "table.csv")
