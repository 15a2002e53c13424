"""Vectors that describe the shape of masks."""
