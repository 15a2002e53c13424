"""SCRA and SCGA: the published values, the written-out formula, and the properties that follow from it."""

from __future__ import annotations

import pytest
import torch
from helpers.golden import golden_files, load_golden, tensors
from timm.layers import Attention
from timm.models.naflexvit import NaFlexVit, NaFlexVitCfg
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from seg_zero.open_vocabulary import aggregation, attention
from seg_zero.open_vocabulary.aggregation import aggregate
from seg_zero.open_vocabulary.attention import SelfCorrelatingAttention, use_self_correlation


def attention_of(name: str) -> tuple[Attention, dict]:
    data = load_golden("open_vocabulary", name)
    width = data["x"].shape[-1]
    layer = Attention(width, int(data["heads"]), qkv_bias="qkv_bias" in data)
    with torch.no_grad():
        for part in ("qkv_weight", "qkv_bias", "proj_weight", "proj_bias"):
            target = getattr(getattr(layer, part.split("_")[0]), part.split("_")[1])
            if part in data:
                target.copy_(torch.from_numpy(data[part]))
            elif target is not None:
                target.zero_()
    return layer.eval(), data


@pytest.mark.parametrize("name", golden_files("open_vocabulary", "scra_*"))
@pytest.mark.parametrize("at_once", [1, 300, 1 << 24])
def test_attention_meets_the_published_values(name: str, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "SCORES_AT_ONCE", at_once)
    layer, data = attention_of(name)
    x, wanted, ordinary = tensors(data, "x", "output", "ordinary_attention")
    with torch.no_grad():
        found = SelfCorrelatingAttention(layer, float(data["scaling"]))(x)
        assert torch.allclose(layer(x), ordinary, atol=1e-5, rtol=1e-4)
    assert torch.allclose(found, wanted, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(found, ordinary, atol=1e-2)


def test_attention_follows_a_permutation_of_its_tokens() -> None:
    torch.manual_seed(0)
    layer = SelfCorrelatingAttention(Attention(64, 4).eval())
    x, order = torch.randn(2, 11, 64), torch.randperm(11)
    assert torch.allclose(layer(x)[:, order], layer(x[:, order]), atol=1e-6)


def test_attention_with_a_large_scaling_keeps_each_token_to_itself() -> None:
    torch.manual_seed(1)
    plain = Attention(64, 4).eval()
    x = torch.randn(1, 9, 64)
    values = plain.qkv(x).reshape(1, 9, 3, 64)[:, :, 2]
    assert torch.allclose(SelfCorrelatingAttention(plain, 1e6)(x), plain.proj(values), atol=1e-5)


def test_only_the_last_block_changes_and_no_weight_does() -> None:
    model = NaFlexVit(NaFlexVitCfg(embed_dim=32, depth=3, num_heads=2, class_token=True, global_pool="token"))
    names, first, last = list(model.state_dict()), model.blocks[0].attn, model.blocks[-1].attn
    use_self_correlation(model, 5.0)
    new = model.blocks[-1].attn
    assert list(model.state_dict()) == names and model.blocks[0].attn is first
    assert isinstance(new, SelfCorrelatingAttention) and new.scaling == 5.0
    assert new.qkv is last.qkv and new.proj is last.proj
    use_self_correlation(model, 7.0)
    assert model.blocks[-1].attn.scaling == 7.0 and list(model.state_dict()) == names


def test_attention_refuses_a_mask() -> None:
    with pytest.raises(ValueError, match="takes no mask"):
        SelfCorrelatingAttention(Attention(8, 2))(torch.zeros(1, 3, 8), attn_mask=torch.ones(1))


def written_out(features: torch.Tensor, scaling: float) -> torch.Tensor:
    """The formula with its whole M x M matrix, one mean over the batch."""
    patches = features.flatten(2).transpose(1, 2)
    directions = nn.functional.normalize(patches, dim=-1)
    scores = directions @ directions.transpose(1, 2)
    scores = (scores - scores.mean()) * scaling
    weights = scores.masked_fill(scores < 0, float("-inf")).softmax(-1)
    return (weights @ patches).transpose(1, 2).reshape(features.shape)


def batch_mean(features: torch.Tensor) -> torch.Tensor:
    directions = nn.functional.normalize(features.flatten(2), dim=1)
    return directions.mean(dim=2).square().sum(dim=1).mean().expand(len(features))


@pytest.mark.parametrize("name", golden_files("open_vocabulary", "scga_[1-9]*"))
@pytest.mark.parametrize("at_once", [1, 100, 1 << 20])
def test_aggregation_meets_the_published_values(name: str, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregation, "SCORES_AT_ONCE", at_once)
    data = load_golden("open_vocabulary", name)
    feat, wanted = tensors(data, "feat", "output")
    found = aggregate(feat, float(data["scaling"]), means=batch_mean(feat))  # the published mean is over the batch
    assert torch.allclose(found, wanted, atol=1e-5, rtol=1e-4)
    assert torch.allclose(found, written_out(feat, float(data["scaling"])), atol=1e-5, rtol=1e-4)


def test_aggregation_treats_each_image_on_its_own() -> None:
    torch.manual_seed(2)
    pair = torch.cat([torch.randn(1, 16, 4, 5), torch.rand(1, 16, 4, 5)])
    assert torch.equal(aggregate(pair), torch.cat([aggregate(pair[:1]), aggregate(pair[1:])]))


@pytest.mark.parametrize("kind", ["ok", "nan"])
def test_aggregation_of_flat_maps_has_no_nan(kind: str) -> None:
    data = load_golden("open_vocabulary", "scga_degenerate")
    names = [name for name in data if name.startswith(f"{kind}_feat_")]
    assert names
    for name in names:
        feat = torch.from_numpy(data[name])
        wanted = data[name] if kind == "nan" else data[name.replace("feat", "output")]
        assert torch.allclose(aggregate(feat, float(data["scaling"])), torch.from_numpy(wanted), atol=1e-5)


def test_aggregation_of_constant_maps_gives_the_map() -> None:
    for seed in range(40):
        vector = torch.randn(1, 768, 1, 1, generator=torch.Generator().manual_seed(seed))
        flat = vector.expand(1, 768, 5, 6).contiguous()
        assert torch.allclose(aggregate(flat), flat, atol=1e-5)
    one = torch.randn(1, 8, 1, 1)
    assert torch.allclose(aggregate(one), one)


def test_aggregation_is_a_mean_of_patches_whatever_their_order() -> None:
    torch.manual_seed(3)
    features, order = torch.randn(1, 12, 1, 30), torch.randperm(30)
    found = aggregate(features)
    assert torch.allclose(found[..., order], aggregate(features[..., order]), atol=1e-6)
    low, high = features.amin(dim=(2, 3), keepdim=True), features.amax(dim=(2, 3), keepdim=True)
    assert (found >= low - 1e-6).all() and (found <= high + 1e-6).all()


class LargestTensor(TorchDispatchMode):
    """Remembers how many numbers the largest result of any operation holds."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.numbers = max(self.numbers, result.numel())
        return result


def test_aggregation_never_holds_the_whole_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregation, "SCORES_AT_ONCE", 20_000)
    with LargestTensor() as largest:
        aggregate(torch.randn(1, 8, 30, 30))  # the matrix has 810,000 entries
    assert largest.numbers <= 20_000


def test_attention_never_holds_the_whole_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "SCORES_AT_ONCE", 20_000)
    layer = SelfCorrelatingAttention(Attention(8, 2))
    with LargestTensor() as largest, torch.no_grad():
        layer(torch.randn(1, 400, 8))  # the matrix has 320,000 entries
    assert largest.numbers <= 20_000
