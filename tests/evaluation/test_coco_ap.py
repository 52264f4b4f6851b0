import csv
import json

import numpy as np
import pytest
import torch
from coco_files import annotation, coco_content, write_coco
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, BoxMode, Instances

from adapruner_det.data.formats import register_coco
from adapruner_det.data.pruned_datasets import register_pruned_dataset
from adapruner_det.data.records import checked_records
from adapruner_det.data.selection_record import make_selection
from adapruner_det.evaluation.coco_ap import COCOFileEvaluator
from adapruner_det.evaluation.voc_ap import VOCEvaluator, build_evaluator

pytestmark = pytest.mark.usefixtures("clean_catalogs")


def predict(records, seed=0, masks=False):
    """Noisy copies of the boxes, some of the wrong class, and a false one an image."""
    rng = np.random.default_rng(seed)
    for record in records:
        boxes, classes = [[1.0, 1.0, 9.0, 9.0]], [0]
        for a in record["annotations"]:
            x, y, w, h = a["bbox"]
            boxes.append(np.array([x, y, x + w, y + h]) + rng.normal(0, 2, 4))
            classes.append(a["category_id"] if rng.random() < 0.8 else 1 - a["category_id"])
        instances = Instances((record["height"], record["width"]))
        instances.pred_boxes = Boxes(torch.tensor(np.array(boxes), dtype=torch.float32))
        instances.scores = torch.tensor(rng.random(len(boxes)))
        instances.pred_classes = torch.tensor(classes)
        if masks:
            instances.pred_masks = torch.ones(len(boxes), record["height"], record["width"], dtype=bool)
        yield record, {"instances": instances}


def evaluate(evaluator, records, **options):
    evaluator.reset()
    for record, output in predict(records, **options):
        evaluator.process([record], [output])
    return evaluator.evaluate()


def register(folder, content, name="squares", **options):
    register_coco(name, write_coco(folder, content), folder / "images", **options)
    return DatasetCatalog.get(name)


