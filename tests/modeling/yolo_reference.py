"""YOLOv3's assignment and loss in plain loops over floats, the oracle of the vectorised version."""

import math


def iou(first, second):
    """IoU of two boxes (x0, y0, x1, y1)."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return shared / (sum(areas) - shared)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def bce(logit, target):
    """Binary cross-entropy; softplus written so that it does not overflow."""
    softplus = max(logit, 0.0) + math.log1p(math.exp(-abs(logit)))
    return softplus - target * logit


def divergence(logit, share):
    """Kullback-Leibler divergence of a predicted share from the true one: 0 where they are equal."""
    p = sigmoid(logit)
    terms = [(share, p), (1 - share, 1 - p)]
    return sum(true * math.log(true / guess) for true, guess in terms if true > 0)


def image_loss(predictions, boxes, classes, image_size, levels, anchors, threshold):
    """The four sums of one image.

    Args:
        predictions: R rows of 5 + K numbers.
        boxes: rows (x0, y0, x1, y1).
        classes: one number a box.
        image_size: height and width without padding.
        levels: (stride, height, width, anchor ids) of each map.
        anchors: rows (width, height).

    Returns:
        The sums by name.
    """
    height, width = image_size
    num_classes = len(predictions[0]) - 5

    rows = {}  # (level, row, column, anchor id) -> index of the prediction
    for number, (_, level_height, level_width, ids) in enumerate(levels):
        for row in range(level_height):
            for column in range(level_width):
                for anchor in ids:
                    rows[number, row, column, anchor] = len(rows)

    targets = {}  # prediction -> [level, row, column, anchor, box, set of classes]
    for box, label in zip(boxes, classes):
        box_width, box_height = box[2] - box[0], box[3] - box[1]
        if box_width < 0.001 * width or box_height < 0.001 * height:
            continue
        overlaps = [iou((0, 0, box_width, box_height), (0, 0, *anchor)) for anchor in anchors]
        anchor = overlaps.index(max(overlaps))
        for number, (stride, _, _, ids) in enumerate(levels):
            if anchor in ids:
                column = int((box[0] + box[2]) / 2 / stride)
                row = int((box[1] + box[3]) / 2 / stride)
                index = rows[number, row, column, anchor]
                labels = targets[index][-1] if index in targets else set()
                targets[index] = [number, row, column, anchor, box, labels | {label}]

    sums = dict.fromkeys(["loss_xy", "loss_wh", "loss_obj", "loss_cls"], 0.0)
    for (number, row, column, anchor), index in rows.items():
        stride = levels[number][0]
        x, y, w, h, objectness, *logits = predictions[index]
        if index in targets:
            box, labels = targets[index][-2:]
            box_width, box_height = box[2] - box[0], box[3] - box[1]
            weight = 2 - (box_width / width) * (box_height / height)
            share_x = (box[0] + box[2]) / 2 / stride - column
            share_y = (box[1] + box[3]) / 2 / stride - row
            sums["loss_xy"] += weight * (divergence(x, share_x) + divergence(y, share_y))
            error_w = w - math.log(box_width / anchors[anchor][0])
            error_h = h - math.log(box_height / anchors[anchor][1])
            sums["loss_wh"] += weight * (error_w**2 + error_h**2) / 2
            sums["loss_obj"] += bce(objectness, 1)
            for label in range(num_classes):
                sums["loss_cls"] += bce(logits[label], 1 if label in labels else 0)
        elif column * stride < width and row * stride < height:
            centre_x, centre_y = (column + sigmoid(x)) * stride, (row + sigmoid(y)) * stride
            half_w = anchors[anchor][0] * math.exp(w) / 2
            half_h = anchors[anchor][1] * math.exp(h) / 2
            decoded = centre_x - half_w, centre_y - half_h, centre_x + half_w, centre_y + half_h
            kept = [box for box in boxes if box[2] - box[0] >= 0.001 * width and box[3] - box[1] >= 0.001 * height]
            if all(iou(decoded, box) <= threshold for box in kept):
                sums["loss_obj"] += bce(objectness, 0)
    return sums
