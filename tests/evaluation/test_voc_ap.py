import csv
import json
import logging
import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_pascal_voc
from detectron2.evaluation import PascalVOCDetectionEvaluator
from detectron2.structures import Boxes, BoxMode, Instances
from PIL import Image

from adapruner_det.data.detection_registration import register_voc
from adapruner_det.data.voc import InvalidDatasetError
from adapruner_det.evaluation.voc_ap import VOCEvaluator, ground_truth

A, B = [0, 0, 10, 10], [50, 50, 70, 70]


@pytest.fixture
def name(request):
    """A dataset name that is free, and freed again."""
    name = f"evaluation_{request.node.name}"
    yield name
    if name in DatasetCatalog:
        DatasetCatalog.remove(name)
    MetadataCatalog.pop(name, None)


def annotation(box, category_id=0, **extra):
    return dict(bbox=box, bbox_mode=BoxMode.XYXY_ABS, category_id=category_id, **extra)


def register(name, images, classes=("cat",), **metadata):
    """images: id -> annotations."""
    dicts = [{"image_id": i, "annotations": annotations} for i, annotations in images.items()]
    DatasetCatalog.register(name, lambda: dicts)
    MetadataCatalog.get(name).set(thing_classes=list(classes), **metadata)


def instances(detections):
    """detections: (box, score, class)s of one image."""
    fields = Instances((100, 100))
    fields.pred_boxes = Boxes(torch.tensor([d[0] for d in detections]).reshape(-1, 4).float())
    fields.scores = torch.tensor([d[1] for d in detections]).float()
    fields.pred_classes = torch.tensor([d[2] for d in detections], dtype=torch.int64)
    return {"instances": fields}


def run(evaluator, predictions):
    evaluator.reset()
    for image_id, detections in predictions.items():
        evaluator.process([{"image_id": image_id}], [instances(detections)])
    return evaluator.evaluate()


def score(name, predictions, **kwargs):
    return run(VOCEvaluator(name, **kwargs), predictions)["bbox"]


def test_perfect_detections_score_100(name):
    register(name, {"a": [annotation(A), annotation(B, 1)], "b": []}, ("cat", "dog"))
    bbox = score(name, {"a": [(A, 0.9, 0), (B, 0.8, 1)], "b": []})
    assert list(bbox) == ["AP", "AP50", "AP75", "AP50-11point", "AP50-area", "AP50-cat", "AP50-dog"]
    assert list(bbox.values()) == pytest.approx([100] * 7)


def test_a_false_positive_ranked_first_halves_the_precision(name):
    register(name, {"a": [annotation(A)], "b": []})
    bbox = score(name, {"a": [(A, 0.8, 0)], "b": [(A, 0.9, 0)]})
    assert bbox["AP50-area"] == bbox["AP50-11point"] == pytest.approx(50)


def test_a_false_positive_ranked_last_costs_nothing(name):
    register(name, {"a": [annotation(A)]})
    assert score(name, {"a": [(A, 0.8, 0), (B, 0.7, 0)]})["AP50"] == pytest.approx(100)


def test_a_detection_has_to_have_the_box_s_class(name):
    register(name, {"a": [annotation(A, 0), annotation(B, 1)]}, ("cat", "dog"))
    bbox = score(name, {"a": [(A, 0.9, 1), (B, 0.8, 1)]})
    assert (bbox["AP50-cat"], bbox["AP50-dog"]) == pytest.approx((0, 50))
    assert bbox["AP50"] == pytest.approx(25)


def test_further_detections_of_a_found_box_are_false_positives(name):
    register(name, {"a": [annotation(A), annotation(B)]})
    bbox = score(name, {"a": [(B, 0.7, 0), (A, 0.9, 0), (A, 0.8, 0)]})
    # Precision 1 up to recall 1/2, then 2/3
    assert bbox["AP50"] == pytest.approx(100 * (0.5 + 0.5 * 2 / 3))
    assert bbox["AP50-11point"] == pytest.approx(100 * (6 + 5 * 2 / 3) / 11)


def test_the_iou_has_to_exceed_the_threshold(name):
    register(name, {"a": [annotation(A)]})
    bbox = score(name, {"a": [([0, 0, 10, 8], 0.9, 0)]})  # IoU 0.8
    assert (bbox["AP50"], bbox["AP75"]) == pytest.approx((100, 100))
    assert bbox["AP"] == pytest.approx(60)  # 0.5 to 0.75


