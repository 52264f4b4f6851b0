"""Against hand-computed answers on made-up models, and against plain autograd on real ones."""

import copy

import cv2
import numpy as np
import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import RetinaNet, build_model
from detectron2.structures import Boxes, BoxMode, ImageList, Instances, PolygonMasks
from detectron2.utils.events import EventStorage
from test_per_image import build as build_of_zoo
from test_per_image import config as config_of_zoo
from test_yolov3_tiny import small_config
from torch import nn
from torch.nn import functional as F

from adapruner_det.engine import precision
from adapruner_det.engine.detection_gradients import gradient_norms_of, last_layers
from adapruner_det.engine.detection_statistics import (
    boxes_of_records,
    detections_of,
    found_boxes,
    losses_and_features_of,
    shares_found,
)
from adapruner_det.engine.object_features import object_features_of
from adapruner_det.modeling.per_image import return_per_image_losses
from adapruner_det.pruning.matching import Detections, Labels

SIZES = [(64, 48), (40, 100), (64, 48), (64, 48), (50, 70)]  # height, width
BOXES = [[(0, 4, 6, 30, 40)], [(1, 2, 2, 20, 30), (2, 30, 5, 62, 33)], [], [(2, 8, 8, 40, 60)],
         [(0, 10, 10, 30, 45), (0, 40, 3, 66, 30)]]  # fmt: skip
RPN = ["proposal_generator.rpn_head.objectness_logits", "proposal_generator.rpn_head.anchor_deltas"]
LAST_LAYERS = {
    "yolo": ["head.fine_output", "head.coarse_output"],
    "faster_rcnn_fpn": [*RPN, "roi_heads.box_predictor.cls_score", "roi_heads.box_predictor.bbox_pred"],
    "cascade_rcnn": [*RPN, *(f"roi_heads.box_predictor.{stage}.{layer}" for stage in range(3)
                             for layer in ("cls_score", "bbox_pred"))],
    "mask_rcnn_c4": [*RPN, "roi_heads.box_predictor.cls_score", "roi_heads.box_predictor.bbox_pred",
                     "roi_heads.mask_head.predictor"],
    "retinanet": ["head.cls_score", "head.bbox_pred"],
    "fcos": ["head.cls_score", "head.bbox_pred", "head.ctrness"],
}  # fmt: skip
# Of the smallest settings: on ResNet-18, pyramids of 32 channels.
NUM_FEATURES = {"yolo": 512, "faster_rcnn_fpn": 32, "mask_rcnn_c4": 256, "retinanet": 32, "fcos": 32}
yolo = {}


def config(name="yolo", batch_size=2, amp=False):
    cfg = small_config() if name == "yolo" else config_of_zoo(name)
    cfg.INPUT.MIN_SIZE_TEST = 0  # as large as they are
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.IMS_PER_BATCH = batch_size
    cfg.SOLVER.AMP.ENABLED = amp
    return cfg


def build(name):
    if name != "yolo":
        return build_of_zoo(name)
    if not yolo:
        torch.manual_seed(0)
        yolo["model"] = build_model(small_config())
    return copy.deepcopy(yolo["model"])


def make_record(file, image, boxes=(), **more):
    cv2.imwrite(str(file), image)
    annotations = [
        {
            "bbox": list(box),
            "bbox_mode": BoxMode.XYXY_ABS,
            "category_id": cls,
            "iscrowd": 0,
            "segmentation": [[box[0], box[1], box[2], box[1], box[2], box[3]]],
        }
        for cls, *box in boxes
    ]
    height, width = image.shape[:2]
    return {"file_name": str(file), "image_id": file.stem, "height": height, "width": width,
            "annotations": annotations, **more}  # fmt: skip


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Five pictures of three sizes, one of them without boxes."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    return [
        make_record(folder / f"{i}.png", rng.integers(0, 256, (*size, 3), np.uint8), boxes)
        for i, (size, boxes) in enumerate(zip(SIZES, BOXES))
    ]


def as_input(cfg, record):
    """What the network gets, made without Detectron2's mapper."""
    instances = Instances((record["height"], record["width"]))
    boxes = [a["bbox"] for a in record["annotations"]]
    instances.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.gt_classes = torch.tensor([a["category_id"] for a in record["annotations"]]).long()
    if cfg.MODEL.MASK_ON and boxes:
        instances.gt_masks = PolygonMasks([a["segmentation"] for a in record["annotations"]])
    image = cv2.imread(record["file_name"])
    return {"image": torch.as_tensor(image.transpose(2, 0, 1).copy()), "instances": instances}


