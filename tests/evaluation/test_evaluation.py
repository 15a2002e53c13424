"""Evaluation: every row counts, interruption changes nothing, faults of a row stay with that row."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from helpers.scripted_policy import ScriptedPolicy
from PIL import Image

from seg_zero.answer import write_answer
from seg_zero.cli.main import main as command
from seg_zero.data.rows import Row, write_rows
from seg_zero.data.source import RowSource, open_rows
from seg_zero.data.synthetic.rows import sample_to_row
from seg_zero.data.synthetic.scenes import make_samples
from seg_zero.errors import InputError
from seg_zero.evaluation import answering, run, store
from seg_zero.evaluation.answering import answer_rows
from seg_zero.evaluation.compare import compare
from seg_zero.evaluation.predictions import Prediction, fuse
from seg_zero.evaluation.run import Models, evaluate
from seg_zero.evaluation.sets import SETS, open_set
from seg_zero.evaluation.store import Store, read_predictions
from seg_zero.evaluation.summary import outcome, summarise
from seg_zero.policy import GREEDY, Reply, Request, Sampling
from seg_zero.segmenter import Embedding, Segmenter, load_segmenter

COUNT = 22


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    samples = make_samples(21, COUNT)
    found = [sample_to_row(sample, f"row-{i}") for i, sample in enumerate(samples)]
    return [replace(row, problem=f"{row.problem} ({i})") for i, row in enumerate(found)]  # questions are keys here


@pytest.fixture
def source(rows: list[Row], tmp_path: Path) -> RowSource:
    write_rows(tmp_path / "rows.parquet", rows)
    return open_rows(tmp_path / "rows.parquet")


@pytest.fixture(scope="module")
def sam2() -> Segmenter:
    return load_segmenter()


def true_texts(rows: Sequence[Row]) -> dict[str, str]:
    return {row.problem: write_answer("seen", row.solution) for row in rows}


class Scripted(Models):
    """Models whose policy is scripted; settings are those of the embedded ones."""

    policies: ClassVar[list[ScriptedPolicy]] = []

    def load(self) -> Any:
        return self.policies.pop(0), load_segmenter()


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    for module in (store, run, answering):
        monkeypatch.setattr(module, "PART_ROWS", 5)
    Scripted.policies = []
    yield Scripted()


def test_true_answers_give_nearly_perfect_metrics(rows: list[Row], sam2: Segmenter) -> None:
    found = list(answer_rows(ScriptedPolicy(true_texts(rows)), sam2, rows, range(COUNT)))
    summary = summarise(found)
    assert summary.metrics["gIoU"].value > 0.9
    assert {name: summary.metrics[name].value for name in ("box_IoU", "box_acc@0.5", "format_rate")} == {
        "box_IoU": 1.0,
        "box_acc@0.5": 1.0,
        "format_rate": 1.0,
    }
    assert summary.metrics["points_on_target"].value == 1.0
    assert (summary.rows, summary.unparsable, summary.failures) == (COUNT, 0, 0)
    assert sorted(p.row for p in found) == list(range(COUNT))


def test_an_answer_is_read_once(rows: list[Row], sam2: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    from seg_zero import prompting
    from seg_zero.rewards import response

    texts: list[str] = []
    real = prompting.parse_answer
    for module in (prompting, response):
        monkeypatch.setattr(module, "parse_answer", lambda text: texts.append(text) or real(text))
    assert len(list(answer_rows(ScriptedPolicy(true_texts(rows)), sam2, rows, range(COUNT)))) == COUNT
    assert len(texts) == COUNT


def test_unreadable_answers_count_nothing_even_where_nothing_is_to_be_found(rows: list[Row], sam2: Segmenter) -> None:
    found = list(answer_rows(ScriptedPolicy({row.problem: "I cannot say" for row in rows}), sam2, rows, range(COUNT)))
    assert any(row.kind == "none" for row in rows)
    summary = summarise(found)
    assert summary.metrics["gIoU"].value == 0.0 and summary.metrics["cIoU"].value == 0.0
    assert (summary.rows, summary.unparsable) == (COUNT, COUNT)
    assert {outcome(p) for p in found} == {"unusable"}
    assert summarise(found, "gres").metrics["N-acc"].value == 0.0


@pytest.fixture
def embedded(sam2: Segmenter, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches of images that SAM2 embeds."""
    sizes: list[int] = []
    original = sam2.embed

    def counted(images: Sequence[Image.Image]) -> list[Embedding]:
        sizes.append(len(images))
        return original(images)

    monkeypatch.setattr(sam2, "embed", counted)
    return sizes


