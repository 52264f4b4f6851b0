"""What speaks against keeping each image and each two of them: E, a sum of named terms.

N images, K classes, F features, k neighbours in a list; s (N,) the mask between 0 and 1, c the ratio to keep.

    E(s) = sum_i s_i u_i + 1/2 sum_i s_i R_i      with q_a of the s_i of each class a at 1, the others at 0; sum_a q_a = c N
    R_i = (sum_j (s_j k_ij)^p)^(1/p),  p = NORM

- u_i is what speaks against image i by itself: the terms `difficulty`, `label_errors` and `random`.
- k_ij >= 0 is what speaks against keeping both i and j: the term `redundancy`. R_i is what i is charged for those like
  it that stay; p makes the nearest of them count most.
- q_a is the quota of class a, the rarest of an image: as many as a draw takes in which rare classes weigh more and copies
  come last (`class_balance`). What is known of labels decides within a class: it cannot empty one that is the rarest of some image.

Without quotas, k = 0 and `difficulty` alone this is Eq. 4 and 5 of Yang et al. 2023 under Eq. 6 as a constraint; quotas
are Eq. 6 for each class. How the mask comes to its minimum is in `annealing`.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from .adapruner import number_to_keep
from .class_balance import class_quotas, class_weights, image_key, rarest_class, weighted_draw
from .label_errors import label_error_term, overlooked
from .loss_scale import expected_values
from .neighbors import nearest_of_all, unit_vectors
from .objective import SELECTION_EPS
from .statistics import Statistics

NORM = 2.0  # p
NORMS = 1.0, NORM, 8.0  # those that `annealing` goes by on its way
NEIGHBOURS = 32  # k
_CROWD_PAIRS = 2**20  # of images with more copies than k, which are compared with each other
_MOST = 1e9  # that a term weighs: beyond it rounding would decide
_BETWEEN_EQUALS = 1e-6  # what the draw counts where `random` is off
_SMALLEST = 1e-4  # redundancy below it is none
_NARROWEST = 1e-6  # w, a cosine distance: what lies closer differs by rounding alone
_COPIES = 0.2  # w at least: where most images have copies it would be theirs; unrelated images lie at 1
_COMPONENTS, _SAMPLES_A_COMPONENT = 128, 8  # at most, of what features vary in; at least, to know it
_FEW = 16  # directions: in fewer some unrelated images lie as near as copies
_LOOKED_AT = 2**16  # images whose features are held in float64 at a time
_ROUNDING = 1e-4  # of the largest singular value: features come from bfloat16


@dataclass(frozen=True)
class TermWeights:
    """How much each term counts; 0 switches it off.

    Attributes:
        difficulty: of Eq. 4 and 5, x - w log x less its minimum, x being the loss over the loss that is expected.
        label_errors: of labels that look wrong; 1 for an image whose labels are as good as certainly so.
        redundancy: what an image is charged that is just like one that stays.
        random: of a number between 0 and 1 that the seed draws for each image: as in random selection it decides
            between images that nothing else tells apart.
        class_balance: how far quotas favour rare classes: the power of `class_weights`. 0: there are no quotas, and classes
            stand in one line.
        selection_weight: w of `difficulty`; the paper's is 1. The lower, the easier the images that stay.
    """

    difficulty: float = 0.0
    label_errors: float = 1.0
    redundancy: float = 0.7
    random: float = 0.2
    class_balance: float = 1.0
    selection_weight: float = 1.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value <= _MOST:
                raise ValueError(f"{name} is a weight of at least 0 (off) and at most {_MOST:.0e}; got {value}")
        if self.class_balance > 10:
            raise ValueError(f"class_balance is a power from 0 (off) to 10; got {self.class_balance}")
        if not self.selection_weight:
            raise ValueError("selection_weight is a number above 0")


@dataclass(frozen=True)
class Energy:
    """E of N images.

    Attributes:
        own: the terms of u, (N,) each, by name.
        redundancy: k, (N, N), symmetric, not negative, nothing on the diagonal.
        similarity: cosine of the two images' features wherever `redundancy` has an entry, in the same places.
        classes, quotas: (N,) the class of each image, and how many of each stay. `redundancy` is between images of one.
        copy: the redundancy of two images above which one is as good as a copy of the other.
    """

    own: dict[str, np.ndarray]
    redundancy: sparse.csr_matrix
    similarity: sparse.csr_matrix
    classes: np.ndarray
    quotas: np.ndarray
    copy: float = 0.0

    @property
    def unary(self) -> np.ndarray:
        """u, (N,)."""
        return np.sum(list(self.own.values()), axis=0)

    def of(self, images: np.ndarray) -> "Energy":
        """That of some of the images, which are to stay in as large a number as all have as quota."""
        one = np.zeros(len(images), int)
        own = {name: values[images] for name, values in self.own.items()}
        near, similar = (matrix[images][:, images].tocsr() for matrix in (self.redundancy, self.similarity))
        return Energy(own, near, similar, one, self.quotas[np.unique(self.classes[images])])

    @cached_property
    def powers(self) -> dict[float, sparse.csr_matrix]:
        """k^p, (N, N), by p, without the zeros that `redundancy` has."""
        near = self.redundancy.copy()
        near.eliminate_zeros()
        return {norm: near.power(norm) for norm in NORMS}

    def response(self, s: np.ndarray, norm: float = NORM) -> np.ndarray:
        """R (N,), what each image is charged for those like it that stay."""
        return (self.powers[norm] @ s**norm) ** (1 / norm)

    def gradient(self, s: np.ndarray) -> np.ndarray:
        """dE/ds, (N,): beside u and half of R what i adds to half of the R of others."""
        r = self.response(s)
        share = np.divide(s, r ** (NORM - 1), out=np.zeros(len(r)), where=r > 0)
        return self.unary + (r + s ** (NORM - 1) * (self.powers[NORM] @ share)) / 2

    def value(self, kept: np.ndarray) -> float:
        """E of a selection, (N,) bool or 0 to 1."""
        s = kept.astype(np.float64)
        return float(s @ (self.unary + self.response(s) / 2))


def energy_of(statistics: Statistics, weights: TermWeights, keep_ratio: float, seed: int) -> Energy:
    """The energy of the images of a data set. How near alike ones are depends on the ratio, see `redundancy`."""
    keys = list(map(image_key, statistics.datasets, statistics.ids))
    classes = rarest_class(statistics.counts)
    plain = weighted_draw(keys, seed, np.ones(len(keys)))
    balanced = weighted_draw(keys, seed, class_weights(statistics.counts, weights.class_balance))
    if weights.redundancy or weights.label_errors:
        features = whitened(statistics.features)
        places, distances = nearest_of_class(classes, features)
    own = {name: np.zeros(len(keys)) for name in ("difficulty", "label_errors")}
    if weights.difficulty:
        own["difficulty"] = weights.difficulty * difficulty(statistics, weights.selection_weight)
    if weights.label_errors:
        surprises = overlooked(statistics.labels, statistics.found, len(keys))
        found = label_error_term(statistics.loss, surprises, statistics.counts, places)
        own["label_errors"] = weights.label_errors * found
    own["random"] = max(weights.random, _BETWEEN_EQUALS) * (1 - plain)
    keep = number_to_keep(len(keys), keep_ratio)
    near = similarity = sparse.csr_matrix((len(keys), len(keys)))
    if weights.redundancy:
        similarity, widths = alike(features, places, distances, classes, best(balanced, keep))
        near = redundancy(similarity, widths, weights.redundancy)
    if not weights.class_balance:
        return Energy(own, near, similarity, np.zeros(len(keys), int), np.array([keep]), weights.redundancy / 2)
    copy = weights.redundancy / 2
    originals = balanced - copies(near, balanced, copy)
    return Energy(own, near, similarity, classes, class_quotas(classes, best(originals, keep)), copy)


def best(values: np.ndarray, number: int) -> np.ndarray:
    """Which are the `number` highest of N different values, (N,) bool."""
    return values >= np.partition(values, -number)[-number]


def copies(near: sparse.csr_matrix, draw: np.ndarray, least: float) -> np.ndarray:
    """Which images are above `least` in `near` (N, N) to one with a higher draw (N,) that is no copy itself, (N,) bool."""
    strong = near.multiply(near > least).tocsr()
    found = np.zeros(len(draw), bool)
    for image in np.argsort(-draw):
        others = strong.indices[strong.indptr[image] : strong.indptr[image + 1]]
        found[image] = (~found[others] & (draw[others] > draw[image])).any()
    return found


def difficulty(statistics: Statistics, selection_weight: float) -> np.ndarray:
    """Eq. 4 and 5 of each image, x - w log x, less their minimum at x = w, (N,); x is the loss over the expected one."""
    if not statistics.loss.any():
        return np.zeros(len(statistics))
    x = statistics.loss / expected_values(statistics.loss, statistics.counts) + SELECTION_EPS
    w = selection_weight
    return x - w * np.log(x) - (w - w * np.log(w))


def nearest_of_class(classes: np.ndarray, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The images most like each image, of its own class; of features (N, F) only the directions count.

    Returns:
        (N, k) places, nearest first, and cosine distances; -1 and infinite where a class has fewer others.
    """
    places = np.full((len(classes), NEIGHBOURS), -1)
    distances = np.full(places.shape, np.inf)
    for group in np.unique(classes):
        own = np.flatnonzero(classes == group)
        length = min(NEIGHBOURS, len(own) - 1)
        if length and features.shape[1]:
            near, far = nearest_of_all(unit_vectors(features[own]), length)
            places[own, :length], distances[own, :length] = own[near], far
    return places, distances


