"""The choice between the engines."""

from __future__ import annotations

from typing import Any

import pytest

from seg_zero.errors import InputError
from seg_zero.policy.loading import ENGINES, load_policy
from seg_zero.policy.model_files import TINY_POLICY
from seg_zero.prompting import PromptSpec


@pytest.mark.parametrize("engine", ENGINES)
def test_the_engine_gets_the_model_its_prompt_settings_and_its_own_options(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def loader(kind: str) -> Any:
        def from_pretrained(name: str, **options: Any) -> str:
            asked.update(options, name=name)
            return kind

        return from_pretrained

    monkeypatch.setattr("seg_zero.policy.TransformersPolicy.from_pretrained", loader("transformers"))
    monkeypatch.setattr("seg_zero.policy.VllmPolicy.from_pretrained", loader("vllm"))
    found: Any = load_policy(None, engine, device="cpu", max_new_tokens=7, batch_size=3, tensor_parallel_size=2)
    assert found == engine
    own = {"tensor_parallel_size": 2} if engine == "vllm" else {"device": "cpu", "dtype": None, "batch_size": 3}
    assert asked == {"name": str(TINY_POLICY), "spec": PromptSpec("brief", 112), "max_new_tokens": 7, **own}


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(InputError, match="engine 'onnx' is not known; choose one of transformers, vllm"):
        load_policy(None, "onnx")