def test_one_picture_with_many_questions_is_embedded_once(
    rows: list[Row], sam2: Segmenter, embedded: list[int]
) -> None:
    same = [replace(rows[0], id=f"q{i}", problem=f"question {i}") for i in range(12)]
    texts = {row.problem: write_answer("seen", row.solution) for row in same}
    found = list(answer_rows(ScriptedPolicy(texts), sam2, same, range(12)))
    assert sum(embedded) == 1 and len(found) == 12
    assert {p.iou for p in found} == {found[0].iou}


def test_each_picture_is_embedded_once_whatever_the_order_of_replies(
    rows: list[Row], sam2: Segmenter, embedded: list[int]
) -> None:
    """A picture of an earlier group comes again in a later one, which is answered first."""
    again = [*rows[:20], replace(rows[2], problem="again"), rows[21]]
    texts = true_texts(again)

    class Backwards(ScriptedPolicy):
        def stream(self, requests: Iterable[Request], sampling: Sampling = GREEDY) -> Iterator[Reply]:
            yield from reversed(list(super().stream(requests, sampling)))

    found = list(answer_rows(Backwards(texts, in_flight=32), sam2, again, range(COUNT)))
    assert sum(embedded) == len({row.image_bytes for row in again})
    forwards = list(answer_rows(ScriptedPolicy(texts), sam2, again, range(COUNT)))
    assert sorted(p.row for p in found) == list(range(COUNT))
    by_row = {p.row: replace(p, seconds={}) for p in found}
    assert all(by_row[p.row] == replace(p, seconds={}) for p in forwards)


def broken_rows(rows: list[Row]) -> list[Row]:
    changed = list(rows)
    changed[3] = replace(rows[3], image_bytes=rows[3].image_bytes[:200])
    changed[7] = replace(rows[7], solution="nowhere")
    changed[9] = replace(rows[9], mask={"size": [3, 3], "counts": "09"})
    changed[11] = replace(rows[11], problem="the <|image_pad|> cup")
    changed[12] = replace(rows[12], problem=" ")
    return changed


def test_a_row_that_cannot_be_read_is_counted_and_named(rows: list[Row], sam2: Segmenter) -> None:
    bad = broken_rows(rows)
    found = sorted(answer_rows(ScriptedPolicy(true_texts(rows)), sam2, bad, range(COUNT)), key=lambda p: p.row)
    assert [p.row for p in found if p.failure] == [3, 7, 9, 11, 12]
    assert all("row cannot be read" in str(found[i].failure) and found[i].iou == 0.0 for i in (3, 7, 9, 11, 12))
    assert summarise(found).rows == COUNT and summarise(found).failures == 5


