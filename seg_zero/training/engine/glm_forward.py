"""GLM-4.1V computes by transformers' own forward pass.

verl 0.9.1 puts one of its own in the place of ``Glm4vModel.forward``, which takes what the vision tower returns for a
tensor; in transformers 5 that is an object with several. What verl wants of its own, positions in four rows, that of
transformers takes too; only batches without any image, which do not occur here, it would treat otherwise.
Can go when ``verl.models.transformers.glm4v`` reads ``pooler_output``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def glm_forward_kept(family: str) -> Iterator[None]:
    """Within it verl may build a model of ``family`` (a ``model_type``); only for GLM-4.1V something is put right."""
    if family != "glm4v":
        yield
        return
    from transformers.models.glm4v.modeling_glm4v import Glm4vModel

    own = Glm4vModel.forward
    try:
        yield
    finally:
        Glm4vModel.forward = own  # type: ignore[method-assign]
