from pathlib import Path

import pytest
import torch
from conftest import ROOT, write_voc_folder
from detectron2 import model_zoo
from detectron2.data import DatasetCatalog

from adapruner_det.commands import options
from adapruner_det.engine import load_config, setup

NOTHING = ("DATASETS.TRAIN", "()", "DATASETS.TEST", "()")


@pytest.fixture
def folder(tmp_path, clean_catalogs):
    return write_voc_folder(tmp_path / "voc", {"train": ["a", "b", "c"], "test": ["d"]})


def run(*arguments, output, command="train_net.py"):
    return setup(options.parse(command, [*map(str, arguments), "OUTPUT_DIR", str(output)]))


def test_registered_data_is_trained_on_and_evaluated_on(folder, tmp_path):
    specs = ["--register", f"mine=voc:{folder}:train", "--register", f"mine_test=voc:{folder}:test"]
    cfg = run(*specs, output=tmp_path / "out")
    assert cfg.DATASETS.TRAIN == ("mine",) and cfg.DATASETS.TEST == ("mine_test",)
    assert len(DatasetCatalog.get("mine")) == 3


@pytest.mark.parametrize("command", ["prune", "train"])
def test_the_test_list_of_a_path_is_evaluated_on(folder, tmp_path, command):
    datasets = run(folder, output=tmp_path / "out", command=command).DATASETS
    assert (datasets.TRAIN, datasets.TEST) == (("voc_train",), ("voc_test",))
    assert run(f"{folder}:train", output=tmp_path / "part", command=command).DATASETS.TEST == ()


def test_heads_predict_the_classes_of_the_data_which_have_to_agree(folder, tmp_path):
    cfg = run("--register", f"mine=voc:{folder}:train:black,grey,white", output=tmp_path / "out")
    heads = cfg.MODEL.YOLO, cfg.MODEL.ROI_HEADS, cfg.MODEL.RETINANET
    assert [head.NUM_CLASSES for head in heads] == [3, 3, 3]
    train, test = f"one=voc:{folder}:train", f"one_test=voc:{folder}:test:white,black"
    with pytest.raises(ValueError, match="one_test has the classes.*give both the same list"):
        run("--register", train, "--register", test, output=tmp_path / "out")


def test_what_is_named_explicitly_wins(folder, tmp_path):
    specs = ["--register", f"mine=voc:{folder}:train", "--register", f"other=voc:{folder}:test"]
    cfg = run(*specs, "--selection", "some/folder", "DATASETS.TRAIN", "('other',)", output=tmp_path / "out")
    assert cfg.DATASETS.TRAIN == ("other",) and cfg.DATASETS.SELECTION == "some/folder"


def test_of_more_data_sets_than_two_it_is_said_which_is_what(folder, tmp_path):
    specs = [word for name in "abc" for word in ("--register", f"{name}=voc:{folder}:train")]
    with pytest.raises(
        ValueError, match=r"^c: registered, but neither trained on \(a\) nor evaluated on \(b\).*--train"
    ):
        run(*specs, output=tmp_path / "out")
    cfg = run(*specs, "--train", "a", "--train", "c", "--test", "b", output=tmp_path / "out")
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (("a", "c"), ("b",))
    assert run(*specs, "--test", "b", output=tmp_path / "out").DATASETS.TRAIN == ("a", "c")


def test_a_config_s_own_data_need_not_be_there_to_use_others(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "nothing"))
    config = ("--config-file", ROOT / "configs/bccd/prune_yolov3_tiny_R18.yaml")
    cfg = run(*config, "--register", f"mine=voc:{folder}:train", output=tmp_path / "out")
    assert cfg.DATASETS.TRAIN == ("mine",)
    with pytest.raises(ValueError, match="there is no bccd"):
        run(*config, output=tmp_path / "out")


def test_a_random_seed_is_written_down_and_taken_up_again_on_resume(tmp_path):
    first = run(*NOTHING, output=tmp_path / "out").SEED
    assert first >= 0
    assert run("--resume", *NOTHING, output=tmp_path / "out").SEED == first
    assert run(*NOTHING, output=tmp_path / "other").SEED != first


def test_that_the_data_may_have_changed_is_said_on_resume(folder, tmp_path):
    run(folder, output=tmp_path / "out", command="prune")
    settings = {"trainer": {"settings": {"MODEL.YOLO.ANCHORS": [[1, 1]]}}}
    torch.save({"iteration": 1, "model": {}, **settings}, tmp_path / "out/model_0000001.pth")
    with pytest.raises(ValueError, match="ANCHORS was .* follows from the data, which may have changed"):
        run(folder, "--resume", output=tmp_path / "out", command="prune")


def test_a_single_data_set_is_evaluated_on_when_only_evaluating(folder, tmp_path):
    only = ("--eval-only", "--register", f"mine=voc:{folder}:test")
    assert run(*only, "MODEL.WEIGHTS", "x.pth", output=tmp_path / "out").DATASETS.TEST == ("mine",)
    with pytest.raises(ValueError, match="no weights to evaluate.*MODEL.WEIGHTS PATH"):
        run(*only, output=tmp_path / "out")
    with pytest.raises(ValueError, match="no data set to evaluate on"):
        run("--eval-only", "MODEL.WEIGHTS", "x.pth", *NOTHING, output=tmp_path / "out")


