"""Rows to prompts and ground truth, the reward adapter, reward curves, and the launcher's log reading."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from torchdata.stateful_dataloader import StatefulDataLoader
from verl.trainer.ppo.utils import create_rl_sampler

from seg_zero.data.augmentation import View, whole
from seg_zero.data.cache import cache_folder
from seg_zero.data.ground_truth import seen_mask
from seg_zero.data.prompt_lengths import PromptLengths, prompt_lengths
from seg_zero.data.rows import Row, write_rows
from seg_zero.data.source import open_rows
from seg_zero.errors import InputError
from seg_zero.images import encode_png
from seg_zero.masks import encode_mask, resize_mask
from seg_zero.policy.model_files import TINY_POLICY
from seg_zero.prompting import PromptSpec, PromptTemplate, build_messages, resize_for_policy
from seg_zero.training.rollout.replay import reward_metrics
from seg_zero.training.supervision.watchdog import Watchdog, last_error
from seg_zero.training.trainer.dataset import SegmentationDataset, ground_truth_of, images_of
from seg_zero.training.trainer.metrics_log import MetricsLog, read_metrics, step_line

SOLUTION = '[{"bbox_2d":[10,20,50,60],"point_2d":[30,40]}]'
SINGLE = "<box>(10,20),(50,60)</box><points>(30,40),(20,30)</points>"


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def _row(number: int = 0, problem: str = "the red circle", size: tuple[int, int] = (100, 200), **other: Any) -> Row:
    rng = np.random.default_rng(number)
    image = Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))
    values = {"solution": SOLUTION, "kind": "attr", **other}
    return Row(f"row-{number}", problem, image_bytes=encode_png(image), img_height=size[1], img_width=size[0], **values)


class WordTokenizer:
    """Counts how many texts it was given."""

    backend_tokenizer = SimpleNamespace(to_str=lambda: "words")
    seen = 0

    def __call__(self, texts: list[str], **_: Any) -> dict[str, Any]:
        WordTokenizer.seen += len(texts)
        return {"input_ids": [text.split() for text in texts]}


class FakeProcessor:
    """Counts words as tokens, and an image as one token per square of the image processor."""

    tokenizer = WordTokenizer()
    image_processor = SimpleNamespace(patch_size=14, merge_size=2)

    def apply_chat_template(self, messages: list[dict[str, Any]], **_: Any) -> str:
        return " ".join(part.get("text", "<image>") for part in messages[0]["content"])

    def __call__(self, text: list[str], images: list[Image.Image], **_: Any) -> dict[str, Any]:
        return {
            "input_ids": [
                text[0].split() + ["image"] * (images[0].width // self._side * (images[0].height // self._side))
            ]
        }

    @property
    def _side(self) -> int:
        return self.image_processor.patch_size * self.image_processor.merge_size


def _config(**changes: Any) -> Any:
    values = {
        "prompt": {"template": "brief", "image_size": 112},
        "max_prompt_length": 40,
        "mm_processor_kwargs": {},
        "train_files": "elsewhere.parquet",
        "augmentation": {"flip": 0.0, "scale_jitter": 0.0},
        "bad_rows": None,
        **changes,
    }
    return OmegaConf.create(values)


def _dataset(path: Path, rows: list[Row], **changes: Any) -> SegmentationDataset:
    write_rows(path, rows)
    return SegmentationDataset(str(path), None, _config(**changes), FakeProcessor())


def test_a_processor_that_resizes_the_prompts_images_is_refused(tmp_path: Path) -> None:
    """Limits of pixels in the policy's own files, where the family takes none from the configuration."""
    from transformers import AutoProcessor

    write_rows(tmp_path / "rows.parquet", [_row()])
    given = _config(max_prompt_length=200, mm_processor_kwargs={"min_pixels": 784, "max_pixels": 6272})
    with pytest.raises(InputError, match=r"resizes images of 112 pixels, .* tokens instead of 16; correct policy\.min"):
        SegmentationDataset(str(tmp_path / "rows.parquet"), None, given, AutoProcessor.from_pretrained(TINY_POLICY))


