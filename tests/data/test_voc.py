"""Small VOC folders with one oddity or one fault each, and the real data sets."""

import os
from pathlib import Path

import pytest
from detectron2.data import detection_utils
from detectron2.data.datasets.pascal_voc import load_voc_instances
from detectron2.structures import BoxMode
from PIL import Image

from adapruner_det.data.validation import ON_INVALID, InvalidDatasetError
from adapruner_det.data.voc import collect_class_names, load_voc_dataset, read_annotation, read_image_set

CLASSES = ["cat", "dog"]
WIDTH, HEIGHT = 40, 30
SIZE = "<size><width>{}</width><height>{}</height><depth /></size>"
USUAL_SIZE = SIZE.format(WIDTH, HEIGHT)


def object_xml(name="cat", box=(1, 1, 10, 10), extra="<difficult>0</difficult>"):
    corners = "<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax>".format(*box)
    return f"<object><name>{name}</name>{extra}<bndbox>{corners}</bndbox></object>"


class Tree:
    """A VOC folder that grows image by image, with a `train` list of all of them."""

    def __init__(self, root):
        self.root, self.ids = root, []
        for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
            (root / folder).mkdir(parents=True)

    def annotation(self, image_id):
        return self.root / "Annotations" / f"{image_id}.xml"

    def image(self, image_id, suffix=".jpg"):
        return self.root / "JPEGImages" / f"{image_id}{suffix}"

    def add(self, image_id, *objects, size=USUAL_SIZE, suffix=".jpg"):
        Image.new("RGB", (WIDTH, HEIGHT)).save(self.image(image_id, suffix))
        self.annotation(image_id).write_text(f"<annotation>{size}{''.join(objects)}</annotation>")
        self.ids.append(image_id)
        self.write_list("train", "\n".join(self.ids))

    def write_list(self, split, text, encoding="utf-8"):
        (self.root / "ImageSets/Main" / f"{split}.txt").write_bytes(text.encode(encoding))

    def load(self, on_invalid="error"):
        return load_voc_dataset(self.root, "train", CLASSES, on_invalid)

    def ids_left(self, on_invalid):
        return [record["image_id"] for record in self.load(on_invalid)]

    def problems(self):
        with pytest.raises(InvalidDatasetError) as caught:
            self.load()
        return caught.value.problems


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path / "VOCdevkit")


@pytest.mark.parametrize(
    "text, ids",
    [
        ("b\na\n", ["b", "a"]),
        ("a\r\n\r\n  \nb\t", ["a", "b"]),
        ("000001  1\n000002 -1\n000003  0\n", ["000001", "000002", "000003"]),
        ("photo 1\nmy photo\n", ["photo 1", "my photo"]),
        ("\ufeffa\nb\n", ["a", "b"]),
        ("b\na\nb\nb\n", ["b", "a"]),
    ],
    ids="order blank-crlf per-class spaces bom repeated".split(),
)
def test_lists_are_read_in_every_form(tree, text, ids, caplog):
    tree.write_list("any", text)
    assert read_image_set(tree.root, "any") == ids
    assert ("b (3 times)" in caplog.text) == (text.count("b\n") == 3)


def test_lists_that_cannot_be_read_are_named(tree, tmp_path):
    tree.write_list("empty", "\n \n")
    tree.write_list("utf16", "a\nb\n", "utf-16")
    with pytest.raises(FileNotFoundError, match=r"train\.txt does not exist.*: empty, utf16$"):
        read_image_set(tree.root, "train")
    with pytest.raises(ValueError, match=r"empty\.txt lists no image"):
        read_image_set(tree.root, "empty")
    with pytest.raises(ValueError, match=r"utf16\.txt is not UTF-8"):
        read_image_set(tree.root, "utf16")
    with pytest.raises(FileNotFoundError, match="Main does not exist.*JPEGImages/, Annotations/"):
        load_voc_dataset(tmp_path, "train", CLASSES)


