"""Wrong labels on purpose, to see what a selection makes of them."""

from collections.abc import Sequence

import numpy as np


def flip_labels(records: Sequence[dict], share: float, seed: int, num_classes: int) -> list[dict]:
    """Symmetric label noise: gives round(share * N) of N records another class.

    Which records, and which of the other classes (all alike), depends on the seed and on N alone.

    Args:
        records: N dicts with `category_id`, which stay as they are.
        share: of the records, in [0, 1].
        num_classes: K; category ids are 0 to K - 1.

    Returns:
        N copies, with `label_flipped` True where the class is another now.

    Raises:
        ValueError: `share` is not in [0, 1], there is no other class, or a category id is unknown.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"CLASSIFICATION.LABEL_NOISE is {share}; it is a share, 0 to 1")
    count = round(share * len(records))
    if count and num_classes < 2:
        raise ValueError(f"labels cannot be flipped among {num_classes} classes: two are needed")
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(records), size=count, replace=False) if count else []
    steps = rng.integers(1, num_classes, size=count) if count else []
    flipped = [{**record, "label_flipped": False} for record in records]
    for index, step in zip(chosen, steps):
        category_id = records[index]["category_id"]
        if not 0 <= category_id < num_classes:
            raise ValueError(f"image {records[index]['image_id']}: no class {category_id} of {num_classes}")
        category_id = (category_id + int(step)) % num_classes
        flipped[index].update(category_id=category_id, label_flipped=True)
    return flipped
