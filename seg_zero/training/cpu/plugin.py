"""CPU platform plugin for verl, found through the entry-point group ``verl.plugins``.

verl imports this module in every process of a run. It acts only when ``VERL_PLATFORM=cpu`` is set,
which the launcher does for ``trainer.device=cpu``; on a GPU machine it is inert.
"""

from __future__ import annotations

import os
import sys


def register() -> None:
    """Register the CPU platform and apply the few shims that CPU training needs."""
    from seg_zero.training.cpu import platform, upstream_fixes

    platform.register()
    upstream_fixes.answer_for_vllm_metadata()
    upstream_fixes.keep_ragged_dimension()


if os.environ.get("VERL_PLATFORM", "").strip().lower() == "cpu":
    try:
        register()
    except Exception as error:
        # verl 0.9.1 logs a plugin's exception at DEBUG and goes on without the platform; SystemExit is
        # not an Exception, so it ends the process with the reason instead.
        print(f"RuntimeError: the CPU plugin for verl failed: {error!r}", file=sys.stderr, flush=True)
        raise SystemExit(f"the CPU plugin for verl failed: {error!r}") from error
