"""Per-image losses against Detectron2's own batch losses, on small models with random weights."""

import copy
import logging
import os
from types import MethodType

import detectron2
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_backbone, build_model
from detectron2.modeling.meta_arch.fcos import FCOS, FCOSHead
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage, get_event_storage
from torch import nn

from adapruner_det.modeling.per_image import image_by_image, install_per_image_losses, return_per_image_losses

ZOO = os.path.join(os.path.dirname(detectron2.__file__), "model_zoo", "configs")
CLASSES = 3
SMALL = {
    "MODEL.DEVICE": "cpu",
    "MODEL.WEIGHTS": "",
    "MODEL.MASK_ON": False,
    "MODEL.BACKBONE.FREEZE_AT": 0,
    # Groups, so that no image's features depend on another image.
    "MODEL.RESNETS.NORM": "GN",
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
    "MODEL.FPN.OUT_CHANNELS": 32,
}
RCNN = {
    **SMALL,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 100,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 30,
    "MODEL.ROI_HEADS.NUM_CLASSES": CLASSES,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 32,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 16,
    "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": 7,
}
FPN = {**RCNN, "MODEL.ANCHOR_GENERATOR.SIZES": [[8], [16], [32], [48], [64]]}
ONE_LEVEL = {**RCNN, "MODEL.ANCHOR_GENERATOR.SIZES": [[8, 16, 32]]}
C4 = {
    **ONE_LEVEL,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 8,  # of res5 alone, which runs on every proposal
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 15,
}
DC5 = {  # Detectron2 dilates bottleneck blocks only
    **ONE_LEVEL,
    "MODEL.RESNETS.DEPTH": 50,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 32,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 32,
}
DENSE = {
    **SMALL,
    "MODEL.RETINANET.NUM_CLASSES": CLASSES,
    "MODEL.RETINANET.NUM_CONVS": 1,
    "MODEL.ANCHOR_GENERATOR.SIZES": [[8], [16], [32], [48], [64]],
}
MASKS = {"MODEL.MASK_ON": True}
BOX_LOSS = "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE"
SIGMOID = {"MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": True}
CASCADE = "Misc/cascade_mask_rcnn_R_50_FPN_3x.yaml"
DETECTORS = {
    "faster_rcnn_fpn": ("Base-RCNN-FPN.yaml", FPN),
    "faster_rcnn_c4": ("Base-RCNN-C4.yaml", C4),
    "faster_rcnn_dc5": ("Base-RCNN-DilatedC5.yaml", DC5),
    "cascade_rcnn": (CASCADE, FPN),
    "cascade_mask_rcnn": (CASCADE, {**FPN, **MASKS}),
    "mask_rcnn_fpn": ("Base-RCNN-FPN.yaml", {**FPN, **MASKS}),
    "mask_rcnn_c4": ("Base-RCNN-C4.yaml", {**C4, **MASKS}),
    "agnostic": (
        "Base-RCNN-FPN.yaml",
        {
            **FPN,
            **MASKS,
            "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True,
            "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK": True,
            "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": 0.5,
            "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT": 2.0,
            "MODEL.RPN.LOSS_WEIGHT": 0.5,
            "MODEL.RPN.BBOX_REG_LOSS_WEIGHT": 3.0,
        },
    ),
    "giou": ("Base-RCNN-FPN.yaml", {**FPN, BOX_LOSS: "giou", **SIGMOID}),
    "diou": ("Base-RCNN-FPN.yaml", {**FPN, BOX_LOSS: "diou"}),
    "ciou": ("Base-RCNN-FPN.yaml", {**FPN, BOX_LOSS: "ciou"}),
    "retinanet": ("Base-RetinaNet.yaml", DENSE),
    "retinanet_giou": ("Base-RetinaNet.yaml", {**DENSE, "MODEL.RETINANET.BBOX_REG_LOSS_TYPE": "giou"}),
    "fcos": ("Base-RetinaNet.yaml", DENSE),
}
UNEQUAL = (3, 1, 6)  # boxes of each image
built = {}


def config(name, **overrides):
    base, settings = DETECTORS[name]
    cfg = get_cfg()
    cfg.merge_from_file(os.path.join(ZOO, base))
    settings = {**settings, **overrides}
    cfg.merge_from_list([item for pair in settings.items() for item in pair])
    return cfg