def test_a_sample_is_what_verl_needs(tmp_path: Path) -> None:
    """Prompt from the one builder, image at the policy's size, ground truth in the policy's pixels."""
    sample = _dataset(tmp_path / "scenes.parquet", [_row()])[0]
    spec = PromptSpec("brief", 112)
    seen = images_of(sample["raw_prompt"])
    assert seen is not None
    expected = resize_for_policy(_row().image(), spec, "training")
    assert sample["raw_prompt"] == build_messages("the red circle", spec, seen[0])
    assert np.array_equal(np.asarray(seen[0]), np.asarray(expected))
    assert json.loads(sample["reward_model"]["ground_truth"]) == [{"bbox_2d": [11, 11, 56, 34], "point_2d": [34, 22]}]
    info = sample["extra_info"]
    assert open_rows(info.pop("source"))[info.pop("row")] == _row()
    assert info.pop("view") == {"window": [0, 0, 100, 200], "flipped": False}
    assert info.pop("question") == "the red circle"
    assert info.pop("mask") is None
    assert info == {"id": "row-0", "kind": "attr", "image_size": (112, 112), "index": 0, "held_out": False}
    assert sample["data_source"] == "scenes"
    images, videos, audios = asyncio.run(SegmentationDataset.process_multi_modal_info(sample["raw_prompt"], 14, None))  # type: ignore[arg-type]
    assert images == seen and videos is None and audios is None


def test_training_asks_in_the_words_of_the_template_as_inference_does(tmp_path: Path) -> None:
    words = PromptTemplate("mine: {question}", "single", newline=True, normalisation="published")
    prompt = {"image_size": 112, "text": words.text, "newline": True, "normalisation": "published"}
    rows = [_row(problem="The 'LEFT' cup?", solution=SINGLE)]
    sample = _dataset(tmp_path / "rows.parquet", rows, prompt={**prompt, "template": "single"})[0]
    (image,) = images_of(sample["raw_prompt"]) or [None]
    assert sample["raw_prompt"] == build_messages("The 'LEFT' cup?", words.applied_to(PromptSpec("multi", 112)), image)
    assert sample["raw_prompt"][0]["content"][1]["text"] == "\nmine: the 'left' cup?"


def test_truth_and_image_size_are_in_the_coordinates_of_answers(tmp_path: Path) -> None:
    """The reward compares thousandths with thousandths, and scales its thresholds with 1000."""
    write_rows(tmp_path / "scenes.parquet", [_row()])
    processor = FakeProcessor()
    processor.image_processor = SimpleNamespace(patch_size=16, merge_size=2)
    config = _config(prompt={"template": "brief", "image_size": 128, "family": "qwen3_vl", "coordinates": None})
    sample = SegmentationDataset(str(tmp_path / "scenes.parquet"), None, config, processor)[0]
    truth = json.loads(sample["reward_model"]["ground_truth"])
    (pixels,) = _row().objects()
    assert truth[0]["bbox_2d"] == [round(v * 1000 / s) for v, s in zip(pixels.box, (100, 200, 100, 200), strict=True)]
    assert sample["extra_info"]["image_size"] == (1000, 1000)
    with pytest.raises(InputError, match="one token of 32 x 32 pixels, but its prompt settings say 28"):
        SegmentationDataset(str(tmp_path / "scenes.parquet"), None, _config(), processor)


def test_single_object_ground_truth() -> None:
    spec = PromptSpec("single", 840)
    truth = ground_truth_of(_row(size=(420, 420), solution=SINGLE), spec, whole((420, 420)))
    assert truth == "<box>(20,40),(100,120)</box><points>(60,80),(40,60)</points>"
    for solution in ("[]", SOLUTION):
        with pytest.raises(InputError, match="row 'row-0'"):
            ground_truth_of(_row(solution=solution), spec, whole((100, 200)))


