"""Registers points to points by iterative closest points, as the original does before it judges a scan."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

MAX_DISTANCE = 0.05  # metres between points that are taken for one
MOST_STEPS = 30
ENOUGH = 1e-6  # change of the fraction of matched points, and of their root mean square distance in metres
LEAST_MATCHES = 3


def register(moving: np.ndarray, fixed: np.ndarray, max_distance: float = MAX_DISTANCE) -> np.ndarray:
    """The rigid motion 4 x 4 that brings points N x 3 onto points M x 3, from a start that is nearly right.

    Point to point: each step matches every moved point with the nearest fixed one within ``max_distance`` metres, and
    takes the least-squares motion of these pairs (Kabsch 1976; Besl and McKay 1992). The identity if fewer than three
    points are that near.
    """
    motion = np.eye(4)
    if not len(moving) or not len(fixed):
        return motion
    target = fixed.astype(np.float64)
    tree = cKDTree(target)
    points = moving.astype(np.float64)
    before = np.full(2, np.inf)
    for _ in range(MOST_STEPS):
        moved = moved_by(motion, points)
        distances, nearest = tree.query(moved, distance_upper_bound=max_distance)
        near = np.isfinite(distances)
        if near.sum() < LEAST_MATCHES:
            return motion
        now = np.array([near.mean(), np.sqrt((distances[near] ** 2).mean())])
        if (np.abs(now - before) < ENOUGH).all():
            return motion
        before = now
        motion = _rigid(moved[near], target[nearest[near]]) @ motion
    return motion


def moved_by(motion: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points N x 3 after a motion 4 x 4."""
    moved: np.ndarray = points @ motion[:3, :3].T + motion[:3, 3]
    return moved


def _rigid(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rotation and shift 4 x 4 with the least squared distances between pairs of points."""
    centre, aim = source.mean(0), target.mean(0)
    left, _, right = np.linalg.svd((source - centre).T @ (target - aim))
    mirrored = np.sign(np.linalg.det(right.T @ left.T))
    rotation = right.T @ np.diag([1, 1, mirrored]) @ left.T
    motion = np.eye(4)
    motion[:3, :3], motion[:3, 3] = rotation, aim - rotation @ centre
    return motion