def test_eleven_points_and_area_differ_where_recall_ends(name):
    boxes = [[20 * i, 0, 20 * i + 10, 10] for i in range(10)]
    register(name, {"a": [annotation(box) for box in boxes]})
    bbox = score(name, {"a": [(box, 0.9, 0) for box in boxes[:5]]})
    assert bbox["AP50-area"] == bbox["AP50"] == pytest.approx(50)
    assert bbox["AP50-11point"] == pytest.approx(100 * 6 / 11)


def test_year_2007_makes_11_points_the_rule(name):
    register(name, {"a": [annotation(A), annotation(B)]}, year=2007)
    bbox = score(name, {"a": [(A, 0.9, 0)]})
    assert bbox["AP50-area"] == pytest.approx(50)
    for key in ("AP", "AP50", "AP75", "AP50-11point", "AP50-cat"):
        assert bbox[key] == pytest.approx(100 * 6 / 11), key


@pytest.mark.parametrize("flag", ["difficult", "iscrowd"])
def test_ignored_boxes_neither_count_nor_punish(name, flag):
    register(name, {"a": [annotation(A), annotation(B, **{flag: 1})]})
    both = {"a": [(A, 0.8, 0), (B, 0.9, 0), (B, 0.85, 0)]}
    assert score(name, both)["AP50"] == pytest.approx(100)
    assert score(name, {"a": [(A, 0.8, 0)]})["AP50"] == pytest.approx(100)


def test_a_class_without_boxes_is_left_out_of_the_mean(name, caplog):
    register(name, {"a": [annotation(A), annotation(B, 1, difficult=1)]}, ("cat", "dog", "emu"))
    with caplog.at_level(logging.WARNING):
        bbox = score(name, {"a": [(A, 0.9, 0), (A, 0.9, 2)]})
    assert bbox["AP50"] == pytest.approx(100)
    assert math.isnan(bbox["AP50-dog"]) and math.isnan(bbox["AP50-emu"])
    assert "no box to be found of: dog, emu" in caplog.text


def test_equal_scores_rank_in_the_dataset_s_order_whatever_the_order_of_prediction(name):
    ids = [f"{n}" for n in range(100)]
    register(name, {i: [annotation(A)] if n < 50 else [] for n, i in enumerate(ids)})
    predictions = {i: [(A, 0.9, 0)] for i in reversed(ids)}
    assert score(name, predictions)["AP50"] == pytest.approx(100)


def test_boxes_without_area_match_nothing(name):
    point = [5, 5, 5, 5]
    register(name, {"a": [annotation(point), annotation(A)]})
    bbox = score(name, {"a": [(A, 0.9, 0), (point, 0.8, 0)]})
    assert bbox["AP50"] == pytest.approx(50)


def test_images_that_were_not_predicted_are_counted_in_a_warning(name, caplog):
    register(name, {"a": [annotation(A)], "b": [annotation(A)], "c": [annotation(A)]})
    with caplog.at_level(logging.WARNING):
        assert score(name, {"a": [(A, 0.9, 0)]})["AP50"] == pytest.approx(100 / 3)
    assert "2 of 3 images were not predicted (first: 'b')" in caplog.text
    assert score(name, {})["AP50"] == 0


def test_predictions_that_do_not_fit_the_dataset_are_refused(name):
    register(name, {"a": [annotation(A)]})
    evaluator = VOCEvaluator(name)
    with pytest.raises(ValueError, match="'z' was predicted but is not in dataset"):
        evaluator.process([{"image_id": "z"}], [instances([])])
    with pytest.raises(ValueError, match="class 3 was predicted .* has 1 classes"):
        evaluator.process([{"image_id": "a"}], [instances([(A, 0.9, 3)])])
    evaluator.process([{"image_id": "a"}], [instances([])])
    with pytest.raises(ValueError, match="'a' was predicted twice"):
        evaluator.process([{"image_id": "a"}], [instances([])])


def test_datasets_that_cannot_be_evaluated_are_refused(name):
    dicts = [{"image_id": "a", "annotations": []}, {"image_id": "a", "annotations": []}]
    DatasetCatalog.register(name, lambda: dicts)
    MetadataCatalog.get(name).set(thing_classes=["cat"])
    with pytest.raises(ValueError, match="'a' occurs twice"):
        VOCEvaluator(name)
    dicts[:] = [{"image_id": "a"}]
    with pytest.raises(ValueError, match="none of its 1 images has annotations"):
        VOCEvaluator(name)


