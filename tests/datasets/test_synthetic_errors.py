from xml.etree import ElementTree as ET

import numpy as np
import pytest
import synthetic_errors
from PIL import Image
from synthetic_errors import LabelledImage, Shares, plan_errors

from adapruner_det.data.voc import VOCObject


def rng(seed=0):
    return np.random.default_rng(seed)


def objects(*boxes, names="abcdefgh"):
    return tuple(VOCObject(name, box, False, n) for n, (name, box) in enumerate(zip(names, boxes), start=1))


def iou(a, b):
    sides = [min(a[k + 2], b[k + 2]) - max(a[k], b[k]) + 1 for k in (0, 1)]
    overlap = max(sides[0], 0) * max(sides[1], 0)
    areas = [(x[2] - x[0] + 1) * (x[3] - x[1] + 1) for x in (a, b)]
    return overlap / (sum(areas) - overlap)


BOXES = [
    (40, 40, 59, 69),  # room on all sides
    (1, 1, 20, 30),  # in a corner: one way only
    (1, 1, 100, 90),  # the whole picture
    (20, 1, 90, 88),  # no side with room for half of it
    (50, 50, 50, 50),
    (99, 2, 100, 4),
    (10.5, 20.25, 30.75, 40.0),
]


@pytest.mark.parametrize("box", BOXES)
def test_shifted_boxes_are_wrong_and_inside(box):
    for seed in range(8):
        ((number, moved),) = synthetic_errors.shifted_boxes(rng(seed), objects(box), (100, 90)).items()
        assert number == 1 and moved.name == "a"
        x0, y0, x1, y1 = moved.box
        assert 1 <= x0 <= x1 <= 100 and 1 <= y0 <= y1 <= 90
        assert iou(box, moved.box) < 0.5


@pytest.mark.parametrize("box, sides", [((40, 40, 59, 69), 4), ((1, 61, 20, 90), 1)])
def test_a_box_moves_by_about_half_its_size_to_a_side_where_it_fits(box, sides):
    seen = set()
    for seed in range(40):
        (moved,) = synthetic_errors.shifted_boxes(rng(seed), objects(box), (100, 90)).values()
        x, y = moved.box[0] - box[0], moved.box[1] - box[1]
        assert (moved.box[2] - box[2], moved.box[3] - box[3]) == (x, y)  # it keeps its size
        assert 8 <= abs(x) <= 12 and 12 <= abs(y) <= 18
        seen.add((x > 0, y > 0))
    assert len(seen) == sides


def test_every_class_is_another_one():
    for seed in range(10):
        own = objects(*[(1, 1, 5, 5)] * 4, names="abca")
        changes = synthetic_errors.wrong_classes(rng(seed), own, ["a", "b", "c"])
        names = [changes[n].name for n in (1, 2, 3, 4)]
        assert all(new != old for new, old in zip(names, "abca", strict=True))
        assert names[0] == names[3] and len(set(names)) == 3
        assert all(changed.box == (1, 1, 5, 5) for changed in changes.values())


@pytest.mark.parametrize("count, gone", [(1, 1), (2, 1), (5, 3)])
def test_half_of_the_boxes_rounded_up_go_missing(count, gone):
    changes = synthetic_errors.missing_boxes(rng(), objects(*[(1, 1, 5, 5)] * count))
    assert list(changes.values()) == [None] * gone and set(changes) <= set(range(1, count + 1))


def test_moved_boxes_are_cut_and_shifts_that_lose_a_box_are_not_taken():
    assert synthetic_errors.moved_box((10, 10, 20, 20), (3, -2), (100, 90)) == (13, 8, 23, 18)
    assert synthetic_errors.moved_box((2, 10, 20, 90), (-3, 2), (100, 90)) == (1, 12, 17, 90)
    assert len(synthetic_errors.allowed_shifts((), (100, 90))) == 48
    # two pixels wide at the left border: it can lose one of them, in height nothing to speak of
    shifts = synthetic_errors.allowed_shifts(objects((1, 40, 2, 80)), (100, 90))
    assert {x for x, y in shifts if y == 0} == {-1, 1, 2, 3}


