"""Detectron2's model zoo prunes COCO data by our command, with its own data set names and users' own."""

import json

import numpy as np
from coco_files import coco_content, write_coco
from conftest import ROOT, load_script, write_voc_folder
from detectron2 import model_zoo
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from detectron2.utils.env import seed_all_rng

from adapruner_det.engine import AdaPrunerTrainer, load_config
from adapruner_det.engine.setup import set_num_classes
from adapruner_det.pruning import Selection

# Only size and length differ from what the configs say.
SMALL = (
    "MODEL.WEIGHTS", "", "MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64",
    "INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", "64", "DATALOADER.NUM_WORKERS", "0",
    "SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "6", "SOLVER.STEPS", "()", "SOLVER.BASE_LR", "0.0001",
    "ADAPRUNER.ENABLED", "True", "ADAPRUNER.KEEP_RATIO", "0.75",
)  # fmt: skip


def evaluation(folder, name):
    return json.loads((folder / "inference" / name / "evaluation.json").read_text())


def kept_by_json(folder, name):
    path = folder / f"selection/annotations/{name}_adapruner_0.75.json"
    return {str(image["id"]) for image in json.loads(path.read_text())["images"]}


def test_faster_rcnn_of_the_zoo_prunes_and_is_evaluated_on_coco_2017(run_tool, tmp_path):
    categories = [{k: c[k] for k in ("id", "name")} for c in COCO_CATEGORIES if c["isthing"]]
    for split, seed in (("train2017", 0), ("val2017", 1)):
        content = {**coco_content(4 if seed == 0 else 2, seed), "categories": categories}
        write_coco(tmp_path / "coco", content, f"instances_{split}.json")
        (tmp_path / "coco/images/sub").rename(tmp_path / "coco" / split)
        for image in content["images"]:
            image["file_name"] = image["file_name"].removeprefix("sub/")
        (tmp_path / "coco/annotations").mkdir(exist_ok=True)
        (tmp_path / "coco" / f"instances_{split}.json").unlink()
        (tmp_path / f"coco/annotations/instances_{split}.json").write_text(json.dumps(content))
    config = model_zoo.get_config_file("COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml")
    out = run_tool("train_net.py", "--config-file", config, "OUTPUT_DIR", tmp_path / "out", *SMALL,
                   DETECTRON2_DATASETS=str(tmp_path))  # fmt: skip
    assert "3 of 4 images kept" in out
    selection = Selection.load(tmp_path / "out/selection")
    assert kept_by_json(tmp_path / "out", "coco_2017_train") == selection.kept_ids("coco_2017_train")
    found = evaluation(tmp_path / "out", "coco_2017_val")
    assert (found["images"], found["images_predicted"]) == (2, 2)
    assert len([key for key in found["bbox"] if key.startswith("AP50-")]) == 80


def test_retinanet_of_the_zoo_prunes_and_is_evaluated_on_own_data(run_tool, tmp_path):
    # The pictures of the second serve both
    test, train = (write_coco(tmp_path, coco_content(n, n), f"{n}.json") for n in (2, 4))
    config = model_zoo.get_config_file("COCO-Detection/retinanet_R_50_FPN_1x.yaml")
    out = run_tool("train_net.py", "--config-file", config,
                   "--register", f"mine=coco:{train}:{tmp_path / 'images'}",
                   "--register", f"mine_test=coco:{test}:{tmp_path / 'images'}",
                   "OUTPUT_DIR", tmp_path / "out", *SMALL)  # fmt: skip
    assert "3 of 4 images kept" in out
    kept = Selection.load(tmp_path / "out/selection").kept_ids("mine")
    assert kept_by_json(tmp_path / "out", "mine") == kept and len(kept) == 3
    assert evaluation(tmp_path / "out", "mine_test")["bbox"].keys() >= {"AP", "AP50", "AP75", "AP50-white"}


def test_the_same_data_is_pruned_alike_as_voc_and_as_coco(tmp_path, clean_catalogs, monkeypatch):
    # Random numbers go by data set and id, which are not the same: here by place.
    monkeypatch.setattr("adapruner_det.pruning.energy.weighted_draw", lambda *args: np.arange(9)[::-1] / 9)
    folder = write_voc_folder(tmp_path / "voc", {"all": [f"i{n}" for n in range(9)]})
    content = load_script(ROOT / "datasets/convert_voc_to_coco.py").convert(str(folder), "all")
    (tmp_path / "all.json").write_text(json.dumps(content))
    specs = f"as_voc=voc:{folder}:all", f"as_coco=coco:{tmp_path / 'all.json'}:{folder / 'JPEGImages'}"
    scores = []
    for spec in specs:
        output = tmp_path / spec.partition("=")[0]
        run = ("SEED", 3, "SOLVER.MAX_ITER", 15, "SOLVER.BASE_LR", 0.01)
        overrides = (*run, "OUTPUT_DIR", output)
        cfg = load_config(str(ROOT / "configs/Base-YOLOv3-Tiny-R18.yaml"), [spec], list(map(str, (*SMALL, *overrides))))
        set_num_classes(cfg)
        seed_all_rng(3)  # as default_setup does
        AdaPrunerTrainer(cfg).train()
        selection = Selection.load(output / "selection")
        columns = [selection.columns[name] for name in ("final_loss", "annotations")]
        scores.append((selection.scores, selection.kept, *columns))
    assert scores[0] == scores[1]
    assert len(set(scores[0][2])) > 5, "the model should tell the images apart"
