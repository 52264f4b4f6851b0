import os
import re

import pytest
from conftest import ROOT, write_voc_folder, write_voc_image

from adapruner_det.experiments import check
from adapruner_det.experiments.experiment import (
    Cell,
    Experiment,
    Grid,
    finetuning_run,
    proxy_run,
    selection_run,
    training_run,
)
from adapruner_det.experiments.plan import plan

PRUNE = "configs/bccd/prune_yolov3_tiny_R18.yaml"
MODEL = "YOLOv3-Tiny"
TRAIN = {MODEL: "configs/bccd/train_yolov3_tiny_R18.yaml"}
LOOKING = ["herding", "grand", "near_duplicates"]  # at the proxy
WARM_UP = {"no warm-up": {"ADAPRUNER.WARMUP": 0}}


@pytest.fixture(autouse=True)
def data(monkeypatch, tmp_path, clean_catalogs):
    """Ten images, one of them empty, in place of BCCD; the repository as working folder."""
    ids = [f"i{n}" for n in range(10)]
    splits = {"trainval": ids, "test": ["t"], "more": ["m1", "m2"], "blank": ["b"]}
    folder = write_voc_folder(tmp_path / "data/bccd", splits, empty=["i3", "b"])
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "data"))
    return folder


def runs_of(tmp_path, *methods, **options):
    """The planned runs by name; without methods, those that an experiment has by default."""
    options = {"methods": ["full", *methods], **options} if methods else options
    runs = plan(Experiment(TRAIN, prune_config=PRUNE, **options), tmp_path)
    order = [run.name for run in runs]
    assert len(set(order)) == len(order)
    assert all(order.index(before) < order.index(run.name) for run in runs for before in run.after)
    return {run.name: run for run in runs}


def settings(run):
    """The KEY VALUE pairs of a train_net.py command, the last of each key."""
    pairs = run.command[run.command.index("--config-file") + 2 :]
    return dict(zip(pairs[::2], pairs[1::2]))


def value_of(run, option):
    return run.command[run.command.index(option) + 1]


def training(method, ratio=0.8, budget="iterations", seed=0, model=MODEL):
    return training_run(Cell(model, method, ratio, budget, seed))


FULL_RUN = training("full", 1.0, "any")


def test_plan_trains_after_selecting(tmp_path):
    runs = runs_of(tmp_path, keep_ratios=[0.8, 0.5], seeds=[0, 1])
    assert len(runs) == 2 * (2 * 2 + 1 + 2 * 2)  # 0.8 is the ratio AdaPruner prunes at
    pruned = runs[training("adapruner", 0.5, seed=1)]
    assert pruned.after == (selection_run("adapruner", 0.5, 1),)
    assert settings(pruned)["DATASETS.SELECTION"] == str(tmp_path / pruned.after[0] / "selection")
    full = runs[training("full", 1.0, "any", seed=1)]
    assert not full.after and "DATASETS.SELECTION" not in settings(full)


def test_folders_are_named_as_ever():
    cell = Cell("Faster R-CNN", "no warm-up", 0.75, "epochs", 3)
    assert training_run(cell) == "train/Faster_R-CNN/no_warm-up_0.75_epochs_seed3"
    assert finetuning_run(cell) == "finetune/Faster_R-CNN/no_warm-up_0.75_epochs_seed3"
    assert (
        FULL_RUN == "train/YOLOv3-Tiny/full_1.00_seed0" and training("random") == "train/YOLOv3-Tiny/random_0.80_seed0"
    )
    assert selection_run("no warm-up", 0.8, 0) == "select/no_warm-up_0.80_seed0"
    assert proxy_run(1) == "select/proxy_seed1"