def build(name):
    """A fresh copy of the detector, in training mode."""
    if name not in built:
        torch.manual_seed(0)
        cfg = config(name)
        built[name] = build_fcos(cfg) if name == "fcos" else build_model(cfg)
        if cfg.MODEL.MASK_ON:
            built[name].roi_heads.mask_head.loss_weight = 3.0
    return copy.deepcopy(built[name]).train()


def build_fcos(cfg):
    backbone = build_backbone(cfg)
    shapes = backbone.output_shape()
    levels = ["p3", "p4", "p5", "p6", "p7"]
    shapes = [shapes[k] for k in levels]
    head = FCOSHead(input_shape=shapes, conv_dims=[32], num_classes=CLASSES, norm="")
    nn.init.ones_(head.bbox_pred.bias)  # a negative output is cut off and gets no gradient
    return FCOS(
        backbone=backbone,
        head=head,
        head_in_features=levels,
        num_classes=CLASSES,
        pixel_mean=[0.0] * 3,
        pixel_std=[1.0] * 3,
    )


def make_batch(counts):
    """Images of different sizes with `counts` boxes each, whose pixels take gradients."""
    generator = torch.Generator().manual_seed(sum(counts))
    sizes = [(64, 64), (48, 64), (64, 40)]
    batch = []
    for count, (height, width) in zip(counts, sizes):
        image = torch.randn(3, height, width, generator=generator).requires_grad_()
        corner = torch.rand(count, 2, generator=generator) * 20
        side = 10 + torch.rand(count, 2, generator=generator) * 10
        boxes = torch.cat([corner, corner + side], dim=1)
        masks = torch.zeros(count, height, width, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist()):
            mask[y0 : (y0 + y1) // 2, x0:x1] = True
        instances = Instances((height, width))
        instances.gt_boxes = Boxes(boxes)
        instances.gt_classes = torch.randint(CLASSES, (count,), generator=generator)
        instances.gt_masks = BitMasks(masks)
        batch.append({"image": image, "instances": instances, "height": height, "width": width})
    return batch


def run(model, batch, seed=1):
    """The losses, and the scalars that were logged."""
    torch.manual_seed(seed)  # anchors and proposals are sampled
    with EventStorage() as storage:
        losses = model(batch)
    return losses, storage


def gradients(model, batch, losses):
    """Of a sum that tells the terms apart, with respect to the weights and to each image."""
    leaves = [p for p in model.parameters() if p.requires_grad] + [r["image"] for r in batch]
    total = sum(weight * losses[name] for weight, name in enumerate(sorted(losses), start=1))
    found = torch.autograd.grad(total, leaves, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, found)]


def relative(ours, native):
    """The largest error, relative to the largest native value."""
    return ((ours - native).abs().max() / native.abs().max().clamp(min=1e-12)).item()


@pytest.mark.parametrize("counts", [(3, 1, 6), (2, 0, 5), (0,)], ids=["unequal", "one_empty", "single_empty"])
@pytest.mark.parametrize("name", DETECTORS)
def test_mean_and_gradient_are_those_of_the_native_batch_loss(name, counts):
    batch = make_batch(counts)
    native_model, model = build(name), build(name)
    return_per_image_losses(model)
    native, native_storage = run(native_model, batch)
    losses, storage = run(model, batch)

    assert set(losses) == set(native)
    assert 0 in counts or all(native.values())  # every term has something to get wrong
    for values in losses.values():
        assert values.shape == (len(batch),) and values.dtype == torch.float32 and values.requires_grad
    means = {term: values.mean() for term, values in losses.items()}
    assert max(relative(means[term], native[term]) for term in native) < 1e-6
    ours, theirs = gradients(model, batch, means), gradients(native_model, batch, native)
    scale = max(g.abs().max() for g in theirs)
    assert max((a - b).abs().max() / scale for a, b in zip(ours, theirs)) < 2e-6
    for own, other in zip(ours[-len(batch) :], theirs[-len(batch) :]):
        assert relative(own, other) < 1e-4

    assert set(storage.latest()) == set(native_storage.latest())
    for scalar, history in storage.histories().items():
        assert len(history.values()) == 1, scalar
        assert history.latest() == pytest.approx(native_storage.history(scalar).latest()), scalar


@pytest.mark.parametrize("name", ["retinanet", "fcos"])
def test_the_normalizer_moves_once_a_step(name):
    native_model, model = build(name), build(name)
    return_per_image_losses(model)
    for counts in ((3, 1, 6), (0, 0), (1,)):
        native, _ = run(native_model, make_batch(counts))
        losses, _ = run(model, make_batch(counts))
        assert model.loss_normalizer == native_model.loss_normalizer
        assert all(relative(losses[term].mean(), native[term]) < 1e-6 for term in native)