class MeanColours(nn.Module):
    """A backbone whose coarse map has cells of 4 pixels: the mean of each channel."""

    size_divisibility = 0
    padding_constraints = {}

    def output_shape(self):
        return {"coarse": ShapeSpec(channels=3, stride=4), "fine": ShapeSpec(channels=3, stride=1)}

    def forward(self, x):
        return {"fine": x * 0, "coarse": F.avg_pool2d(x, 4)}


class Toy(nn.Module):
    """Predicts half the squared error of a linear function of the mean colour; finds what it is told."""

    last_layers = ("head.output.*",)

    def __init__(self, detections=None):
        super().__init__()
        self.backbone = MeanColours()
        self.head = nn.ModuleDict({"scale": nn.Linear(3, 3), "output": nn.Linear(3, 1)})
        self.norm = nn.BatchNorm1d(1)
        self.detections = detections

    def preprocess_image(self, batch):
        return ImageList.from_tensors([record["image"] / 100 for record in batch], 32)

    def forward(self, batch):
        if not self.training:
            return [{"instances": self.detections[record["image_id"]]} for record in batch]
        images = self.preprocess_image(batch)
        coarse = self.backbone(images.tensor)["coarse"]
        seen = torch.stack([
            own[:, : height // 4, : width // 4].mean((1, 2))
            for own, (height, width) in zip(coarse, images.image_sizes)
        ])  # fmt: skip
        self.norm(seen[:, :1])
        goal = torch.tensor([float(len(record["instances"])) for record in batch])
        return {"loss": ((self.head["output"](seen)[:, 0] - goal) ** 2 / 2).mean()}


def detections(*rows):
    """(score, class, box)"""
    instances = Instances((100, 100))
    instances.scores = torch.tensor([row[0] for row in rows], dtype=torch.float32)
    instances.pred_classes = torch.tensor([row[1] for row in rows], dtype=torch.int64)
    boxes = torch.tensor([row[2:] for row in rows], dtype=torch.float32).reshape(-1, 4)
    instances.pred_boxes = Boxes(boxes)
    return instances


@pytest.fixture
def plain_records(tmp_path):
    """Pictures of one colour each, BGR."""
    colours, sizes = [(100, 0, 0), (0, 200, 0), (50, 50, 100)], [(20, 12), (8, 40), (20, 12)]
    return [
        make_record(tmp_path / f"{i}.png", np.full((*size, 3), colour, np.uint8), boxes)
        for i, (size, colour, boxes) in enumerate(zip(sizes, colours, BOXES))
    ]


def state_of(model):
    """All that a look at a model must not change."""
    return {
        "modes": [module.training for module in model.modules()],
        "tensors": {name: value.clone() for name, value in model.state_dict().items()},
        "attributes": sorted(vars(model)) + sorted(vars(model.backbone)),
        "gradients": [parameter.grad for parameter in model.parameters()],
        "normalizer": getattr(model, "loss_normalizer", None),
        "random": torch.get_rng_state(),
    }


def assert_same(before, after):
    for name, value in before.pop("tensors").items():
        assert torch.equal(value, after["tensors"][name]), name
    assert torch.equal(before.pop("random"), after["random"])
    for name, value in before.items():
        assert value == after[name], name


# Losses and features


def features_of(cfg, model, records):
    return_per_image_losses(model)
    return losses_and_features_of(cfg, model, records)[1]


def test_features_are_mean_colours_without_the_padding(plain_records):
    """Of a model that takes its images one at a time, too: there is nothing that makes its losses."""
    toy = Toy()
    return_per_image_losses(toy)
    losses, features = losses_and_features_of(config(), toy, plain_records)
    np.testing.assert_allclose(features, [[1, 0, 0], [0, 2, 0], [0.5, 0.5, 1]], rtol=1e-6)
    assert features.dtype == np.float32 and len(*losses.values()) == 3


def test_features_of_objects_are_those_of_their_boxes(tmp_path):
    """Half of a picture is green, half is blue; twice as large as it is, it has the same features."""
    picture = np.zeros((32, 64, 3), np.uint8)
    picture[:, :32, 1], picture[:, 32:, 0] = 100, 200
    sides = [(0, 2, 2, 24, 30), (1, 40, 2, 62, 30)]
    records = [make_record(tmp_path / "a.png", picture, sides), make_record(tmp_path / "b.png", picture[:, 32:])]
    records += [make_record(tmp_path / "c.png", picture, sides[::-1])]
    cfg = config()
    for size in (0, 64):
        cfg.INPUT.MIN_SIZE_TEST = size
        found = object_features_of(cfg, Toy(), records)
        np.testing.assert_allclose(found, [[0, 1, 0], [2, 0, 0], [2, 0, 0], [0, 1, 0]], atol=1e-5)


def test_mixed_precision_is_that_of_the_config(records, monkeypatch):
    monkeypatch.setattr(precision, "_has_bfloat16", lambda kind: True)
    exact, mixed = (features_of(config(amp=amp), build("yolo"), records) for amp in (False, True))
    assert mixed.dtype == np.float32
    assert 1e-5 < np.linalg.norm(mixed - exact) / np.linalg.norm(exact) < 0.02
    norms = [gradient_norms_of(config(amp=amp), build("yolo"), records) for amp in (False, True)]
    np.testing.assert_allclose(*norms, rtol=0.05)
    assert (norms[0] != norms[1]).all()


def test_model_without_backbone_is_named():
    for look in (losses_and_features_of, gradient_norms_of):
        with pytest.raises(ValueError, match="Linear has no backbone and no preprocess_image"):
            look(config(), nn.Linear(1, 1), [])


# Gradients


@pytest.mark.parametrize("name", NUM_FEATURES)
def test_losses_and_features_are_those_of_the_image_alone_by_a_model_that_stays_as_it_is(name, records):
    """Batches of two images and of one, not in the order of the sizes; the native model gets one image at a time."""
    cfg, model = config(name), build(name)
    native = copy.deepcopy(model)
    return_per_image_losses(model)
    before = state_of(model)
    found, features = losses_and_features_of(cfg, model, records)
    assert_same(before, state_of(model))
    assert features.shape == (5, NUM_FEATURES[name]) and features.dtype == np.float32
    native.train()
    for module in native.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    coarsest, shape = max(native.backbone.output_shape().items(), key=lambda item: item[1].stride)
    for i, record in enumerate(records):
        torch.manual_seed(max(cfg.SEED, 0))
        with torch.no_grad(), EventStorage(1):
            expected = native([as_input(cfg, record)])
            maps = native.backbone(native.preprocess_image([as_input(cfg, record)]).tensor)
        share = 1.0
        if name in ("retinanet", "fcos"):  # natively by a mean that moves, here by a half of where it starts
            share = native.loss_normalizer / ({"retinanet": 100, "fcos": 300}[name] / 2)
            del native.loss_normalizer
        assert expected.keys() == found.keys()
        for term, value in expected.items():
            assert float(found[term][i]) == pytest.approx(share * float(value), rel=1e-3, abs=1e-5), (i, term)
        rows, columns = (int(np.ceil(side / shape.stride)) for side in SIZES[i])
        own = maps[coarsest][0, :, :rows, :columns].mean((1, 2)).numpy()
        np.testing.assert_allclose(features[i], own, rtol=1e-3, atol=1e-5 * abs(own).max())


class OwnRetinaNet(RetinaNet):
    """Of which nobody knows how its losses fall apart."""

    def losses(self, *args):
        return super().losses(*args)


def test_equal_pictures_have_equal_losses_in_whole_and_partial_batches_of_a_model_that_takes_them_one_by_one(records):
    model = build("retinanet")
    model.__class__ = OwnRetinaNet
    return_per_image_losses(model)
    same = [{**records[0], "image_id": str(i)} for i in range(3)]
    of_batches = [losses_and_features_of(config("retinanet", size), model, same)[0] for size in (1, 2, 4)]
    for term, values in of_batches[0].items():
        assert values[0] > 0
        for found in of_batches:
            np.testing.assert_allclose(found[term], values[0], rtol=1e-4)


def norms_by_backward(name, model, record):
    """The whole network, one image, all gradients; the norm of those of the layers listed above."""
    cfg = config(name)
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    model.zero_grad()
    torch.manual_seed(0)
    with EventStorage():
        sum(model([as_input(cfg, record)]).values()).backward()
    squares = 0.0
    for layer in map(model.get_submodule, LAST_LAYERS[name]):
        squares += sum(float((p.grad**2).sum()) for p in layer.parameters() if p.grad is not None)
    return squares**0.5


@pytest.mark.parametrize("name", LAST_LAYERS)
def test_gradient_norms_are_those_of_plain_autograd(name, records):
    cfg, model = config(name), build(name)
    native = copy.deepcopy(model)
    norms = gradient_norms_of(cfg, model, records)
    for i, record in enumerate(records):
        expected = norms_by_backward(name, native, record)
        if name in ("retinanet", "fcos"):
            # Natively divided by a mean that moves; ours by a 2nd of where it starts, for 2 images.
            start = {"retinanet": 100, "fcos": 300}[name]
            expected *= native.loss_normalizer / (start / 2)
            del native.loss_normalizer
        assert norms[i] == pytest.approx(expected, rel=1e-3), (i, norms, expected)
    assert len(last_layers(model)) == 2 * len(LAST_LAYERS[name])  # a weight and a bias each


def test_what_is_drawn_at_random_is_drawn_again(plain_records):
    class Gambler(Toy):
        def forward(self, batch):
            return {"loss": super().forward(batch)["loss"] * torch.rand(())}

    toy = Gambler()
    norms = gradient_norms_of(config(), toy, plain_records)
    torch.rand(3)
    again = gradient_norms_of(config(), toy, plain_records[::-1])
    np.testing.assert_allclose(again[::-1], norms, rtol=1e-5)
    cfg = config()
    cfg.SEED = 5
    assert (gradient_norms_of(cfg, toy, plain_records) != norms).all()


@pytest.mark.parametrize("name", ["yolo", "mask_rcnn_c4", "retinanet"])
def test_the_model_stays_as_it_was(name, records):
    cfg, model = config(name), build(name)
    model.eval()
    model.head.train() if hasattr(model, "head") else model.roi_heads.train()
    before = state_of(model)
    for look in (gradient_norms_of, found_boxes):
        look(cfg, model, records[:2])
        assert_same(dict(before), state_of(model))
    norms = gradient_norms_of(cfg, model, records[:3])
    return_per_image_losses(model)
    np.testing.assert_allclose(gradient_norms_of(cfg, model, records[:3]), norms, rtol=1e-4)


def test_unknown_model_is_told_how_to_name_its_layers():
    class Unknown(Toy):
        last_layers = None

    with pytest.raises(ValueError, match=r"(?s)Unknown.*last_layers = \(.*norm.bias"):
        last_layers(Unknown())
    Unknown.last_layers = ("head.output.*", "head.aux.*")
    with pytest.raises(ValueError, match="Unknown.last_layers has 'head.aux.\\*', which fits none"):
        last_layers(Unknown())


def test_diverged_detector_is_named(plain_records):
    toy = Toy()
    nn.init.constant_(toy.head["output"].bias, float("nan"))
    with pytest.raises(FloatingPointError, match="0.png has the norm nan: the detector has diverged"):
        gradient_norms_of(config(), toy, plain_records)


# Boxes found

A, B = [0, 0, 10, 10], [0, 4, 10, 14]  # their IoU is 6 / 14
FOUND = {
    "nothing": ([], 0),
    "both": ([(0.9, 0, *A), (0.8, 0, *B)], 1),
    "one": ([(0.9, 0, *B)], 0.5),
    "twice the same": ([(0.9, 0, *A), (0.8, 0, *A)], 0.5),
    "wrong class": ([(0.9, 1, *A)], 0),
    "an IoU of just 0.5": ([(0.9, 0, 0, 0, 10, 5)], 0.5),
    "an IoU below 0.5": ([(0.9, 0, 0, 0, 10, 4.9)], 0),
    # Overlaps A by 8.5 / 11.5 and B by 7.5 / 12.5: A is taken, B is left.
    "the second best": ([(0.9, 0, *A), (0.8, 0, 0, 1.5, 10, 11.5)], 1),
    # The better score comes last in the list, and takes A from the one that overlaps A alone.
    "by score": ([(0.8, 0, 0, 0, 10, 9), (0.9, 0, 0, 1.5, 10, 11.5)], 0.5),
}


@pytest.mark.parametrize("name", FOUND)
def test_share_of_boxes_found(name):
    rows, expected = FOUND[name]
    rows = sorted(rows, key=lambda row: -row[0])
    images = np.ones(len(rows), int)  # the second image; the first has neither boxes nor detections
    own = detections(*rows)
    found = Detections(own.pred_boxes.tensor.numpy(), own.scores.numpy(), own.pred_classes.numpy(), images)
    labels = Labels(np.array([A, B, A], float), np.zeros(3, int), np.ones(3, int), np.array([False, False, True]))
    shares = shares_found(labels, found, 2)
    assert shares.tolist() == [1, expected] and shares.dtype == np.float32


# All that is detected


@pytest.mark.parametrize("name", ["yolo", "faster_rcnn_fpn", "cascade_rcnn", "mask_rcnn_c4", "retinanet", "fcos"])
def test_detections_of_an_untrained_model_that_stays_as_it_is(name, records):
    """Natively it is sure of nothing; each image gets what the model finds in it with a lower threshold."""
    cfg, model = config(name), build(name)
    before = state_of(model)
    found = detections_of(cfg, model, records, score=0.001, per_image=7)
    assert_same(before, state_of(model))
    limits = [module for module in model.modules() if hasattr(module, "test_score_thresh")]
    assert limits and all(module.test_score_thresh != 0.001 for module in limits)
    counts = np.bincount(found.images, minlength=5)
    assert (counts <= 7).all() and (counts > (0 if name == "fcos" else 6)).all() and (np.diff(found.images) >= 0).all()
    assert found.boxes.shape == (counts.sum(), 4) and (found.scores > 0.001).all()
    for module in limits:
        module.test_score_thresh = 0.001
        for number in {"max_detections_per_image", "test_topk_per_image"} & vars(module).keys():
            setattr(module, number, 7)  # before boxes without area are dropped, of which FCOS has some
    model.eval()
    for i, record in enumerate(records):
        own = found.images == i
        assert (np.diff(found.scores[own]) <= 0).all()
        with torch.no_grad():
            expected = model([{**as_input(cfg, record), "height": record["height"], "width": record["width"]}])
        expected = expected[0]["instances"]
        np.testing.assert_allclose(found.scores[own], expected.scores, rtol=1e-3)
        np.testing.assert_allclose(found.boxes[own], expected.pred_boxes.tensor, rtol=1e-2, atol=0.05)
        assert found.classes[own].tolist() == expected.pred_classes.tolist()


def test_detections_are_in_pixels_of_the_original_image(records):
    cfg, model = config(), build("yolo")
    plain = detections_of(cfg, model, records[:1], 0.0, 1000)
    cfg.INPUT.MIN_SIZE_TEST = 2 * min(SIZES[0])
    doubled = detections_of(cfg, model, records[:1], 0.0, 1000)
    assert len(doubled.boxes) != len(plain.boxes)  # there are four times as many cells
    for found in (plain, doubled):
        np.testing.assert_allclose(found.boxes[:, 2:].max(axis=0), SIZES[0][::-1], atol=0.01)


def test_boxes_found_are_those_above_a_score(plain_records):
    toy = Toy({"0": detections((0.9, 0, *BOXES[0][0][1:])), "1": detections((0.1, 1, 2, 2, 20, 30)), "2": detections()})
    toy.test_score_thresh = 0.5
    shares, _ = found_boxes(config(), toy, plain_records)
    assert shares.tolist() == [1, 0, 1] and shares.dtype == np.float32


def test_detections_by_falling_score(plain_records):
    found = {
        "0": detections((0.3, 1, *A), (0.9, 0, *B), (0.01, 0, *A)),
        "1": detections(),
        "2": detections((0.5, 2, *B), (0.7, 0, *A)),
    }
    toy = Toy(found)
    toy.test_score_thresh = 0.5
    seen = detections_of(config(), toy, plain_records)
    assert toy.test_score_thresh == 0.5
    np.testing.assert_allclose(seen.scores, [0.9, 0.3, 0.7, 0.5])
    assert seen.classes.tolist() == [0, 1, 0, 2] and seen.images.tolist() == [0, 0, 2, 2]
    assert seen.boxes.tolist() == [B, A, A, B]
    assert detections_of(config(), toy, plain_records, 0.4, 1).images.tolist() == [0, 2]


def test_model_without_a_threshold_is_named(plain_records):
    with pytest.raises(ValueError, match="no part of Toy has an attribute test_score_thresh"):
        detections_of(config(), Toy(), plain_records)


def test_boxes_of_records(records):
    crowd = {"bbox": [1, 2, 3, 4], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 2, "iscrowd": 1}
    own = boxes_of_records([{}, records[1], {"annotations": [crowd]}])
    assert own.boxes.tolist() == [[2, 2, 20, 30], [30, 5, 62, 33], [1, 2, 4, 6]]
    assert own.classes.tolist() == [1, 2, 2] and own.images.tolist() == [1, 1, 2]
    assert own.crowds.tolist() == [False, False, True]
    assert boxes_of_records([]).boxes.shape == (0, 4)