def test_the_seed_that_selects_is_never_the_seed_that_trains(tmp_path):
    runs = runs_of(tmp_path, "random", "adapruner", "herding", seeds=[0, 3], finetune=TRAIN)
    for run in runs.values():
        seed = int(run.name[-1])
        if "cut" in run.command:
            assert not {"SEED", "--seed"} & {*run.command}
        else:
            used = int(value_of(run, "SEED" if "SEED" in run.command else "--seed"))
            assert used == (seed if run.name.startswith("select/") else 1000 + seed), run.name
    assert {run.name.split("/")[0] for run in runs.values()} == {"select", "train", "finetune"}


@pytest.mark.parametrize("ratios", [[0.9, 0.5], [0.5], [0.9, 0.8, 0.5]])
def test_adapruner_and_its_variants_prune_once_a_seed_whatever_the_ratios(tmp_path, ratios):
    runs = runs_of(tmp_path, keep_ratios=ratios, seeds=[0, 1], variants=WARM_UP)
    pruning = [name for name, run in runs.items() if "ADAPRUNER.KEEP_RATIO" in run.command]
    methods = ("adapruner", "no warm-up")
    assert pruning == [selection_run(method, 0.8, seed) for seed in (0, 1) for method in methods]
    for method in methods:
        cut, source = runs[selection_run(method, 0.5, 1)], selection_run(method, 0.8, 1)
        assert cut.command[2:] == ("cut", str(tmp_path / source / "selection"), "--keep-ratio", "0.5",
                                   "--no-page", "--output", str(tmp_path / cut.name / "selection"))  # fmt: skip
        assert cut.after == (source,) and runs[training(method, 0.5, seed=1)].after == (cut.name,)
    fewer = runs_of(tmp_path, keep_ratios=[0.5], seeds=[0, 1], variants=WARM_UP)
    assert fewer.items() <= runs.items()


def test_further_grids_add_seeds_budgets_and_models_to_the_ratios_they_name(tmp_path):
    more = [Grid(keep_ratios=[0.5], seeds=[1, 2]), Grid(keep_ratios=[0.7, 0.5], budgets=["epochs"])]
    more += [Grid(train_configs={"R": TRAIN[MODEL]}, keep_ratios=[0.5], seeds=[2, 3])]
    runs = runs_of(tmp_path, "random", keep_ratios=[0.8, 0.5], seeds=[0], more=more)
    trained = [("full", 1.0, "any", seed) for seed in (0, 1, 2)]
    trained += [("random", 0.8, "iterations", 0)]
    of_r = [("full", 1.0, "any", seed) for seed in (2, 3)] + [("random", 0.5, "iterations", seed) for seed in (2, 3)]
    trained += [("random", 0.5, "iterations", seed) for seed in (0, 1, 2)]
    trained += [("random", ratio, "epochs", 0) for ratio in (0.7, 0.5)]
    selected = [(0.8, 0), (0.5, 0), (0.7, 0), (0.5, 1), (0.5, 2), (0.5, 3)]
    names = {selection_run("random", *one) for one in selected} | {training(*one) for one in trained}
    assert set(runs) == names | {training(*one, model="R") for one in of_r}
    assert runs[training("random", 0.5, seed=2, model="R")].after == (selection_run("random", 0.5, 2),)


def test_without_a_model_to_train_there_are_selections_alone(tmp_path):
    runs = plan(Experiment(prune_config=PRUNE, variants=WARM_UP), tmp_path)
    assert [run.name for run in runs] == [
        selection_run(method, 0.8, 0) for method in ("random", "adapruner", "no warm-up")
    ]


