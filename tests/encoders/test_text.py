"""Text towers and cached text vectors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F
from helpers.radio import TEXT_WIDTH, small_text_tower
from transformers import AutoTokenizer, Siglip2TextModel

from seg_zero.encoders.templates import TEMPLATES
from seg_zero.encoders.text import TextEncoder
from seg_zero.encoders.text_towers import ClipTower, SiglipTower, load_tower
from seg_zero.errors import InputError


class HashTower:
    """Random vectors by text, of any length; counts what it is asked for."""

    def __init__(self, name: str = "hash") -> None:
        self.name, self.asked = name, list[str]()

    def encode(self, texts: Sequence[str]) -> torch.Tensor:
        self.asked += texts
        seeds = [sum(map(ord, text)) + 31 * len(text) for text in texts]
        return torch.stack([torch.randn(8, generator=torch.Generator().manual_seed(seed)) for seed in seeds]) * 3


def test_a_name_is_the_mean_of_unit_vectors_over_the_templates() -> None:
    found = TextEncoder(HashTower(), "imagenet", store=False).encode(["cat", "dog"])
    each = HashTower().encode([text.format("cat") for text in TEMPLATES["imagenet"]])
    assert found.shape == (2, 8)
    assert torch.allclose(found[0], F.normalize(each, dim=-1).mean(0), atol=1e-6)
    assert float(found[0].norm()) < 0.9  # the mean itself is not scaled


def test_names_are_encoded_once_and_kept_between_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first, second, other = HashTower(), HashTower(), HashTower("other weights")
    encoder = TextEncoder(first, "single")
    vectors = encoder.encode(["sky", "cat", "sky"])
    assert first.asked == ["a photo of a sky.", "a photo of a cat."] and torch.equal(vectors[0], vectors[2])
    encoder.encode(["cat", "sky"])
    assert len(first.asked) == 2
    assert torch.equal(TextEncoder(second, "single").encode(["sky", "cat"]), vectors[:2]) and not second.asked
    TextEncoder(second, "none").encode(["sky", "cat"])  # other templates
    TextEncoder(second, "single").encode(["sky"])  # other names
    TextEncoder(other, "single").encode(["sky", "cat"])  # another tower
    assert second.asked == ["sky", "cat", "a photo of a sky."] and len(other.asked) == 2
    for file in (tmp_path / "seg_zero" / "text").iterdir():
        file.write_bytes(b"damaged")
    assert torch.equal(TextEncoder(HashTower(), "single").encode(["sky", "cat"]), vectors[:2])


def test_a_name_with_braces_stays_as_it_is() -> None:
    tower = HashTower()
    TextEncoder(tower, "single", store=False).encode(["{x}"])
    assert tower.asked == ["a photo of a {x}."]


def test_siglip_reads_canonical_padded_texts(tmp_path: Path) -> None:
    folder = small_text_tower(tmp_path / "tower")
    tower = load_tower("siglip2", str(folder), device="cpu")
    found = tower.encode(["A photo of a CAT.", "grass"])
    tokens = AutoTokenizer.from_pretrained(folder)(
        ["a photo of a cat", "grass"], padding="max_length", max_length=64, return_tensors="pt"
    )
    wanted = Siglip2TextModel.from_pretrained(folder)(input_ids=tokens["input_ids"]).pooler_output
    assert found.shape == (2, TEXT_WIDTH) and torch.allclose(found, wanted, atol=1e-5)
    assert not torch.allclose(found[0], found[1], atol=1e-2)
    assert str(folder) in tower.name


def test_clip_is_loaded_by_open_clip(tmp_path: Path) -> None:
    vision = {"image_size": 32, "layers": 1, "width": 16, "patch_size": 16, "head_width": 8}
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    config = tmp_path / "small-clip.json"
    config.write_text(json.dumps({"embed_dim": 12, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(config)
    torch.manual_seed(0)
    model = open_clip.create_model("small-clip")
    torch.save(model.state_dict(), tmp_path / "small.pt")
    tower = load_tower("open_clip", "small-clip", str(tmp_path / "small.pt"), device="cpu")
    tokens = open_clip.get_tokenizer("small-clip")(["a cat", "草地"])
    assert torch.allclose(tower.encode(["a cat", "草地"]), model.eval().encode_text(tokens), atol=1e-5)
    assert isinstance(tower, ClipTower) and "small.pt" in tower.name


def test_towers_that_cannot_be_had_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="an adaptor of type 'sam' has no text tower"):
        load_tower("sam", "vit-h")
    with pytest.raises(InputError, match="cannot be loaded"):
        SiglipTower(tmp_path)
    with pytest.raises(InputError, match=r"CLIP no-such-clip \(no weights\) cannot be loaded"):
        ClipTower("no-such-clip", "")
