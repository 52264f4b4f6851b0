import pytest

from adapruner_det.data.selection_record import summary
from adapruner_det.pruning import Selection


def select(scores, kept, flipped=None):
    number = len(scores)
    columns = {"class": ["cat"] * number, **({} if flipped is None else {"label_flipped": flipped})}
    return Selection(
        ["pets"] * number, [str(i) for i in range(number)], scores, kept, 0.5, "adapruner", columns,
        {"class_names": ["cat"]},
    )  # fmt: skip


def test_wrong_labels_that_were_pruned_are_counted():
    # Of 2 x 3 pairs the flipped image is lower in 4, and equal in 1. An image without a score does not count.
    scores = [-1.0, 2.0, 2.0, 3.0, -0.5, None]
    selection = select(scores, [False, True, True, True, False, True], [1, 1, 0, 0, 0, 1])
    line = summary(selection).splitlines()[-1]
    assert line.startswith("wrong labels: 50.0% of 2 flipped images pruned, 33.3% of 3 clean ones")
    assert line.endswith("(AUC) 0.750")


@pytest.mark.parametrize("flipped", [None, [0, 0], [1, 1]])
def test_nothing_is_said_where_there_is_nothing_to_tell_apart(flipped):
    assert "wrong labels" not in summary(select([0.0, 1.0], [False, True], flipped))


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