def test_runs_change_with_the_settings_and_boxes_they_depend_on_and_no_others(data, tmp_path):
    def fingerprints(**options):
        runs = runs_of(tmp_path, "random", "adapruner", "mean_loss", **options)
        return {name: run.fingerprint for name, run in runs.items()}

    def changed(**options):
        return {name for name, fingerprint in fingerprints(**options).items() if first[name] != fingerprint}

    first = fingerprints()
    of_adapruner = {selection_run("adapruner", 0.8, 0), training("adapruner")}
    of_proxy = {proxy_run(0), *(selection_run("mean_loss", ratio, 0) for ratio in (0.8, 1)), training("mean_loss")}
    of_random = {selection_run("random", 0.8, 0), training("random")}
    assert first.keys() == of_adapruner | of_proxy | of_random | {FULL_RUN}
    assert not changed()
    assert changed(opts={"ADAPRUNER.MASK.LR": "1.0"}) == of_adapruner
    assert changed(opts={"SCORING.SNAPSHOTS": "3"}) == of_proxy
    assert changed(prune_opts={"SOLVER.BASE_LR": "0.5"}) == of_adapruner | of_proxy
    assert changed(prune_opts={"SCORING.CLASS_BALANCE": "True"}) == of_random | of_proxy - {proxy_run(0)}
    of_training = {name for name in first if name.startswith("train/")}
    assert changed(train_opts={"SOLVER.BASE_LR": "0.5"}) == of_training
    assert changed(train_opts={"DYNAMIC.METHOD": "seta"}) == of_training and not changed(opts={"DYNAMIC.RATIO": "0.3"})
    assert changed(prune_opts={"ADAPRUNER.EMPTY_IMAGES": "keep"}) == first.keys() - {FULL_RUN}
    write_voc_image(data, "i1", [("black", 5, 5, 20, 20)])
    assert changed() == first.keys()


def test_a_run_changes_with_the_content_of_the_weights_it_starts_from(tmp_path):
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"once")
    options = {"prune_opts": {"MODEL.WEIGHTS": str(weights)}}
    once = runs_of(tmp_path, "random", "adapruner", **options)
    assert runs_of(tmp_path, "random", "adapruner", **options) == once
    weights.write_bytes(b"then")
    then = runs_of(tmp_path, "random", "adapruner", **options)
    changed = {name for name, run in then.items() if run != once[name]}
    assert changed == {selection_run("adapruner", 0.8, 0), training("adapruner")}


def test_a_new_key_of_scoring_changes_what_looks_at_a_proxy_alone(tmp_path, monkeypatch):
    usual = runs_of(tmp_path, "random", *LOOKING)
    load = check.load_config

    def load_other(*args, **kwargs):
        cfg = load(*args, **kwargs)
        cfg.SCORING.EARLIER = "a key there was, or is going to be"
        return cfg

    monkeypatch.setattr(check, "load_config", load_other)
    changed = {name for name, run in runs_of(tmp_path, "random", *LOOKING).items() if run != usual[name]}
    assert changed == {name for name in usual if re.search("proxy|herding|grand|near", name)}


def test_equal_iterations_are_the_full_training_s_whatever_its_length_is_given_in(tmp_path):
    runs = runs_of(tmp_path, keep_ratios=[0.5])
    assert runs[FULL_RUN].iterations == runs[training("adapruner", 0.5)].iterations == 300
    assert "SOLVER.MAX_ITER" not in settings(runs[training("adapruner", 0.5)])

    # 20 passes over ten images in batches of 8
    runs = runs_of(tmp_path, keep_ratios=[0.5], train_opts={"SOLVER.MAX_EPOCHS": "20.0"})
    pruned = runs[training("adapruner", 0.5)]
    assert runs[FULL_RUN].iterations == pruned.iterations == 25
    assert settings(pruned)["SOLVER.MAX_ITER"] == "25" and settings(pruned)["SOLVER.MAX_EPOCHS"] == "0.0"
    assert settings(runs[FULL_RUN])["SOLVER.MAX_EPOCHS"] == "20.0"