@pytest.mark.parametrize("name", DETECTORS)
def test_each_value_depends_on_its_own_image_alone(name):
    batch = make_batch(UNEQUAL)
    model = build(name)
    return_per_image_losses(model)
    losses, _ = run(model, batch)
    images = [record["image"] for record in batch]
    for term, values in losses.items():
        for i, value in enumerate(values):
            found = torch.autograd.grad(value, images, retain_graph=True, allow_unused=True)
            reached = [g is not None and bool(g.any()) for g in found]
            others = reached[:i] + reached[i + 1 :]
            assert not any(others), (term, i)
            assert reached[i] or value == 0, (term, i)


def test_the_images_of_a_batch_keep_unequal_numbers_of_proposals():
    """Otherwise the tests above could not tell the mean over proposals from that over images."""
    model = build("cascade_rcnn")
    numbers = []
    for predictor in model.roi_heads.box_predictor:
        native = predictor.losses
        predictor.losses = lambda p, own, native=native: numbers.append([len(x) for x in own]) or native(p, own)
    run(model, make_batch(UNEQUAL))
    assert len(numbers) == 3 and all(len(set(counts)) > 1 for counts in numbers)


@pytest.mark.parametrize("name", ["mask_rcnn_fpn", "mask_rcnn_c4", "giou", "fcos"])
def test_an_image_without_a_single_positive_stays_on_the_graph(name):
    model = build(name)
    return_per_image_losses(model)
    if name != "fcos":  # not even proposals
        model.roi_heads.batch_size_per_image = 0
    losses, _ = run(model, make_batch((0, 0)))
    sum(values.sum() for values in losses.values()).backward()
    assert all(values.isfinite().all() and values.requires_grad for values in losses.values())
    quiet = {"fcos": "loss_fcos_ctr", "giou": "loss_cls"}.get(name, "loss_mask")
    assert losses[quiet].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", ["mask_rcnn_fpn", "cascade_rcnn", "retinanet", "fcos"])
def test_mixed_precision_reduces_in_float32(name):
    batch = make_batch(UNEQUAL)
    model = build(name)
    return_per_image_losses(model)
    expected, _ = run(model, batch)
    model = build(name)
    return_per_image_losses(model)
    with torch.autocast("cpu", torch.bfloat16):
        losses, _ = run(model, batch)
    for term, values in losses.items():
        assert values.dtype == torch.float32
        # bfloat16 itself has seven bits; a value rounded to it would have no others
        assert (values.bfloat16().float() != values).any() or not values.any()
        if term in ("loss_rpn_cls", "loss_fcos_cls", "loss_mask"):
            assert relative(values.mean(), expected[term].mean()) < 0.05


def test_masks_are_shown_as_natively():
    shown = []
    for make_per_image in (lambda model: None, return_per_image_losses):
        model = build("mask_rcnn_fpn")
        model.roi_heads.mask_head.vis_period = 1
        make_per_image(model)
        _, storage = run(model, make_batch(UNEQUAL))
        shown.append([(name, torch.as_tensor(picture)) for name, picture, _ in storage._vis_data])
    native, ours = shown
    assert native and [name for name, _ in ours] == [name for name, _ in native]
    assert all(torch.equal(one, other) for (_, one), (_, other) in zip(ours, native))


def test_inference_and_detectron2_itself_stay_as_they_were():
    native, model = build("mask_rcnn_fpn"), build("mask_rcnn_fpn")
    return_per_image_losses(model)
    batch = make_batch(UNEQUAL)
    with torch.no_grad():
        ours, theirs = model.eval()(batch), native.eval()(batch)
    for one, other in zip(ours, theirs):
        assert torch.equal(one["instances"].scores, other["instances"].scores)
        assert torch.equal(one["instances"].pred_masks, other["instances"].pred_masks)
    assert all(loss.dim() == 0 for loss in run(native.train(), batch)[0].values())
    assert all(loss.shape == (3,) for loss in run(copy.deepcopy(model).train(), batch)[0].values())


