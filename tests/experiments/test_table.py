import json

import numpy as np
import pandas as pd
import pytest
from conftest import write_voc_folder

from adapruner_det.experiments.experiment import Cell, Experiment, finetuning_run, selection_run, training_run
from adapruner_det.experiments.table import collect, select_seconds, summarise
from adapruner_det.pruning import Selection

FULL = Cell("M", "full", 1.0, "any", 0)


@pytest.fixture
def config(tmp_path):
    """A config that is evaluated on the (never loaded) data set `test`."""
    path = tmp_path / "train.yaml"
    path.write_text("DATASETS: {TEST: ['test']}\nVERSION: 2\n")
    return str(path)


def write_result(folder, results, seconds):
    evaluation = folder / "inference" / "test"
    evaluation.mkdir(parents=True)
    (evaluation / "evaluation.json").write_text(json.dumps(results))
    write_seconds(folder, seconds)


def write_selection(folder, method, seconds, provenance=()):
    """Five images compete, one is kept whatever, and one, without boxes, is trained on by nobody."""
    kept = [True] * 4 + [False, True, False]
    scores = [5, 4, 3, 2, 1, None, None]
    selection = Selection(["d"] * 7, list("abcdefg"), scores, kept, 0.8, method, provenance=dict(provenance))
    selection.save(folder / "selection")
    write_seconds(folder, seconds)


def write_seconds(folder, seconds):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "done.json").write_text(json.dumps({"seconds": seconds}))