def test_class_names_come_from_every_annotation_s_objects(tree):
    tree.add("a")
    with pytest.raises(ValueError, match="give the class names"):
        collect_class_names(tree.root)
    tree.annotation("broken").write_text("<annotation>")
    with pytest.raises(ValueError, match=r"names a class \(1 cannot be read, .*broken.xml: .*\): give"):
        collect_class_names(tree.root)
    part = "<attributes><attribute><name>x</name></attribute></attributes><part><name>head</name><bndbox/></part>"
    tree.add("b", object_xml("zebra", extra=part), object_xml(" ant "), object_xml(""))
    assert collect_class_names(tree.root) == ["ant", "zebra"]


@pytest.mark.parametrize("classes, on_invalid, message", [
    (["cat", "dog", "cat"], "error", "more than once: cat"),
    (CLASSES, "ignore", "'ignore'.*clip, error, skip_objects, skip_images"),
])  # fmt: skip
def test_arguments_are_checked(tree, classes, on_invalid, message):
    tree.add("a")
    with pytest.raises(ValueError, match=message):
        load_voc_dataset(tree.root, "train", classes, on_invalid)


def test_same_dicts_as_detectron2(tree):
    tree.add("a", object_xml("dog", (1, 1, WIDTH, HEIGHT)), object_xml("cat", (3.25, 4, 9.5, 8)))
    tree.add("b")
    tree.add("c", object_xml("cat", (5, 6, 5, 6), extra="<difficult>1</difficult>"))
    expected = load_voc_instances(str(tree.root), "train", CLASSES)
    for record in expected:
        for annotation in record["annotations"]:
            annotation.update(difficult=int(record["image_id"] == "c"), iscrowd=0)
    loaded = load_voc_dataset(str(tree.root), "train", CLASSES)
    assert loaded == expected and type(loaded[0]["image_id"]) is str
    cat = {"category_id": 0, "bbox": [2.25, 3.0, 9.5, 8.0], "bbox_mode": BoxMode.XYXY_ABS, "difficult": 0, "iscrowd": 0}
    assert loaded[0]["annotations"][1] == cat


@pytest.mark.parametrize("xml, difficult", [("", 0), ("<difficult/>", 0), ("<difficult> True </difficult>", 1)])
def test_difficult_flag(tree, xml, difficult):
    tree.add("a", object_xml(extra=xml))
    assert tree.load()[0]["annotations"][0]["difficult"] == difficult


@pytest.mark.parametrize("suffix", [".jpg", ".JPG", ".Jpeg", ".png", ".bmp", ".tif", ".TIFF", ".webp"])
def test_image_suffixes(tree, suffix):
    tree.add("a", suffix=suffix)
    tree.image("a", ".txt").write_text("notes")
    assert tree.load()[0]["file_name"] == str(tree.image("a", suffix))


def test_of_two_pictures_with_one_id_the_annotation_names_one(tree):
    tree.add("a", "<filename>C:\\pictures\\a.png</filename>")
    tree.add("b", "<filename>b.gif</filename>")
    for image_id in ("a", "b"):
        Image.new("RGB", (WIDTH, HEIGHT)).save(tree.image(image_id, ".png"))
    (problem,) = tree.problems()
    assert problem.file == str(tree.image("b", "")) and problem.message.startswith("b.jpg, b.png have this id")
    assert [record["file_name"] for record in tree.load("skip_objects")] == [str(tree.image("a", ".png"))]


def test_ids_in_another_spelling_in_subfolders_and_with_endings(tree):
    for folder in ("JPEGImages", "Annotations"):
        (tree.root / folder / "day1").mkdir()
    tree.add("day1/x", object_xml())
    tree.add("e\u0301TE.jpg", object_xml("dog"))
    tree.image("e\u0301TE.jpg").rename(tree.image("\u00e9te"))
    tree.annotation("e\u0301TE.jpg").rename(tree.annotation("e\u0301Te"))
    tree.write_list("train", "day1/x.jpg\ne\u0301TE.jpg\n")
    records = tree.load()
    assert [record["image_id"] for record in records] == ["day1/x", "e\u0301TE"]
    assert [record["file_name"] for record in records] == [str(tree.image("day1/x")), str(tree.image("\u00e9te"))]
    assert collect_class_names(tree.root) == ["cat", "dog"]