def test_the_picture_moves_as_the_boxes_do(tmp_path):
    pixels = np.full((40, 60, 3), 60, np.uint8)
    pixels[10:20, 30:40] = 200
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for shift in ((3, -2), (-1, 0), (0, 3)):
        (tmp_path / "b.jpg").write_bytes(synthetic_errors.altered_picture(tmp_path / "a.png", shift, rng(1)))
        moved = np.asarray(Image.open(tmp_path / "b.jpg")).astype(int)
        assert moved.shape == pixels.shape
        rows, columns = np.nonzero(moved[..., 0] > 130)
        box = columns.min() + 1, rows.min() + 1, columns.max() + 1, rows.max() + 1
        assert box == synthetic_errors.moved_box((31, 11, 40, 20), shift, (60, 40))
        assert abs(moved[..., 0].min() - 60) < 30


def test_annotations_keep_all_else(tmp_path):
    file = tmp_path / "a.xml"
    file.write_text(
        "<annotation><filename>a.jpg</filename><extra>1</extra>"
        + "".join(
            f"<object><name>{n}</name><attributes>x</attributes><bndbox><xmin>1.5</xmin><ymin>2</ymin>"
            "<xmax>3</xmax><ymax>4</ymax></bndbox><part><name>head</name></part></object>"
            for n in "abc"
        )
        + "</annotation>"
    )
    changes = {1: VOCObject("z", (1.25, 2.0, 30.0, 4.0), False, 1), 2: None}
    root = ET.fromstring(synthetic_errors.changed_annotation(file, changes, "new.jpg"))
    first, last = root.findall("object")
    assert root.findtext("filename") == "new.jpg" and root.findtext("extra") == "1"
    box = [first.findtext(f"bndbox/{tag}") for tag in ("xmin", "ymin", "xmax", "ymax")]
    assert box == ["1.25", "2", "30", "4"]
    assert first.findtext("name") == "z" and first.findtext("attributes") == "x"
    assert first.find("part") is None and last.find("part") is not None
    assert last.findtext("name") == "c" and last.findtext("bndbox/xmin") == "1.5"


def images(count, boxes=2):
    return [LabelledImage(f"{n:03d}", (100, 90), objects(*[(9, 9, 40, 40)] * boxes)) for n in range(count)]


def test_defects_hit_different_images_as_often_as_asked():
    shares = Shares(duplicates=0.2, wrong_classes=0.1, shifted_boxes=0.05, missing_boxes=0.15)
    plan = plan_errors(images(100), shares, seed=3)
    kinds = [wrong.kind for wrong in plan.wrong.values()]
    assert sorted((kinds.count(k), k) for k in set(kinds)) == [(5, "box"), (10, "class"), (15, "missing")]
    originals = [original for original, _ in plan.copies.values()]
    assert len(originals) == len(set(originals)) == 20
    assert not set(originals) & set(plan.wrong)
    assert not set(plan.copies) & {image.image_id for image in images(100)}
    assert plan == plan_errors(images(100)[::-1], shares, seed=3)
    assert plan != plan_errors(images(100), shares, seed=4)


def test_images_with_several_boxes_lose_them_first():
    several, single, empty = images(6), images(30, 1)[6:20], images(40, 0)[20:]
    shares = Shares(missing_boxes=0.2)  # 8 of 40, more than have several
    plan = plan_errors([*several, *single, *empty], shares, seed=0)
    assert {im.image_id for im in several} < set(plan.wrong) and len(plan.wrong) == 8
    assert not {im.image_id for im in empty} & set(plan.wrong)


@pytest.mark.parametrize(
    "pool, shares, word",
    [
        (images(10), Shares(duplicates=0.6), "at most 0.5"),
        (images(10), Shares(missing_boxes=-0.1), "0 or more"),
        (images(10, 0), Shares(shifted_boxes=0.2), "shifted_boxes asks for 2 images, but only 0"),
        (images(10, 1), Shares(wrong_classes=0.2), "it takes two"),
    ],
)
def test_what_cannot_be_injected_is_said(pool, shares, word):
    with pytest.raises(ValueError, match=word):
        plan_errors(pool, shares, seed=0)
