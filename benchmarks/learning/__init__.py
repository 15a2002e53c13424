"""The learning study: what GRPO's settings do to the embedded policy. ``python -m benchmarks.learning``."""
