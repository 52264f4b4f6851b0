"""k-means on the directions of features (N images, F features)."""

import numpy as np


def nearest_centres(features: np.ndarray, num_clusters: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The cluster of each image, features (N, F), and its cosine similarity to the centre of that, (N,) each.

    A row of zeros points nowhere; its cosine with everything counts as 0.
    """
    from sklearn.cluster import KMeans  # here: it takes a second, and most methods do without
    from sklearn.preprocessing import normalize

    directions = normalize(features)
    # k-means starts from random positions in the list: in an order of its own, the result does not depend
    # on how the data set lists its images.
    listed = directions[np.lexsort(directions.T)]
    k_means = KMeans(max(1, min(num_clusters, len(features))), n_init=1, random_state=seed).fit(listed)
    similarities = directions @ normalize(k_means.cluster_centers_).T
    return similarities.argmax(axis=1), similarities.max(axis=1)