@pytest.mark.parametrize(
    "text, ids",
    [
        ("img 0\nimg 1\n", ["img 0", "img 1"]),
        ('"img 0"\n"img 1"\n', ["img 0", "img 1"]),
        ("img 0  1\nimg 1 -1\n", ["img 0", "img 1"]),
        ("x.jpg\nv1.jpg\nimg 0\n", ["x", "v1.jpg", "img 0"]),
        ("day1\\z\nx\n", ["day1/z", "x"]),
    ],
)
def test_lists_with_ids_like_flags_quotes_back_slashes_and_some_endings(tree, text, ids):
    for folder in ("JPEGImages", "Annotations"):
        (tree.root / folder / "day1").mkdir()
    for image_id in ("img 0", "img 1", "x", "v1.jpg"):
        tree.add(image_id, object_xml())
    tree.add("day1/z", object_xml("dog"))
    tree.write_list("train", text)
    assert [record["image_id"] for record in tree.load()] == ids
    assert collect_class_names(tree.root) == (["cat", "dog"] if "day1/z" in ids else ["cat"])


@pytest.mark.parametrize(
    "size",
    ["", SIZE.format(0, 0), SIZE.format(-1, -1), f"<size><width>{WIDTH}</width></size>", SIZE.format("40.0", "30.0")],
)
def test_size_comes_from_the_picture_when_not_stated(tree, size):
    tree.add("a", object_xml(), size=size)
    (record,) = tree.load()
    assert (record["width"], record["height"]) == (WIDTH, HEIGHT)


def test_size_is_that_of_the_picture_as_detectron2_turns_it(tree):
    tree.add("turned", size=SIZE.format(HEIGHT, WIDTH))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (WIDTH, HEIGHT)).save(tree.image("turned"), exif=exif)
    tree.add("broken", suffix=".png")
    Image.new("RGB", (WIDTH, HEIGHT)).save(tree.image("broken", ".png"), exif=b"Exif\x00\x00no tiff")
    records = tree.load()
    assert [record["width"] for record in records] == [HEIGHT, WIDTH]
    for record in records:  # raises what training would raise
        detection_utils.check_image_size(record, detection_utils.read_image(record["file_name"], "BGR"))


def test_boxes_of_a_picture_before_exif_turned_it_are_reported_as_such(tree):
    tree.add("a", object_xml())
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (WIDTH, HEIGHT)).save(tree.image("a"), exif=exif)
    (problem,) = tree.problems()
    assert problem.message.startswith(
        "size is 40 x 30, but the picture's is 30 x 40 once it is turned as its EXIF data"
    )


@pytest.mark.parametrize(
    "box, bbox", [((0, 0.5, 10, 10), [0.0, 0.0, 10.0, 10.0]), ((5, 5, WIDTH + 1, HEIGHT + 0.3), [4.0, 4.0, 40.0, 30.0])]
)
def test_one_pixel_beyond_the_border_is_clipped_in_silence(tree, box, bbox, caplog):
    tree.add("a", object_xml(box=box))
    assert tree.load()[0]["annotations"][0]["bbox"] == bbox and caplog.text == ""


def test_read_annotation_gives_the_box_as_written(tree):
    dog = object_xml("dog", (0, 2.5, WIDTH + 1, 9), extra="<difficult>1</difficult>")
    tree.add("a", dog, object_xml("cat", ("x", 1, 2, 2)), object_xml("fish"))
    size, objects, problems, _, _ = read_annotation(str(tree.annotation("a")))
    assert size == (WIDTH, HEIGHT)
    assert objects == [("dog", (0.0, 2.5, 41.0, 9.0), True, 1), ("fish", (1, 1, 10, 10), False, 3)]
    assert [(problem.object_number, problem.class_name) for problem in problems] == [(2, "cat")]


