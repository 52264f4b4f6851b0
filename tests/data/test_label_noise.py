from collections import Counter

import pytest

from adapruner_det.data.label_noise import flip_labels


def records(count, num_classes=4):
    return [{"image_id": str(i), "category_id": i % num_classes} for i in range(count)]


@pytest.mark.parametrize("share, flipped", [(0.0, 0), (0.1, 10), (0.256, 26), (1.0, 101)])
def test_exactly_the_share_is_flipped_in_copies(share, flipped):
    before = records(101)
    after = flip_labels(before, share, 0, 4)
    assert before == records(101)
    changed = [old["category_id"] != new["category_id"] for old, new in zip(before, after)]
    assert sum(changed) == flipped
    assert changed == [record["label_flipped"] for record in after]
    assert [record["image_id"] for record in after] == [record["image_id"] for record in before]


def test_seed_decides_and_other_classes_are_drawn_alike():
    before = records(4000)
    after = flip_labels(before, 0.75, 5, 4)
    assert after == flip_labels(before, 0.75, 5, 4) != flip_labels(before, 0.75, 6, 4)
    pairs = Counter((old["category_id"], new["category_id"]) for old, new in zip(before, after) if new["label_flipped"])
    assert len(pairs) == 12  # every class became every other
    assert all(185 < count < 320 for count in pairs.values())  # 250 each, give or take


def test_refused():
    with pytest.raises(ValueError, match="LABEL_NOISE is 1.5"):
        flip_labels(records(4), 1.5, 0, 4)
    with pytest.raises(ValueError, match="among 1 classes"):
        flip_labels(records(4, 1), 0.5, 0, 1)
