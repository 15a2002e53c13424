"""Hydra configuration of training: ``grpo.yaml`` and its groups."""
