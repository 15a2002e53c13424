"""Processors of policies (tokenizer, image processor, chat template), checked where they are loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seg_zero.errors import InputError, one_line
from seg_zero.hub import check_here
from seg_zero.prompting import SPEC_FILE, PromptSpec, build_messages

_QUESTION = "zq1"  # what chat templates are tried with


def load_processor(model: str | Path) -> Any:
    """The processor of a folder or hub id.

    Raises InputError if it cannot be loaded, or has no chat template that takes an image and a question.
    """
    name = str(model)
    check_here("policy", name)
    from transformers import AutoProcessor

    try:
        processor: Any = AutoProcessor.from_pretrained(name)
    except Exception as error:  # damaged files make it raise anything, AttributeError and RecursionError included
        raise InputError(
            f"policy {name}: its processor cannot be loaded ({one_line(error)}); copy tokenizer and processor files "
            "from the base model"
        ) from error
    for part in ("tokenizer", "image_processor"):
        if getattr(processor, part, None) is None:
            raise InputError(f"policy {name}: its processor has no {part}; copy its files from the base model")
    _check_chat(processor, name)
    return processor


def _check_chat(processor: Any, model: str) -> None:
    remedy = "copy chat_template.jinja from the base model"
    if not processor.chat_template:
        raise InputError(f"policy {model} has no chat template; {remedy}")
    try:
        text = processor.apply_chat_template(
            build_messages(_QUESTION, PromptSpec()), tokenize=False, add_generation_prompt=True
        )
    except Exception as error:  # a template is a program and fails in any way
        raise InputError(f"policy {model}: its chat template cannot be used ({one_line(error)}); {remedy}") from error
    token = getattr(processor, "image_token", None)
    if _QUESTION not in text or (token and token not in text):
        what = "question" if _QUESTION not in text else "image"
        raise InputError(f"policy {model}: its chat template leaves out the {what}; {remedy}")


def check_processor(processor: Any, spec: PromptSpec, model: str) -> None:
    """The prompt settings fit the processor. Raises InputError if its image tokens are of another size."""
    pixels = processor.image_processor.patch_size * processor.image_processor.merge_size
    if pixels != spec.token_pixels:
        raise InputError(
            f"the processor of {model} makes one token of {pixels} x {pixels} pixels, but its prompt settings say "
            f"{spec.token_pixels}; correct token_pixels, image_size and coordinates in {SPEC_FILE}, or policy.family"
        )


def image_tokens(processor: Any, side: int) -> int:
    """How many tokens the processor makes of an image of ``side`` x ``side`` pixels."""
    images = processor.image_processor
    return int(images.get_number_of_image_patches(side, side, {}) // images.merge_size**2)


def pass_images_on(processor: Any, spec: PromptSpec, model: str) -> dict[str, int]:
    """Let the processor take images of the size that the prompt settings say as they are, whatever limits it came with.

    Changes its limits in place, as training gives limits of its own, and returns those that changed, by the name that
    vLLM knows them by. Raises InputError if the settings do not fit the processor.
    """
    check_processor(processor, spec, model)
    images = processor.image_processor
    # Some families count two frames of each image.
    area = spec.image_size**2 * max(1, int(getattr(images, "temporal_patch_size", 1)))
    low, high = int(images.size["shortest_edge"]), int(images.size["longest_edge"])
    if image_tokens(processor, spec.image_size) == spec.image_tokens:
        return {}
    changed = {"min_pixels": min(low, spec.image_size**2), "max_pixels": max(high, area)}
    images.size = type(images.size)(shortest_edge=changed["min_pixels"], longest_edge=changed["max_pixels"])
    if image_tokens(processor, spec.image_size) != spec.image_tokens:
        raise InputError(
            f"the processor of {model} resizes images of {spec.image_size} x {spec.image_size} pixels, which its "
            f"prompt settings ask for; correct its size (shortest_edge, longest_edge) or image_size in {SPEC_FILE}"
        )
    return changed