def with_polygons(content):
    for entry in content["annotations"]:
        x, y, w, h = entry["bbox"]
        entry["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    return content


def test_figures_are_those_of_detectron2s_evaluator(tmp_path):
    content = coco_content(12)
    content["annotations"].append(annotation(900, 10, [0, 0, 60, 40], 3, iscrowd=1))
    records = register(tmp_path, content)
    ours = evaluate(COCOFileEvaluator("squares", str(tmp_path / "out")), records)["bbox"]
    theirs = evaluate(COCOEvaluator("squares", output_dir=str(tmp_path / "theirs")), records)["bbox"]
    assert 10 < theirs["AP"] < 90
    assert {key: ours[key] for key in theirs} == pytest.approx(theirs, nan_ok=True)
    assert (ours["AP50-black"] + ours["AP50-white"]) / 2 == pytest.approx(ours["AP50"])
    written = json.loads((tmp_path / "out/evaluation.json").read_text())
    assert written.pop("bbox") == {k: None if np.isnan(v) else v for k, v in ours.items()}
    assert written == {"dataset": "squares", "rule": "coco", "images": 12, "images_predicted": 12}
    black, white = csv.DictReader((tmp_path / "out/per_class_ap.csv").open())
    assert (black["class"], white["class"]) == ("black", "white")
    boxes = [a for a in content["annotations"] if a["category_id"] == 3 and not a["iscrowd"]]
    assert int(black["boxes"]) == len(boxes) and int(black["images"]) == len({a["image_id"] for a in boxes})
    assert float(white["AP"]) == pytest.approx(ours["AP-white"])
    voc = evaluate(VOCEvaluator("squares"), records)["bbox"]
    for key in ("AP", "AP50", "AP75", "AP50-white"):  # area rule and 101 points of recall
        assert ours[key] == pytest.approx(voc[key], abs=3)


def test_classes_in_another_order_keep_their_figures(tmp_path):
    content = coco_content(12)
    records = register(tmp_path, content)
    usual = evaluate(COCOFileEvaluator("squares"), records)["bbox"]
    register(tmp_path, content, "turned", class_names=["white", "none", "black"])
    evaluator = COCOFileEvaluator("turned")
    evaluator.reset()
    for record, output in predict(DatasetCatalog.get("squares")):
        output["instances"].pred_classes = 2 * (1 - output["instances"].pred_classes)
        evaluator.process([record], [output])
    turned = evaluator.evaluate()["bbox"]
    assert np.isnan(turned.pop("AP-none")) and np.isnan(turned.pop("AP50-none"))
    assert turned == pytest.approx(usual, nan_ok=True)


def test_what_was_left_out_is_not_judged(tmp_path):
    content = coco_content(6)
    register(tmp_path, content)
    whole = COCOFileEvaluator("squares")
    content["annotations"] += [
        annotation(900, 10, [1, 1, 0, 5]),  # no area
        annotation(901, 70, [1, 1, 5, 5], 4),  # no such category
        annotation(902, 30, [1, 1, 5, 5], ignore=1),
        annotation(903, 70, [1, 1, 5, 5]),
    ]
    content["images"].append({"id": 70, "file_name": "70.jpg", "width": 64, "height": 48})
    path = write_coco(tmp_path, content, "bad.json")
    (tmp_path / "images/70.jpg").unlink()
    register_coco("bad", path, tmp_path / "images", on_invalid="skip_objects")
    evaluator = COCOFileEvaluator("bad")
    left = evaluator._coco_api.dataset["annotations"]
    assert len(left) == len(whole._coco_api.dataset["annotations"]) + 1
    assert [a["iscrowd"] for a in left if a["image_id"] == 30][-1] == 1
    records = DatasetCatalog.get("squares")
    results = evaluate(evaluator, records)["bbox"]
    assert results == pytest.approx(evaluate(whole, records)["bbox"], nan_ok=True, abs=2)


def test_ids_and_areas_that_pycocotools_needs_are_made(tmp_path):
    content = coco_content(6)
    records = register(tmp_path, content)
    usual = evaluate(COCOFileEvaluator("squares"), records)["bbox"]
    for number, entry in enumerate(content["annotations"]):
        entry["id"] = number  # pycocotools takes the one with 0 for no match
        del entry["area"], entry["iscrowd"]
    records = register(tmp_path, content, "bare")
    assert evaluate(COCOFileEvaluator("bare"), records)["bbox"] == pytest.approx(usual, nan_ok=True)


def test_a_pruned_data_set_is_judged_by_its_own_images(tmp_path):
    records = checked_records("squares", register(tmp_path, coco_content(6)))
    kept = [record["image_id"] in (10, 30) for record in records]
    selection = make_selection(records, [0.0] * 6, kept, keep_ratio=1 / 3, method="random")
    register_pruned_dataset("pruned", "squares", selection)
    evaluator = COCOFileEvaluator("pruned")
    assert sorted(evaluator._coco_api.imgs) == [10, 30]
    assert {a["image_id"] for a in evaluator._coco_api.dataset["annotations"]} == {10, 30}


def test_finding_nothing_is_0_not_nan(tmp_path):
    records = register(tmp_path, coco_content(3))
    evaluator = COCOFileEvaluator("squares", str(tmp_path / "out"))
    evaluator.reset()
    for record, output in predict(records):
        evaluator.process([record], [{"instances": output["instances"][:0]}])
    results = evaluator.evaluate()["bbox"]
    assert [results[key] for key in ("AP", "AP50", "AP75", "AP50-black")] == [0, 0, 0, 0]
    assert json.loads((tmp_path / "out/evaluation.json").read_text())["bbox"]["AP"] == 0


def test_masks_are_judged_by_the_polygons_that_were_read(tmp_path):
    content = with_polygons(coco_content(3))
    records = register(tmp_path, content)
    expected = evaluate(COCOFileEvaluator("squares"), records, masks=True)["segm"]
    for entry in content["annotations"]:  # a line of two points, of which pycocotools would make a box
        entry["segmentation"].insert(0, [1, 2, 3, 4])
    records = register(tmp_path, content, "with_lines")
    found = evaluate(COCOFileEvaluator("with_lines"), records, masks=True)["segm"]
    assert found == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("empty", [[], [[]], None])
def test_an_object_without_segmentation_costs_the_masks_figures_alone(tmp_path, caplog, empty):
    content = with_polygons(coco_content(3))
    content["annotations"][0].update(segmentation=empty, area=None)
    records = register(tmp_path, content)
    results = evaluate(COCOFileEvaluator("squares"), records, masks=True)
    assert "segm" not in results and results["bbox"]["AP50"] > 0
    assert f"segm is not evaluated, since 1 of {len(content['annotations'])} objects have no" in caplog.text


def test_a_file_without_annotations_gives_predictions_alone(tmp_path):
    content = coco_content(3)
    path = write_coco(tmp_path, content)
    records = register(tmp_path, content)
    del content["annotations"]
    path.write_text(json.dumps(content))
    register_coco_instances("test-dev", {"thing_classes": ["black", "white"]}, str(path), "images")
    results = evaluate(COCOFileEvaluator("test-dev", str(tmp_path / "out")), records)
    assert not results and not (tmp_path / "out/evaluation.json").exists()
    assert json.loads((tmp_path / "out/coco_instances_results.json").read_text())


def test_the_evaluator_follows_the_data_set(tmp_path):
    register(tmp_path, coco_content(3))
    register_coco_instances("detectron2s", {}, str(tmp_path / "instances.json"), str(tmp_path / "images"))
    for name in ("squares", "detectron2s"):
        assert type(build_evaluator(name)) is COCOFileEvaluator
    box = {"bbox": [1, 1, 5, 5], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}
    DatasetCatalog.register("other", lambda: [{"image_id": "a", "annotations": [box]}])
    MetadataCatalog.get("other").set(thing_classes=["black"])
    assert type(build_evaluator("other")) is VOCEvaluator


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_in_every_encoding_that_is_read_are_judged_and_their_areas_only_where_they_are_some(tmp_path, encoding):
    content = coco_content(6)
    records = register(tmp_path, content)
    usual = evaluate(COCOFileEvaluator("squares"), records)["bbox"]
    for entry, area in zip(content["annotations"], ("400", [1], {"a": 1}, -5, float("nan"), True)):
        entry["area"] = area
    path = write_coco(tmp_path, content)
    path.write_text(json.dumps(content), encoding=encoding)
    register_coco("odd", path, tmp_path / "images")
    assert evaluate(COCOFileEvaluator("odd"), DatasetCatalog.get("odd"))["bbox"] == pytest.approx(usual, nan_ok=True)
    assert not [name for name in MetadataCatalog.list() if name.endswith(".json")]
