"""Rewards: plain functions of a response and its ground truth, listed and weighted in ``configs/reward``.

The package is ``seg_zero.rewards``; in a checkout, where this folder stands at the top, ``import rewards`` means the
same modules.
"""

if __name__ == "rewards":
    import pkgutil
    import sys
    from importlib import import_module

    for _module in pkgutil.iter_modules(__path__):
        sys.modules[f"rewards.{_module.name}"] = import_module(f"seg_zero.rewards.{_module.name}")
    sys.modules["rewards"] = import_module("seg_zero.rewards")
else:
    from seg_zero.rewards.needs import needs
    from seg_zero.rewards.presets import compute, presets
    from seg_zero.rewards.response import Response

    __all__ = ["Response", "compute", "needs", "presets"]