def test_long_prompts_are_left_out_with_a_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [_row(0), _row(1, problem="the " + "very " * 30 + "red circle"), _row(2)]
    dataset = _dataset(tmp_path / "rows.parquet", rows)
    assert [dataset[i]["extra_info"]["id"] for i in range(len(dataset))] == ["row-0", "row-2"]
    assert dataset[1]["extra_info"]["row"] == 2
    assert "1 of 3 prompts of" in capsys.readouterr().out
    message = r"every prompt of .* is longer than data.max_prompt_length=5 .*image has \d+ and the prompt template \d+"
    with pytest.raises(InputError, match=message):
        _dataset(tmp_path / "rows.parquet", rows, max_prompt_length=5)


def test_row_limit(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.parquet", [_row(n) for n in range(4)])
    files = [str(tmp_path / "rows.parquet")] * 2
    assert len(SegmentationDataset(files, None, _config(), FakeProcessor())) == 8
    assert len(SegmentationDataset(files, None, _config(), FakeProcessor(), max_samples=3)) == 3


def test_bad_rows_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    (tmp_path / "bad.json").write_text(json.dumps({str(path): [0, 2], "another": [1]}))
    dataset = _dataset(path, [_row(n) for n in range(4)], bad_rows=str(tmp_path / "bad.json"))
    assert [dataset[i]["extra_info"]["row"] for i in range(len(dataset))] == [1, 3]
    with pytest.raises(InputError, match=r"data\.bad_rows=gone\.json cannot be read"):
        _dataset(path, [_row(0)], bad_rows="gone.json")
    (tmp_path / "bad.json").write_text(json.dumps({str(path): [0]}))
    with pytest.raises(InputError, match="no row is left of"):
        _dataset(path, [_row(0)], bad_rows=str(tmp_path / "bad.json"))


def test_the_position_in_the_data_is_saved_as_plain_values(tmp_path: Path) -> None:
    """A checkpoint that named our modules could not be resumed once they move."""
    dataset = _dataset(tmp_path / "rows.parquet", [_row(n) for n in range(5)])
    sampler = create_rl_sampler(OmegaConf.create({"shuffle": True, "seed": 1}), dataset)
    loader = StatefulDataLoader(dataset, 2, sampler=sampler, drop_last=True, collate_fn=list)
    next(iter(loader))
    torch.save(loader.state_dict(), tmp_path / "data.pt")
    torch.load(tmp_path / "data.pt", weights_only=True)


def test_only_training_rows_are_varied(tmp_path: Path) -> None:
    """The view is drawn from torch's generator, and the ground truth goes with the picture."""
    path, augmentation = tmp_path / "rows.parquet", {"flip": 1.0, "scale_jitter": 0.5}
    plain = _dataset(path, [_row()])[0]
    assert _dataset(path, [_row()], augmentation=augmentation)[0]["extra_info"] == plain["extra_info"]
    varied = _dataset(path, [_row()], augmentation=augmentation, train_files=[str(path)])
    torch.manual_seed(1)
    first = varied[0]
    assert varied[0]["extra_info"]["view"] != first["extra_info"]["view"]
    torch.manual_seed(1)
    again = varied[0]
    assert again["extra_info"] == first["extra_info"] and again["raw_prompt"] == first["raw_prompt"]
    described = first["extra_info"]["view"]
    view = View(tuple(described["window"]), described["flipped"])
    assert described["flipped"] and first["reward_model"]["ground_truth"] != plain["reward_model"]["ground_truth"]
    spec = PromptSpec("brief", 112)
    assert first["reward_model"]["ground_truth"] == ground_truth_of(_row(), spec, view)
    seen = images_of(first["raw_prompt"])
    assert seen is not None and seen[0] == resize_for_policy(view.picture(_row().image()), spec, "training")


def test_held_out_rows_are_resized_as_for_answers(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 150, 3), dtype=np.uint8))
    dataset = _dataset(tmp_path / "rows.parquet", [replace(_row(), image_bytes=encode_png(noise))])
    seen = {}
    for use in ("training", "answering"):
        dataset.use = use
        seen[use] = (images_of(dataset[0]["raw_prompt"]) or [])[0]
        assert seen[use] == resize_for_policy(noise, PromptSpec("brief", 112), use)
    assert seen["training"] != seen["answering"]


