import pytest
from conftest import ROOT, write_voc_folder
from detectron2.data import DatasetCatalog, MetadataCatalog

from adapruner_det.engine import argument_parser, setup


@pytest.fixture
def folder(tmp_path):
    """A VOC folder; data sets the test registers are forgotten afterwards."""
    before = set(DatasetCatalog.list())
    yield write_voc_folder(tmp_path / "voc", {"train": ["a", "b", "c"], "test": ["d"]})
    for name in set(DatasetCatalog.list()) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def run(*arguments, output):
    return setup(argument_parser().parse_args([*map(str, arguments), "OUTPUT_DIR", str(output)]))


def test_registered_data_is_trained_on_and_evaluated_on(folder, tmp_path):
    specs = ["--register", f"mine=voc:{folder}:train", "--register", f"mine_test=voc:{folder}:test"]
    cfg = run(*specs, output=tmp_path / "out")
    assert cfg.DATASETS.TRAIN == ("mine",) and cfg.DATASETS.TEST == ("mine_test",)
    assert len(DatasetCatalog.get("mine")) == 3


def test_heads_predict_the_classes_of_the_data(folder, tmp_path):
    cfg = run("--register", f"mine=voc:{folder}:train:black,grey,white", output=tmp_path / "out")
    heads = cfg.MODEL.YOLO, cfg.MODEL.ROI_HEADS, cfg.MODEL.RETINANET
    assert [head.NUM_CLASSES for head in heads] == [3, 3, 3]


def test_data_sets_with_other_classes_are_refused(folder, tmp_path):
    train, test = f"mine=voc:{folder}:train", f"mine_test=voc:{folder}:test:white,black"
    with pytest.raises(ValueError, match="mine_test has the classes.*give both the same list"):
        run("--register", train, "--register", test, output=tmp_path / "out")


def test_an_explicit_training_set_wins_over_the_order_of_registration(folder, tmp_path):
    specs = ["--register", f"mine=voc:{folder}:train", "--register", f"other=voc:{folder}:test"]
    cfg = run(*specs, "DATASETS.TRAIN", "('other',)", output=tmp_path / "out")
    assert cfg.DATASETS.TRAIN == ("other",)


def test_selection_on_the_command_line_is_the_config_key(folder, tmp_path):
    cfg = run("--selection", "some/folder", "DATASETS.TRAIN", "()", "DATASETS.TEST", "()",
              output=tmp_path / "out")  # fmt: skip
    assert cfg.DATASETS.SELECTION == "some/folder"


def test_a_config_s_own_data_need_not_be_there_to_use_others(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "nothing"))
    config = ("--config-file", ROOT / "configs/bccd/prune_yolov3_tiny_R18.yaml")
    cfg = run(*config, "--register", f"mine=voc:{folder}:train", output=tmp_path / "out")
    assert cfg.DATASETS.TRAIN == ("mine",)
    with pytest.raises(ValueError, match="there is no bccd"):
        run(*config, output=tmp_path / "out")


def test_a_whole_number_will_do_for_a_key_that_holds_a_float(tmp_path):
    nothing = ("DATASETS.TRAIN", "()", "DATASETS.TEST", "()")
    cfg = run(*nothing, "ADAPRUNER.WARMUP", "0", "SOLVER.MAX_EPOCHS", "12", "SOLVER.MAX_ITER", "7",
              output=tmp_path / "out")  # fmt: skip
    assert (cfg.ADAPRUNER.WARMUP, cfg.SOLVER.MAX_EPOCHS, cfg.SOLVER.MAX_ITER) == (0.0, 12.0, 7)
    with pytest.raises(ValueError, match="SOLVER.MAX_ITER"):
        run(*nothing, "SOLVER.MAX_ITER", "7.5", output=tmp_path / "out")


def test_a_random_seed_is_written_down_and_taken_up_again_on_resume(tmp_path):
    nothing = ("DATASETS.TRAIN", "()", "DATASETS.TEST", "()")
    first = run(*nothing, output=tmp_path / "out").SEED
    assert first >= 0
    assert run("--resume", *nothing, output=tmp_path / "out").SEED == first
    assert run(*nothing, output=tmp_path / "other").SEED != first


def test_a_single_data_set_is_evaluated_on_when_only_evaluating(folder, tmp_path):
    cfg = run("--eval-only", "--register", f"mine=voc:{folder}:test", "MODEL.WEIGHTS", "x.pth",
              output=tmp_path / "out")  # fmt: skip
    assert cfg.DATASETS.TEST == ("mine",)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("MODEL.WEIGHTS", "x.pth", "DATASETS.TEST", "()"), "no data set to evaluate on"),
        (("DATASETS.TEST", "('coco_2017_val',)"), "no weights to evaluate.*MODEL.WEIGHTS PATH"),
    ],
)
def test_evaluating_nothing_or_random_weights_is_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        run("--eval-only", *arguments, output=tmp_path / "out")