def test_equal_epochs_shorten_iterations_warm_up_and_steps_by_what_is_kept(tmp_path):
    schedule = {"SOLVER.LR_SCHEDULER_NAME": "WarmupMultiStepLR", "SOLVER.STEPS": "(180, 270)", "SOLVER.WARMUP_ITERS": "45"}  # fmt: skip
    runs = runs_of(tmp_path, keep_ratios=[0.6], budgets=["epochs"], train_opts=schedule)
    pruned = runs[training("adapruner", 0.6, "epochs")]  # 6 of the 10 images
    expected = {"SOLVER.MAX_ITER": "180", "SOLVER.STEPS": "(108, 162)", "SOLVER.WARMUP_ITERS": "27"}
    assert expected.items() <= settings(pruned).items() and pruned.iterations == 180
    assert settings(runs[FULL_RUN])["SOLVER.STEPS"] == "(180, 270)" and runs[FULL_RUN].iterations == 300

    in_epochs = {"SOLVER.MAX_EPOCHS": "20.0", "SOLVER.WARMUP_ITERS": "0"}
    runs = runs_of(tmp_path, keep_ratios=[0.6], budgets=["epochs"], train_opts=in_epochs)
    pruned = runs[training("adapruner", 0.6, "epochs")]
    assert "SOLVER.MAX_ITER" not in settings(pruned) and "SOLVER.STEPS" not in settings(pruned)
    assert pruned.iterations == 15  # 20 * 6 / 8


def test_what_stays_counts_images_kept_anyway_and_data_sets_not_selected_from(tmp_path):
    splits = {"bccd_trainval": "trainval", "bccd_test": "test", "bccd_more": "more"}
    more = {"DATASETS.REGISTER": [f"{name}=voc:bccd:{split}" for name, split in splits.items()],
            "DATASETS.TRAIN": ["bccd_trainval", "bccd_more"]}  # fmt: skip
    empty = {"ADAPRUNER.EMPTY_IMAGES": "keep"}
    runs = runs_of(tmp_path, keep_ratios=[0.5], budgets=["epochs"], prune_opts=empty, train_opts=more)
    pruned = runs[training("adapruner", 0.5, "epochs")]
    # round(0.5 * 9) + 1 empty one + 2 of the other set, of 10 + 2 the full training sees
    assert pruned.iterations == round(300 * (4 + 1 + 2) / 12)


@pytest.mark.parametrize("empty, images", [("prune", 10), ("keep", 10), ("drop", 9)])
def test_everything_is_what_selections_are_made_of_images_without_boxes_too(tmp_path, empty, images):
    empty_images = {"ADAPRUNER.EMPTY_IMAGES": empty}
    runs = runs_of(tmp_path, opts={"SOLVER.MAX_EPOCHS": "8.0"}, prune_opts=empty_images)
    assert runs[FULL_RUN].iterations == images
    filtered = settings(runs[FULL_RUN]).get("DATALOADER.FILTER_EMPTY_ANNOTATIONS", "True")
    assert filtered == str(empty == "drop")
    assert "DATALOADER.FILTER_EMPTY_ANNOTATIONS" not in settings(runs[training("adapruner")])


def test_a_variant_is_a_pruning_run_with_settings_of_its_own(tmp_path):
    runs = runs_of(tmp_path, "adapruner", variants=WARM_UP)
    other, usual = (runs[selection_run(method, 0.8, 0)] for method in ("no warm-up", "adapruner"))
    changed = dict(settings(other).items() - settings(usual).items())
    assert changed == {"ADAPRUNER.WARMUP": "0", "OUTPUT_DIR": str(tmp_path / other.name)}
    assert other.fingerprint != usual.fingerprint and other.iterations == usual.iterations == 140
    assert runs[training("no warm-up")].after == (other.name,)


def test_a_variant_of_a_method_looks_at_the_proxy_of_all(tmp_path):
    by_class = {"method": "mean_loss", "SCORING.CLASS_BALANCE": True}
    runs = runs_of(tmp_path, "random", "mean_loss", variants={"by class": by_class})
    other, usual = (runs[selection_run(method, 1.0, 0)] for method in ("by class", "mean_loss"))
    assert other.command[2] == usual.command[2] == "mean_loss" and other.after == usual.after == (proxy_run(0),)
    assert other.command[-2:] == ("SCORING.CLASS_BALANCE", "True") and other.fingerprint != usual.fingerprint
    assert runs[training("by class")].after == (selection_run("by class", 0.8, 0),)
    assert runs[selection_run("by class", 0.8, 0)].after == (other.name,)


