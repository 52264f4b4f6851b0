"""Detectron2's DatasetMapper in less time."""

import copy
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetMapper, detection_utils
from detectron2.data.transforms import (
    AugInput,
    Augmentation,
    AugmentationList,
    RandomCrop,
    ResizeShortestEdge,
    ResizeTransform,
    Transform,
    TransformList,
)
from detectron2.structures import Boxes, BoxMode, Instances
from fvcore.transforms.transform import NoOpTransform

from .small_copies import SmallCopies
from .validation import Record

_THINNEST = 1e-5  # pixels, as `detection_utils.filter_empty_instances` has it


class QuickMapper(DatasetMapper):
    """Gives what Detectron2's mapper gives, to the bit, in less time; with small copies, in a fraction of it.

    The pixels of copies are those that `small_copies` has: in pruning runs not to the bit.

    Detectron2 copies a record deeply, transforms its boxes one by one, and makes BGR of RGB by turning an axis around,
    which Pillow then copies byte by byte to resize it. Here records are not copied unless they have masks or keypoints,
    the boxes of an image are one array, and the bytes are put in a row before resizing and behind a crop.

    Attributes:
        copies: what to read the images from; None: from their files.
    """

    copies: SmallCopies | None = None

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        augmentations: list[Augmentation] = list(self.augmentations.augs)  # type: ignore[has-type]
        self._of_copies = AugmentationList(
            [_ResizeShortestEdge(own) if isinstance(own, ResizeShortestEdge) else own for own in augmentations]
        )
        crops = sum(1 for _ in takewhile(lambda augmentation: isinstance(augmentation, RandomCrop), augmentations))
        augmentations.insert(crops, _InARow())
        self.augmentations = AugmentationList(augmentations)

    def reading(self, copies: SmallCopies | None) -> "QuickMapper":
        """The mapper itself, which from now on reads these copies."""
        self.copies = copies
        return self

    def __call__(self, dataset_dict: Record) -> Record:
        if self.proposal_topk is not None or "sem_seg_file_name" in dataset_dict:
            return super().__call__(dataset_dict)
        record = dict(dataset_dict)
        if self.copies is None:
            augmented = AugInput(detection_utils.read_image(record["file_name"], format=self.image_format))
            size, augmentations = augmented.image.shape[:2], self.augmentations
        else:
            image, size = self.copies.read(record["file_name"])
            augmented, augmentations = AugInput(image), self._of_copies
            augmented.size = size
        detection_utils.check_image_size(record, np.broadcast_to(np.uint8(0), size))
        transforms = augmentations(augmented)
        shape = augmented.image.shape[:2]
        record["image"] = torch.from_numpy(np.array(augmented.image.transpose(2, 0, 1), order="C"))
        if not self.is_train:
            record.pop("annotations", None)
        elif "annotations" in record:
            if self.use_instance_mask or self.use_keypoint:
                record["annotations"] = copy.deepcopy(record["annotations"])
            self._transform_annotations(record, transforms, shape)
        return record

    def _transform_annotations(
        self, dataset_dict: Record, transforms: TransformList, image_shape: tuple[int, int]
    ) -> None:
        if self.use_instance_mask or self.use_keypoint:
            super()._transform_annotations(dataset_dict, transforms, image_shape)
            return
        objects = [own for own in dataset_dict.pop("annotations") if not own.get("iscrowd", 0)]
        height, width = image_shape
        boxes = transforms.apply_box(_boxes_of(objects)).clip(min=0)
        boxes = np.minimum(boxes, (width, height, width, height)).astype(np.float32)
        thick = (boxes[:, 2:] - boxes[:, :2] > _THINNEST).all(axis=1)
        classes = np.array([int(own["category_id"]) for own in objects], np.int64)
        instances = Instances(image_shape)
        instances.gt_boxes = Boxes(torch.from_numpy(boxes[thick]))
        instances.gt_classes = torch.from_numpy(classes[thick])
        dataset_dict["instances"] = instances


def _boxes_of(objects: list[Record]) -> np.ndarray:
    """(G, 4) XYXY, float64; lists that are not XYXY are rounded to float32, as by Detectron2."""
    boxes = [own["bbox"] for own in objects]
    modes = {own["bbox_mode"] for own in objects}
    if modes == {BoxMode.XYWH_ABS}:
        boxes = BoxMode.convert(np.array(boxes, np.float32), BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)
    elif modes - {BoxMode.XYXY_ABS}:
        boxes = [BoxMode.convert(own["bbox"], own["bbox_mode"], BoxMode.XYXY_ABS) for own in objects]
    return np.array(boxes, np.float64).reshape(-1, 4)


class _ResizeShortestEdge(Augmentation):
    """Detectron2's, of the small copy of a picture with the given (height, width)."""

    def __init__(self, resize: ResizeShortestEdge):
        super().__init__()
        self.resize = resize

    def get_transform(self, image: np.ndarray, size: tuple[int, int]) -> Transform:
        drawn = self.resize.get_transform(np.broadcast_to(np.uint8(0), size))
        return _Resize(*size, drawn.new_h, drawn.new_w, drawn.interp) if isinstance(drawn, ResizeTransform) else drawn


class _Resize(ResizeTransform):
    """Boxes go by the picture's height and width; an image may be a small copy of it."""

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        if img.shape[:2] == (self.new_h, self.new_w):
            return img
        resize = ResizeTransform(*img.shape[:2], self.new_h, self.new_w, self.interp)
        return resize.apply_image(in_a_row(img), interp)


class _InARow(NoOpTransform):
    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return in_a_row(img)


def in_a_row(image: np.ndarray) -> np.ndarray:
    """The same (H, W, C) or (H, W) image in C order; colour by colour, the quickest way numpy has."""
    if image.ndim < 3 or image.flags.c_contiguous:
        return np.ascontiguousarray(image)
    row = np.empty(image.shape, image.dtype)
    for colour in range(image.shape[2]):
        row[..., colour] = image[..., colour]
    return row
