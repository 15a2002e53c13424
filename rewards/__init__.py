"""Rewards: plain functions of (text, ground truth, image size)."""

from rewards.presets import PRESETS, compute

__all__ = ["PRESETS", "compute"]