def test_files(name, tmp_path):
    xywh = dict(bbox=[2, 3, 10, 10], bbox_mode=BoxMode.XYWH_ABS, category_id=0)
    register(name, {7: [xywh], 8: [annotation(A), annotation(B)]}, ("cat", "dog, brown"))
    out = tmp_path / "new" / "inference"
    detection = ([2, 5.75, 12, 13], 0.5, 0)  # IoU 0.725
    bbox = score(name, {7: [detection], 8: []}, output_dir=str(out))

    assert sorted(p.name for p in out.iterdir()) == [
        "evaluation.json", "per_class_ap.csv", "predictions.json",
    ]  # fmt: skip
    with open(out / "per_class_ap.csv", newline="") as f:
        cat, dog = csv.DictReader(f)
    assert list(cat) == ["class", "images", "boxes", "AP", "AP50", "AP75", "AP50-11point"]
    assert (cat["class"], cat["images"], cat["boxes"]) == ("cat", "2", "3")
    assert float(cat["AP50"]) == bbox["AP50-cat"] == pytest.approx(100 / 3)
    assert float(cat["AP75"]) == bbox["AP75"] == 0
    assert (dog["class"], dog["boxes"], dog["AP50"]) == ("dog, brown", "0", "nan")

    summary = json.loads((out / "evaluation.json").read_text(), parse_constant=pytest.fail)
    assert summary["bbox"]["AP50"] == bbox["AP50"]
    assert summary["bbox"]["AP50-dog, brown"] is None
    assert (summary["rule"], summary["images"], summary["images_predicted"]) == ("area", 2, 2)
    assert json.loads((out / "predictions.json").read_text()) == [
        {"image_id": "7", "category_id": 0, "bbox": [2, 5.75, 10, 7.25], "score": 0.5}
    ]


# VOC trees ---------------------------------------------------------------------------------------

OBJECT = """<object><name>{name}</name>{fields}<bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin>
<xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"""
FIELDS = "<pose>Left</pose><truncated>0</truncated><difficult>{}</difficult>"


def write_voc(root: Path, images, split="test", size=200):
    """images: id -> (class name, box as in the file, the fields' XML)s."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for image_id, objects in images.items():
        Image.new("L", (size, size)).save(root / "JPEGImages" / f"{image_id}.jpg")
        xml = "".join(OBJECT.format(name=n, box=box, fields=fields) for n, box, fields in objects)
        head = f"<size><width>{size}</width><height>{size}</height><depth>3</depth></size>"
        path = root / "Annotations" / f"{image_id}.xml"
        path.write_text(f"<annotation>{head}{xml}</annotation>")
    (root / f"ImageSets/Main/{split}.txt").write_text("".join(f"{i}\n" for i in images))


def random_voc(rng, classes, num_images=40):
    """A random tree's content, and detections near and off its boxes that text does not round."""
    images, predictions = {}, {}
    scores = iter(rng.permutation(np.arange(1, 1000)) / 1000)  # distinct, three decimals
    for n in range(num_images):
        objects, found = [], []
        for _ in range(rng.integers(0, 7)):
            cls = int(rng.integers(len(classes)))
            xmin, ymin = rng.integers(1, 120, 2).tolist()
            width, height = rng.integers(8, 60, 2).tolist()
            box = [xmin, ymin, xmin + width, ymin + height]
            difficult = int(rng.random() < 0.2)
            objects.append((classes[cls], box, FIELDS.format(difficult)))
            for _ in range(rng.integers(0, 4)):
                # Halves are exact in binary and in one decimal
                jitter = rng.integers(-8, 9, 4) * rng.choice([0, 0.5, 1])
                detected = np.array(box) - [1, 1, 0, 0] + jitter
                wrong = rng.random() < 0.15
                found.append((detected.tolist(), next(scores), (cls + wrong) % len(classes)))
        images[f"{n:06d}"], predictions[f"{n:06d}"] = objects, found
    return images, predictions


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("year", [2007, 2012])
def test_equals_detectron2_s_evaluator(name, tmp_path, year, seed):
    classes = ["cat", "dog", "emu"]
    images, predictions = random_voc(np.random.default_rng(seed), classes)
    root = tmp_path / f"VOC{year}"
    write_voc(root, images)
    register_pascal_voc(name, str(root), "test", year, classes)
    expected = run(PascalVOCDetectionEvaluator(name), predictions)["bbox"]
    assert 10 < expected["AP"] < 90  # the comparison is not of trivial cases
    bbox = score(name, predictions)
    assert {key: bbox[key] for key in expected} == pytest.approx(expected, abs=1e-9)

    # The same from our own registration, whose dicts hold the difficult flag; its rule is the area
    own = score_registered_voc(name + "_own", root, classes, predictions)
    same = own.keys() if year == 2012 else ["AP50-area", "AP50-11point"]
    assert {key: own[key] for key in same} == pytest.approx({k: bbox[k] for k in same}, abs=1e-9)
    assert own["AP50"] == own["AP50-area"]


