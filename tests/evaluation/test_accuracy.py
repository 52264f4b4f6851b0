import csv
import json
import math

import pytest
import torch
import torch.nn.functional as F
from detectron2.data import MetadataCatalog
from detectron2.utils import comm

from adapruner_det.evaluation.accuracy import ClassificationEvaluator

CLASSES = ["ant", "bee", "cat", "dog", "elk", "fly", "gnu"]

pytestmark = pytest.mark.usefixtures("clean_catalogs")


def _evaluator(classes=CLASSES, output_dir=None):
    name = f"animals_{len(classes)}_{classes[0]}"
    MetadataCatalog.get(name).set(thing_classes=classes)
    return ClassificationEvaluator(name, output_dir and str(output_dir))


@pytest.fixture
def predicted():
    """Labels (no image of the last class), logits and ids."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(6, (60,), generator=generator)
    logits = torch.randn((60, len(CLASSES)), generator=generator)
    logits += 1.5 * F.one_hot(labels, len(CLASSES)) * (torch.arange(60) % 3 > 0)[:, None]
    return labels, logits, [f"image{i}" for i in range(60)]


def _process(evaluator, labels, logits, ids, batch_size=16):
    for start in range(0, len(ids), batch_size):
        part = slice(start, start + batch_size)
        evaluator.process({"labels": labels[part], "image_ids": ids[part]}, logits[part])


def test_metrics(predicted, caplog):
    evaluator = _evaluator()
    _process(evaluator, *predicted)
    metrics = evaluator.evaluate()["classification"]

    labels, logits, _ = predicted
    right, in_top = 0, 0
    by_class = {k: [] for k in range(len(CLASSES))}
    for label, scores in zip(labels.tolist(), logits.tolist()):
        order = sorted(range(len(scores)), key=lambda k: -scores[k])
        right += order[0] == label
        in_top += label in order[:5]
        by_class[label].append(order[0] == label)
    assert 10 < right < 50 and right < in_top < 60  # neither all nor none, so that the test means something
    assert metrics["accuracy"] == pytest.approx(100 * right / 60)
    assert metrics["accuracy-top5"] == pytest.approx(100 * in_top / 60)
    assert metrics["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    for k, name in enumerate(CLASSES[:6]):
        assert metrics[f"accuracy-{name}"] == pytest.approx(100 * sum(by_class[k]) / len(by_class[k]))
    assert math.isnan(metrics["accuracy-gnu"]) and "holds no image of: gnu" in caplog.text
    assert list(metrics)[0] == "accuracy" and len(metrics) == 3 + len(CLASSES)


def test_files(predicted, tmp_path):
    labels, logits, ids = predicted
    evaluator = _evaluator(output_dir=tmp_path)
    _process(evaluator, *predicted)
    metrics = evaluator.evaluate()["classification"]

    summary = json.loads((tmp_path / "evaluation.json").read_text())
    assert summary["dataset"] == "animals_7_ant" and summary["images"] == 60
    assert summary["classification"] == {**metrics, "accuracy-gnu": None}

    rows = list(csv.DictReader((tmp_path / "per_class.csv").open(newline="")))
    assert [row["class"] for row in rows] == CLASSES
    assert [int(row["images"]) for row in rows] == labels.bincount(minlength=7).tolist()
    losses = F.cross_entropy(logits, labels, reduction="none")
    assert float(rows[2]["loss"]) == pytest.approx(losses[labels == 2].mean().item(), rel=1e-5)

    predictions = json.loads((tmp_path / "predictions.json").read_text())
    assert [p["image_id"] for p in predictions] == ids
    for prediction, label, probabilities in zip(predictions, labels, logits.softmax(1)):
        assert prediction["class"] == CLASSES[label]
        assert prediction["predicted"] == CLASSES[probabilities.argmax()]
        assert prediction["probability"] == pytest.approx(probabilities.max().item(), abs=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evaluation.json", "per_class.csv", "predictions.json"]


def test_no_top5_of_five_classes_and_of_many_the_worst_are_logged(caplog):
    caplog.set_level("INFO", "adapruner_det")
    five, many = _evaluator(CLASSES[:5]), _evaluator([f"class{i}" for i in range(30)])
    five.process({"labels": torch.tensor([1]), "image_ids": ["a"]}, torch.eye(5)[1:2])
    metrics = five.evaluate()["classification"]
    assert metrics["accuracy"] == 100 and "accuracy-top5" not in metrics
    labels = torch.arange(30)
    many.process({"labels": labels, "image_ids": list(map(str, range(30)))}, torch.eye(30)[labels.clamp(max=26)])
    assert many.evaluate()["classification"]["accuracy"] == pytest.approx(90)
    assert "classes, the worst first" in caplog.text and "class29" in caplog.text and "class26" not in caplog.text


def test_processes_are_gathered(predicted, monkeypatch):
    whole, first, second = (_evaluator() for _ in range(3))
    _process(whole, *predicted)
    _process(first, *(values[:35] for values in predicted))
    _process(second, *(values[35:] for values in predicted))
    monkeypatch.setattr(comm, "gather", lambda own, dst: [own, second._predictions])
    gathered = first.evaluate()["classification"]
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert second.evaluate() == {}
    monkeypatch.undo()
    assert gathered == pytest.approx(whole.evaluate()["classification"], nan_ok=True)


def test_refused(predicted):
    evaluator = _evaluator()
    _process(evaluator, *predicted)
    _process(evaluator, *(values[:1] for values in predicted))
    with pytest.raises(ValueError, match="'image0' was predicted twice"):
        evaluator.evaluate()
    evaluator.reset()
    with pytest.raises(ValueError, match="no image of data set 'animals_7_ant'"):
        evaluator.evaluate()
    with pytest.raises(ValueError, match="has 10 classes .* has 7; set MODEL.CLASSIFIER.NUM_CLASSES"):
        evaluator.process({"labels": torch.tensor([1]), "image_ids": ["a"]}, torch.zeros(1, 10))


def test_a_class_named_top5_does_not_hide_the_metric(predicted):
    evaluator = _evaluator(["top5", *CLASSES[1:]])
    _process(evaluator, *predicted)
    labels, logits, _ = predicted
    in_top = (logits.topk(5).indices == labels[:, None]).any(1)
    metrics = evaluator.evaluate()["classification"]
    assert metrics["accuracy-top5"] == pytest.approx(100 * in_top.float().mean().item())
