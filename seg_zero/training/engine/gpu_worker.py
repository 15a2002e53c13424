"""What a training worker on GPUs does before verl sets it up (``actor_rollout_ref.model.external_lib``).

verl imports this module in every process that reads the model configuration; only training workers have a rank.
"""

from __future__ import annotations

import os

if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
    import seg_zero.training.engine.engine  # noqa: F401  (registers the engine)
