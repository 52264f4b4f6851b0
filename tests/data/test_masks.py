import pytest

from adapruner_det.data.detection_records import check_masks

POLYGON, RLE = [[0, 0, 5, 0, 5, 5]], {"size": [9, 9], "counts": "x"}


def records(*segmentations, **others):
    return [{"file_name": "a.jpg", "annotations": [{"segmentation": s, **others} for s in segmentations]}]


@pytest.mark.parametrize(
    "of, mask_format, message",
    [
        (records(POLYGON, None), "polygon", "1 of 1 images have objects without segmentation, such as a.jpg"),
        (
            records(POLYGON, RLE),
            "polygon",
            "1 of 1 images have masks as RLE, such as a.jpg.*add INPUT.MASK_FORMAT bitmask",
        ),
    ],
)
def test_masks_that_detectron2_would_stumble_over_are_named(of, mask_format, message):
    with pytest.raises(ValueError, match=message):
        check_masks(of, mask_format)


@pytest.mark.parametrize(
    "of, mask_format",
    [(records(POLYGON, RLE), "bitmask"), (records(RLE, iscrowd=1), "polygon"), (records(), "polygon")],
)
def test_other_masks_pass(of, mask_format):
    check_masks(of, mask_format)