@pytest.mark.parametrize(
    "xml, class_name, message",
    [
        ("<object><bndbox/></object>", None, "has no name"),
        ("<object><name>cat</name></object>", "cat", "has no bndbox"),
        ("<object><name>cat</name><bndbox><xmin>1</xmin></bndbox></object>", "cat", "has no ymin"),
        (object_xml(box=(1, 1, "", 10)), "cat", "has no xmax"),
        (object_xml(box=("1,5", 1, 9, 9)), "cat", "xmin is '1,5', not a number"),
        (object_xml(box=("1_0", 1, 19, 9)), "cat", "xmin is '1_0', not a number"),
        (object_xml(box=("\u0661", 1, 19, 9)), "cat", "xmin is '\u0661', not a number"),
        (object_xml(box=(1, 1, 9, "inf")), "cat", "ymax is 'inf', not a number"),
        (object_xml(extra="<difficult>very</difficult>"), "cat", "difficult is 'very'"),
        (object_xml("Cat"), "Cat", "unknown class"),
        (object_xml().replace("</object>", "<name>dog</name></object>"), "cat", "has more than one name"),
        (object_xml(box=("1</xmin><xmin>2", 1, 9, 9)), "cat", "has more than one xmin"),
        (object_xml(box=(-9, 1, 9, 9)), "cat", "outside the 40 x 30 image"),
        (object_xml(box=(31, 21, 60, 40)), "cat", "outside the 40 x 30 image"),
        (object_xml(box=(1, 1, "9e307", "9e307")), "cat", "outside the 40 x 30 image"),
        (object_xml(box=(9, 1, 8.5, 9)), "cat", "box xmin 9, ymin 1, xmax 8.5, ymax 9 has no area"),
        (object_xml(box=(WIDTH + 1, 1, WIDTH + 1, 9)), "cat", "has no area within"),
        (object_xml(box=(1, 0, 9, 0)), "cat", "has no area within"),
    ],
)
def test_bad_object_is_reported_or_its_image_dropped(tree, xml, class_name, message):
    tree.add("a", object_xml("dog"), xml)
    tree.add("b", object_xml("dog"))
    (problem,) = tree.problems()
    assert str(problem).startswith(f"{tree.annotation('a')}: object 2 ({class_name or 'no class'}): ")
    assert message in problem.message
    with pytest.raises(InvalidDatasetError):
        tree.load("clip")
    assert tree.ids_left("skip_objects") == tree.ids_left("skip_images") == ["b"]


@pytest.mark.parametrize("box, bbox", [
    ((-0.5, 1, 9, 9), [0, 0, 9, 9]),
    ((1, -1, 9, 9), [0, 0, 9, 9]),
    ((21, 1, WIDTH + 19, 9), [20, 0, WIDTH, 9]),
    ((1, 1, 9, HEIGHT + 2), [0, 0, 9, HEIGHT]),
])  # fmt: skip
def test_boxes_that_stick_out_are_clipped_counted_or_reported(tree, box, bbox, caplog):
    tree.add("a", object_xml("dog"), object_xml(box=box))
    tree.add("b", object_xml("dog"))
    for on_invalid in ("clip", "skip_objects"):
        caplog.clear()
        assert tree.load(on_invalid)[0]["annotations"][1]["bbox"] == bbox
        assert "1 boxes stick out of their image and are clipped (1 images: a)" in caplog.text
    assert "outside the 40 x 30 image" in tree.problems()[0].message
    assert tree.ids_left("skip_images") == ["b"]


HOSTILE = '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><annotation>&e;</annotation>'


