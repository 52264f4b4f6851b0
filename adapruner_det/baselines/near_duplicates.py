"""Near duplicates: of the two images that are most alike, one goes; again and again.

A control: what anybody would try first on a set with video frames or copies in it. SemDeDup (Abbas et al., "SemDeDup:
Data-efficient learning at web-scale through semantic deduplication", 2023) finds its pairs within the clusters of
k-means and prunes by a limit on the similarity, where here all pairs count and the ratio sets the limit.

N images, F features, k neighbours in a list.
"""

import heapq

import numpy as np
from tqdm import tqdm

from ..pruning.neighbors import nearest_of_all, unit_vectors
from ..pruning.statistics import Statistics

NEIGHBOURS = 32
LARGEST_DISTANCE = 2.0


def near_duplicates(statistics: Statistics, keep_ratio: float, seed: int) -> np.ndarray:
    """Keeps the images least like another image that stays.

    The score is the distance at which an image is removed as one of the closest pair that is left.

    Labels play no part. Of m copies of an image, m - 1 have the score 0.
    """
    return removal_distances(statistics.features, seed)


def removal_distances(features: np.ndarray, seed: int, neighbours: int = NEIGHBOURS) -> np.ndarray:
    """Removes an image of the closest pair until one is left; how close each pair was.

    Of the pair goes the one whose second neighbour is closer; between equals, the seed decides.

    Args:
        features: (N, F); only their directions count. Rows of zeros are alike, and at right angles to all others.
        neighbours: k, the length of the lists of nearest images, at least 2. It changes the time, not the result, but of
            more images than `neighbors.LARGE`, whose lists are nearly those of all with all.

    Returns:
        (N,) float64: cosine distances in [0, 2], never falling in the order of removal; 2 for the image that is left.
    """
    lists = _NeighbourLists(unit_vectors(features), neighbours)
    lot = np.random.default_rng(seed).permutation(len(features))
    removed_at = np.full(len(features), LARGEST_DISTANCE)
    reached = 0.0
    # What an image waits for is never too late: the distance to its nearest only grows as others go.
    queue = [(lists.distances[i, 0], lot[i], i) for i in range(len(features))]
    heapq.heapify(queue)
    with tqdm(total=len(features), desc="Near duplicates", unit="image", delay=5) as progress:
        while lists.count > 1:
            expected, _, image = queue[0]
            if not lists.present[image]:
                heapq.heappop(queue)
                continue
            distances, others = lists.nearest(image)
            if distances[0] > expected:
                heapq.heapreplace(queue, (distances[0], lot[image], image))
                continue
            partner = others[0]
            goes = min((_second(lists, a, b), lot[a], a) for a, b in ((image, partner), (partner, image)))[-1]
            reached = removed_at[goes] = max(reached, distances[0])
            lists.present[goes] = False
            lists.count -= 1
            progress.update()
    return removed_at


class _NeighbourLists:
    """The nearest of the images that are left, for each of them.

    A list holds the k nearest of when it was made. It is made anew when too many of them have been removed.

    Attributes:
        count: images that are left.
        present: (N + 1,) bool, which they are; False at N, which fills lists up where fewer than k are left.
        distances: (N, k) float64, rising along a list.
    """

    def __init__(self, units: np.ndarray, length: int) -> None:
        self.count = len(units)
        self.present = np.arange(self.count + 1) < self.count
        self.distances = np.full((self.count, length), np.inf)
        self._neighbours = np.full((self.count, length), self.count)
        self._units = units
        self._make_lists(np.arange(self.count))

    def nearest(self, image: int) -> tuple[np.ndarray, np.ndarray]:
        """Distances and numbers of the nearest images: at least two, or the only one there is."""
        left = self.present[self._neighbours[image]]
        if np.count_nonzero(left) < min(2, self.count - 1):
            self._renew()
            left = self.present[self._neighbours[image]]
        return self.distances[image, left], self._neighbours[image, left]

    def _renew(self) -> None:
        """Makes the lists anew that are used up, and with them, to be quicker, those that nearly are."""
        images = np.flatnonzero(self.present)
        left = np.count_nonzero(self.present[self._neighbours[images]], axis=1)
        self._make_lists(images[left < max(2, self._neighbours.shape[1] // 4)])

    def _make_lists(self, images: np.ndarray) -> None:
        candidates = np.flatnonzero(self.present)
        length = min(self._neighbours.shape[1], self.count - 1)
        if length < 1:
            return
        nearest, distances = nearest_of_all(self._units, length, images, candidates)
        self._neighbours[images, :length] = nearest
        self._neighbours[images, length:] = len(self._units)
        self.distances[images, :length] = distances


def _second(lists: _NeighbourLists, image: int, partner: int) -> float:
    """How far the nearest image but the partner is; infinitely far if there is none."""
    distances, others = lists.nearest(image)
    return distances[others != partner].min(initial=np.inf)
