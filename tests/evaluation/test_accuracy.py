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


@pytest.fixture
def dataset(request):
    name = f"evaluation_{request.node.name}"
    MetadataCatalog.get(name).set(thing_classes=CLASSES)
    yield name
    MetadataCatalog.remove(name)


def _predicted(number=60, seed=0, absent=6):
    """Labels (no image of the last class), logits and ids."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(absent, (number,), generator=generator)
    logits = torch.randn((number, len(CLASSES)), generator=generator)
    logits += 1.5 * F.one_hot(labels, len(CLASSES)) * (torch.arange(number) % 3 > 0)[:, None]
    return labels, logits, [f"image{i}" for i in range(number)]


def _process(evaluator, labels, logits, ids, batch_size=16):
    for start in range(0, len(ids), batch_size):
        part = slice(start, start + batch_size)
        evaluator.process({"labels": labels[part], "image_ids": ids[part]}, logits[part])


def test_metrics(dataset, tmp_path, caplog):
    labels, logits, ids = _predicted()
    evaluator = ClassificationEvaluator(dataset, str(tmp_path))
    evaluator.reset()
    _process(evaluator, labels, logits, ids)
    metrics = evaluator.evaluate()["classification"]

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
    assert math.isnan(metrics["accuracy-gnu"])
    assert list(metrics)[0] == "accuracy" and len(metrics) == 3 + len(CLASSES)


def test_files(dataset, tmp_path):
    labels, logits, ids = _predicted()
    evaluator = ClassificationEvaluator(dataset, str(tmp_path))
    _process(evaluator, labels, logits, ids)
    metrics = evaluator.evaluate()["classification"]

    summary = json.loads((tmp_path / "evaluation.json").read_text())
    assert summary["dataset"] == dataset and summary["images"] == 60
    assert summary["classification"] == {**metrics, "accuracy-gnu": None}

    rows = list(csv.DictReader((tmp_path / "per_class.csv").open(newline="")))
    assert [row["class"] for row in rows] == CLASSES
    assert [int(row["images"]) for row in rows] == labels.bincount(minlength=7).tolist()
    assert [int(row["predicted"]) for row in rows] == logits.argmax(1).bincount(minlength=7).tolist()
    losses = F.cross_entropy(logits, labels, reduction="none")
    assert float(rows[2]["loss"]) == pytest.approx(losses[labels == 2].mean().item(), rel=1e-5)

    predictions = json.loads((tmp_path / "predictions.json").read_text())
    probabilities = logits.softmax(1)
    assert [p["image_id"] for p in predictions] == ids
    for i, prediction in enumerate(predictions):
        assert prediction["class"] == CLASSES[labels[i]]
        assert prediction["predicted"] == CLASSES[logits[i].argmax()]
        assert prediction["probability"] == pytest.approx(probabilities[i].max().item(), abs=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "evaluation.json", "per_class.csv", "predictions.json"
    ]  # fmt: skip


def test_no_top5_of_five_classes(dataset):
    MetadataCatalog.get(dataset + "5").set(thing_classes=CLASSES[:5])
    evaluator = ClassificationEvaluator(dataset + "5")
    evaluator.process({"labels": torch.tensor([1]), "image_ids": ["a"]}, torch.eye(5)[1:2])
    metrics = evaluator.evaluate()["classification"]
    assert metrics["accuracy"] == 100 and "accuracy-top5" not in metrics
    MetadataCatalog.remove(dataset + "5")


def test_processes_are_gathered(dataset, monkeypatch):
    labels, logits, ids = _predicted()
    whole, first, second = (ClassificationEvaluator(dataset) for _ in range(3))
    _process(whole, labels, logits, ids)
    _process(first, labels[:35], logits[:35], ids[:35])
    _process(second, labels[35:], logits[35:], ids[35:])
    monkeypatch.setattr(comm, "gather", lambda parts, dst: [parts, second._parts])
    gathered = first.evaluate()["classification"]
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert second.evaluate() == {}
    monkeypatch.undo()
    assert gathered == pytest.approx(whole.evaluate()["classification"], nan_ok=True)


def test_an_image_predicted_twice_is_refused(dataset):
    labels, logits, ids = _predicted()
    evaluator = ClassificationEvaluator(dataset)
    _process(evaluator, labels, logits, ids)
    _process(evaluator, labels[:1], logits[:1], ids[:1])
    with pytest.raises(ValueError, match="'image0' was predicted 2 times"):
        evaluator.evaluate()
    evaluator.reset()
    with pytest.raises(ValueError, match=f"no image of data set '{dataset}'"):
        evaluator.evaluate()


def test_another_number_of_classes_is_refused(dataset):
    evaluator = ClassificationEvaluator(dataset)
    with pytest.raises(ValueError, match="has 10 classes .* has 7; set MODEL.CLASSIFIER.NUM_CLASSES"):
        evaluator.process({"labels": torch.tensor([1]), "image_ids": ["a"]}, torch.zeros(1, 10))


def test_a_class_named_top5_does_not_hide_the_metric(dataset):
    MetadataCatalog.get(dataset + "x").set(thing_classes=["top5", *CLASSES[1:]])
    labels, logits, ids = _predicted()
    evaluator = ClassificationEvaluator(dataset + "x")
    _process(evaluator, labels, logits, ids)
    in_top = (logits.topk(5).indices == labels[:, None]).any(1)
    metrics = evaluator.evaluate()["classification"]
    assert metrics["accuracy-top5"] == pytest.approx(100 * in_top.float().mean().item())
    MetadataCatalog.remove(dataset + "x")