def test_the_reward_gets_the_mask_that_the_policy_sees(tmp_path: Path) -> None:
    mask = np.zeros((200, 100), dtype=bool)
    mask[20:60, 10:50] = True
    row = _row(mask=encode_mask(mask))
    stored = _dataset(tmp_path / "rows.parquet", [row])[0]["extra_info"]["mask"]
    assert np.array_equal(seen_mask(stored, whole((100, 200)), (112, 112)), resize_mask(mask, (112, 112)))
    view = View((10, 20, 90, 100), flipped=True)
    assert np.array_equal(seen_mask(stored, view, (112, 112)), resize_mask(view.mask(mask), (112, 112)))
    with pytest.raises(InputError, match=r"the mask is unreadable.*data check"):
        seen_mask({"size": [200, 100], "counts": "1"}, whole((100, 200)), (112, 112))


def test_masks_are_not_decoded_by_the_loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = _dataset(tmp_path / "rows.parquet", [_row(mask=encode_mask(np.ones((200, 100), dtype=bool)))])
    for name in ("decode_mask", "encode_mask"):
        monkeypatch.setattr(f"seg_zero.masks.{name}", None)
    monkeypatch.setattr("seg_zero.data.ground_truth.decode_mask", None)
    assert dataset[0]["extra_info"]["mask"]["size"] == [200, 100]