def test_a_row_that_sam2_fails_on_is_counted_and_named(
    rows: list[Row], sam2: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, wrong = sam2.embed, np.asarray(rows[5].image())

    def fails(images: Sequence[Image.Image]) -> list[Embedding]:
        if any(np.array_equal(np.asarray(image), wrong) for image in images):
            raise RuntimeError("out of memory")
        return original(images)

    monkeypatch.setattr(sam2, "embed", fails)
    found = sorted(answer_rows(ScriptedPolicy(true_texts(rows)), sam2, rows, range(COUNT)), key=lambda p: p.row)
    assert [p.row for p in found if p.failure] == [5]
    assert found[5].failure == "SAM2 failed: RuntimeError: out of memory"
    assert all(p.iou > 0.5 for p in found if p.row != 5)


def test_a_row_without_a_mask_ends_the_run(rows: list[Row], sam2: Segmenter) -> None:
    with pytest.raises(InputError, match=r"row 2 \('row-2'\) has no mask"):
        changed = [replace(row, mask=None) if i == 2 else row for i, row in enumerate(rows)]
        list(answer_rows(ScriptedPolicy(true_texts(rows)), sam2, changed, range(COUNT)))


@pytest.mark.parametrize("maskless", [[2], range(COUNT)])
def test_rows_without_masks_are_refused_before_anything_is_loaded_or_written(
    rows: list[Row], tmp_path: Path, maskless: Sequence[int]
) -> None:
    """Also after the first part, and in files without the column."""
    changed = [replace(row, mask=None) if i in maskless else row for i, row in enumerate(rows)]
    write_rows(tmp_path / "rows.parquet", changed)
    for source in (open_rows(tmp_path / "rows.parquet"), open_rows(tmp_path / "rows.parquet").select([0, 2, 1])):
        with pytest.raises(InputError, match=rf"rows of .*rows.parquet have no mask, the first is row {maskless[0]};"):
            evaluate(Models("no/such/policy"), source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_policy_that_raises_ends_the_run(rows: list[Row], sam2: Segmenter) -> None:
    with pytest.raises(KeyError):
        list(answer_rows(ScriptedPolicy({}), sam2, rows, range(COUNT)))


def test_votes_are_fused_by_majority_and_a_typical_answer_is_shown(rows: list[Row], sam2: Segmenter) -> None:
    right, wrong = write_answer("seen", rows[0].solution), "<answer>[]</answer>"
    texts = {rows[0].problem: (wrong, right, right)}
    (found,) = answer_rows(ScriptedPolicy(texts), sam2, rows, [0], Sampling(3, 0.7))
    (alone,) = answer_rows(ScriptedPolicy({rows[0].problem: right}), sam2, rows, [0])
    assert found.chosen == 1 and found.mask == alone.mask and len(found.texts) == 3


@pytest.mark.parametrize(
    ("masks", "fused", "chosen"),
    [
        ([[1, 0]], [1, 0], 0),
        ([[1, 1], [1, 0], [0, 0]], [1, 0], 1),
        ([[1, 0], [0, 1]], [0, 0], 0),  # no majority of two
        ([[0, 0], [0, 0]], [0, 0], 0),
    ],
)
def test_fusing(masks: list[list[int]], fused: list[int], chosen: int) -> None:
    found, number = fuse([np.array([mask], dtype=bool) for mask in masks])
    assert found.tolist() == [[bool(v) for v in fused]] and number == chosen


def results(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "predictions.jsonl").read_bytes(), (folder / "metrics.json").read_bytes()


def test_an_interrupted_evaluation_goes_on_and_ends_with_the_same_bytes(
    source: RowSource, rows: list[Row], models: Scripted, tmp_path: Path
) -> None:
    texts = true_texts(rows)
    models.policies += [ScriptedPolicy(texts) for _ in range(3)]
    evaluate(models, source, tmp_path / "whole")
    last = models.policies[1]

    def interrupted(predictions: Sequence[Prediction], old: bool) -> None:
        if predictions[0].row == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(models, source, tmp_path / "broken", progress=interrupted)
    (tmp_path / "broken" / "parts" / ".00004.jsonl.7.tmp").write_text("half")
    (tmp_path / "broken" / "parts" / "00001.jsonl").write_text('{"prediction": {"row": 5')  # damaged
    told: list[tuple[int, bool]] = []
    evaluate(models, source, tmp_path / "broken", progress=lambda some, old: told.append((some[0].row, old)))
    assert told == [(0, True), (10, True), (5, False), (15, False), (20, False)]
    assert sorted(last.asked) == [5, 6, 7, 8, 9, *range(15, COUNT)]
    assert results(tmp_path / "whole") == results(tmp_path / "broken")
    evaluate(models, source, tmp_path / "broken")  # nothing is left to load a model for
    assert results(tmp_path / "whole") == results(tmp_path / "broken")
    assert len((tmp_path / "broken" / "timings.jsonl").read_text().splitlines()) == COUNT


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_new_tokens": 7}, "max_new_tokens was 1024 and is 7"),
        ({"template": "multi"}, r"settings \(prompt.template was '\w+' and is 'multi'\)"),
        ({"engine": "vllm"}, "engine was 'transformers' and is 'vllm'"),
    ],
)
def test_other_settings_need_another_folder(
    source: RowSource, rows: list[Row], models: Scripted, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    models.policies.append(ScriptedPolicy(true_texts(rows)))
    evaluate(models, source, tmp_path / "out")
    with pytest.raises(InputError, match=f"{message}.*name a new folder"):
        evaluate(replace(models, **change), source, tmp_path / "out")
    with pytest.raises(InputError, match="rows was 22 and is 3"):
        evaluate(models, source.select(range(3)), tmp_path / "out")


def test_a_changed_model_is_noticed(rows: list[Row], tmp_path: Path) -> None:
    import shutil

    from seg_zero.policy.model_files import TINY_POLICY

    folder = tmp_path / "model"
    shutil.copytree(TINY_POLICY, folder)
    before = Models(str(folder)).settings()
    (folder / "README.md").write_text("another text")
    assert Models(str(folder)).settings() == before
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-5] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    changed = {name for name, value in Models(str(folder)).settings().items() if value != before[name]}
    assert changed == {"policy_files"}


def test_files_of_something_else_are_left_alone(source: RowSource, models: Scripted, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "predictions.jsonl").write_text("old\n")
    with pytest.raises(InputError, match=r"holds predictions.jsonl and no evaluation; name a new or empty folder"):
        evaluate(models, source, tmp_path / "out")
    assert (tmp_path / "out" / "predictions.jsonl").read_text() == "old\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["predictions.jsonl"]