def test_through_distributed_data_parallel(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(build("retinanet"))
        return_per_image_losses(model)
        assert "losses" in vars(model.module) and "forward" not in vars(model)
        losses, _ = run(model, make_batch(UNEQUAL))
        assert all(values.shape == (3,) for values in losses.values())
        sum(values.mean() for values in losses.values()).backward()
    finally:
        torch.distributed.destroy_process_group()


def test_federated_loss_is_refused():
    model = build("faster_rcnn_fpn")
    model.roi_heads.box_predictor.use_fed_loss = True
    with pytest.raises(ValueError, match="USE_FED_LOSS to False"):
        return_per_image_losses(model)


class Toy(nn.Module):
    """Couples its images in the loss, as no slicing could undo; logs what it saw."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, batched_inputs):
        if not self.training:
            return [{"seen": len(batched_inputs)}]
        pixels = torch.stack([record["image"].mean() for record in batched_inputs])
        get_event_storage().put_scalar("pixels", pixels.mean().item(), smoothing_hint=False)
        losses = {"loss_a": (self.weight * pixels.sum()) ** 2}
        if all(len(record["instances"]) for record in batched_inputs):
            losses["loss_b"] = self.weight.sum() * pixels.mean()
        return losses


def test_any_other_model_runs_its_images_one_at_a_time(caplog):
    model, batch = Toy(), make_batch((2, 0, 5))
    alone = [run(model, [record])[0] for record in batch]
    with caplog.at_level(logging.WARNING):
        return_per_image_losses(model)
    (warning,) = [r.getMessage() for r in caplog.records]
    for part in ("Toy", "a forward pass an image", "BatchNorm", "register"):
        assert part in warning
    losses, storage = run(model, batch)
    assert losses["loss_a"].tolist() == [own["loss_a"].item() for own in alone]
    assert losses["loss_b"].tolist() == [own["loss_b"].item() if "loss_b" in own else 0.0 for own in alone]
    losses["loss_a"].mean().backward()
    assert model.weight.grad.item() != 0
    mean = sum(record["image"].mean().item() for record in batch) / 3
    assert storage.history("pixels").values()[0][0] == pytest.approx(mean, abs=1e-6)
    assert storage.smoothing_hints() == {"pixels": False}
    assert model.eval()(batch) == [{"seen": 3}]


def test_a_keypoint_head_or_a_changed_loss_falls_back_and_changes_nothing_before(caplog):
    class OtherRPN(type(build("faster_rcnn_fpn").proposal_generator)):
        def losses(self, *arguments):
            return {name: 2 * loss for name, loss in super().losses(*arguments).items()}

    keypoints, changed, unknown = (build("faster_rcnn_fpn") for _ in range(3))
    keypoints.roi_heads.keypoint_on = True
    changed.proposal_generator.__class__ = OtherRPN
    unknown.roi_heads.box_predictor.box_reg_loss_type = "of_tomorrow"
    models = {"keypoints": keypoints, "OtherRPN": changed, "of_tomorrow": unknown}
    for reason, model in models.items():
        return_per_image_losses(model)
        assert reason in caplog.records[-1].getMessage()
        assert "losses" not in vars(model.proposal_generator)
    batch = make_batch((2, 3))
    alone = build("faster_rcnn_fpn")
    torch.manual_seed(1)
    with EventStorage():
        expected = [alone([record])["loss_rpn_cls"].item() * 2 for record in batch]
    losses, _ = run(changed, batch)
    assert losses["loss_rpn_cls"].tolist() == expected


def test_a_user_registers_losses_of_a_model_of_their_own():
    class Head(nn.Module):
        def losses(self, predictions, targets):
            return {"loss": (predictions - targets).abs().mean()}

    class MyDetector(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = Head()

        def forward(self, batched_inputs):
            values = torch.stack([record["image"].sum() for record in batched_inputs])
            return self.head.losses(values, torch.zeros(len(values)))

    def losses(head, predictions, targets):
        def one(i):
            return type(head).losses(head, predictions[i : i + 1], targets[i : i + 1])

        return image_by_image(one, len(targets))

    @install_per_image_losses.register
    def _(model: MyDetector):
        model.head.losses = MethodType(losses, model.head)

    batch = make_batch((1, 2, 3))
    model, native = MyDetector(), MyDetector()
    return_per_image_losses(model)
    assert "forward" not in vars(model)
    values = model(batch)["loss"]
    assert values.shape == (3,) and torch.allclose(values.mean(), native(batch)["loss"])


def test_a_model_with_an_attribute_of_its_own_is_told_by_it():
    model = Toy()
    model.per_image_losses = False
    return_per_image_losses(model)
    assert model.per_image_losses is True and "forward" not in vars(model)
