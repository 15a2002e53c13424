"""Policies of all supported families, with real model classes."""

from __future__ import annotations

import json
import logging
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from seg_zero.errors import InputError
from seg_zero.policy import Request, TransformersPolicy, VllmPolicy
from seg_zero.policy.base import too_long
from seg_zero.policy.families import FAMILIES, spec_of_family
from seg_zero.policy.model_files import (
    EMBEDDED_VOCABULARIES,
    TINY_POLICY,
    default_spec,
    embedded_warning,
    models_warning,
    wording_warning,
)
from seg_zero.policy.weights import check_weights as compare_weights
from seg_zero.prompting import PromptSpec, PromptTemplate
from seg_zero.training.launch.checks import check_weights


@pytest.fixture(scope="module", params=list(FAMILIES))
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A randomly initialised model of each family, in a folder named after it."""
    from helpers.tiny_models import save_tiny_model

    return save_tiny_model(request.param, tmp_path_factory.mktemp("models") / request.param)


def test_every_family_generates_the_same_alone_and_in_a_batch(tiny: Path) -> None:
    images, questions = [Image.new("RGB", (50, 80), "red"), Image.new("RGB", (9, 90))], ["the cup", "a cup of tea"]
    policy = TransformersPolicy.from_pretrained(tiny, max_new_tokens=4)
    assert policy.spec == PromptSpec.load(tiny)
    texts = policy.generate(images, questions)
    assert [policy.generate([image], [question])[0] for image, question in zip(images, questions, strict=True)] == texts


def test_processors_pass_images_on_unchanged(tiny: Path) -> None:
    """The size that the prompt settings ask for is as many tokens as they say, without another resize."""
    from transformers import AutoProcessor

    spec, processor = default_spec(str(tiny)), AutoProcessor.from_pretrained(tiny)
    inputs = processor.image_processor(images=[Image.new("RGB", (spec.image_size, spec.image_size))])
    grid = [int(n) for n in inputs["image_grid_thw"][0]]
    assert grid == [1, spec.image_size * 2 // spec.token_pixels, spec.image_size * 2 // spec.token_pixels]
    assert grid[1] * grid[2] // 4 == spec.image_tokens


def test_default_settings_follow_the_family_of_the_folder(tiny: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(tiny, bare, ignore=shutil.ignore_patterns("seg_zero.json"))
    size = FAMILIES[tiny.name].image_size
    assert default_spec(str(bare)) == spec_of_family("multi", size, tiny.name)


def test_prompt_settings_of_another_family_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(TINY_POLICY, folder)
    spec_of_family("brief", 128, "qwen3_vl").save(folder)
    with pytest.raises(InputError, match="one token of 28 x 28 pixels, but its prompt settings say 32"):
        TransformersPolicy.from_pretrained(folder)


def test_answers_do_not_depend_on_the_batch() -> None:
    from seg_zero.data.synthetic.scenes import make_samples

    samples = list(make_samples(31, 7))
    images, questions = [s.scene.image for s in samples], [s.question.text for s in samples]
    alone = TransformersPolicy.from_pretrained(batch_size=1, max_new_tokens=96).generate(images, questions)
    together = TransformersPolicy.from_pretrained(batch_size=7, max_new_tokens=96).generate(images, questions)
    assert alone == together


def test_a_hub_id_that_cannot_be_read_has_the_family_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seg_zero.policy.model_files.hub_file", lambda *_: None)
    assert default_spec("Qwen/Qwen3-VL-4B-Instruct", image_size=832) == PromptSpec("multi", 832, "thousand", 32)
    assert default_spec("zai-org/GLM-4.1V-9B-Thinking") == PromptSpec("multi", 840, "thousand", 28)
    with pytest.raises(InputError, match="image_size 832 is not a multiple of 28"):
        default_spec("Qwen/Qwen2.5-VL-3B-Instruct", image_size=832)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("Ricky06662/Seg-Zero-7B", PromptSpec("single", 840)),
        ("Ricky06662/VisionReasoner-7B", PromptSpec("multi", 840)),
        ("Qwen/Qwen2.5-VL-3B-Instruct", PromptSpec("multi", 840)),
        ("Qwen/Qwen3-VL-4B-Instruct", PromptSpec("multi", 832, "thousand", 32)),
        (str(TINY_POLICY), PromptSpec("brief", 112)),
    ],
)
def test_prompt_settings_follow_the_model(
    model: str, expected: PromptSpec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"model_type": "qwen3_vl" if "Qwen3" in model else "qwen2_5_vl"}))
    monkeypatch.setattr(
        "seg_zero.policy.model_files.hub_file", lambda _, name: config if name == "config.json" else None
    )
    assert default_spec(model) == expected
    changed = default_spec(model, template="single", image_size=448)
    assert changed == PromptSpec("single", 448, expected.coordinates, expected.token_pixels)


def test_the_name_of_the_folder_decides_the_format_unless_settings_lie_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "Seg-Zero" / "pretrained_models" / "VisionReasoner-7B"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
    assert default_spec(str(folder)) == PromptSpec("multi", 840)
    single = folder.rename(folder.with_name("Seg-Zero-7B"))
    assert default_spec(str(single)) == PromptSpec("single", 840)
    PromptSpec("multi", 448).save(single)
    assert default_spec(str(single)) == PromptSpec("multi", 448)


def test_the_wording_comes_from_the_options_then_the_folder_then_the_name(tmp_path: Path) -> None:
    folder = tmp_path / "Seg-Zero-7B"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
    mine, other = PromptTemplate("mine: {question}", "multi"), PromptTemplate("other: {question}", "single", True)
    assert default_spec(str(folder), prompt_template=mine) == PromptSpec("multi", 840, text="mine: {question}")
    mine.applied_to(PromptSpec()).save(folder)
    assert default_spec(str(folder)).text == "mine: {question}"
    changed = default_spec(str(folder), image_size=448, prompt_template=other)
    assert changed == PromptSpec("single", 448, text="other: {question}", newline=True)
    assert default_spec(str(folder), template="single") == PromptSpec("single", 840)
    with pytest.raises(InputError, match="template 'multi' and a prompt template were given; give one"):
        default_spec(str(folder), template="multi", prompt_template=other)


def test_the_embedded_policy_and_what_is_trained_from_it_say_what_they_know(tmp_path: Path) -> None:
    config = json.loads((TINY_POLICY / "config.json").read_text())
    assert config["text_config"]["vocab_size"] == EMBEDDED_VOCABULARIES[0]
    line = models_warning(str(TINY_POLICY), default_spec(str(TINY_POLICY)), None)
    assert line is not None and line.startswith("the embedded policy knows only synthetic shapes") and "--model" in line
    assert "\n" not in line
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert str(embedded_warning(str(tmp_path))).startswith(f"{tmp_path}, trained from the embedded policy, knows only")
    config["text_config"]["vocab_size"] = 152064
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert embedded_warning(str(tmp_path)) is None and embedded_warning("Qwen/Qwen2.5-VL-7B-Instruct") is None


@pytest.mark.parametrize(
    ("model", "segmenter", "said"),
    [
        ("Qwen/Qwen2.5-VL-7B-Instruct", "facebook/sam2.1-hiera-large", []),
        ("Qwen/Qwen2.5-VL-7B-Instruct", None, ["the embedded SAM2 knows only flat shapes"]),
        ("Qwen/Qwen2.5-VL-7B-Instruct", "tiny", ["the embedded SAM2 knows only flat shapes"]),
        ("Ricky06662/Seg-Zero-7B", "facebook/sam3", ["Ricky06662/Seg-Zero-7B was trained with a prompt"]),
        (
            "Ricky06662/Seg-Zero-7B",
            None,
            ["Ricky06662/Seg-Zero-7B was trained with a prompt", "also, the embedded SAM2 knows only flat shapes"],
        ),
        (str(TINY_POLICY), None, ["the embedded policy knows only synthetic shapes"]),
        (str(TINY_POLICY), "facebook/sam3", ["the embedded policy knows only synthetic shapes"]),
    ],
)
def test_a_policy_for_photos_beside_the_embedded_sam2_is_warned_of(
    model: str, segmenter: str | None, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seg_zero.policy.model_files.hub_file", lambda *_: None)
    spec = PromptSpec()
    parts = (models_warning(model, spec, segmenter) or "").split("; also")
    parts = [f"also{part}" if index else part for index, part in enumerate(parts) if part]
    assert len(parts) == len(said)
    assert all(part.startswith(start) for part, start in zip(parts, said, strict=True))


def test_a_published_checkpoint_without_its_prompt_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seg_zero.policy.model_files.hub_file", lambda *_: None)
    folder = tmp_path / "VisionReasoner-7B"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
    for model in ("Ricky06662/Seg-Zero-7B", str(folder)):
        line = wording_warning(model, default_spec(model), "--here FILE")
        assert line is not None and "\n" not in line
        assert line.startswith(f"{model} was trained with a prompt in other words")
        assert "seg-zero prompt import" in line and "--here FILE" in line
        given = default_spec(model, prompt_template=PromptTemplate("mine: {question}", "multi"))
        assert wording_warning(model, given) is None
        assert wording_warning(model, default_spec(model, template="multi")) is not None
    for model in ("Qwen/Qwen2.5-VL-7B-Instruct", "Seg-Zero-7B/mine", str(TINY_POLICY)):
        assert wording_warning(model, PromptSpec()) is None
    PromptSpec("multi", 840).save(folder)
    assert wording_warning(str(folder), default_spec(str(folder))) is None


def test_a_hub_that_cannot_be_reached_leaves_the_published_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert default_spec("nobody/no-such-model") == PromptSpec("multi", 840)


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(TINY_POLICY, folder)
    (folder / "model.safetensors").write_bytes(b"rubbish")
    with pytest.raises(InputError, match="damaged"):
        TransformersPolicy.from_pretrained(folder)


def _renamed(folder: Path, rename: Callable[[str], str | None]) -> Path:
    """The embedded policy with other names for its weights; None omits one."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(TINY_POLICY, folder)
    weights = {rename(name): value for name, value in load_file(folder / "model.safetensors").items()}
    save_file({name: value for name, value in weights.items() if name}, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("rename", "message"),
    [
        (lambda name: None if ".layers.1." in name else name, r"weights are missing \(such as .*layers\.1\."),
        (lambda name: None if "visual." in name else name, r"weights are missing \(such as .*visual"),
        (lambda name: f"wrapped.{name}", r"missing .* have unexpected names \(such as wrapped\."),
        (
            lambda name: f"module.{name}",
            r"the names begin with 'module\.', which a wrapper .* save the weights without it",
        ),
        (lambda name: f"base_model.model.{name}", r"the names begin with 'base_model\.model\.'"),
    ],
)
def test_incomplete_or_renamed_weights_are_refused(
    rename: Callable[[str], str | None], message: str, tmp_path: Path
) -> None:
    folder = _renamed(tmp_path / "model", rename)
    for refuse in (TransformersPolicy.from_pretrained, VllmPolicy.from_pretrained):
        with pytest.raises(InputError, match=message) as error:
            refuse(folder)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(("key", "by"), [("num_hidden_layers", -1), ("num_hidden_layers", 1), ("intermediate_size", 8)])
