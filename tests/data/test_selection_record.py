import pytest

from adapruner_det.data.selection_record import summary, verdict
from adapruner_det.pruning import Selection


@pytest.mark.parametrize(
    "columns, message",
    [
        ({"class": ["cat", "dog"]}, r"class_names \['cat'\] lack classes of its column class"),
        ({"boxes_by_class": [[1, 2], [0, 1]]}, "counts boxes of 2 classes, but has 1 class_names"),
        ({"boxes_by_class": [[1], None]}, "lacks the column class, or values of boxes_by_class"),
        ({}, "lacks the column class, or values of boxes_by_class"),
    ],
)
def test_columns_that_do_not_fit_the_classes_are_refused(columns, message):
    known = {"class_names": ["cat"]}
    with pytest.raises(ValueError, match=message):
        summary(Selection(["pets"] * 2, ["0", "1"], [1.0, 2.0], [True, False], 0.5, "adapruner", columns, known))


def test_reasons_that_count_nothing_are_left_out():
    counts = {"with_reason": 0, "near-duplicate": 0, "random": 0}
    known = {"class_names": ["cat"], "reasons": counts}
    selection = Selection(
        ["pets"] * 2, ["0", "1"], [1.0, 2.0], [True] * 2, 0.9, "adapruner", {"class": ["cat"] * 2}, known
    )
    assert verdict(selection) == "2 of 2 images stay"
    assert summary(selection).splitlines()[-1].startswith("0 of 2 images, kept ones too, have more against them")
    known["reasons"] = {**counts, "random": 1}
    assert verdict(selection).endswith("; pruned are 1 by lot (a random choice would do as well)")
