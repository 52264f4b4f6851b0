import pytest
import torch
from detectron2.structures import Boxes, Instances
from yolo_reference import image_loss

from adapruner_det.modeling.yolo_loss import (
    Level,
    assign,
    collect_ground_truth,
    yolo_losses,
)

ANCHORS = [[8.0, 10.0], [16.0, 14.0], [22.0, 30.0], [40.0, 36.0], [60.0, 70.0], [90.0, 80.0]]
LEVELS = [Level(16, 6, 8, (0, 1, 2)), Level(32, 3, 4, (3, 4, 5))]
NUM_CLASSES = 3
NUM_PREDICTIONS = (6 * 8 + 3 * 4) * 3
IGNORE = 0.4  # low, so that random predictions meet it


def instances(boxes, classes, size):
    result = Instances(size)
    result.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4))
    result.gt_classes = torch.tensor(classes, dtype=torch.int64)
    return result


def random_instances(count, size, generator):
    height, width = size
    sides = 4 + 76 * torch.rand(count, 2, generator=generator, dtype=torch.float64)
    scale = torch.tensor([width, height], dtype=torch.float64)
    sides = torch.minimum(sides, scale - 1)
    corner = torch.rand(count, 2, generator=generator, dtype=torch.float64) * (scale - sides)
    boxes = torch.cat([corner, corner + sides], dim=1)
    classes = torch.randint(NUM_CLASSES, (count,), generator=generator)
    return instances(boxes.tolist(), classes.tolist(), size)


def random_predictions(truths, generator):
    shape = len(truths), NUM_PREDICTIONS, 5 + NUM_CLASSES
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    return noise.mul(0.7).requires_grad_()


def losses(predictions, truths, levels=LEVELS, ignore=IGNORE, anchors=ANCHORS):
    anchors = torch.tensor(anchors, dtype=predictions.dtype)
    truth = collect_ground_truth(truths, [t.image_size for t in truths], anchors)
    return yolo_losses(predictions, truth, levels, anchors, ignore)


def reference(predictions, truths, levels=LEVELS, ignore=IGNORE):
    per_image = [
        image_loss(p.tolist(), t.gt_boxes.tensor.tolist(), t.gt_classes.tolist(), t.image_size, levels, ANCHORS, ignore)
        for p, t in zip(predictions.detach(), truths)
    ]
    return {name: torch.tensor([sums[name] for sums in per_image], dtype=torch.float64) for name in per_image[0]}


def assert_same(actual, expected, **tolerance):
    assert actual.keys() == expected.keys()
    for name, value in actual.items():
        torch.testing.assert_close(value.detach().double(), expected[name], msg=name, **tolerance)


@pytest.mark.parametrize("counts", [[5, 0, 40, 1], [0], [0, 0], [7], [100, 3]], ids=lambda c: "-".join(map(str, c)))
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_plain_loops(counts, seed):
    generator = torch.Generator().manual_seed(seed)
    sizes = [(96, 128), (90, 100), (64, 128), (33, 49)]
    truths = [random_instances(c, s, generator) for c, s in zip(counts, sizes)]
    predictions = random_predictions(truths, generator)
    assert_same(losses(predictions, truths), reference(predictions, truths))
    assert_same(losses(predictions.float(), truths), reference(predictions, truths), rtol=1e-4, atol=1e-4)


def test_random_batches_meet_the_ignore_threshold():
    """Guards the comparison above: without ignored predictions it would not test them."""
    generator = torch.Generator().manual_seed(0)
    truths = [random_instances(40, (96, 128), generator)]
    predictions = random_predictions(truths, generator)
    ignoring, counting = losses(predictions, truths), losses(predictions, truths, ignore=1.0)
    assert ignoring["loss_obj"] < counting["loss_obj"] - 1


def test_gradient_is_darknets():
    """Darknet states gradients: weight x (prediction - target), squared errors halved."""
    box = [20.0, 36.0, 44.0, 62.0]  # centre (32, 49), 24 x 26: third anchor, cell (3, 2) of level 0
    predictions = torch.zeros(1, NUM_PREDICTIONS, 5 + NUM_CLASSES, dtype=torch.float64)
    predictions.requires_grad_()
    sum(losses(predictions, [instances([box], [1], (96, 128))]).values()).sum().backward()
    weight = 2 - 24 * 26 / (96 * 128)
    logs = torch.tensor([24 / 22, 26 / 30], dtype=torch.float64).log()
    expected = [weight * (0.5 - 0.0), weight * (0.5 - 1 / 16), *(-weight * logs), -0.5]
    actual = predictions.grad[0, (3 * 8 + 2) * 3 + 2]
    torch.testing.assert_close(actual[:5], torch.tensor(expected, dtype=torch.float64))
    assert actual[5:].tolist() == [0.5, -0.5, 0.5]
    background = predictions.grad[0, 0]
    assert background[4] == 0.5 and background.abs().sum() == 0.5