def test_weights_of_another_shape_than_the_configuration_are_refused(key: str, by: int, tmp_path: Path) -> None:
    folder = _renamed(tmp_path / "model", lambda name: name)
    config = json.loads((folder / "config.json").read_text())
    text = config.get("text_config", config)
    text[key] += by
    if "layer_types" in text and key == "num_hidden_layers":
        text["layer_types"] = text["layer_types"][:1] * text[key]
    (folder / "config.json").write_text(json.dumps(config))
    table = logging.getLogger("transformers.modeling_utils")
    printed = list[str]()
    handler = logging.Handler()
    handler.emit = lambda record: printed.append(record.getMessage())  # type: ignore[method-assign]
    table.addHandler(handler)
    for refuse in (TransformersPolicy.from_pretrained, VllmPolicy.from_pretrained):
        with pytest.raises(InputError, match=r"cannot be used") as error:
            refuse(folder)
        shapes = r"weights have another shape than its config\.json says \(such as .*, \[.*\] instead of \[.*\]\); "
        assert key == "num_hidden_layers" or re.search(shapes, str(error.value))
        assert "\n" not in str(error.value)
    table.removeHandler(handler)
    assert not printed and not table.disabled
    if key == "intermediate_size":  # what a training asks, in a process of its own
        with pytest.raises(InputError, match="weights have another shape than its config"):
            check_weights(_tiny_config(f"worker.actor.model.model_path={folder}"))


