import csv
import json
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

from adapruner_det.data.formats import register_voc
from adapruner_det.data.validation import InvalidDatasetError
from adapruner_det.evaluation.voc_ap import VOCEvaluator, ground_truth

A, B = [0, 0, 10, 10], [50, 50, 70, 70]
NAME = "evaluated"
pytestmark = pytest.mark.usefixtures("clean_catalogs")


def annotation(box, category_id=0, **extra):
    return dict(bbox=box, bbox_mode=BoxMode.XYXY_ABS, category_id=category_id, **extra)


def register(images, classes=("cat",), name=NAME, **metadata):
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


def score(predictions, name=NAME, **kwargs):
    return run(VOCEvaluator(name, **kwargs), predictions)["bbox"]


def test_perfect_detections_score_100():
    register({"a": [annotation(A), annotation(B, 1)], "b": []}, ("cat", "dog"))
    bbox = score({"a": [(A, 0.9, 0), (B, 0.8, 1)], "b": []})
    assert list(bbox) == ["AP", "AP50", "AP75", "AP50-11point", "AP50-area", "AP50-cat", "AP50-dog"]
    assert list(bbox.values()) == pytest.approx([100] * 7)


POINT = [5, 5, 5, 5]
TEN = [[20 * i, 0, 20 * i + 10, 10] for i in range(10)]
CASES = {
    "a false positive ranked first halves the precision": (
        [A], [(A, 0.8, 0), (B, 0.9, 0)], {"AP50-area": 50, "AP50-11point": 50}),
    "a false positive ranked last costs nothing": ([A], [(A, 0.8, 0), (B, 0.7, 0)], {"AP50": 100}),
    # Precision 1 up to recall 1/2, then 2/3
    "further detections of a found box are false positives": (
        [A, B], [(B, 0.7, 0), (A, 0.9, 0), (A, 0.8, 0)],
        {"AP50": 100 * (0.5 + 0.5 * 2 / 3), "AP50-11point": 100 * (6 + 5 * 2 / 3) / 11}),
    "the IoU, 0.8, has to exceed the threshold": ([A], [([0, 0, 10, 8], 0.9, 0)], {"AP50": 100, "AP75": 100, "AP": 60}),
    "11 points and area differ where recall ends": (
        TEN, [(box, 0.9, 0) for box in TEN[:5]], {"AP50": 50, "AP50-area": 50, "AP50-11point": 100 * 6 / 11}),
    "boxes without area match nothing": ([POINT, A], [(A, 0.9, 0), (POINT, 0.8, 0)], {"AP50": 50}),
    "no detection": ([A], [], {"AP": 0, "AP50": 0}),
}  # fmt: skip


@pytest.mark.parametrize("boxes, detections, expected", CASES.values(), ids=CASES)
def test_figures_by_hand(boxes, detections, expected):
    register({"a": [annotation(box) for box in boxes]})
    bbox = score({"a": detections})
    assert {key: bbox[key] for key in expected} == pytest.approx(expected)


def test_a_detection_has_to_have_the_box_s_class():
    register({"a": [annotation(A, 0), annotation(B, 1)]}, ("cat", "dog"))
    bbox = score({"a": [(A, 0.9, 1), (B, 0.8, 1)]})
    assert (bbox["AP50-cat"], bbox["AP50-dog"], bbox["AP50"]) == pytest.approx((0, 50, 25))


def test_year_2007_makes_11_points_the_rule():
    register({"a": [annotation(A), annotation(B)]}, year=2007)
    bbox = score({"a": [(A, 0.9, 0)]})
    assert bbox.pop("AP50-area") == pytest.approx(50)
    assert list(bbox.values()) == pytest.approx([100 * 6 / 11] * 5)


@pytest.mark.parametrize("flag", ["difficult", "iscrowd"])
def test_ignored_boxes_neither_count_nor_punish(flag):
    register({"a": [annotation(A), annotation(B, **{flag: 1})]})
    assert score({"a": [(A, 0.8, 0), (B, 0.9, 0), (B, 0.85, 0)]})["AP50"] == pytest.approx(100)
    assert score({"a": [(A, 0.8, 0)]})["AP50"] == pytest.approx(100)