def alike(
    features: np.ndarray, places: np.ndarray, distances: np.ndarray, classes: np.ndarray, drawn: np.ndarray
) -> tuple[sparse.csr_matrix, np.ndarray]:
    """The cosine of each two images of a class of which one is among the nearest of the other, (N, N), and w of each (N,).

    w is the cosine distance at which images of the class lie from each other once their share is left: the median
    distance of an image from its (1 / share)-th neighbour, 0.2 at least in 16 directions and more. `drawn` (N,) bool are
    those who would stay if the draw alone decided: it gives each class its share. Images with more copies than their
    lists hold are compared with each other.
    """
    num, widths = len(classes), _widths(distances, classes, drawn, _COPIES if features.shape[1] >= _FEW else _NARROWEST)
    rows, columns = np.nonzero((places >= 0) & (distances < 1))
    found = (1 - distances[rows, columns], (rows, places[rows, columns]))
    one_way = sparse.csr_matrix(found, (num, num))
    crowded = np.flatnonzero(distances[:, -1] < widths / 2)
    if len(crowded):
        one_way = one_way.maximum(_of_crowds(features, classes, crowded, widths))
    return one_way.maximum(one_way.T).tocsr(), widths


def _of_crowds(features: np.ndarray, classes: np.ndarray, crowded: np.ndarray, widths: np.ndarray) -> sparse.csr_matrix:
    """The cosines of all pairs among the crowded images of a class that are nearer than w, (N, N).

    Where there are many, pairs among so many that follow each other in the data set, as frames do.
    """
    from sklearn.neighbors import radius_neighbors_graph  # here, as it takes a second to import

    size = max(_CROWD_PAIRS // len(crowded), NEIGHBOURS + 1)
    pairs = []
    for group in np.unique(classes[crowded]):
        own = crowded[classes[crowded] == group]
        for part in np.split(own, range(size, len(own), size)):
            units = unit_vectors(features[part]).astype(np.float64)
            near = radius_neighbors_graph(units, widths[part[0]], mode="distance", metric="cosine").tocoo()
            pairs.append((1 - near.data, part[near.row], part[near.col]))
    cosines, rows, columns = map(np.concatenate, zip(*pairs))
    return sparse.csr_matrix((cosines, (rows, columns)), (len(classes), len(classes)))


def redundancy(similarity: sparse.csr_matrix, widths: np.ndarray, strength: float) -> sparse.csr_matrix:
    """k_ij = strength exp(-(2 d_ij / w)^2) in the places of `similarity` (N, N), d = 1 - cosine: `Energy`'s.

    What is much nearer than half of w (N,) is as good as a copy.
    """
    of_rows = np.repeat(widths, np.diff(similarity.indptr))
    kernel = strength * np.exp(-((2 * (1 - similarity.data) / of_rows) ** 2))
    kernel[kernel < _SMALLEST * strength] = 0
    return sparse.csr_matrix((kernel, similarity.indices, similarity.indptr), similarity.shape)


def _widths(distances: np.ndarray, classes: np.ndarray, drawn: np.ndarray, narrowest: float) -> np.ndarray:
    """w of each image's class, (N,), not below `narrowest`."""
    widths = np.empty(len(classes))
    for group in np.unique(classes):
        own = np.flatnonzero(classes == group)
        length = max(1, min(NEIGHBOURS, len(own) - 1))
        share = max(drawn[own].mean(), 1 / len(own))
        widths[own] = np.median(distances[own, min(round(1 / share), length) - 1])
    return np.clip(widths, narrowest, 2)


def whitened(features: np.ndarray) -> np.ndarray:
    """The principal components of the features (N, F), each scaled to variance 1, (N, G) float32.

    The features of a trained detector vary in a few directions a lot, by what the classes are, and in many others a
    little, which is what tells two pictures from two copies of one (docs/method.md). G is 128, or less: there are 8
    samples to a direction at least, as all lie at the same distance else, or 2 of them up to 16 directions, and no
    direction in which there is rounding alone. Features that hardly vary are returned as they are. Of more than 65,536
    images so many, evenly spread, tell the directions.
    """
    num, size = features.shape
    components = min(_COMPONENTS, size, max(num // _SAMPLES_A_COMPONENT, min(_FEW, num // 2)))
    if components < 2 or not np.ptp(features, axis=0).any():
        return features
    from sklearn.decomposition import PCA  # here, so that the mask itself needs nothing but torch

    pca = PCA(components, whiten=True, random_state=0)
    if num <= _LOOKED_AT:
        white = pca.fit_transform(features.astype(np.float64))
    else:
        pca.fit(features[np.linspace(0, num - 1, _LOOKED_AT).astype(int)].astype(np.float64))
        white = np.empty((num, components), np.float32)
        for start in range(0, num, _LOOKED_AT):
            part = slice(start, start + _LOOKED_AT)
            white[part] = pca.transform(features[part].astype(np.float64))
    varies = pca.singular_values_ > _ROUNDING * pca.singular_values_[0]
    if not varies.any():
        return features  # those looked at may all be one
    return (white if varies.all() else white[:, varies]).astype(np.float32, copy=False)
