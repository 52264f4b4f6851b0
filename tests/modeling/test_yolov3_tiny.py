import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances, pairwise_iou

import adapruner_det.modeling.yolov3_tiny  # noqa: F401, registers YOLOv3Tiny
from adapruner_det.engine.config import add_detector_config

NUM_CLASSES = 3
LOSSES = ["loss_xy", "loss_wh", "loss_obj", "loss_cls"]


def small_config(**yolo):
    cfg = get_cfg()
    add_detector_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = "YOLOv3Tiny"
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res4", "res5"]
    cfg.MODEL.PIXEL_STD = [57.375, 57.12, 58.395]
    cfg.MODEL.YOLO.NUM_CLASSES = NUM_CLASSES
    cfg.MODEL.YOLO.ANCHORS = [[12, 12], [18, 18], [26, 26], [34, 34], [44, 44], [60, 60]]
    for key, value in yolo.items():
        cfg.MODEL.YOLO[key] = value
    return cfg


@pytest.fixture(scope="module")
def shared_model():
    torch.manual_seed(0)
    return build_model(small_config())


@pytest.fixture
def model(shared_model):
    """Tests that train need their own; these only look, and BatchNorm forgets its statistics."""
    shared_model.train()
    shared_model.per_image_losses = False
    for module in shared_model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
    return shared_model


def drawn_image(seed, num_boxes, size=(128, 128)):
    """A grey image with filled rectangles that do not touch, one colour a class."""
    rng = np.random.default_rng(seed)
    height, width = size
    image = np.full((height, width, 3), 110.0) + rng.normal(0, 6, (height, width, 3))
    colours = np.array([[220, 60, 60], [60, 200, 60], [60, 60, 220]])
    boxes, classes = [], []
    while len(boxes) < num_boxes:
        w, h = rng.integers(12, 45, 2)
        x, y = rng.integers(0, width - w), rng.integers(0, height - h)
        box = [x, y, x + w, y + h]
        if any(x < b[2] and b[0] < x + w and y < b[3] and b[1] < y + h for b in boxes):
            continue
        boxes.append(box)
        classes.append(rng.integers(NUM_CLASSES))
        image[y : y + h, x : x + w] = colours[classes[-1]]
    instances = Instances(size)
    instances.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.gt_classes = torch.tensor(np.array(classes, dtype=np.int64))
    tensor = torch.as_tensor(image.transpose(2, 0, 1).clip(0, 255).astype(np.uint8))
    return {"image": tensor, "instances": instances, "height": height, "width": width}


def test_losses_are_four_scalars_and_their_vectors(model):
    batch = [drawn_image(0, 4), drawn_image(1, 0), drawn_image(2, 7, (96, 100))]
    scalars = model(batch)
    model.per_image_losses = True
    vectors = model(batch)
    assert list(scalars) == list(vectors) == LOSSES
    for name in LOSSES:
        assert scalars[name].shape == () and vectors[name].shape == (3,)
        torch.testing.assert_close(vectors[name].mean(), scalars[name])
        assert (vectors[name][1] == 0) == (name != "loss_obj"), "the second image has no boxes"


def test_loss_of_an_image_is_that_of_a_batch_of_one(model):
    """With normalisation statistics fixed and images of one size nothing else couples them."""
    model.per_image_losses = True
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    batch = [drawn_image(seed, seed) for seed in range(3)]
    together = model(batch)
    for i, image in enumerate(batch):
        for name, value in model([image]).items():
            torch.testing.assert_close(together[name][i : i + 1], value, rtol=1e-4, atol=1e-4)


