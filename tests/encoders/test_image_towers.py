"""Image towers in the space of the texts, and the words that name such a space."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from helpers.radio import TEXT_WIDTH, small_folder, small_images
from PIL import Image

from seg_zero.encoders.image_towers import ClipImages, SiglipImages
from seg_zero.encoders.spaces import Space
from seg_zero.errors import InputError


def picture(seed: int, size: tuple[int, int] = (40, 30)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_siglip_pools_pictures_of_any_size(tmp_path: Path) -> None:
    tower = Space.parse(f"siglip2:{small_images(tmp_path / 'tower')}").image_tower("cpu")
    found = tower.encode([picture(0), picture(1, (17, 90))])
    assert found.shape == (2, 16) and found.dtype == torch.float32
    assert torch.allclose(tower.encode([picture(1, (17, 90))])[0], found[1], atol=1e-5)
    assert not torch.allclose(found[0], found[1], atol=1e-3)


def test_clip_sees_pictures_as_open_clip_does(tmp_path: Path) -> None:
    vision = {"image_size": 32, "layers": 1, "width": 16, "patch_size": 16, "head_width": 8}
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    config = tmp_path / "seeing-clip.json"
    config.write_text(json.dumps({"embed_dim": 12, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(config)
    torch.manual_seed(0)
    model, _, preprocess = open_clip.create_model_and_transforms("seeing-clip")
    torch.save(model.state_dict(), tmp_path / "small.pt")
    tower = Space.parse(f"clip:seeing-clip:{tmp_path / 'small.pt'}").image_tower("cpu")
    found = tower.encode([picture(0), picture(1)])
    with torch.inference_mode():
        wanted = model.eval().encode_image(torch.stack([preprocess(picture(0)), preprocess(picture(1))]))
    assert torch.allclose(found, wanted, atol=1e-5)


def test_a_radio_space_has_patches_and_the_texts_of_its_adaptor(tmp_path: Path) -> None:
    space = Space.parse(f"radio:{small_folder(tmp_path / 'small')}")
    assert space.second == "siglip2" and space.backbone("cpu").width == 32
    assert space.text_tower("cpu").encode(["sky"]).shape == (1, TEXT_WIDTH)
    with pytest.raises(InputError, match="has no adaptor 'none'"):
        Space("radio", space.model, "none").backbone("cpu")


@pytest.mark.parametrize("word", ["", "siglip2", "siglip2:", "siglip2:a:b", "clip:ViT-H-14", "dino:x", "radio:"])
def test_words_of_other_forms_are_refused(word: str) -> None:
    with pytest.raises(InputError, match="has no known form; give siglip2:"):
        Space.parse(word)


def test_towers_that_cannot_be_had_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"image tower .* cannot be loaded"):
        SiglipImages(tmp_path)
    with pytest.raises(InputError, match=r"CLIP no-such-clip \(no weights\) cannot be loaded"):
        ClipImages("no-such-clip", "")
