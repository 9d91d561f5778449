"""Quaternions in 32 bits and less: the largest component is left out, the others are rounded.

A unit quaternion and its negative are one rotation, so the sign is chosen to make the left-out component positive:
it follows from the length. The others are at most sqrt(1/2) in size. Formats differ in the order of the components
and in how a number becomes bits; both are arguments here.
"""

from __future__ import annotations

import numpy as np

WXYZ = (0, 1, 2, 3)  # columns of our quaternions in the order a format counts them
XYZW = (1, 2, 3, 0)


def smallest_three(quats: np.ndarray, order: tuple[int, ...] = WXYZ) -> tuple[np.ndarray, np.ndarray]:
    """Split unit quaternions [n, 4] wxyz: which component is the largest, and the three others.

    Args:
        quats: float32, length 1.
        order: the columns in the order of the file.

    Returns:
        [n] int64 index into ``order``; [n, 3] float32 others in that order, signs such that the largest is positive.
    """
    ordered = quats if order == WXYZ else quats[:, order]
    largest = np.abs(ordered).argmax(axis=1)
    base = np.arange(0, 4 * len(ordered), 4)
    flat = ordered.ravel()
    sign = np.copysign(np.float32(1), flat[base + largest])
    # The i-th of the others is component i, or i + 1 from the largest on.
    index = base[:, None] + (np.arange(3) + (np.arange(3) >= largest[:, None]))
    return largest, flat[index] * sign[:, None]


def from_smallest_three(
    largest: np.ndarray, others: np.ndarray, out: np.ndarray, order: tuple[int, ...] = WXYZ
) -> None:
    """Fill ``out`` [n, 4] wxyz with the unit quaternions `smallest_three` came from.

    Others too long for a unit quaternion, which only damaged files hold, are scaled down to length 1.
    """
    squares = np.einsum("ij,ij->i", others, others)
    rest = np.sqrt(np.maximum(np.float32(0), 1 - squares))
    target = np.array(order)
    columns = target[np.arange(3) + (np.arange(3) >= largest[:, None])]
    base = np.arange(0, 4 * len(out), 4)
    flat = out.reshape(-1)
    flat[base[:, None] + columns] = others
    flat[base + target[largest]] = rest
    if len(squares) and squares.max() > 1:
        long = squares > 1
        out[long] /= np.sqrt(squares[long])[:, None]