def test_collect_reads_a_row_a_training(tmp_path, config):
    experiment = Experiment({"M": config}, [0.8], [0, 1], ["iterations", "epochs"], "unused", ["full"],
                            variants={"no warm-up": {}})  # fmt: skip
    for number, cell in enumerate(experiment.cells()):
        boxes = {"AP50": 80 + number // 2, "AP": 40 + cell.seed, "AP75": 1.0}
        write_result(tmp_path / training_run(cell), {"bbox": boxes}, 100 + number // 2)
    for seed in (0, 1):
        write_selection(tmp_path / selection_run("no warm-up", 0.8, seed), "adapruner", 30.0 + seed)
    frame = collect(experiment, tmp_path)
    assert frame["budget"].tolist() == ["any", "any", "iterations", "iterations", "epochs", "epochs"]
    assert frame["method"].tolist() == ["full"] * 2 + ["no warm-up"] * 4
    assert frame["images"].tolist() == [6, 6, 5, 5, 5, 5]
    assert frame["select_seconds"].tolist() == [0, 0, 30, 31, 30, 31]
    assert frame["AP50"].tolist() == [80, 80, 81, 81, 82, 82] and frame["AP"].tolist() == [40, 41] * 3
    assert frame["train_seconds"].tolist() == [100, 100, 101, 101, 102, 102]
    assert "AP75" not in frame and "finetune_seconds" not in frame


def test_images_of_data_sets_that_are_not_pruned_are_trained_on_too(tmp_path, clean_catalogs):
    write_voc_folder(tmp_path / "voc", {"more": ["m1", "m2"]})
    train = f"{{REGISTER: ['more=voc:{tmp_path}/voc:more'], TRAIN: ['d', 'more'], TEST: ['test']}}"
    for name, datasets in (("both", train), ("one", "{TRAIN: ['d'], TEST: ['test']}")):
        (tmp_path / f"{name}.yaml").write_text(f"DATASETS: {datasets}\nVERSION: 2\n")
    models = {name: str(tmp_path / f"{name}.yaml") for name in ("both", "one")}
    experiment = Experiment(models, prune_config="unused", methods=["full", "random"])
    for cell in experiment.cells():
        write_result(tmp_path / training_run(cell), {"bbox": {"AP50": 80, "AP": 40}}, 100)
    write_selection(tmp_path / selection_run("random", 0.8, 0), "random", 30.0)
    assert collect(experiment, tmp_path)["images"].tolist() == [8, 7, 6, 5]


def test_collect_takes_the_metrics_of_the_second_stage_and_the_seconds_of_both(tmp_path, config):
    experiment = Experiment({"M": config}, prune_config="unused", methods=["full"], finetune={"M": config})
    write_result(tmp_path / training_run(FULL), {"classification": {"accuracy": 70.0}}, 100)
    write_result(tmp_path / finetuning_run(FULL), {"classification": {"accuracy": 90.0}}, 20)
    row = collect(experiment, tmp_path).iloc[0]
    assert (row["accuracy"], row["train_seconds"], row["finetune_seconds"]) == (90.0, 100, 20)
    assert summarise(collect(experiment, tmp_path))["finetune s"].tolist() == ["20"]


def test_what_selecting_costs(tmp_path):
    seconds = {"proxy_seed1": 40, "el2n_0.80_seed1": 1, "adapruner_0.80_seed1": 20, "adapruner_0.50_seed1": 2,
               "fast_0.80_seed1": 10, "cg_score_1.00_seed1": 7, "random_0.80_seed1": 5,
               "random_by_class_0.80_seed1": 6}  # fmt: skip
    for name, cost in seconds.items():
        write_seconds(tmp_path / "select" / name, cost)
    # In 9 seconds, of which 2 were its own work. Alone it takes 12 for that: a part of the proxy, evidence
    # that another method had asked for before.
    alone = {"seconds": 12.0, "seconds_here": 2.0}
    write_selection(tmp_path / "select/el2n_1.00_seed1", "el2n", 9, alone)
    write_selection(tmp_path / "select/bnsl_0.80_seed1", "bnsl", 9, alone)
    experiment = Experiment(prune_config="unused", variants={"fast": {}, "random by class": {"method": "random"}})
    costs = {name: select_seconds(experiment, tmp_path, name, 0.8, 1)
             for name in ("el2n", "bnsl", "adapruner", "fast", "cg_score", "random", "random by class")}  # fmt: skip
    assert costs == {"el2n": 19, "bnsl": 19, "adapruner": 20, "fast": 10, "cg_score": 7, "random": 0,
                     "random by class": 0}  # fmt: skip
    assert select_seconds(experiment, tmp_path, "adapruner", 0.5, 1) == 20  # the run it was cut from


def test_results_of_an_unknown_task_are_refused_naming_the_file(tmp_path, config):
    write_result(tmp_path / training_run(FULL), {"panoptic": {}}, 1)
    with pytest.raises(ValueError, match="evaluation.json holds results of .'panoptic'., none of bbox"):
        collect(Experiment({"M": config}, prune_config="unused", methods=["full"]), tmp_path)


def frame_of(cells, seeds=(0, 1, 2)):
    """cells: (method, budget, AP50 by seed, AP by seed, train seconds, select seconds)."""
    return pd.DataFrame(
        {
            "model": "M", "method": method, "keep_ratio": 1.0 if method == "full" else 0.8,
            "budget": budget, "seed": seed, "images": 10 if method == "full" else 8,
            "AP50": ap50[seed], "AP": ap[seed], "train_seconds": train, "select_seconds": select,
        }
        for method, budget, ap50, ap, train, select in cells
        for seed in seeds
    )  # fmt: skip


WORKED = [
    ("full", "any", (83, 84, 85), (40, 41, 42), 100.0, 0.0),
    ("random", "iterations", (80, 82, 81), (40.0, 41.0, 39.0), 100.0, 0.0),
    ("adapruner", "iterations", (84, 81, 84), (41.1, 41.9, 40.0), 98.0, 30.0),
    ("random", "epochs", (80, 80, 80), (40, 40, 40), 80.0, 0.0),
    ("adapruner", "epochs", (81, 81, 81), (40, 40, 40), 80.0, 30.0),
    ("slow", "epochs", (81, 82, 83), (40, 40, 40), 100.0, 250.0),
]


def test_table_by_hand():
    table = summarise(frame_of(WORKED)).set_index(["trained on", "budget"])
    full, pruned = table.loc[("full", "")], table.loc[("adapruner 0.80", "iterations")]
    assert full["AP50"] == "84.0 ± 1.0" and full["images"] == "10" and full["seeds"] == 3
    assert pruned["AP50"] == "83.0 ± 1.7" and pruned["AP"] == "41.0 ± 1.0"
    # AP50: +4, -1, +3: mean 2, an error of sqrt(7 / 3), two degrees of freedom: 4.303 of it, p 0.321.
    # AP: +1.1, +0.9, +1.0: an error of 0.1 / sqrt(3), p 0.003; three tests make it 0.010 (the third is of "slow")
    assert pruned["AP50 - random"] == "+2.0 [-4.6, +8.6]" and pruned["AP - random"] == "+1.0 [+0.8, +1.2] *"
    # every seed the same difference: nothing to test
    assert table.loc[("adapruner 0.80", "epochs"), "AP50 - random"] == "+1.0"
    assert table.loc[("adapruner 0.80", "epochs"), "AP - random"] == "+0.0"
    assert full["AP50 - random"] == table.loc[("random 0.80", "epochs"), "AP50 - random"] == ""

    assert full["train s"] == "100" and pruned["select s"] == "30"
    relative = table["select / full training"]
    assert relative.tolist() == ["", "0.00", "0.30", "0.00", "0.30", "2.50"]
    # 30 s to select, 20 s spared a training: two trainings; equal iterations spare nothing by design
    # whatever seconds were measured: a fifth of the images spares 20 s
    assert table["pays after"].tolist() == ["", "", "", "0", "2", "13"]
    nothing_pruned = frame_of(WORKED).assign(images=10)
    assert summarise(nothing_pruned)["pays after"].tolist()[-2:] == ["never", "never"]


def test_differences_are_paired_by_seed_and_of_the_same_ratio_and_budget():
    frame = frame_of(WORKED[1:3])
    shuffled = frame.sample(frac=1, random_state=0).sort_values("method", kind="stable")
    other = frame[frame["method"] == "random"].assign(keep_ratio=0.5, AP50=0.0)
    table = summarise(pd.concat([other, shuffled])).set_index("trained on")
    assert table.loc["adapruner 0.80", "AP50 - random"] == "+2.0 [-4.6, +8.6]"


def test_models_are_not_mixed():
    frame = frame_of(WORKED)
    other = frame.assign(model="N", AP50=frame["AP50"] + 10, train_seconds=frame["train_seconds"] * 2)
    table = summarise(pd.concat([frame, other]))
    for _, own in table.groupby("model"):
        assert own["AP50 - random"].tolist() == table["AP50 - random"].tolist()[: len(own)]


def test_stars_know_how_many_differences_there_are():
    """p 0.003 is no star among twenty tests."""
    many = [(f"m{n}", "iterations", (80, 83, 80), (40, 42, 38), 100.0, 0.0) for n in range(10)]
    table = summarise(frame_of(WORKED[:3] + many)).set_index("trained on")
    assert table.loc["adapruner 0.80", "AP - random"] == "+1.0 [+0.8, +1.2]"
    assert summarise(frame_of(WORKED[:3]))["AP - random"].tolist()[-1].endswith(" *")


def test_one_seed_has_neither_spread_nor_p_and_columns_without_content_go():
    table = summarise(frame_of(WORKED[1:3], seeds=(0,)))
    assert table["AP50"].tolist() == ["80.0", "84.0"] and table["AP50 - random"].tolist() == ["", "+4.0"]
    assert not {"select / full training", "pays after", "finetune s"} & set(table)


def test_accuracy_is_shown_to_a_hundredth():
    frame = frame_of(WORKED[:2]).drop(columns=["AP50", "AP"]).assign(accuracy=np.arange(6) / 8)
    assert summarise(frame)["accuracy"].tolist() == ["0.12 ± 0.12", "0.50 ± 0.12"]
