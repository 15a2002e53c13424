"""Fast point feature histograms: what the surface around each point of a cloud looks like, whichever way it is turned.

R. B. Rusu, N. Blodow, M. Beetz, "Fast Point Feature Histograms (FPFH) for 3D registration", ICRA 2009. Two points with
normals make three angles; the angles of a point with its neighbours make three histograms (SPFH), and a point's FPFH is
its own SPFH and the mean of its neighbours', weighted by their inverse squared distance, as PCL and Open3D weight them.
"""

from __future__ import annotations

import numba
import numpy as np
from scipy.spatial import cKDTree

BINS = 11  # of each angle
WIDTH = 3 * BINS
FLAT = 1e-9  # variance across a line of points, as a fraction of that along it, that makes it a plane
TIE = 1e-9  # between two cosines: rounding must not choose the source of a pair


def neighbour_pairs(points: np.ndarray, radius: float) -> np.ndarray:
    """Every pair of points N x 3 within ``radius`` of each other, once: places M x 2."""
    pairs: np.ndarray = cKDTree(points).query_pairs(radius, output_type="ndarray")
    return pairs


def normals(points: np.ndarray, pairs: np.ndarray, viewpoints: np.ndarray) -> np.ndarray:
    """Unit normals N x 3 of the planes through each point's neighbours, on the side of its viewpoint N x 3.

    Neighbours are those of :func:`neighbour_pairs`. Where they lie on a line, the normal is zero.
    """
    points = np.ascontiguousarray(points, dtype=np.float64)
    spread, axes = np.linalg.eigh(_scatter(points, pairs))
    normal: np.ndarray = axes[:, :, 0]  # the direction in which they are spread least
    normal[np.einsum("nd,nd->n", normal, viewpoints - points) < 0] *= -1
    normal[spread[:, 1] <= FLAT * spread[:, 2]] = 0
    return normal


def fpfh(points: np.ndarray, normal: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Features N x 33 of points N x 3 with unit normals N x 3, or zero for those that have none.

    Neighbours are those of :func:`neighbour_pairs`; points without a normal are none. Each of the three histograms of
    11 bins adds up to 2, or to 0 without neighbours.
    """
    points = np.ascontiguousarray(points, dtype=np.float64)
    own = _unit_sums(_angle_histograms(points, np.ascontiguousarray(normal, dtype=np.float64), pairs))
    return own + _unit_sums(_weighted_sums(points, own, pairs))


def _unit_sums(histograms: np.ndarray) -> np.ndarray:
    """Each of the three histograms divided by its sum, if that is not 0."""
    parts = histograms.reshape(-1, 3, BINS)
    sums = parts.sum(2, keepdims=True)
    divided: np.ndarray = (parts / np.where(sums > 0, sums, 1)).reshape(-1, WIDTH)
    return divided


@numba.njit(cache=True)
def _scatter(points: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Scatter matrices N x 3 x 3 of each point's neighbours and itself, about their mean."""
    count = len(points)
    members = np.ones(count)
    first = np.zeros((count, 3))  # sums of the steps to the neighbours: small numbers, which lose no digits
    second = np.zeros((count, 3, 3))
    for p in range(len(pairs)):
        i, j = pairs[p, 0], pairs[p, 1]
        members[i] += 1
        members[j] += 1
        for a in range(3):
            step = points[j, a] - points[i, a]
            first[i, a] += step
            first[j, a] -= step
            for b in range(3):
                product = step * (points[j, b] - points[i, b])
                second[i, a, b] += product
                second[j, a, b] += product
    for i in range(count):
        for a in range(3):
            for b in range(3):
                second[i, a, b] -= first[i, a] * first[i, b] / members[i]
    return second


@numba.njit(cache=True, inline="always")
def _bin(value: float, low: float, high: float) -> int:
    return min(max(int(np.floor(BINS * (value - low) / (high - low))), 0), BINS - 1)


@numba.njit(cache=True)
def _angle_histograms(points: np.ndarray, normal: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """How often each bin of each angle occurs among the pairs of a point, N x 33.

    Of a pair the source s is the point whose normal is nearer to the line between them. With u the normal of s, d the
    unit step from s to the target t, v = d x u in length 1 and w = u x v, the angles are theta = atan2(w n_t, u n_t),
    alpha = v n_t and phi = u d.
    """
    out = np.zeros((len(points), WIDTH))
    for p in range(len(pairs)):
        s, t = pairs[p, 0], pairs[p, 1]
        dx, dy, dz = points[t, 0] - points[s, 0], points[t, 1] - points[s, 1], points[t, 2] - points[s, 2]
        length = np.sqrt(dx * dx + dy * dy + dz * dz)
        if length == 0 or not normal[s].any() or not normal[t].any():
            continue
        dx, dy, dz = dx / length, dy / length, dz / length
        phi = normal[s, 0] * dx + normal[s, 1] * dy + normal[s, 2] * dz
        back = -(normal[t, 0] * dx + normal[t, 1] * dy + normal[t, 2] * dz)
        if abs(phi) < abs(back) - TIE:
            s, t, phi, dx, dy, dz = t, s, back, -dx, -dy, -dz
        ux, uy, uz = normal[s, 0], normal[s, 1], normal[s, 2]
        nx, ny, nz = normal[t, 0], normal[t, 1], normal[t, 2]
        vx, vy, vz = dy * uz - dz * uy, dz * ux - dx * uz, dx * uy - dy * ux
        size = np.sqrt(vx * vx + vy * vy + vz * vz)
        theta, alpha = 0.0, 0.0
        if size > 0:  # else the step runs along the normal, and there is no frame
            vx, vy, vz = vx / size, vy / size, vz / size
            wx, wy, wz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
            theta = np.arctan2(wx * nx + wy * ny + wz * nz, ux * nx + uy * ny + uz * nz)
            alpha = vx * nx + vy * ny + vz * nz
        for place in (_bin(theta, -np.pi, np.pi), BINS + _bin(alpha, -1, 1), 2 * BINS + _bin(phi, -1, 1)):
            out[s, place] += 1
            out[t, place] += 1
    return out


@numba.njit(cache=True)
def _weighted_sums(points: np.ndarray, own: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """The sum of the neighbours' histograms, each divided by its squared distance."""
    out = np.zeros_like(own)
    for p in range(len(pairs)):
        i, j = pairs[p, 0], pairs[p, 1]
        square = 0.0
        for a in range(3):
            square += (points[i, a] - points[j, a]) ** 2
        if square > 0:
            for k in range(WIDTH):
                out[i, k] += own[j, k] / square
                out[j, k] += own[i, k] / square
    return out
