"""Vectors of objects against those of texts: names for all objects, and how well one text fits each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from seg_zero.online3d.vectors import unit_rows

TEMPERATURE = 100.0
# What is true of anything, against which a question is weighed (Kerr et al. 2023, "LERF", section 4.3).
CANONICAL = ("object", "things", "stuff", "texture")


def cosines(features: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """N x K of features N x D and texts K x D; 0 for objects without a vector."""
    product: np.ndarray = unit_rows(features) @ unit_rows(texts).T
    return product


def described(features: np.ndarray) -> np.ndarray:
    """Which of the objects have a vector, bool N."""
    have: np.ndarray = np.any(features != 0, axis=1)
    return have


def name_objects(features: np.ndarray, texts: np.ndarray, classes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The class of each object, -1 without a vector, and its probability: softmax(100 cos).

    texts: K x D; classes: of each text, from 0 up; the cosine of a class is the highest of its texts.
    """
    found = cosines(features, texts)
    merged = np.full((len(features), max(classes) + 1), -np.inf)
    for column, kind in enumerate(classes):
        merged[:, kind] = np.maximum(merged[:, kind], found[:, column])
    weights = np.exp(TEMPERATURE * (merged - merged.max(axis=1, keepdims=True)))
    chosen = merged.argmax(axis=1)
    probability = weights[np.arange(len(chosen)), chosen] / weights.sum(axis=1)
    have = described(features)
    return np.where(have, chosen, -1), np.where(have, probability, 0.0)


def relevance(features: np.ndarray, question: np.ndarray, canonical: np.ndarray) -> np.ndarray:
    """How much better a question (D) fits each object than the best of the canonical texts (C x D), 0 to 1.

    LERF's relevancy: 0.5 where both fit equally, 0 without a vector.
    """
    mine = cosines(features, question[None])
    others = cosines(features, canonical).max(axis=1)
    score = 1 / (1 + np.exp(TEMPERATURE * (others - mine[:, 0])))
    return np.where(described(features), score, 0.0)