def score_registered_voc(name, root, classes, predictions):
    register_voc(name, root, "test", classes)
    try:
        return score(name, predictions)
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name)


def test_what_detectron2_s_evaluator_refuses(name, tmp_path):
    """One image in the list, decimals, no pose, truncated or difficult, no year."""
    write_voc(tmp_path / "data", {"only": [("bolt", [10.5, 20.25, 60.5, 80.75], "")]})
    register_voc(name, tmp_path / "data", "test")
    bbox = score(name, {"only": [([9.5, 19.25, 60.5, 80.75], 0.9, 0)]})
    assert bbox["AP"] == bbox["AP50-bolt"] == pytest.approx(100)


def test_ground_truth_keeps_the_difficult_flag_that_detectron2_s_dicts_lack(name, tmp_path):
    objects = [("cat", [1, 1, 9, 9], FIELDS.format(0)), ("dog", [5, 6, 20, 30], FIELDS.format(1))]
    write_voc(tmp_path, {"x": objects, "y": []})
    register_pascal_voc(name, str(tmp_path), "test", 2012, ["cat", "dog"])
    truth = ground_truth(name)
    assert list(truth) == ["x", "y"]
    assert truth["x"].boxes.tolist() == [[0, 0, 9, 9], [4, 5, 20, 30]]
    assert truth["x"].classes.tolist() == [0, 1]
    assert truth["x"].ignored.tolist() == [False, True]
    assert truth["y"].boxes.shape == (0, 4)

    path = tmp_path / "Annotations" / "x.xml"
    path.write_text(path.read_text().replace("<difficult>1", "<difficult>maybe"))
    with pytest.raises(InvalidDatasetError, match="x.xml.*\n.*object 2.*'maybe'"):
        ground_truth(name)


def test_real_ground_truth_as_predictions_scores_100(name, shared_data):
    register_voc(name, shared_data / "bccd", "test", ["RBC", "WBC", "Platelets"], "skip_objects")
    predictions = {
        d["image_id"]: [(a["bbox"], 0.9, a["category_id"]) for a in d["annotations"]] for d in DatasetCatalog.get(name)
    }
    bbox = score(name, predictions)
    assert len(predictions) == 72
    assert (bbox["AP"], bbox["AP50-11point"]) == pytest.approx((100, 100))


# Two processes -----------------------------------------------------------------------------------


def _evaluate_on_rank(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/init", rank=rank, world_size=2)
    register("two_ranks", {"a": [annotation(A)], "b": [annotation(A)]})
    mine = [{"a": [(A, 0.9, 0)]}, {"b": [(A, 0.8, 0), (B, 0.95, 0)]}][rank]
    result = run(VOCEvaluator("two_ranks"), mine)
    Path(folder, f"rank{rank}.json").write_text(json.dumps(result))
    dist.destroy_process_group()


def test_predictions_of_all_processes_are_gathered():
    with tempfile.TemporaryDirectory() as folder:
        # Forked, since importing torch and Detectron2 anew takes most of a spawned process's time
        mp.start_processes(_evaluate_on_rank, (folder,), nprocs=2, start_method="fork")
        first, second = (json.loads(Path(folder, f"rank{r}.json").read_text()) for r in (0, 1))
    # False positive first, then both boxes: the envelope is at 2/3 all along
    assert first["bbox"]["AP50"] == pytest.approx(100 * 2 / 3)
    assert second == {}
