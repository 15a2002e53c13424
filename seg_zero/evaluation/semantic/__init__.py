"""Evaluates label maps on the benchmarks of open vocabulary: their folders, presets, the run and its page."""