def test_a_class_without_boxes_is_left_out_of_the_mean(caplog):
    register({"a": [annotation(A), annotation(B, 1, difficult=1)]}, ("cat", "dog", "emu"))
    bbox = score({"a": [(A, 0.9, 0), (A, 0.9, 2)]})
    assert bbox["AP50"] == pytest.approx(100)
    assert math.isnan(bbox["AP50-dog"]) and math.isnan(bbox["AP50-emu"])
    assert "no box to be found of: dog, emu" in caplog.text


def test_equal_scores_rank_in_the_dataset_s_order_whatever_the_order_of_prediction():
    ids = [f"{n}" for n in range(100)]
    register({i: [annotation(A)] if n < 50 else [] for n, i in enumerate(ids)})
    assert score({i: [(A, 0.9, 0)] for i in reversed(ids)})["AP50"] == pytest.approx(100)


def test_images_that_were_not_predicted_count_as_missed(caplog):
    register({"a": [annotation(A)], "b": [annotation(A)], "c": [annotation(A)]})
    assert score({"a": [(A, 0.9, 0)]})["AP50"] == pytest.approx(100 / 3)
    assert "2 of 3 images were not predicted (first: 'b')" in caplog.text
    assert score({})["AP50"] == 0


def test_predictions_that_do_not_fit_the_dataset_are_refused():
    register({"a": [annotation(A)]})
    evaluator = VOCEvaluator(NAME)
    for image_id, detections, message in (
        ("z", [], "'z' was predicted but is not in dataset"),
        ("a", [(A, 0.9, 3)], "class 3 was predicted .* has 1 classes"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluator.process([{"image_id": image_id}], [instances(detections)])
    evaluator.process([{"image_id": "a"}] * 2, [instances([])] * 2)
    with pytest.raises(ValueError, match="'a' was predicted twice"):
        evaluator.evaluate()


def test_datasets_that_cannot_be_evaluated_are_refused():
    dicts = [{"image_id": "a", "annotations": []}, {"image_id": "a", "annotations": []}]
    DatasetCatalog.register(NAME, lambda: dicts)
    MetadataCatalog.get(NAME).set(thing_classes=["cat"])
    with pytest.raises(ValueError, match=r"more than once: \['a'\]"):
        VOCEvaluator(NAME)
    dicts[:] = [{"image_id": "a"}]
    with pytest.raises(ValueError, match="none of its 1 images has annotations"):
        VOCEvaluator(NAME)


def test_files(tmp_path):
    xywh = dict(bbox=[2, 3, 10, 10], bbox_mode=BoxMode.XYWH_ABS, category_id=0)
    register({7: [xywh], 8: [annotation(A), annotation(B)]}, ("cat", "dog, brown"))
    out = tmp_path / "new" / "inference"
    detection = ([2, 5.75, 12, 13], 0.5, 0)  # IoU 0.725
    bbox = score({7: [detection], 8: []}, output_dir=str(out))
    assert sorted(p.name for p in out.iterdir()) == ["evaluation.json", "per_class_ap.csv", "predictions.json"]
    with open(out / "per_class_ap.csv", newline="") as f:
        cat, dog = csv.DictReader(f)
    assert list(cat) == ["class", "images", "boxes", "AP", "AP50", "AP75", "AP50-11point"]
    assert (cat["class"], cat["images"], cat["boxes"]) == ("cat", "2", "3")
    assert float(cat["AP50"]) == bbox["AP50-cat"] == pytest.approx(100 / 3)
    assert float(cat["AP75"]) == bbox["AP75"] == 0
    assert (dog["class"], dog["boxes"], dog["AP50"]) == ("dog, brown", "0", "nan")
    summary = json.loads((out / "evaluation.json").read_text(), parse_constant=pytest.fail)
    assert summary.pop("bbox") == {**bbox, "AP50-dog, brown": None}
    assert summary == {"dataset": NAME, "rule": "area", "images": 2, "images_predicted": 2}
    assert json.loads((out / "predictions.json").read_text()) == [
        {"image_id": "7", "category_id": 0, "bbox": [2, 5.75, 10, 7.25], "score": 0.5}
    ]


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
        (root / "Annotations" / f"{image_id}.xml").write_text(f"<annotation>{head}{xml}</annotation>")
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
            objects.append((classes[cls], box, FIELDS.format(int(rng.random() < 0.2))))
            for _ in range(rng.integers(0, 4)):
                # Halves are exact in binary and in one decimal
                jitter = rng.integers(-8, 9, 4) * rng.choice([0, 0.5, 1])
                detected = np.array(box) - [1, 1, 0, 0] + jitter
                wrong = rng.random() < 0.15
                found.append((detected.tolist(), next(scores), (cls + wrong) % len(classes)))
        images[f"{n:06d}"], predictions[f"{n:06d}"] = objects, found
    return images, predictions


@pytest.mark.parametrize("year, seed", [(2007, 0), (2007, 1), (2012, 0), (2012, 2)])
def test_equals_detectron2_s_evaluator(tmp_path, year, seed):
    classes = ["cat", "dog", "emu"]
    images, predictions = random_voc(np.random.default_rng(seed), classes)
    root = tmp_path / f"VOC{year}"
    write_voc(root, images)
    register_pascal_voc("theirs", str(root), "test", year, classes)
    expected = run(PascalVOCDetectionEvaluator("theirs"), predictions)["bbox"]
    assert 10 < expected["AP"] < 90  # the comparison is not of trivial cases
    bbox = score(predictions, "theirs")
    assert {key: bbox[key] for key in expected} == pytest.approx(expected, abs=1e-9)

    # The same from our own registration, whose dicts hold the difficult flag; its rule is the area
    register_voc("ours", root, "test", classes)
    own = score(predictions, "ours")
    same = own.keys() if year == 2012 else ["AP50-area", "AP50-11point"]
    assert {key: own[key] for key in same} == pytest.approx({k: bbox[k] for k in same}, abs=1e-9)
    assert own["AP50"] == own["AP50-area"]


def test_what_detectron2_s_evaluator_refuses(tmp_path):
    """One image in the list, decimals, no pose, truncated or difficult, no year."""
    write_voc(tmp_path / "data", {"only": [("bolt", [10.5, 20.25, 60.5, 80.75], "")]})
    register_voc(NAME, tmp_path / "data", "test")
    bbox = score({"only": [([9.5, 19.25, 60.5, 80.75], 0.9, 0)]})
    assert bbox["AP"] == bbox["AP50-bolt"] == pytest.approx(100)


def test_ground_truth_keeps_the_difficult_flag_that_detectron2_s_dicts_lack(tmp_path):
    objects = [("cat", [1, 1, 9, 9], FIELDS.format(0)), ("dog", [5, 6, 20, 30], FIELDS.format(1))]
    write_voc(tmp_path, {"x": objects, "y": []})
    register_pascal_voc(NAME, str(tmp_path), "test", 2012, ["cat", "dog"])
    truth = ground_truth(NAME)
    assert list(truth) == ["x", "y"] and truth["y"].boxes.shape == (0, 4)
    assert truth["x"].boxes.tolist() == [[0, 0, 9, 9], [4, 5, 20, 30]]
    assert (truth["x"].classes.tolist(), truth["x"].ignored.tolist()) == ([0, 1], [False, True])
    path = tmp_path / "Annotations" / "x.xml"
    path.write_text(path.read_text().replace("<difficult>1", "<difficult>maybe"))
    with pytest.raises(InvalidDatasetError, match="x.xml: object 2 .*'maybe'"):
        ground_truth(NAME)


def _evaluate_on_rank(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/init", rank=rank, world_size=2)
    register({"a": [annotation(A)], "b": [annotation(A)]})
    mine = [{"a": [(A, 0.9, 0)]}, {"b": [(A, 0.8, 0), (B, 0.95, 0)]}][rank]
    Path(folder, f"rank{rank}.json").write_text(json.dumps(run(VOCEvaluator(NAME), mine)))
    dist.destroy_process_group()


def test_predictions_of_all_processes_are_gathered():
    with tempfile.TemporaryDirectory() as folder:
        # Forked, since importing torch and Detectron2 anew takes most of a spawned process's time
        mp.start_processes(_evaluate_on_rank, (folder,), nprocs=2, start_method="fork")
        first, second = (json.loads(Path(folder, f"rank{r}.json").read_text()) for r in (0, 1))
    # False positive first, then both boxes: the envelope is at 2/3 all along
    assert first["bbox"]["AP50"] == pytest.approx(100 * 2 / 3)
    assert second == {}
