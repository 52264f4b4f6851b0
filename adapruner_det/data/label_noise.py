"""Wrong labels on purpose, to see what a selection makes of them."""

from collections.abc import Sequence

import numpy as np

from .validation import Record


def flip_labels(records: Sequence[Record], share: float, seed: int, num_classes: int) -> list[Record]:
    """Symmetric label noise: copies of N records, round(share * N) of them with another class.

    Which records, and which of the other classes (all alike), depends on the seed and on N alone.
    Those whose class is another have `label_flipped` True, the others False.

    Raises:
        ValueError: `share` is not in [0, 1], or there is no other class.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"CLASSIFICATION.LABEL_NOISE is {share}; it is a share, 0 to 1")
    flipped = [{**record, "label_flipped": False} for record in records]
    count = round(share * len(records))
    if not count:
        return flipped
    if num_classes < 2:
        raise ValueError(f"labels cannot be flipped among {num_classes} classes: two are needed")
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(records), size=count, replace=False)
    for index, step in zip(chosen.tolist(), rng.integers(1, num_classes, size=count).tolist()):
        category_id = (records[index]["category_id"] + step) % num_classes
        flipped[index].update(category_id=category_id, label_flipped=True)
    return flipped