@pytest.mark.parametrize(
    "file, content, message",
    [
        ("JPEGImages/a.jpg", None, "no image of this id with one of .jpg, .jpeg, .png, .bmp, .tif, .tiff, .webp"),
        ("JPEGImages/a.jpg", "\xff\xd8 no jpeg", "not readable as an image"),
        ("JPEGImages/a.jpg", "", "not readable as an image"),
        ("Annotations/a.xml", None, "no such annotation"),
        ("Annotations/a.xml", "<annotation><object>", "not readable as XML"),
        ("Annotations/a.xml", '<?xml version="1.0" encoding="klingon"?><annotation/>', "not readable as XML"),
        ("Annotations/a.xml", HOSTILE, "EntitiesForbidden"),
        ("Annotations/a.xml", f"<annotation>{SIZE.format(30, 40)}</annotation>",
         "size is 30 x 40, but the picture's is 40 x 30"),
        ("Annotations/a.xml", f"<annotation>{object_xml().replace('object>', 'Object>')}</annotation>",
         "no <object> under <annotation>, but <Object>, <bndbox>, <xmin>: boxes in a structure that is not VOC's"),
        ("Annotations/a.xml", f"<annotation><objects>{object_xml()}</objects></annotation>", "structure that is not"),
        ("Annotations/a.xml", "<annotations><image><box label='cat'/></image></annotations>", "structure that is not"),
        ("Annotations/a.xml", f"<annotation>{'<object/>' * 50_001}</annotation>", "50,001 objects are too many"),
        ("Annotations/a.xml", " " * (9 << 20), "9,437,184 bytes are too many"),
    ],
)  # fmt: skip
def test_unusable_image_is_reported_or_skipped(tree, file, content, message):
    tree.add("a", object_xml())
    tree.add("b", object_xml())
    (tree.root / file).unlink()
    if content is not None:
        (tree.root / file).write_text(content)
    (problem,) = tree.problems()
    assert message in problem.message and problem.object_number is None
    assert problem.file == str(tree.root / file).removesuffix(".jpg" if content is None else "")
    for on_invalid in ("skip_objects", "skip_images"):
        assert tree.ids_left(on_invalid) == ["b"]


def test_size_that_is_no_number_is_reported(tree):
    tree.add("a", object_xml(), size=SIZE.format("wide", 30))
    tree.add("b")
    assert ["size/width is 'wide', not a number"] == [problem.message for problem in tree.problems()]
    # The picture's own size serves, so only the strict mode drops the image.
    assert tree.ids_left("skip_objects") == ["a", "b"] and tree.ids_left("skip_images") == ["b"]


def test_all_problems_come_in_one_error_in_order(tree):
    tree.add("a", object_xml("Cat"), object_xml(), object_xml(box=(5, 5, 4, 4)))
    tree.add("b")
    tree.add("c", object_xml("DOG"))
    tree.image("b").unlink()
    tree.annotation("b").unlink()
    found = [(Path(problem.file).name, problem.object_number) for problem in tree.problems()]
    assert found == [("a.xml", 1), ("a.xml", 3), ("b", None), ("b.xml", None), ("c.xml", 1)]


def test_report_is_capped_and_names_the_way_out(tree):
    tree.add("a", *[object_xml("Cat")] * 60)
    with pytest.raises(InvalidDatasetError, match="^60 problems in split 'train' .*classes: cat, dog") as caught:
        tree.load()
    message = str(caught.value)
    assert message.count("unknown class") == 50 and "... and 10 more" in message
    assert "skip_objects" in message and "skip_images" in message


def test_skipping_logs_counts_and_the_first_few_but_may_not_leave_nothing(tree, caplog):
    tree.add("b")
    tree.image("b").unlink()
    for on_invalid in ("skip_objects", "skip_images"):
        with pytest.raises(InvalidDatasetError, match="(?s)^1 problem in .*leaves no image"):
            tree.load(on_invalid)
    tree.add("a", *[object_xml("Cat")] * 7)
    tree.add("c")
    assert tree.ids_left("skip_objects") == ["c"]
    assert caplog.text.count("unknown class") == 4 and "... and 3 more" in caplog.text
    assert "8 problems" in caplog.text and "drops 2 of 3 images; 7 objects were bad" in caplog.text


@pytest.mark.parametrize("on_invalid", ON_INVALID)
def test_classes_that_are_not_asked_for_are_left_out_and_counted(tree, caplog, on_invalid):
    tree.add("a", object_xml("fish"), object_xml())
    tree.add("b", object_xml("fish", (90, 90, 99, 99)), object_xml("bird"))  # where it is does not matter
    with pytest.raises(ValueError, match="has no class dog, but bird, fish, which was not asked for: correct"):
        tree.load(on_invalid)
    tree.write_list("other", "c")
    tree.add("c", object_xml("dog"))  # in another list
    tree.ids.remove("c")
    tree.write_list("train", "a\nb")
    records = tree.load(on_invalid)
    assert [[a["category_id"] for a in record["annotations"]] for record in records] == [[0], []]
    assert "3 objects of other classes are left out, as if not labelled: fish (2), bird (1)" in caplog.text


