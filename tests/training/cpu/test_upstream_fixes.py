"""The CPU plugin: inert elsewhere, loud when broken, and each shim where upstream needs it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def _python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    base = {key: value for key, value in os.environ.items() if key != "VERL_PLATFORM"}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, timeout=110, check=False, env={**base, **environment},
    )  # fmt: skip


def test_inert_without_its_environment_variable() -> None:
    code = "import sys, seg_zero.training.cpu.plugin; print(sorted({'torch', 'verl'} & set(sys.modules)))"
    assert _python(code).stdout.strip() == "[]"


def test_a_broken_plugin_is_a_visible_error() -> None:
    """verl swallows exceptions of plugins; SystemExit goes through."""
    code = """
import sys
sys.modules["seg_zero.training.cpu.platform"] = None
try:
    import seg_zero.training.cpu.plugin
except Exception:
    print("swallowed")
"""
    result = _python(code, VERL_PLATFORM="cpu")
    assert result.returncode != 0
    assert "the CPU plugin for verl failed" in result.stderr and "swallowed" not in result.stdout


CHECKS = """
import importlib.metadata, torch, verl
from verl.plugin.platform import get_platform
from verl.utils import tensordict_utils
from verl.utils.device import get_torch_device

platform = get_platform()
assert platform.device_name == "cpu" and not platform.is_ipc_supported()
assert torch.zeros(1).to(platform.current_device()).device.type == "cpu"
state = get_torch_device().get_rng_state()
first = torch.rand(3)
get_torch_device().set_rng_state(state)
assert torch.equal(first, torch.rand(3))
assert get_torch_device().mem_get_info()[1] > 1e9

assert importlib.metadata.version("vllm").split("+")[0] == "0.24.0"

# Position ids of two samples: (channels=4, tokens). Equal lengths make torch choose the wrong ragged dimension.
for lengths in ((5, 5), (5, 3)):
    samples = [torch.arange(4 * n).view(4, n) for n in lengths]
    data = {"position_ids": torch.nested.as_nested_tensor(samples, layout=torch.jagged)}
    tensordict_utils.maybe_fix_3d_position_ids(data)
    tensordict_utils.maybe_fix_3d_position_ids(data)
    fixed = data["position_ids"]
    assert fixed._ragged_idx == 2 and fixed.offsets().tolist() == [0, lengths[0], sum(lengths)]
    assert all(torch.equal(a, b) for a, b in zip(fixed.unbind(), samples)), lengths

from seg_zero.training.cpu.engine import log_probs_of_labels
from verl.workers.engine.fsdp import transformer_impl

assert transformer_impl.logprobs_from_logits is log_probs_of_labels
logits, labels = 9 * torch.randn(2500, 7), torch.randint(7, (2500,))
expected = torch.log_softmax(logits, -1)[torch.arange(2500), labels]
assert torch.allclose(transformer_impl.logprobs_from_logits(logits, labels), expected, atol=1e-5)
print("all checked")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="vLLM's CPU build is for Linux")
def test_platform_and_shims() -> None:
    """In a process that imports verl as training does: the platform is chosen and the shims work."""
    result = _python(CHECKS, VERL_PLATFORM="cpu")
    assert "all checked" in result.stdout, result.stderr[-2000:]
