"""Sets of images whose influences nearly cancel: the discrete problems of Dataset Pruning.

Greedy growth and local search look at a pool of images at a time, whose inner products are computed at once.

N images, m of them removed, T images in a pool; an influence is a matrix of P x C numbers.
"""

from copy import copy
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

POOL = 1024  # images looked at together; their inner products take 8 MB
STEPS = POOL // 4  # removals before a new pool is drawn
ROUNDS = 60  # pools that the local search draws at most
LEAST_GAIN = 1e-3  # share of the squared norm that a pool's swaps have to take away
ROUNDING = 1e-9  # a swap that takes away less than this share is none
PATIENCE = 3  # it ends after so many pools in a row that did not


class Influences(NamedTuple):
    """What removing each image does to the parameters: image i changes them by outer(left[i], right[i])."""

    left: np.ndarray  # (N, P) float32
    right: np.ndarray  # (N, C) float32

    @classmethod
    def of_vectors(cls, vectors: np.ndarray) -> "Influences":
        """Influences given as vectors, (N, P)."""
        return cls(vectors, np.ones((len(vectors), 1), vectors.dtype))

    def __len__(self) -> int:
        return len(self.left)

    def squared_norms(self) -> np.ndarray:
        """(N,) float64."""
        left, right = (np.einsum("ij,ij->i", rows, rows, dtype=float) for rows in self)
        return left * right

    def inner(self, matrix: np.ndarray) -> np.ndarray:
        """The inner product of each with a matrix (P, C), (N,) float64."""
        return np.einsum("nc,nc->n", self.left @ matrix.astype(self.left.dtype), self.right).astype(float)

    def gram(self, index: np.ndarray) -> np.ndarray:
        """The inner products among those at `index` (T,), (T, T) float64."""
        left, right = self.left[index].astype(float), self.right[index].astype(float)
        return (left @ left.T) * (right @ right.T)

    def sum(self, index: np.ndarray) -> np.ndarray:
        """The sum of those at `index`, (P, C) float64."""
        total = np.zeros((self.left.shape[1], self.right.shape[1]))
        for part in np.array_split(index, len(index) // 4096 + 1):
            total += self.left[part].astype(float).T @ self.right[part].astype(float)
        return total


class Removal:
    """A set of images to be removed, which grows and is improved.

    Attributes:
        order: (N,) int64, a permutation: the first `size` images are removed, in this order.
        size: m.
        total: sum of their influences, (P, C) float64.
    """

    def __init__(self, influences: Influences, seed: int):
        self.influences = influences
        self.order = np.arange(len(influences))
        self.size = 0
        self.total = influences.sum(self.order[:0])
        self._squared_norms = influences.squared_norms()
        self._rng = np.random.default_rng(seed)

    @property
    def norm(self) -> float:
        """Length of the sum: how far the parameters move, to first order."""
        return float(np.linalg.norm(self.total))

    def copy(self) -> "Removal":
        """One that can be changed without changing this one; the random numbers are shared."""
        other = copy(self)
        other.order = self.order.copy()
        return other

    def grow(self, count: int) -> np.ndarray:
        """Removes `count` more images, each time the one of the pool that leaves the shortest sum.

        Returns:
            (count,) float64, the norm of the sum after each.
        """
        norms: list[float] = []
        with tqdm(total=count, desc="Removing images", delay=5) as progress:
            while len(norms) < count:
                images = self._next_of_pool(min(STEPS, count - len(norms)))
                rest = self.order[self.size :]
                self.order[self.size :] = np.concatenate([images, rest[~np.isin(rest, images)]])
                self.size += len(images)
                for image in images:
                    self.total = self.total + np.outer(self.influences.left[image], self.influences.right[image])
                    norms.append(self.norm)
                progress.update(len(images))
        return np.array(norms)

    def _next_of_pool(self, count: int) -> np.ndarray:
        left = self.order[self.size :]
        change = (self._squared_norms + 2 * self.influences.inner(self.total))[left]
        if len(left) > POOL:
            best = np.argpartition(change, POOL - 1)[:POOL]
            left, change = left[best], change[best]
        gram = self.influences.gram(left)
        chosen: list[int] = []
        for _ in range(min(count, len(left))):
            chosen.append(int(np.argmin(change)))
            change += 2 * gram[chosen[-1]]
            change[chosen[-1]] = np.inf
        return left[chosen]

    def shrink(self, size: int) -> None:
        """Removes only the first `size` of the order."""
        self.size = size
        self.total = self.influences.sum(self.order[:size])

    def improve(self, goal: float = 0) -> None:
        """Swaps removed images for kept ones while that makes the sum shorter.

        The best swap of a random pool is made until the pool has none; an image swapped in takes the place of the other
        in the order. Ends when PATIENCE pools were of no use, after ROUNDS pools, or when the norm is at most `goal`.
        """
        idle = 0
        for _ in tqdm(range(ROUNDS), desc="Swapping images", delay=5):
            before = self.norm
            if before <= goal or idle == PATIENCE:
                break
            self._swap_in_pool()
            idle = 0 if self.norm**2 < (1 - LEAST_GAIN) * before**2 else idle + 1

    def _swap_in_pool(self) -> None:
        inside = self._rng.permutation(self.size)[: POOL // 2]
        outside = self.size + self._rng.permutation(len(self.order) - self.size)[: POOL // 2]
        images = self.order[np.concatenate([inside, outside])]
        left, right = self.influences.left[images], self.influences.right[images]
        inner = np.einsum("tc,tc->t", left @ self.total, right)
        swaps = best_swaps(self.influences.gram(images), inner, self.norm**2, len(inside))
        if swaps:
            out, new = np.transpose(swaps)
            self.total = self.total + self.influences.sum(images[new]) - self.influences.sum(images[out])
            self.order[inside[out]] = images[new]
            self.order[outside[new - len(inside)]] = images[out]


def best_swaps(gram: np.ndarray, inner: np.ndarray, square: float, inside: int) -> list[tuple[int, int]]:
    """The best swap again and again, until none makes the sum shorter; no image is swapped twice.

    Args:
        gram: (T, T), inner products; the first `inside` are removed, the others are not.
        inner: (T,), inner products with the sum, whose squared norm is `square`.

    Returns:
        Pairs of places: the one that leaves the set, the one that takes its place.
    """
    norms = np.diag(gram)
    distances = norms[:inside, None] + norms[None, inside:] - 2 * gram[:inside, inside:]
    swaps = []
    while distances.size:
        change = distances + 2 * (inner[None, inside:] - inner[:inside, None])
        out, new = np.unravel_index(np.argmin(change), change.shape)
        if not change[out, new] < -ROUNDING * square:
            break
        square += change[out, new]
        distances[out], distances[:, new] = np.inf, np.inf
        inner = inner + gram[inside + new] - gram[out]
        swaps.append((int(out), inside + int(new)))
    return swaps


def smallest_sum(influences: Influences, count: int, seed: int) -> Removal:
    """The cardinality-guaranteed form: `count` images whose influences have a sum as short as possible."""
    removal = Removal(influences, seed)
    removal.grow(count)
    removal.improve()
    return removal


def largest_removable(influences: Influences, epsilon: float, seed: int = 0) -> Removal:
    """The generalization-guaranteed form: as many images as possible, their sum no longer than epsilon >= 0.

    At least one image is kept. Starts from the longest greedy removal within the bound and adds more, half as many
    whenever the local search cannot get back under the bound.
    """
    removal = Removal(influences, seed)
    within = np.flatnonzero(removal.grow(len(influences) - 1) <= epsilon)
    removal.shrink(within[-1] + 1 if len(within) else 0)
    step = len(influences) // 20 + 2
    while step:
        trial = removal.copy()
        trial.grow(min(step, len(influences) - 1 - trial.size))
        trial.improve(goal=epsilon)
        if trial.size > removal.size and trial.norm <= epsilon:
            removal = trial
        else:
            step //= 2
    return removal
