"""What verl 0.9.1 gets wrong about GLM-4.1V under transformers 5, put right.

* verl puts a forward pass of its own in the place of ``Glm4vModel.forward``, which takes what the vision tower returns
  for a tensor; it is an object with several. All that verl wants of its own, positions in four rows, transformers'
  takes too; only batches without any image, which do not occur here, it would treat otherwise.
  Can go when ``verl.models.transformers.glm4v`` reads ``pooler_output``.
* verl's count of floating-point operations looks for the language model's dimensions at the top of the configuration.
  Can go when ``verl.utils.flops_counter`` looks in ``text_config``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def glm_put_right(family: str) -> Iterator[None]:
    """Within it verl may build a model of ``family`` (a ``model_type``); it changes something for GLM-4.1V alone."""
    if family != "glm4v":
        yield
        return
    from transformers.models.glm4v.modeling_glm4v import Glm4vModel
    from verl.utils.flops_counter import ESTIMATE_FUNC

    ESTIMATE_FUNC[family] = _operations_per_second
    own = Glm4vModel.forward
    try:
        yield
    finally:
        Glm4vModel.forward = own  # type: ignore[method-assign]


def _operations_per_second(config: Any, tokens: int, lengths: list[int], seconds: float) -> float:
    """In units of 10**12, of the language model alone, as verl counts those of Qwen2; the arguments are verl's."""
    from verl.utils.flops_counter import ESTIMATE_FUNC

    estimate: float = ESTIMATE_FUNC["qwen2"](config.get_text_config(), tokens, lengths, seconds)
    return estimate