def test_weights_of_every_family_and_of_published_names_pass(tiny: Path, tmp_path: Path) -> None:
    """Published Qwen2.5-VL files have the names of an earlier transformers, and a head that is tied."""
    compare_weights(tiny)
    if tiny.name == "qwen2_5_vl":
        first = {"model.visual.": "visual.", "model.language_model.": "model."}
        old = _renamed(tmp_path / "old", lambda name: next((v + name[len(k) :] for k, v in first.items()
                                                            if name.startswith(k)), name))  # fmt: skip
        compare_weights(old)
        TransformersPolicy.from_pretrained(old)


def test_names_of_quantized_weights_are_left_to_the_engine(tmp_path: Path) -> None:
    folder = _renamed(tmp_path / "model", lambda name: name.replace(".weight", ".qweight"))
    with pytest.raises(InputError, match="missing"):
        compare_weights(folder)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "awq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(config))
    compare_weights(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "chat_template.jinja").unlink(), "has no chat template; copy chat_template.jinja"),
        (
            lambda folder: (folder / "chat_template.jinja").write_text("{{ nothing.at.all }}"),
            "its chat template cannot be used",
        ),
        (lambda folder: (folder / "chat_template.jinja").write_text("hello"), "template leaves out the question"),
        (
            lambda folder: (folder / "chat_template.jinja").write_text("{{ messages[0].content[1].text }}"),
            "its chat template leaves out the image",
        ),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "its processor cannot be loaded"),
        (lambda folder: (folder / "processor_config.json").write_text("[]"), "its processor cannot be loaded"),
    ],
    ids=["none", "broken", "without question", "without image", "tokenizer", "processor"],
)
def test_a_processor_that_cannot_ask_is_refused_at_loading(
    damage: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    folder = _renamed(tmp_path / "model", lambda name: name)
    damage(folder)
    for refuse in (TransformersPolicy.from_pretrained, VllmPolicy.from_pretrained):
        with pytest.raises(InputError, match=message) as error:
            refuse(folder)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("limits", [(784, 6272), (50176, 100352)], ids=["too small", "too large"])
def test_limits_of_a_processor_do_not_resize_the_prompts_images(
    limits: tuple[int, int], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(tiny, tmp_path / tiny.name)
    file = folder / "processor_config.json"
    settings = json.loads(file.read_text())
    settings["image_processor"]["size"] = {"shortest_edge": limits[0], "longest_edge": limits[1]}
    file.write_text(json.dumps(settings))
    image, question = Image.new("RGB", (50, 80), "red"), "the cup"
    plain, changed = (TransformersPolicy.from_pretrained(where, max_new_tokens=4) for where in (tiny, folder))
    assert changed.generate([image], [question]) == plain.generate([image], [question])
    grid = changed._inputs([Request(0, image, question)])["image_grid_thw"][0]
    assert int(grid.prod()) // 4 == changed.spec.image_tokens
    asked: dict[str, Any] = {}
    engine = SimpleNamespace(LLM=lambda **settings: asked.update(settings))
    monkeypatch.setitem(sys.modules, "vllm", engine)  # which takes long to import
    if tiny.name == "glm4v":
        with pytest.raises(InputError, match="vLLM knows no setting for it; raise longest_edge"):
            VllmPolicy.from_pretrained(folder)
        return
    VllmPolicy.from_pretrained(folder)
    low, high = (asked["mm_processor_kwargs"][name] for name in ("min_pixels", "max_pixels"))
    assert low <= changed.spec.image_size**2 <= high
    asked.clear()
    VllmPolicy.from_pretrained(tiny)
    assert "mm_processor_kwargs" not in asked


def test_vllm_on_cpu_keeps_what_short_prompts_have_in_common(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    asked: dict[str, Any] = {}
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=lambda **settings: asked.update(settings)))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    spec = VllmPolicy.from_pretrained(TINY_POLICY).spec
    assert asked["block_size"] <= 2 * spec.image_tokens < 128  # vLLM's own on CPU
    asked.clear()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    VllmPolicy.from_pretrained(TINY_POLICY)
    assert "block_size" not in asked


def _tiny_config(*overrides: str) -> Any:
    from seg_zero.training.launch.config import load_config

    settings = ["policy=tiny", "data=synthetic", "hardware=cpu_2core", f"worker.actor.model.model_path={TINY_POLICY}"]
    return load_config([*settings, *overrides])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["policy.family=qwen2_vl"], "is of the family qwen2_5_vl; set policy.family=qwen2_5_vl"),
        (["policy.family=qwen3_vl"], "image_size 112 is not a multiple of 32"),
        (["policy.coordinates=percent"], "unknown coordinates 'percent'"),
        (["policy.lora.rank=-1"], "policy.lora.rank=-1 is not a whole number from 0 up"),
        (["policy.lora.alpha=0"], "policy.lora.alpha=0 is not a whole number from 1 up"),
    ],
)
def test_impossible_training_settings_end_in_one_line(overrides: list[str], message: str) -> None:
    from seg_zero.training.launch.checks import check_policy

    with pytest.raises(InputError, match=re.escape(message)) as error:
        check_policy(_tiny_config(*overrides))
    assert "\n" not in str(error.value)