@pytest.mark.parametrize(
    "content, reason",
    [
        ("SEED: !!python/object/apply:os.mkdir [{folder}/run]", "could not determine a constructor"),
        ("SEED: [1", "is no config: while parsing"),
        ("", "is no config"),
        ("- 1", "is no config"),
    ],
)
def test_configs_run_no_code_and_what_is_no_config_is_refused(tmp_path, content, reason):
    path = tmp_path / "config.yaml"
    path.write_text(content.format(folder=tmp_path))
    with pytest.raises(ValueError, match=f"config.yaml is no config.*{reason}|config.yaml {reason}") as refused:
        load_config(str(path))
    assert "\n" not in str(refused.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "opts, message",
    [
        (["SEED"], "SEED are no KEY VALUE pairs: a key or a value is missing"),
        (["SEED.X", "1"], r"the command line sets SEED.X, which there is not; did you mean SEED\?"),
        (["NO.KEY", "1"], "the command line sets NO.KEY, which there is not"),
        (["DATASETS.REGISTER", "(1, 2)"], "DATASETS.REGISTER has 1; it is a list of texts"),
        (["MODEL.FPN", "1"], "MODEL.FPN is a group of keys, such as MODEL.FPN.IN_FEATURES: set one of these"),
    ],
)
def test_mistakes_at_the_end_of_a_command_are_one_line(opts, message):
    with pytest.raises((KeyError, ValueError), match=message) as refused:
        load_config(opts=opts)
    assert "\n" not in str(refused.value)


def test_configs_of_detectron2_are_read_whatever_they_work_out_also_as_the_base_of_others(tmp_path):
    zoo = model_zoo.get_config_file("COCO-Detection/retinanet_R_50_FPN_1x.yaml")
    (tmp_path / "mine.yaml").write_text(f"_BASE_: {zoo}")
    assert load_config(str(tmp_path / "mine.yaml")).MODEL.ANCHOR_GENERATOR.SIZES[0][0] == 32
    (tmp_path / "copy.yaml").write_text(Path(zoo).parents[1].joinpath("Base-RetinaNet.yaml").read_text())
    with pytest.raises(ValueError, match="values written out"):
        load_config(str(tmp_path / "copy.yaml"))


def test_a_drawn_seed_is_taken_from_the_checkpoint_whatever_config_yaml_has_become(tmp_path):
    first = run(*NOTHING, output=tmp_path).SEED
    torch.save({"iteration": 1, "model": {}, "trainer": {"settings": {"SEED": first}}}, tmp_path / "model_0000001.pth")
    for content in ("", "SEED: 5", "SEED: [", "5"):
        (tmp_path / "config.yaml").write_text(content)
        assert run("--resume", *NOTHING, output=tmp_path).SEED == first
    with pytest.raises(ValueError, match="holds another run"):
        run(*NOTHING, output=tmp_path)
    with pytest.raises(ValueError, match=f"SEED was {first}, is {first + 1}"):
        run("--resume", *NOTHING, "SEED", first + 1, output=tmp_path)
    with pytest.raises(ValueError, match="--overwrite replaces it: use one of them"):
        run("--resume", "--overwrite", *NOTHING, output=tmp_path)


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("lazy.py", "model = 1", "lazy.py is a LazyConfig, .*prune with a YAML config"),
        ("device.yaml", "MODEL: {DEVICE: cuda}", "torch sees no GPU here: add MODEL.DEVICE cpu"),
        ("device.yaml", "MODEL: {DEVICE: tpu}", "MODEL.DEVICE is 'tpu', which torch does not know"),
        ("node.yaml", "ADAPRUNER: 3", "node.yaml: Type mismatch .*config key: ADAPRUNER"),
    ],
)
def test_configs_that_cannot_be_used_are_refused_in_one_line(tmp_path, monkeypatch, name, text, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message) as refused:
        run("--config-file", name, *NOTHING, output=tmp_path / "out")
    assert "\n" not in str(refused.value)


def test_a_key_without_a_value_is_refused():
    with pytest.raises(ValueError, match="ADAPRUNER.LABEL_ERRORS has no value; it is a float, such as 1.0"):
        load_config(opts=["ADAPRUNER.LABEL_ERRORS", "None"])


@pytest.mark.parametrize(
    "key, value, said",
    [
        ("SOLVER.IMS_PER_BATCH", "0", "at least 1"),
        ("SOLVER.MAX_ITER", "9" * 400, "9{30}; it is at least 0"),
        ("SOLVER.MAX_EPOCHS", "-1.0", "at least 0"),
        ("SOLVER.CHECKPOINT_PERIOD", "0", "at least 1"),
        ("SOLVER.GAMMA", "-1.0", "at least 0"),
        ("SOLVER.MOMENTUM", "2.0", "at least 0, at most 1"),
        ("SOLVER.STEPS", "(5, 2)", "the lowest first"),
        ("SOLVER.STEPS", "('a',)", "numbers of iterations"),
        ("INPUT.MIN_SIZE_TRAIN", "()", "whole numbers of pixels"),
        ("INPUT.MIN_SIZE_TRAIN", "(0,)", "whole numbers of pixels, 1 to"),
        ("INPUT.MIN_SIZE_TRAIN", "('a',)", "whole numbers of pixels"),
        ("INPUT.MIN_SIZE_TRAIN", "(1000000,)", "1 to 32768"),
        ("INPUT.MAX_SIZE_TEST", "0", "at least 1, at most 32768"),
        ("INPUT.RANDOM_FLIP", "x", "none, horizontal or vertical"),
        ("DATALOADER.NUM_WORKERS", "-1", "at least 0"),
        ("SEED", "99999999999999999999", "at least -1"),
    ],
)
def test_values_of_detectron2_s_keys_that_cannot_be_meant_are_refused_by_key(key, value, said):
    with pytest.raises(ValueError, match=f"^{key} is .*{said}"):
        load_config(opts=[key, value])