def test_unequal_sizes_are_padded_and_every_parameter_gets_a_gradient(model):
    batch = [drawn_image(0, 4, (70, 128)), drawn_image(1, 0, (33, 49))]
    assert model.preprocess_image(batch).tensor.shape == (2, 3, 96, 128)
    model.zero_grad()
    sum(model(batch).values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


class FixedHead(torch.nn.Module):
    """Background everywhere, but for what is set by hand."""

    def __init__(self, model):
        super().__init__()
        self.channels = 3 * (5 + model.num_classes)
        self.found = []  # (level, row, column, anchor, x, y, w, h, objectness, *class logits)

    def forward(self, features):
        maps = []
        for level, feature in enumerate(features):
            logits = feature.new_full((len(feature), self.channels, *feature.shape[-2:]), -20.0)
            for at, row, column, anchor, *values in self.found:
                if at == level:
                    size = len(values)
                    where = slice(anchor * size, (anchor + 1) * size)
                    logits[:, where, row, column] = torch.tensor(values)
            maps.append(logits)
        return maps


def test_inference_by_hand():
    model = build_model(small_config()).eval()
    model.head = FixedHead(model)
    model.head.found = [
        # Fine level, cell (2, 1), 26 x 26 around (40, 24): class 1, half objectness.
        [0, 1, 2, 2, 0.0, 0.0, 0.0, 0.0, 0.0, -20.0, 20.0, -20.0],
        # The same box from another anchor, with less objectness: suppressed.
        [0, 1, 2, 1, 0.0, 0.0, *np.log([26 / 18, 26 / 18]), -1.0, -20.0, 20.0, -20.0],
        # The same box, another class: kept.
        [0, 1, 2, 0, 0.0, 0.0, *np.log([26 / 12, 26 / 12]), 1.0, -20.0, -20.0, 0.0],
        # Coarse level, cell (1, 1), 60 x 44 around (48, 48): beyond the image's lower edge.
        [1, 1, 1, 2, 0.0, 0.0, 0.0, np.log(44 / 60), 20.0, 20.0, -20.0, -20.0],
        # A cell of the padding.
        [1, 1, 3, 0, -9.0, 0.0, 1.0, 1.0, 20.0, 20.0, -20.0, -20.0],
    ]
    image = {"image": torch.zeros(3, 60, 90), "height": 120, "width": 180}
    larger = {"image": torch.zeros(3, 64, 128)}
    result = model([image, larger])[0]["instances"]
    assert result.image_size == (120, 180)
    assert result.pred_classes.tolist() == [0, 1, 2]
    np.testing.assert_allclose(result.scores, [1, 0.5, 0.731 * 0.5], atol=1e-3)
    expected = [[36, 52, 156, 120], [54, 22, 106, 74], [54, 22, 106, 74]]
    np.testing.assert_allclose(result.pred_boxes.tensor, expected, atol=1e-3)


def test_inference_limits():
    cfg = small_config(SCORE_THRESH_TEST=0.0)
    cfg.TEST.DETECTIONS_PER_IMAGE = 5
    model = build_model(cfg).eval()
    with torch.no_grad():
        assert len(model([drawn_image(0, 4)])[0]["instances"]) == 5
        model.test_score_thresh = 1.0
        assert len(model([drawn_image(0, 4)])[0]["instances"]) == 0


@pytest.mark.parametrize(
    "key, value",
    [
        ("ANCHORS", [[10, 14, 20]]),
        ("ANCHORS", [[10, 0]] * 6),
        ("ANCHOR_MASK", [[0, 1, 2], [3, 4, 6]]),
        ("ANCHOR_MASK", [[0, 1, 2]]),
        ("ANCHOR_MASK", [[0, 1, 2], []]),
        ("IN_FEATURES", ["res3", "res5"]),
        ("IN_FEATURES", ["res5", "res4"]),
        ("IN_FEATURES", ["res4"]),
    ],
)
def test_wrong_keys_are_named(key, value):
    with pytest.raises(ValueError, match=f"MODEL.YOLO.{key} "):
        build_model(small_config(**{key: value}))


def test_the_head_has_darknets_layout_and_starts_with_the_prior_objectness():
    cfg = small_config()
    cfg.MODEL.RESNETS.DEPTH = 50
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 256
    model = build_model(cfg)
    shapes = {name: tuple(p.shape) for name, p in model.head.named_parameters() if p.dim() == 4}
    assert shapes == {
        "reduce.weight": (256, 2048, 1, 1),
        "coarse_conv.weight": (512, 256, 3, 3),
        "lateral.weight": (128, 256, 1, 1),
        "fine_conv.weight": (256, 128 + 1024, 3, 3),
        "fine_output.weight": (3 * (5 + NUM_CLASSES), 256, 1, 1),
        "coarse_output.weight": (3 * (5 + NUM_CLASSES), 512, 1, 1),
    }
    for output in (model.head.fine_output, model.head.coarse_output):
        bias = output.bias.view(3, -1)
        torch.testing.assert_close(bias[:, 4].sigmoid(), torch.full((3,), 0.01))
        assert bias.count_nonzero() == 3


def test_bfloat16_autocast(model):
    batch = [drawn_image(0, 4), drawn_image(1, 2)]
    exact = model(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(batch)
        features = model.backbone(model.preprocess_image(batch).tensor)
        maps = model.head([features["res4"], features["res5"]])
    assert maps[0].dtype == torch.bfloat16
    assert model._concatenate(maps)[0].dtype == torch.float32, "sigmoid and exp need the precision"
    for name, loss in losses.items():
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, exact[name], rtol=0.05, atol=0.05)


def test_overfits_four_images():
    torch.manual_seed(0)
    batch = [drawn_image(seed, 5) for seed in range(4)]
    model = build_model(small_config())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.02, total_steps=30, pct_start=0.2, cycle_momentum=False
    )
    for _ in range(30):
        loss = sum(model(batch).values())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        schedule.step()
    model.eval()
    with torch.no_grad():
        outputs = [output["instances"] for output in model(batch)]
    for record, found in zip(batch, outputs):
        truth, best = record["instances"], found[:5]  # highest scores first
        ious = pairwise_iou(best.pred_boxes, truth.gt_boxes)
        ious[best.pred_classes[:, None] != truth.gt_classes] = 0
        assert (ious.max(dim=0).values > 0.5).sum() >= 4