def test_what_is_trained_reaches_the_engine() -> None:
    """The settings of policy.* are verl's keys; by default all weights are trained."""
    actor = _tiny_config().actor_rollout_ref
    assert (actor.model.lora_rank, actor.actor.freeze_vision_tower, actor.model.lora.freeze_vision_model) == (
        0,
        False,
        False,
    )
    actor = _tiny_config(
        "policy.lora.rank=64", "policy.lora.targets=[q_proj]", "policy.freeze_vision=true"
    ).actor_rollout_ref
    assert (actor.model.lora_rank, actor.model.lora_alpha, actor.model.lora.merge) == (64, 64, True)
    assert list(actor.model.target_modules) == ["q_proj"] and actor.model.exclude_modules == ".*visual.*"
    assert actor.actor.freeze_vision_tower and actor.model.lora.freeze_vision_model


@pytest.mark.parametrize(
    ("question_tokens", "spec", "message"),
    [
        (
            900,
            PromptSpec("multi"),
            r"the template 'multi' 84, the question 'the cup'... 900, the image 16\); shorten the q",
        ),
        (30, PromptSpec("single", text="x {question}"), r"\(the prompt template given 954, .*\); shorten the template"),
    ],
)
def test_a_long_template_is_not_called_a_long_question(question_tokens: int, spec: PromptSpec, message: str) -> None:
    assert too_long(1000, 1000, "the cup", question_tokens, spec, 16) is None
    found = too_long(1000, 999, "the cup", question_tokens, spec, 16)
    assert found is not None and re.search("has 1000 tokens, more than the 999 .*" + message, found)


