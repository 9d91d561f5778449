"""Few values that stand for many: a codebook of numbers and a palette of vectors."""

from __future__ import annotations

import numpy as np

from ...errors import check_stop
from .rows import ordered_map, ranges

_ENTRIES = 256
_BINS = 2048
_KMEANS_ROUNDS = 8
_TRAIN_PER_ENTRY = 24  # vectors looked at for each entry of the palette
_BLOCK_ROWS = 4096


def codebook(values: np.ndarray) -> np.ndarray:
    """[256] float32, rising: numbers such that each of ``values`` is near one.

    Up to 256 different values are all in it. Otherwise the values, or the filled bins of their histogram where
    there are many, are cut into 256 intervals such that the sum of squared distances to the intervals' means is the
    least there is. A bin counts with the square root of how many values it has, so that rare values are not given up
    for frequent ones.

    Args:
        values: any shape, finite, not empty.
    """
    values = values.ravel().astype(np.float64)
    points, counts = np.unique(values, return_counts=True)
    if len(points) > _BINS:
        counts, edges = np.histogram(values, _BINS)
        sums = np.histogram(values, edges, weights=values)[0]
        points, counts = sums[counts > 0] / counts[counts > 0], counts[counts > 0]
    if len(points) <= _ENTRIES:
        padding = np.full(_ENTRIES - len(points), points[-1])
        return np.concatenate([points, padding]).astype(np.float32)
    starts = _best_cuts(points, np.sqrt(counts), _ENTRIES)
    mean = np.add.reduceat(points * counts, starts) / np.add.reduceat(counts, starts)
    # Halfway to the middle of the interval: the largest error shrinks by a tenth, the rms grows by a hundredth.
    middle = (points[starts] + points[np.append(starts[1:], len(points)) - 1]) / 2
    return ((mean + middle) / 2).astype(np.float32)


def _best_cuts(points: np.ndarray, weights: np.ndarray, pieces: int) -> np.ndarray:
    """[pieces] where each piece of the rising ``points`` begins for the least weighted squared error.

    Dynamic programming. The best last cut of a longer row of points never lies before that of a shorter one. So the cut
    of the middle one
    halves the search for the others; all middles of a level are worked on at once.
    """
    n = len(points)
    centered = points - points.mean()
    sums = [np.concatenate([[0.0], np.cumsum(v)]) for v in (weights, weights * centered, weights * centered**2)]

    def cost(first: np.ndarray, last: np.ndarray) -> np.ndarray:
        w, s, q = (total[last] - total[first] for total in sums)
        return q - s * s / np.maximum(w, 1e-300)

    best = np.concatenate([[0.0], cost(np.zeros(n, np.int64), np.arange(1, n + 1))])
    best[0] = np.inf
    cuts = np.zeros((pieces, n + 1), np.int32)
    for piece in range(1, pieces):
        following = np.full(n + 1, np.inf)
        low, high = np.array([piece + 1]), np.array([n])  # lengths still to do, and where their cuts lie
        cut_low, cut_high = np.array([piece]), np.array([n - 1])
        while len(low):
            middle = (low + high) // 2
            first, last = cut_low, np.minimum(cut_high, middle - 1)
            size = last - first + 1
            begin = np.cumsum(size) - size
            tried = np.arange(size.sum()) - np.repeat(begin - first, size)
            total = best[tried] + cost(tried, np.repeat(middle, size))
            least = np.minimum.reduceat(total, begin)
            cut = np.minimum.reduceat(np.where(total <= np.repeat(least, size), tried, n), begin)
            following[middle], cuts[piece, middle] = least, cut
            left, right = low < middle, middle < high
            low, high = np.concatenate([low[left], middle[right] + 1]), np.concatenate([middle[left] - 1, high[right]])
            cut_low = np.concatenate([first[left], cut[right]])
            cut_high = np.concatenate([cut[left], cut_high[right]])
        best = following
    starts, end = np.zeros(pieces, np.int64), n
    for piece in range(pieces - 1, 0, -1):
        end = starts[piece] = cuts[piece, end]
    return starts


def nearest(book: np.ndarray, values: np.ndarray) -> np.ndarray:
    """uint8 index into a rising codebook of the number nearest to each value; the shape of ``values``."""
    middle = (book[1:] + book[:-1]) / 2
    return np.searchsorted(middle, values.ravel()).astype(np.uint8).reshape(values.shape)


