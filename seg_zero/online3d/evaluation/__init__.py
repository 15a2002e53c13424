"""Scans against the truth: our own, or as ScanNet and SceneNN annotate it."""
