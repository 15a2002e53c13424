"""Sentences that a class name is put into, and the canonical form of a text."""

from __future__ import annotations

import string

from seg_zero.errors import InputError

# CLIP's 80 for ImageNet, in their order (openai/CLIP, notebooks/Prompt_Engineering_for_ImageNet.ipynb).
_IMAGENET = (
    "a bad photo of a {}.",
    "a photo of many {}.",
    "a sculpture of a {}.",
    "a photo of the hard to see {}.",
    "a low resolution photo of the {}.",
    "a rendering of a {}.",
    "graffiti of a {}.",
    "a bad photo of the {}.",
    "a cropped photo of the {}.",
    "a tattoo of a {}.",
    "the embroidered {}.",
    "a photo of a hard to see {}.",
    "a bright photo of a {}.",
    "a photo of a clean {}.",
    "a photo of a dirty {}.",
    "a dark photo of the {}.",
    "a drawing of a {}.",
    "a photo of my {}.",
    "the plastic {}.",
    "a photo of the cool {}.",
    "a close-up photo of a {}.",
    "a black and white photo of the {}.",
    "a painting of the {}.",
    "a painting of a {}.",
    "a pixelated photo of the {}.",
    "a sculpture of the {}.",
    "a bright photo of the {}.",
    "a cropped photo of a {}.",
    "a plastic {}.",
    "a photo of the dirty {}.",
    "a jpeg corrupted photo of a {}.",
    "a blurry photo of the {}.",
    "a photo of the {}.",
    "a good photo of the {}.",
    "a rendering of the {}.",
    "a {} in a video game.",
    "a photo of one {}.",
    "a doodle of a {}.",
    "a close-up photo of the {}.",
    "a photo of a {}.",
    "the origami {}.",
    "the {} in a video game.",
    "a sketch of a {}.",
    "a doodle of the {}.",
    "a origami {}.",
    "a low resolution photo of a {}.",
    "the toy {}.",
    "a rendition of the {}.",
    "a photo of the clean {}.",
    "a photo of a large {}.",
    "a rendition of a {}.",
    "a photo of a nice {}.",
    "a photo of a weird {}.",
    "a blurry photo of a {}.",
    "a cartoon {}.",
    "art of a {}.",
    "a sketch of the {}.",
    "a embroidered {}.",
    "a pixelated photo of a {}.",
    "itap of the {}.",
    "a jpeg corrupted photo of the {}.",
    "a good photo of a {}.",
    "a plushie {}.",
    "a photo of the nice {}.",
    "a photo of the small {}.",
    "a photo of the weird {}.",
    "the cartoon {}.",
    "art of the {}.",
    "a drawing of the {}.",
    "a photo of the large {}.",
    "a black and white photo of a {}.",
    "the plushie {}.",
    "a dark photo of a {}.",
    "itap of a {}.",
    "graffiti of the {}.",
    "a toy {}.",
    "itap of my {}.",
    "a photo of a cool {}.",
    "a photo of a small {}.",
    "a tattoo of the {}.",
)
# CLIP's 18 for RESISC45 (openai/CLIP, data/prompts.md).
_AERIAL = tuple(
    f"{view} {kind} of {article}{{}}."
    for article in ("", "a ", "the ")
    for kind in ("imagery", "photo", "view")
    for view in ("satellite", "aerial")
)
TEMPLATES: dict[str, tuple[str, ...]] = {
    "imagenet": _IMAGENET,
    "single": ("a photo of a {}.",),
    "scene": ("A photo of a {} in the scene",),
    "aerial": _AERIAL,
    "none": ("{}",),
}
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def templates_named(name: str) -> tuple[str, ...]:
    """A set of :data:`TEMPLATES`. Raises InputError for another name."""
    if name not in TEMPLATES:
        raise InputError(f"templates {name!r} are unknown; choose one of {', '.join(TEMPLATES)}")
    return TEMPLATES[name]


def canonical(text: str) -> str:
    """A text as SigLIP's towers were trained on: no ASCII punctuation, lower case, single blanks.

    ``_`` becomes a blank; all other ASCII punctuation is deleted: "building-other" is "buildingother".
    """
    return " ".join(text.replace("_", " ").translate(_NO_PUNCTUATION).lower().split())