def palette(vectors, count: int, entries: int, seed: int = 0, progress=None, should_stop=None):
    """Vectors that stand for many (k-means in two levels), and which one stands for each.

    k-means over all entries at once would compare every vector with every entry. Here the vectors fall into about
    sqrt(entries) groups first, each group gets entries by its size, and k-means runs within the groups.

    Args:
        vectors: ``vectors(rows)`` gives float32 [n, D] of a slice or an index array; called from any thread.
        count: how many there are, at least ``entries``.
        entries: size of the palette.
        seed: of the random starts; the same seed gives the same palette.
        progress: called as ``progress(done, total)``.
        should_stop: asked now and then.

    Returns:
        [entries, D] float32 and [count] uint32 labels.
    """
    random = np.random.default_rng(seed)
    groups = int(np.sqrt(entries))
    sample = np.sort(random.choice(count, min(count, 256 * groups), replace=False))
    coarse = _kmeans(vectors(sample), groups, random, should_stop)
    group = np.empty(count, np.uint16)

    def assign(piece: tuple[int, int]) -> None:
        group[slice(*piece)] = _nearest_vector(vectors(slice(*piece)), coarse)

    for _ in ordered_map(assign, ranges(count, 8 * _BLOCK_ROWS), should_stop):
        pass
    members = group.argsort(kind="stable").astype(np.uint32)
    sizes = np.bincount(group, minlength=groups)
    shares = _shares(sizes, entries)
    ends, firsts = np.cumsum(sizes), np.cumsum(shares)
    seeds = random.integers(0, 2**63, groups)
    labels, out = np.empty(count, np.uint32), np.empty((entries, coarse.shape[1]), np.float32)

    def refine(number: int) -> int:
        if not sizes[number]:
            return 0
        rows = members[ends[number] - sizes[number] : ends[number]]
        own = np.random.default_rng(seeds[number])
        most = _TRAIN_PER_ENTRY * int(shares[number])
        train = rows if len(rows) <= most else np.sort(own.choice(rows, most, replace=False))
        centers = _kmeans(vectors(train), int(shares[number]), own, should_stop)
        first = firsts[number] - shares[number]
        out[first : firsts[number]] = centers
        for start, stop in ranges(len(rows), 8 * _BLOCK_ROWS):
            labels[rows[start:stop]] = first + _nearest_vector(vectors(rows[start:stop]), centers)
        return len(rows)

    done = 0
    for size in ordered_map(refine, range(groups), should_stop):
        done += size
        if progress is not None:
            progress(done, count)
    return out, labels


def _shares(sizes: np.ndarray, entries: int) -> np.ndarray:
    """How many entries each group gets: by size, at least one and at most its size for a group that is not empty."""
    least = (sizes > 0).astype(np.int64)
    shares = np.clip((sizes * (entries / sizes.sum())).astype(np.int64), least, sizes)
    while (missing := entries - int(shares.sum())) > 0:
        room = np.flatnonzero(shares < sizes)
        wanted = room[np.argsort(shares[room] / sizes[room], kind="stable")[:missing]]
        shares[wanted] += 1
    while (excess := int(shares.sum()) - entries) > 0:
        rich = np.flatnonzero(shares > 1)
        shares[rich[np.argsort(-shares[rich], kind="stable")[:excess]]] -= 1
    return shares


def _kmeans(vectors: np.ndarray, entries: int, random: np.random.Generator, should_stop) -> np.ndarray:
    """[entries, D] centers of [n, D] vectors; n >= entries >= 1."""
    centers = vectors[np.sort(random.choice(len(vectors), entries, replace=False))].copy()
    if entries == len(vectors):
        return centers
    for _ in range(_KMEANS_ROUNDS):
        check_stop(should_stop)
        labels = _nearest_vector(vectors, centers)
        sizes = np.bincount(labels, minlength=entries)
        for column in range(vectors.shape[1]):
            sums = np.bincount(labels, weights=vectors[:, column], minlength=entries)
            centers[:, column] = np.where(sizes > 0, sums / np.maximum(sizes, 1), centers[:, column])
        empty = np.flatnonzero(sizes == 0)
        if len(empty):  # somewhere among the vectors of the largest ones
            centers[empty] = vectors[random.choice(len(vectors), len(empty), replace=False)]
    return centers


def _nearest_vector(vectors: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """[n] index of the center nearest to each vector: the largest of x.c - |c|^2 / 2."""
    half = np.einsum("ij,ij->i", centers, centers) / 2
    turned = np.ascontiguousarray(centers.T)
    labels = np.empty(len(vectors), np.int64)
    # Products of at most 2^18 multiplications: those OpenBLAS does on the calling thread. Its own threads and ours
    # would wait for one another most of the time.
    for start, stop in ranges(len(vectors), max(1, (1 << 18) // turned.size)):
        labels[start:stop] = (vectors[start:stop] @ turned - half).argmax(axis=1)
    return labels