def test_images_without_boxes_have_finite_gradients():
    predictions = torch.randn(2, NUM_PREDICTIONS, 5 + NUM_CLASSES, requires_grad=True)
    result = losses(predictions, [instances([], [], (96, 128))] * 2)
    for name in ("loss_xy", "loss_wh", "loss_cls"):
        assert result[name].tolist() == [0, 0]
    sum(result.values()).sum().backward()
    assert predictions.grad.isfinite().all()
    assert predictions.grad[..., 4].all(), "every prediction is background"


def test_extreme_predictions_keep_loss_and_gradient_finite():
    predictions = torch.full((1, NUM_PREDICTIONS, 5 + NUM_CLASSES), 1e4, requires_grad=True)
    total = sum(losses(predictions, [instances([[10, 10, 40, 40]], [0], (96, 128))]).values()).sum()
    total.backward()
    assert total.isfinite() and predictions.grad.isfinite().all()


def test_loss_does_not_depend_on_the_batchs_padding():
    """An image alone, and padded to the size of a larger neighbour."""
    generator = torch.Generator().manual_seed(4)
    truth = random_instances(6, (64, 90), generator)
    maps = {level.stride: level for level in LEVELS}
    padded = random_predictions([truth], generator).detach()
    small = [Level(16, 4, 6, (0, 1, 2)), Level(32, 2, 3, (3, 4, 5))]
    parts, offset = [], 0
    for level in small:
        height, width = maps[level.stride][1:3]
        count = height * width * 3
        part = padded[:, offset : offset + count].view(1, height, width, 3, -1)
        parts.append(part[:, : level.height, : level.width].flatten(1, 3))
        offset += count
    alone = losses(torch.cat(parts, dim=1), [truth], levels=small)
    assert_same(losses(padded, [truth]), alone)


def positives(boxes, classes, levels=LEVELS, size=(96, 128)):
    anchors = torch.tensor(ANCHORS)
    truth = collect_ground_truth([instances(boxes, classes, size)], [size], anchors)
    return assign(truth, levels, anchors, NUM_CLASSES)


def test_two_boxes_on_one_cell_and_anchor():
    result = positives([[20, 36, 44, 62], [21, 36, 43, 64], [0, 0, 90, 80]], [1, 2, 0])
    assert result.prediction.tolist() == [(3 * 8 + 2) * 3 + 2, 144 + (1 * 4 + 1) * 3 + 2]
    assert result.ground_truth.tolist() == [1, 2], "the later box is learned"
    assert result.classes.tolist() == [[0, 1, 1], [1, 0, 0]], "with the classes of both"


def test_an_anchor_of_two_levels_and_one_of_none():
    """As in darknet's yolov3-tiny.cfg before August 2018."""
    levels = [Level(16, 6, 8, (1, 2, 3)), Level(32, 3, 4, (3, 4, 5))]
    boxes = [[0, 0, 8, 10], [30, 30, 70, 66]]  # like anchors 0 and 3; the latter's centre (50, 48)
    result = positives(boxes, [0, 1], levels)
    assert result.ground_truth.tolist() == [1, 1]
    assert result.prediction.tolist() == [(3 * 8 + 3) * 3 + 2, 144 + (1 * 4 + 1) * 3 + 0]


def test_centres_outside_the_image_train_the_nearest_cell():
    result = positives([[120, 86, 148, 112]], [0])
    assert result.prediction.tolist() == [(5 * 8 + 7) * 3 + 2]


def test_degenerate_boxes_are_dropped():
    """The limits are 0.128 pixels of the width and 0.096 of the height."""
    boxes = [[5, 5, 5, 20], [40, 40, 39, 50], [5, 5, 5.11, 30], [5, 5, 30, 5.09], [5, 5, 30, 5.11]]
    assert positives(boxes, [0, 0, 0, 1, 2]).classes.tolist() == [[0, 0, 1]]


def test_unknown_class_is_refused():
    with pytest.raises(ValueError, match="class 3.*MODEL.YOLO.NUM_CLASSES"):
        positives([[5, 5, 30, 30]], [3])