def test_a_full_disk_is_one_clear_error_and_loses_nothing(
    source: RowSource, rows: list[Row], models: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models.policies += [ScriptedPolicy(true_texts(rows)) for _ in range(2)]
    original = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if "00002.jsonl" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(InputError, match=r"No space left on device\); free space there .* run the command again"):
            evaluate(models, source, tmp_path / "out")
    evaluate(models, source, tmp_path / "out")
    assert len(read_predictions(tmp_path / "out")) == COUNT


def test_two_evaluations_do_not_share_a_folder(source: RowSource, models: Scripted, tmp_path: Path) -> None:
    with store.only_evaluation(tmp_path / "out"), pytest.raises(InputError, match="another evaluation writes to"):
        evaluate(models, source, tmp_path / "out")


def test_a_part_of_other_rows_is_not_taken(tmp_path: Path) -> None:
    parts = Store(tmp_path, 40)
    parts.write(1, [Prediction(row, f"r{row}", "q", "") for row in range(32, 40)])
    assert parts.pending() == [0]
    (tmp_path / "parts" / "00001.jsonl").rename(tmp_path / "parts" / "00000.jsonl")
    assert parts.pending() == [0, 1] and len(parts.damaged) == 1


def test_comparing_shows_what_changed(source: RowSource, rows: list[Row], models: Scripted, tmp_path: Path) -> None:
    texts = true_texts(rows)
    models.policies += [ScriptedPolicy(texts), ScriptedPolicy({**texts, rows[4].problem: "no idea"})]
    evaluate(models, source, tmp_path / "a")
    evaluate(models, source, tmp_path / "b")
    found = compare(tmp_path / "a", tmp_path / "b")
    assert [two.id for _, two in found.changed] == ["row-4"]
    assert found.differences["gIoU"].mean == pytest.approx((0 - found.changed[0][0].iou) / COUNT)
    assert found.differences["gIoU"].p_value == 1.0 and found.other_settings == {}
    assert "row-4" in found.table()
    models.policies.append(ScriptedPolicy(texts))
    evaluate(models, source.select(range(9)), tmp_path / "c")
    with pytest.raises(InputError, match="the first difference is at row 9"):
        compare(tmp_path / "a", tmp_path / "c")
    with pytest.raises(InputError, match="holds no finished evaluation"):
        compare(tmp_path / "a", tmp_path / "nowhere")


def test_sets_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[Row]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"grefcoco_val is not at .*seg-zero data grefcoco .* --split val"):
        open_set("grefcoco_val")
    Path("data").mkdir()
    write_rows(Path("data/grefcoco_val.parquet"), rows)
    source, rule = open_set("grefcoco_val")
    assert len(source) == COUNT and rule == "gres"
    assert {"reasonseg_val", "reasonseg_test", "refcoco_testA", "refcocoplus_testB", "refcocog_test"} < set(SETS)
    source, rule = open_set("synthetic")
    assert len(source) == 300 and rule == "lisa"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--votes", "0"], "--votes 0 must be at least 1"),
        (["--votes", "3", "--temperature", "0"], "--temperature 0.0 must be above 0"),
        (["--batch_size", "-1"], "--batch_size -1 must be at least 1"),
        (["--data", "no_such_file.parquet"], "dataset no_such_file.parquet does not exist"),
    ],
)
def test_bad_options_end_in_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["evaluate", "--data", "synthetic", "--out", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_command_writes_a_report_that_stands_alone(
    source: RowSource, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The embedded models, 22 rows; batch size and a second run change no byte of the results."""
    for name, size in (("a", "1"), ("b", "4"), ("c", "16"), ("a", "16")):
        arguments = ["--data", str(tmp_path / "rows.parquet"), "--out", str(tmp_path / name), "--batch_size", size]
        assert command(["evaluate", *arguments, "--max_new_tokens", "96"]) == 0
    assert results(tmp_path / "a") == results(tmp_path / "b") == results(tmp_path / "c")
    out = capsys.readouterr().out
    assert "22 rows evaluated" in out and "all 22 rows were there already" in out
    page = (tmp_path / "a" / "report.html").read_text()
    assert page.count("data:image/webp;base64,") > 20 and "http://" not in page and "https://" not in page
    assert "Worst" in page and "Best" in page and "Warning:</b> the embedded policy knows only" in page
    metrics = json.loads((tmp_path / "a" / "metrics.json").read_text())
    assert (
        metrics["rows"] == COUNT
        and f"{metrics['metrics']['gIoU']['value']:.4f}" in (tmp_path / "a" / "report.md").read_text()
    )


def test_a_ray_that_does_not_start_is_one_line(
    source: RowSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(**_: Any) -> None:
        raise Exception("The current node timed out during startup.\nThis could happen because")

    monkeypatch.setattr("ray.init", late)
    with pytest.raises(InputError, match=r"Ray did not start .The current node timed out.*omit --workers") as found:
        evaluate(Models(None), source, tmp_path / "out", workers=2)
    assert "\n" not in str(found.value)