def test_overrides_of_a_stage_reach_that_stage_alone_and_win(tmp_path):
    stages = {"prune_opts": {"SOLVER.BASE_LR": "0.2"}, "train_opts": {"SOLVER.IMS_PER_BATCH": "4"}}
    runs = runs_of(tmp_path, opts={"SOLVER.BASE_LR": "0.1"}, **stages)
    prune, train = runs[selection_run("adapruner", 0.8, 0)], runs[training("adapruner")]
    assert settings(prune)["SOLVER.BASE_LR"] == "0.2" and settings(train)["SOLVER.BASE_LR"] == "0.1"
    assert settings(train)["SOLVER.IMS_PER_BATCH"] == "4"
    assert "SOLVER.IMS_PER_BATCH" not in settings(prune)


@pytest.mark.parametrize("left_as_trained", [{"ADAPRUNER.PRESET": "paper"}, {"ADAPRUNER.SOLVE_AT_END": False}])
def test_a_mask_that_is_not_solved_for_prunes_once_a_ratio(tmp_path, left_as_trained):
    """Its logits belong to the ratio it was trained for; there are no statistics to solve another from."""
    variants = {"as trained": left_as_trained}
    runs = runs_of(tmp_path, "adapruner", variants=variants, keep_ratios=[0.9, 0.5], seeds=[0])
    pruning = [name for name, run in runs.items() if "ADAPRUNER.KEEP_RATIO" in run.command]
    assert pruning == [selection_run("adapruner", 0.8, 0), *(selection_run("as trained", r, 0) for r in (0.9, 0.5))]


def test_fine_tuning_starts_from_the_training_and_ends_the_comparison(tmp_path):
    only_the_last_is_evaluated = {"DATASETS.TEST": "()"}
    runs = runs_of(tmp_path, "adapruner", finetune=TRAIN, finetune_opts={"SOLVER.MAX_ITER": "50"},
                   train_opts=only_the_last_is_evaluated)  # fmt: skip
    cell = Cell(MODEL, "adapruner", 0.8, "iterations", 0)
    tuned, trained = runs[finetuning_run(cell)], runs[training_run(cell)]
    assert tuned.after == (trained.name,)
    assert settings(tuned)["MODEL.WEIGHTS"] == str(tmp_path / trained.name / "model_final.pth")
    assert "DATASETS.SELECTION" not in settings(tuned)
    assert (tuned.iterations, trained.iterations) == (50, 300)
    assert tuned.fingerprint.endswith(trained.fingerprint)


def test_one_proxy_a_seed_serves_all_methods_and_ratios(tmp_path):
    runs = runs_of(tmp_path, "random", "adapruner", *LOOKING, seeds=[0, 1], keep_ratios=[0.8, 0.5])
    assert [name for name in runs if "proxy" in name] == [proxy_run(0), proxy_run(1)]
    for seed in (0, 1):
        proxy = runs[proxy_run(seed)]
        assert proxy.command[2] == "proxy" and value_of(proxy, "--output") == str(tmp_path / proxy.name)
        assert value_of(proxy, "--seed") == str(seed) and proxy.iterations == 140
        for method in LOOKING:
            for ratio in (0.8, 0.5):
                scoring, selecting = (runs[selection_run(method, r, seed)] for r in (1.0, ratio))
                assert scoring.after == (proxy.name,) and scoring.command[2] == method
                assert value_of(scoring, "--proxy") == str(tmp_path / proxy.name)
                assert selecting.after == (scoring.name,) and selecting.command[2] == "cut"
                assert runs[training(method, ratio, seed=seed)].after == (selecting.name,)
    assert not runs[selection_run("random", 0.8, 0)].after
    assert not any("proxy" in name for name in runs_of(tmp_path, "random", "random_class_weighted", "adapruner"))


