"""Rewards: plain functions of a response and its ground truth, listed and weighted in ``configs/reward``."""

from rewards.presets import compute, presets
from rewards.response import Response

__all__ = ["Response", "compute", "presets"]