@pytest.mark.parametrize("on_invalid", ["clip", "skip_images"])
def test_boxes_of_width_and_height_are_noticed_though_most_can_be_read(tree, on_invalid):
    for number in range(10):
        tree.add(f"{number}", object_xml(box=(3 * number + 1, 2, 9, 9)))  # of the last ones xmax is below xmin
    with pytest.raises(
        ValueError, match="split .* of .*: 6 of 10 boxes do not fit.* would if the four numbers were xmin, ymin, width"
    ):
        tree.load(on_invalid)
    tree.add("other", object_xml(box=(20, 2, 30, 9)))  # would be outside
    assert len(tree.ids_left("skip_images")) == 4


def test_objects_that_are_there_twice_are_counted(tree, caplog):
    tree.add("a", object_xml(), object_xml(), object_xml("dog"))
    assert len(tree.load()[0]["annotations"]) == 3
    assert (
        "1 objects have class and box of another one in their image: each of them counts (1 images: a)" in caplog.text
    )


def test_a_namespace_changes_nothing(tree):
    tree.add("a", object_xml())
    plain = tree.load()
    text = tree.annotation("a").read_text().replace("<annotation>", '<annotation xmlns="http://example.org/voc">')
    tree.annotation("a").write_text(text)
    assert tree.load() == plain and len(plain[0]["annotations"]) == 1
    assert collect_class_names(tree.root) == ["cat"]


def test_what_is_read_but_may_be_meant_otherwise_is_said_once(tree, caplog):
    turn = "<attributes><attribute><name>rotation</name><value>{}</value></attribute></attributes>"
    tree.add("a", object_xml(extra=turn.format("12.5")), object_xml("dog", extra=turn.format("0.0")))
    tree.add("b")
    tree.add("c")
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.new("RGB", (WIDTH, HEIGHT)).save(tree.image("b"), exif=exif)
    tree.image("c").unlink()
    tree.image("c").symlink_to(tree.image("a"))
    assert len(tree.load()) == 3
    assert "1 images have boxes that CVAT's attributes rotate; they are read unrotated (1 images: a)" in caplog.text
    assert "1 pictures are turned or mirrored by EXIF when read" in caplog.text and "(1 images: b)" in caplog.text
    assert "1 pictures are one file under two image ids (1 images: a = c)" in caplog.text
    assert len(caplog.records) == 3


def test_a_file_that_waits_for_a_writer_is_not_opened(tree):
    tree.add("a")
    tree.add("b")
    for file in (tree.annotation("a"), tree.image("b")):
        file.unlink()
        os.mkfifo(file)
    assert ["no regular file" in problem.message for problem in tree.problems()] == [True, True]


@pytest.mark.parametrize(
    "folder, images, boxes, difficult",
    [("bccd", 364, 4888, 0), ("neu_det", 1800, 4189, 81), ("fod_video", 4270, 4270, 0)],
)
def test_real_sets_load_as_in_detectron2(shared_data, folder, images, boxes, difficult):
    root = str(shared_data / folder)
    names = collect_class_names(root)
    loaded, expected = [], []
    for split in ("trainval", "test"):
        loaded += load_voc_dataset(root, split, names)
        expected += load_voc_instances(root, split, names)
    annotations = [a for record in loaded for a in record["annotations"]]
    assert (len(loaded), len(annotations), sum(a["difficult"] for a in annotations)) == (images, boxes, difficult)
    for record, reference in zip(loaded, expected, strict=True):
        for key in ("file_name", "image_id", "height", "width"):
            assert record[key] == reference[key]
        for ours, theirs in zip(record["annotations"], reference["annotations"], strict=True):
            assert ours["category_id"] == theirs["category_id"]
            # fod_video counts from 0, which puts Detectron2's own boxes a pixel off the picture.
            assert ours["bbox"] == [max(value, 0.0) for value in theirs["bbox"]]