def test_a_template_that_leaves_no_room_is_named() -> None:
    policy = TransformersPolicy.from_pretrained()
    limit = policy.model.config.get_text_config().max_position_embeddings
    policy.spec = replace(policy.spec, template="multi", text="look at it " * limit + "{question}")
    with pytest.raises(InputError, match=r"prompt template given \d+, the question 'the cup'.*shorten the template"):
        policy.generate([Image.new("RGB", (112, 112))], ["the cup"])


def test_context_and_pictures_reach_the_model_and_count_as_tokens(tiny: Path) -> None:
    policy = TransformersPolicy.from_pretrained(tiny, max_new_tokens=4, batch_size=3)
    picture, image = Image.effect_noise((40, 20), 90).convert("RGB"), Image.effect_noise((60, 60), 90).convert("RGB")
    rich = Request(1, image, "the cup", "Earlier answers: none.", (picture, picture))
    requests = [Request(0, image, "the cup"), rich, Request(2, image, "the cup", "Earlier answers: none.")]
    seen: list[dict[str, Any]] = []
    generate = policy.model.generate

    def watched(**inputs: Any) -> Any:
        seen.append(inputs)
        return generate(**inputs)

    policy.model.generate = watched
    together = {reply.key: reply for reply in policy.stream(requests)}
    grid = [int(rows * columns) // 4 for _, rows, columns in seen[0]["image_grid_thw"]]
    spec = policy.spec
    assert grid == [spec.image_tokens, spec.image_tokens, spec.picture_tokens, spec.picture_tokens, spec.image_tokens]
    for request in requests:
        (alone,) = policy.stream([request])
        assert alone.texts == together[request.key].texts
    lengths = [inputs["input_ids"].shape[1] for inputs in seen[1:]]
    assert lengths[1] > lengths[2] > lengths[0]
    (refused,) = policy.stream([Request(0, image, "the cup", "word " * 4000)])
    assert refused.problem is not None and "more than the" in refused.problem


def test_vllm_refuses_pictures_that_it_was_not_loaded_for() -> None:
    policy = VllmPolicy(None, None, PromptSpec("brief", 112), 4)
    image = Image.new("RGB", (8, 8))
    (reply,) = policy.stream([Request(3, image, "the cup", "", (image,))])
    assert reply.key == 3 and reply.problem is not None and "one picture a question" in reply.problem