@pytest.mark.parametrize("setting", ["PRESET: paper", "SOLVE_AT_END: False"])
def test_a_mask_left_as_trained_by_a_config_file_is_not_cut_to_other_ratios(tmp_path, setting):
    config = tmp_path / "prune.yaml"
    config.write_text(f"_BASE_: {os.path.abspath(PRUNE)}\nADAPRUNER:\n  {setting}\n")
    options = {"prune_config": str(config), "train_configs": {}, "methods": ["adapruner"], "keep_ratios": [0.8, 0.5]}
    with pytest.raises(ValueError, match="adapruner: .*prune.yaml sets ADAPRUNER.SOLVE_AT_END False, itself or by"):
        plan(Experiment(**options), tmp_path)
    key, value = setting.split(": ")
    runs = plan(Experiment(**options, prune_opts={f"ADAPRUNER.{key}": value}), tmp_path)
    assert [run.name for run in runs] == [selection_run("adapruner", ratio, 0) for ratio in (0.8, 0.5)]


def test_what_looks_at_the_ratio_scores_for_each(tmp_path):
    runs = runs_of(tmp_path, "bnsl", keep_ratios=[0.8, 0.5])
    for ratio in (0.8, 0.5):
        scoring = runs[selection_run("bnsl", ratio, 0)]
        assert scoring.command[2] == "bnsl" and value_of(scoring, "--keep-ratio") == str(ratio)
    assert not any("1.00" in name for name in runs if "select" in name)


