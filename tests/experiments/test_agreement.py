import json
from dataclasses import replace

import numpy as np
import pytest
from made_up import statistics

from adapruner_det.experiments.agreement import compare_selections, in_common, kept_of, longest_gap, rank_correlation
from adapruner_det.experiments.experiment import Experiment, selection_run
from adapruner_det.pruning import Selection
from adapruner_det.pruning.matching import Labels
from adapruner_det.report.injected import InjectedErrors


def selection(kept):
    """Of images a, b, c, ..., each with one object of class 0; `kept` is a text of + and -."""
    kept = [sign == "+" for sign in kept]
    ids = [chr(ord("a") + number) for number in range(len(kept))]
    columns = {"boxes_by_class": [[1]] * len(kept)}
    return Selection(["d"] * len(kept), ids, [float(verdict) for verdict in kept], kept, 0.5, "any",
                     columns)  # fmt: skip


@pytest.fixture
def saved(tmp_path):
    """Saves selections of `full`, `adapruner` and a variant at 0.8 by seed; returns experiment and folder."""
    found = {"adapruner": {0: "++++----", 1: "+++-+---"}, "no warm-up": {0: "++----++", 1: "++--++--"}}
    for method, by_seed in found.items():
        for seed, kept in by_seed.items():
            folder = tmp_path / selection_run(method, 0.8, seed)
            selection(kept).save(folder / "selection")
            (folder / "done.json").write_text(json.dumps({"seconds": 10.0 + seed}))
    options = {"methods": ["full", "adapruner"], "variants": {"no warm-up": {}}}
    return Experiment(prune_config="unused", keep_ratios=[0.8], seeds=[0, 1], **options), tmp_path


def test_table_of_selections_by_hand(saved):
    assert compare_selections(*saved)[1].to_dict("records") == [
        {"selected by": "adapruner 0.80", "images": "4", "as adapruner": "", "rank as adapruner": "", "between seeds": "75%",
         "longest gap": "4", "select s": "10", "seeds": 2},  # gaps of 4 and 3, rounded to even
        # seed 0 has a and b of a, b, c, d, and seed 1 a, b and e of a, b, c, e: 2/4 and 3/4
        {"selected by": "no warm-up 0.80", "images": "4", "as adapruner": "62%", "rank as adapruner": "0.25", "between seeds": "50%",
         "longest gap": "3", "select s": "10", "seeds": 2},
    ]  # fmt: skip


def save_every_other(folder, method):
    for seed in (0, 1):
        run = folder / selection_run(method, 0.8, seed)
        selection("+-+-+-+-").save(run / "selection")
        (run / "done.json").write_text(json.dumps({"seconds": 1.0}))


def test_what_others_are_like_is_not_random_selection(saved):
    experiment, folder = saved
    save_every_other(folder, "random")
    experiment = replace(experiment, methods=["random", "adapruner"])
    table = compare_selections(experiment, folder)[1].set_index("selected by")
    assert table.loc["no warm-up 0.80", "as adapruner"] == "62%" and "as random" not in table
    assert table.loc["random 0.80", "as adapruner"] == "62%"  # a, c of a, c, e, g; a, c, e of them
    _, alone = compare_selections(replace(experiment, methods=["random"], variants={}), folder)
    assert alone["selected by"].tolist() == ["random 0.80"] and "as random" not in alone


def test_how_often_injected_defects_were_pruned_stands_beside(saved):
    injected = InjectedErrors(near_duplicate_of={"e": "a"}, wrong_label={"d": "class", "h": "box"})
    frame, table = compare_selections(*saved, injected)
    table = table.set_index("selected by")
    # seed 0 prunes e of a, e; d no, h yes; of b, c, f, g it prunes f, g: 0.5 / 0.5 and 0.5 / 0.5
    # seed 1 prunes none of a, e; d and h; f, g: 0 / 0.5 and 1 / 0.5
    assert table.loc["adapruner 0.80", "near-duplicates and their originals"] == "1.0, 0.0"
    assert table.loc["adapruner 0.80", "wrong labels"] == "1.0, 2.0"
    assert not [name for name in table if name.startswith("wrong labels:") or name == "all others"]
    assert frame["wrong labels: box"].tolist()[:2] == [2, 2] and frame["seed"].tolist() == [0, 1, 0, 1]


def test_a_share_is_of_what_the_selection_itself_keeps():
    assert in_common(selection("+---"), selection("++--")) == 1
    assert in_common(selection("++--"), selection("+---")) == 0.5


def test_images_that_stay_in_every_selection_are_nothing_in_common():
    one, other = selection("++--++"), selection("+-+-++")
    for own in (one, other):
        own.scores[4:] = [None, None]
    assert in_common(one, other) == 0.5


@pytest.mark.parametrize("kept, gap", [("++", 0), ("-", 1), ("+--+-", 2), ("--+---+-", 3)])
def test_longest_gap(kept, gap):
    assert longest_gap([sign == "+" for sign in kept]) == gap


def test_rank_correlation_is_spearmans_of_the_images_that_both_scored():
    one, other = selection("++--"), selection("++--")
    one.scores[:], other.scores[:] = [0.9, 0.2, 0.4, None], [3.0, 1.0, 2.0, 9.0]
    assert rank_correlation(one, other) == pytest.approx(1)
    other.scores[:] = [1.0, 3.0, 2.0, 9.0]
    assert rank_correlation(one, other) == pytest.approx(-1)
    assert np.isnan(rank_correlation(selection("++"), selection("+-")))


def test_what_is_kept_of_rare_classes_small_boxes_and_images_without():
    """Five boxes with areas 1, 4, 9, 16, 25 and a crowd; the second class has boxes in a and b; c has none."""
    sides = np.array([1, 2, 3, 4, 5, 0.5])
    boxes = np.column_stack([0 * sides, 0 * sides, sides, sides])
    labels = Labels(boxes, np.array([1, 0, 1, 0, 0, 0]), np.array([0, 0, 1, 1, 3, 3]), np.arange(6) == 5)
    known = statistics(4, labels=labels, datasets=["d"] * 4, ids=list("abcd"))
    found = kept_of(selection("-++-"), known)
    assert found == {"kept of rarest class": 0.5, "kept of small boxes": 0, "kept of no boxes": 1}