def test_several_datasets_are_one(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.parquet", [_row(0), _row(1)])
    write_rows(tmp_path / "b.parquet", [_row(2)])
    dataset = SegmentationDataset(
        OmegaConf.create([str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")]), None, _config(), FakeProcessor()
    )
    info = [dataset[i]["extra_info"] for i in range(len(dataset))]
    assert [(Path(i["source"]).stem, i["row"], i["index"]) for i in info] == [("a", 0, 0), ("a", 1, 1), ("b", 0, 2)]
    assert [dataset[i]["data_source"] for i in range(3)] == ["a", "a", "b"]


def _lengths(**other: Any) -> PromptLengths:
    return PromptLengths(FakeProcessor(), PromptSpec("brief", 112), other)


def test_prompt_lengths_know_wording_and_normalisation() -> None:
    words = PromptTemplate("mine: {question} and again {question}", "multi", newline=True)
    spec = words.applied_to(PromptSpec("brief", 112))
    lengths, plain = PromptLengths(FakeProcessor(), spec, {}), _lengths()
    assert list(lengths(["the red circle"])) == [16 + 1 + 9]
    other = PromptLengths(FakeProcessor(), replace(spec, normalisation="published"), {})
    assert len({lengths.key(), plain.key(), other.key()}) == 3


def test_prompt_lengths_are_those_of_the_whole_prompt(tmp_path: Path) -> None:
    questions = ["the red circle", "a", "The  LAST one, {question}?", "the red circle"]
    expected = [
        len(FakeProcessor()([FakeProcessor().apply_chat_template(build_messages(q, PromptSpec("brief", 112)))],
                            images=[Image.new("RGB", (112, 112))])["input_ids"][0])
        for q in questions
    ]  # fmt: skip
    assert _lengths()(questions).tolist() == expected


def test_prompt_lengths_of_the_embedded_policy() -> None:
    """As many tokens as the processor makes of picture and text together."""
    from transformers import AutoProcessor

    processor, spec = AutoProcessor.from_pretrained(TINY_POLICY), PromptSpec("multi", 112)
    questions = ["the red circle", '物体 <b> "quoted"', "a" * 300]
    counts = PromptLengths(processor, spec, {})(questions)
    for question, count in zip(questions, counts, strict=True):
        text = processor.apply_chat_template(build_messages(question, spec), add_generation_prompt=True, tokenize=False)
        whole_prompt = processor(text=[text], images=[Image.new("RGB", (112, 112))])
        assert count == len(whole_prompt["input_ids"][0])


def test_a_chat_template_that_changes_questions_is_honoured() -> None:
    class Shouting(FakeProcessor):
        def apply_chat_template(self, messages: list[dict[str, Any]], **_: Any) -> str:
            return super().apply_chat_template(messages).upper().replace(" ", "  x  ")

    plain, shouted = (
        PromptLengths(p, PromptSpec("brief", 112), {})(["a b c"])[0] for p in (FakeProcessor(), Shouting())
    )
    assert shouted > plain


def test_prompt_lengths_are_counted_once(tmp_path: Path) -> None:
    """Each question once, and not again for the same content, tokenizer and prompt settings."""
    path = tmp_path / "rows.parquet"
    write_rows(path, [_row(n, problem=f"thing {n % 2}") for n in range(6)])
    lengths = _lengths()
    before = WordTokenizer.seen
    first = prompt_lengths(open_rows(path), lengths)
    assert WordTokenizer.seen == before + 2
    assert prompt_lengths(open_rows(path), lengths).tolist() == first.tolist()
    assert WordTokenizer.seen == before + 2
    kept = list((cache_folder() / "prompt_lengths").iterdir())
    for damage in (b"", kept[0].read_bytes()[:-3], b"nonsense"):
        kept[0].write_bytes(damage)
        before = WordTokenizer.seen
        assert prompt_lengths(open_rows(path), lengths).tolist() == first.tolist()
        assert WordTokenizer.seen == before + 2
    other = _lengths(min_pixels=3)
    before = WordTokenizer.seen
    prompt_lengths(open_rows(path), other)
    assert WordTokenizer.seen == before + 2


def test_a_cache_that_cannot_be_written_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    write_rows(tmp_path / "rows.parquet", [_row()])
    assert len(prompt_lengths(open_rows(tmp_path / "rows.parquet"), _lengths())) == 1
    assert "cannot keep results in" in capsys.readouterr().err


def test_an_empty_question_is_named(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.parquet", [_row(0), _row(1, problem=" ")])
    with pytest.raises(InputError, match=r"row 1 of .*rows.parquet: the question is empty"):
        prompt_lengths(open_rows(tmp_path / "rows.parquet"), _lengths())


def test_no_processor(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.parquet", [_row()])
    with pytest.raises(InputError, match="no image processor"):
        SegmentationDataset(str(tmp_path / "rows.parquet"), None, _config())


def test_reward_curves() -> None:
    terms = [{"score": 1.0, "think": 1.0}, {"score": 1.0, "think": 0.0}, {"score": 0.0, "think": 0.0}]
    metrics = reward_metrics(terms, ["a", "a", "b"])
    assert metrics["reward/score/mean"] == pytest.approx(2 / 3)
    assert metrics["reward/think/mean"] == pytest.approx(1 / 3)
    assert metrics["reward/flat_groups"] == 1.0


def _log(path: Path, steps: list[int]) -> None:
    path.write_text("".join(json.dumps({"step": step, "data": {"x": step}}) + "\n" for step in steps))


def test_metrics_survive_a_resume(tmp_path: Path) -> None:
    """Steps of an earlier start are kept, repeated ones replaced; half-written lines wait."""
    source, target = tmp_path / "verl.jsonl", tmp_path / "metrics.jsonl"
    log = MetricsLog(source, target)
    assert log.poll() == []
    _log(source, [1, 2, 3])
    with source.open("a") as stream:
        stream.write('{"step": 4, "da')
    assert [m["step"] for m in log.poll()] == [1, 2, 3]
    with source.open("a") as stream:
        stream.write('ta": {"x": 4}}\n')
    assert log.poll() == [{"step": 4, "x": 4}]
    resumed = MetricsLog(source, target)
    _log(source, [3, 4, 5])
    resumed.poll()
    assert read_metrics(target) == [{"step": step, "x": step} for step in (1, 2, 3, 4, 5)]


def test_no_step_of_a_checkpoint_is_without_its_metrics(tmp_path: Path) -> None:
    """A run can end between a step's checkpoint and its log; a killed launcher leaves rows that it did not read."""
    source, target = tmp_path / "verl.jsonl", tmp_path / "metrics.jsonl"
    _log(source, [1, 2])
    MetricsLog(source, target).poll()  # which starts a new file
    assert read_metrics(target) == [{"step": 1, "x": 1}, {"step": 2, "x": 2}]
    _log(source, [2, 3])
    log = MetricsLog(source, target, resumed={"step": 4, "x": 5})
    assert [row["step"] for row in read_metrics(target)] == [1, 2, 3, 4]

    # The validation of step 4 is made by the run that goes on from it, and belongs to its row.
    source.write_text(json.dumps({"step": 4, "data": {"validation/gIoU": 0.5}}) + "\n")
    assert log.poll() == [{"step": 4, "x": 5, "validation/gIoU": 0.5}]
    with source.open("a") as stream:
        stream.write(json.dumps({"step": 5, "data": {"x": 6}}) + "\n")
    log.poll()
    assert read_metrics(target)[3:] == [{"step": 4, "x": 5, "validation/gIoU": 0.5}, {"step": 5, "x": 6}]

    # What was logged counts before what the checkpoint holds; a new run in the folder begins anew.
    MetricsLog(source, target, resumed={"step": 4, "x": 9})
    assert read_metrics(target)[3] == {"step": 4, "x": 5, "validation/gIoU": 0.5}
    anew = MetricsLog(source, target)
    _log(source, [1])
    anew.poll()
    assert read_metrics(target) == [{"step": 1, "x": 1}]


def test_step_line() -> None:
    metrics = {"step": 5, "reward/score/mean": 2.5, "reward/box_iou/mean": 0.25, "timing_s/step": 4.0}
    metrics |= {"timing_s/gen": 2.0, "timing_s/old_log_prob": 0.004, "val-aux/rows/box_iou/mean@1": 0.5}
    line = step_line(metrics, 10, width=10)
    assert line == "[#####.....] step 5/10  reward 2.500  IoU 0.250  4.0 s (sampling 2.0)  held out: IoU 0.500"
    assert step_line({"step": 0}, 10, width=2) == "[..] step 0/10"


@pytest.mark.parametrize(
    ("log", "error"),
    [
        ("", "none in the log"),
        ("2026-11-21 09:22:20,275 - WARNING - target_num_threads 8\n", "none in the log"),
        ("all fine\nKilled\n", "Killed"),
        ("ValueError: first\nRuntimeError: then\n", "RuntimeError: then"),
        ("KeyError: 'a'\nray.exceptions.RayTaskError(KeyError): \x1b[36mray::run()\x1b[39m (pid=1)\n", "KeyError: 'a'"),
        (
            "\x1b[36m(TaskRunnerV1 pid=3)\x1b[0m seg_zero.errors.InputError: every prompt is too long\n",
            "every prompt is too long",
        ),
        (
            "(vLLMHttpServer pid=1) (Worker pid=2) ERROR 11-21 03:32:15 [multiproc_executor.py:1000] BufferError: no\n"
            "(EngineCore pid=3) ERROR 11-21 03:32:15 [core.py:1449] RuntimeError: Worker failed with error 'no'\n",
            "BufferError: no",
        ),
    ],
)
def test_last_error(tmp_path: Path, log: str, error: str) -> None:
    path = tmp_path / "train.log"
    path.write_text(log)
    assert last_error(path) == error


def test_watchdog(tmp_path: Path) -> None:
    """Silence and a dead vLLM each end a run, but signs of life and time to end by itself are given."""
    log = tmp_path / "train.log"
    log.write_text("starting\n")
    assert Watchdog(log, minutes=1).verdict() is None
    assert "no metrics for 0 minutes" in str(Watchdog(log, minutes=0).verdict())
    patient, hasty = Watchdog(log, minutes=1, grace_seconds=60), Watchdog(log, minutes=1, grace_seconds=0)
    log.write_text("starting\nvllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue\n")
    assert patient.verdict() is None
    assert "a vLLM process died" in str(hasty.verdict())
    assert Watchdog(log, minutes=1, grace_seconds=0).verdict() is None  # of an earlier start