def test_more_methods_and_ratios_leave_the_runs_that_are_there_as_they_are(tmp_path):
    before = runs_of(tmp_path, "random", "adapruner", "herding", keep_ratios=[0.8])
    after = runs_of(tmp_path, "random", "adapruner", *LOOKING, keep_ratios=[0.9, 0.8])
    assert before.items() < after.items()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"prune_opts": {"ADAPRUNER.ENABLED": "False"}}, "adapruner: ADAPRUNER.ENABLED is False in .*prune_"),
        ({"prune_opts": {"ADAPRUNER.AUTO_KEEP_RATIO": "True"}}, "adapruner: ADAPRUNER.AUTO_KEEP_RATIO sets the ratio"),
        ({"opts": {"ADAPRUNER.ENABLED": "True"}}, "train_yolo.*: ADAPRUNER.ENABLED is True, so that this"),
        ({"train_opts": {"DATASETS.TRAIN": "('bccd_more',)"}}, "train_yolo.*lacks bccd_trainval, which is pruned"),
        (
            {
                "opts": {"DATASETS.REGISTER": ["bccd_trainval=voc:bccd:trainval", "bccd_more=voc:bccd:more"]},
                "prune_opts": {"DATASETS.TRAIN": ["bccd_trainval", "bccd_more"]},
            },
            "train_yolo.*lacks bccd_more, which is pruned",
        ),
        (
            {
                "opts": {"DATASETS.REGISTER": ["bccd_trainval=voc:bccd:trainval", "bccd_more=voc:bccd:more"]},
                "prune_opts": {"DATASETS.TRAIN": ["bccd_trainval", "bccd_more"]},
                "train_opts": {"DATASETS.TRAIN": ["bccd_trainval", "bccd_more"]},
                "variants": {"x": {"DATASETS.TRAIN": ["bccd_trainval"]}},
            },
            r"variants: x: DATASETS.TRAIN \('bccd_trainval',\) is not what the other methods choose among",
        ),
        ({"prune_opts": {"DATASETS.SELECTION": "x"}}, "prune_.*: DATASETS.SELECTION is set, but a comparison"),
        ({"train_opts": {"DATASETS.SELECTION": "x"}}, "train_.*: DATASETS.SELECTION is set, but a comparison"),
        (
            {
                "opts": {"DATASETS.REGISTER": [f"bccd_{name}=voc:bccd:{name}" for name in ("trainval", "blank")]},
                "train_opts": {"DATASETS.TEST": ["bccd_blank"]},
            },
            "train_yolov3_tiny_R18.yaml: no image of bccd_blank has a box",
        ),
        ({"keep_ratios": [0.8, 0.98]}, "keep_ratio 0.98 of 10 samples is all of them"),
        *(
            ({"train_opts": {"DATASETS.TEST": names}}, "train_yolov3_tiny_R18.yaml: DATASETS.TEST has to name one")
            for names in ("()", "('bccd_test', 'bccd_trainval')")
        ),
        (
            {"variants": {"x": {"method": "mean_loss", "SOLVER.BASE_LR": 0.5}}},
            "variants: x: SOLVER.BASE_LR cannot differ",
        ),
        (
            {"variants": {"x": {"method": "bnsl", "SCORING.BNSL": "supervised"}}},
            r"variants: x: bnsl \(supervised\) does not",
        ),
        *(
            ({"variants": {"x": {"method": method, key: value}}}, f"variants: x: {method} does not look at {key}")
            for method, key, value in (
                ("adapruner", "SCORING.CLASS_BALANCE", True),
                ("mean_loss", "ADAPRUNER.WARMUP", 0),
                ("mean_loss", "SCORING.BNSL", "hard"),
            )
        ),
        ({"variants": {"x": {"method": "bnsl_hard"}}}, "bnsl_hard is now bnsl with SCORING.BNSL hard"),
        ({"variants": {"x": {"method": "el2n"}}}, "methods: el2n does not apply to detection: an image"),
        ({"methods": ["el2n", "glister"]}, "methods: el2n does not apply .*; glister does not apply"),
    ],
)
def test_configs_that_do_not_go_together_are_refused_before_anything_runs(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        runs_of(tmp_path, **options)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"methods": ["full", "forgeting"]}, "methods: 'forgeting' is none of full, adapruner, .* mean forgetting"),
        ({"methods": []}, "methods: needs at least one"),
        ({"methods": ["full"], "train_configs": {}}, "train_configs, methods: neither a model nor a method"),
        ({"budgets": ["hours"]}, "budgets: 'hours'"),
        ({"keep_ratios": [0.8, 80]}, r"keep_ratios: \[80\]"),
        ({"keep_ratios": [0.8, 0.8]}, "keep_ratios: needs at least one value and none twice"),
        ({"seeds": [-1]}, "seeds: .-1.; a seed is at least 0"),
        ({"variants": {"adapruner": {}}}, "variants: needs .* different folders"),
        ({"variants": {"a b": {}, "a_b": {}}}, "variants: needs"),
        ({"variants": {"x": {"ADAPRUNER.WARMUP": None}}}, "variants: x: ADAPRUNER.WARMUP needs a value"),
        ({"train_opts": {"SOLVER": {"MAX_ITER": 3}}}, "train_opts: SOLVER needs a value; the parts of a key"),
        ({"variants": {"x": {"method": "full"}}}, "variants: x: 'full' is none of adapruner, random"),
        ({"train_opts": {"--lr": "1"}}, "train_opts: '--lr' is no config key"),
        ({"finetune": {"YOLO": TRAIN[MODEL]}}, r"finetune: names the models \['YOLO'\], but those trained"),
        ({"seeds": []}, "seeds: needs at least one value"),
        ({"more": [Grid({MODEL: "x.yaml"})]}, f"more: train_configs: {MODEL} is x.yaml, but .*R18.yaml elsewhere"),
        ({"more": [Grid({"YOLOv3 Tiny": PRUNE, "YOLOv3_Tiny": PRUNE})]}, "train_configs: .* different folders"),
    ],
)
def test_what_cannot_be_compared_is_refused_naming_the_field(options, message):
    with pytest.raises(ValueError, match=message):
        Experiment(**{"prune_config": PRUNE, "train_configs": TRAIN, **options})
