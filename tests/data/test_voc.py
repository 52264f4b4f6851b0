"""Small VOC folders with one oddity or one fault each, and the real data sets."""

import logging
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from detectron2.data import detection_utils
from detectron2.data.datasets.pascal_voc import load_voc_instances
from detectron2.structures import BoxMode
from PIL import Image

from adapruner_det.data.voc import (
    InvalidDatasetError,
    collect_class_names,
    load_voc_dataset,
    read_annotation,
    read_image_set,
)

CLASSES = ["cat", "dog"]
WIDTH, HEIGHT = 40, 30


def object_xml(name="cat", box=(1, 1, 10, 10), extra="<difficult>0</difficult>"):
    tags = zip(("xmin", "ymin", "xmax", "ymax"), box)
    coordinates = "".join(f"<{tag}>{value}</{tag}>" for tag, value in tags)
    return f"<object><name>{name}</name>{extra}<bndbox>{coordinates}</bndbox></object>"


def size_xml(width=WIDTH, height=HEIGHT):
    return f"<size><width>{width}</width><height>{height}</height><depth /></size>"


@dataclass
class Tree:
    """A VOC folder that grows image by image, with a `train` list of all of them."""

    root: Path
    ids: list = field(default_factory=list)

    def __post_init__(self):
        for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
            (self.root / folder).mkdir(parents=True)

    def annotation(self, image_id):
        return self.root / "Annotations" / f"{image_id}.xml"

    def image(self, image_id, suffix=".jpg"):
        return self.root / "JPEGImages" / f"{image_id}{suffix}"

    def add(self, image_id, *objects, size=None, suffix=".jpg"):
        Image.new("RGB", (WIDTH, HEIGHT)).save(self.image(image_id, suffix))
        size = size_xml() if size is None else size
        xml = f"<annotation>{size}{''.join(objects)}</annotation>"
        self.annotation(image_id).write_text(xml)
        self.ids.append(image_id)
        self.write_list("train", "\n".join(self.ids))

    def write_list(self, split, text):
        (self.root / "ImageSets/Main" / f"{split}.txt").write_bytes(text.encode("utf-8"))

    def load(self, on_invalid="error"):
        return load_voc_dataset(self.root, "train", CLASSES, on_invalid)

    def problems(self):
        with pytest.raises(InvalidDatasetError) as caught:
            self.load()
        return caught.value.problems

    def bbox(self):
        (record,) = self.load()
        (annotation,) = record["annotations"]
        return annotation["bbox"]


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path / "VOCdevkit")


# --- lists


@pytest.mark.parametrize(
    "text, ids",
    [
        ("a", ["a"]),
        ("b\na\n", ["b", "a"]),
        ("a\n\n  \nb\n\n", ["a", "b"]),
        ("a\r\nb\r\n", ["a", "b"]),
        ("a  \nb\t\n", ["a", "b"]),
        ("000001  1\n000002 -1\n000003  0\n", ["000001", "000002", "000003"]),
        ("photo 1\nmy photo\n", ["photo 1", "my photo"]),
        ("\ufeffa\nb\n", ["a", "b"]),
    ],
    ids="one order blank crlf trailing per-class spaces bom".split(),
)
def test_lists_are_read_in_every_form(tree, text, ids):
    tree.write_list("any", text)
    assert read_image_set(tree.root, "any") == ids


def test_repeated_id_is_used_once_and_reported(tree, caplog):
    tree.write_list("any", "b\na\nb\nb\n")
    assert read_image_set(str(tree.root), "any") == ["b", "a"]
    assert "any.txt" in caplog.text and "b (3 times)" in caplog.text


def test_missing_list_names_the_lists_that_exist(tree):
    tree.write_list("val", "a")
    tree.write_list("test", "a")
    with pytest.raises(FileNotFoundError, match=r"train\.txt does not exist.*: test, val$"):
        read_image_set(tree.root, "train")


def test_empty_list_is_an_error(tree):
    tree.write_list("train", "\n \n")
    with pytest.raises(ValueError, match=r"train\.txt lists no image"):
        read_image_set(tree.root, "train")


def test_list_in_another_encoding_is_named(tree):
    (tree.root / "ImageSets/Main/train.txt").write_bytes("a\nb\n".encode("utf-16"))
    with pytest.raises(ValueError, match=r"train\.txt is not UTF-8"):
        read_image_set(tree.root, "train")


def test_folder_of_another_layout_is_explained(tmp_path):
    with pytest.raises(FileNotFoundError, match="Main does not exist.*JPEGImages/, Annotations/"):
        load_voc_dataset(tmp_path, "train", CLASSES)


# --- class names


def test_class_names_come_from_every_annotation(tree):
    tree.add("a", object_xml("zebra"), object_xml(" ant "), object_xml(""))
    tree.add("b", object_xml("cat"))
    tree.write_list("train", "b")
    tree.annotation("broken").write_text("<annotation>")
    assert collect_class_names(tree.root) == ["ant", "cat", "zebra"]


def test_names_of_parts_and_attributes_are_no_classes(tree):
    attributes = "<attributes><attribute><name>track_id</name></attribute></attributes>"
    part = "<part><name>head</name><bndbox><xmin>2</xmin></bndbox></part>"
    tree.add("a", object_xml(extra=attributes + part))
    assert collect_class_names(tree.root) == ["cat"]
    assert tree.bbox() == [0.0, 0.0, 10.0, 10.0]


def test_no_class_names_at_all(tree):
    tree.add("a")
    with pytest.raises(ValueError, match="give the class names"):
        collect_class_names(tree.root)


def test_repeated_class_name_is_refused(tree):
    tree.add("a")
    with pytest.raises(ValueError, match="more than once: cat"):
        load_voc_dataset(tree.root, "train", ["cat", "dog", "cat"])


# --- what is read


def test_same_dicts_as_detectron2(tree):
    tree.add("a", object_xml("dog", (1, 1, WIDTH, HEIGHT)), object_xml("cat", (3.25, 4, 9.5, 8)))
    tree.add("b")
    tree.add("c", object_xml("cat", (5, 6, 5, 6), extra="<difficult>1</difficult>"))
    expected = load_voc_instances(str(tree.root), "train", CLASSES)
    for record in expected:
        for annotation in record["annotations"]:
            annotation.update(difficult=0, iscrowd=0)
    expected[2]["annotations"][0]["difficult"] = 1
    loaded = load_voc_dataset(str(tree.root), "train", CLASSES)
    assert loaded == expected
    assert loaded[0]["annotations"][1] == {
        "category_id": 0,
        "bbox": [2.25, 3.0, 9.5, 8.0],
        "bbox_mode": BoxMode.XYXY_ABS,
        "difficult": 0,
        "iscrowd": 0,
    }
    assert type(loaded[0]["image_id"]) is str


@pytest.mark.parametrize(
    "extra, difficult",
    [
        ("", 0),
        ("<difficult/>", 0),
        ("<pose>Left</pose><truncated>1</truncated><difficult>1</difficult>", 1),
        ("<difficult> True </difficult>", 1),
    ],
)
def test_difficult_flag(tree, extra, difficult):
    tree.add("a", object_xml(extra=extra))
    (record,) = tree.load()
    assert [annotation["difficult"] for annotation in record["annotations"]] == [difficult]


@pytest.mark.parametrize("suffix", [".jpg", ".JPG", ".jpeg", ".Jpeg", ".png", ".PNG", ".bmp"])
def test_image_suffixes(tree, suffix):
    tree.add("a", suffix=suffix)
    (record,) = tree.load()
    assert record["file_name"] == str(tree.image("a", suffix))


def test_jpg_wins_over_other_files_of_the_same_name(tree):
    tree.add("a")
    tree.image("a", ".bmp").write_bytes(b"no image")
    tree.image("a", ".txt").write_text("notes")
    (record,) = tree.load()
    assert record["file_name"] == str(tree.image("a"))


@pytest.mark.parametrize("size", ["", size_xml(0, 0), f"<size><width>{WIDTH}</width></size>", size_xml("40.0", "30.0")])
def test_size_comes_from_the_picture_when_not_stated(tree, size):
    tree.add("a", object_xml(), size=size)
    (record,) = tree.load()
    assert (record["width"], record["height"]) == (WIDTH, HEIGHT)


def test_size_is_that_of_the_picture_as_detectron2_turns_it(tree):
    tree.add("a", object_xml(), size=size_xml(HEIGHT, WIDTH))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (WIDTH, HEIGHT)).save(tree.image("a"), exif=exif)
    (record,) = tree.load()
    assert (record["width"], record["height"]) == (HEIGHT, WIDTH)
    image = detection_utils.read_image(record["file_name"], "BGR")
    detection_utils.check_image_size(record, image)  # raises what training would raise


def test_broken_exif_data_is_ignored_as_in_detectron2(tree):
    tree.add("a", object_xml(), suffix=".png")
    Image.new("RGB", (WIDTH, HEIGHT)).save(tree.image("a", ".png"), exif=b"Exif\x00\x00no tiff")
    with Image.open(tree.image("a", ".png")) as image, pytest.raises(SyntaxError):
        image.getexif()
    (record,) = tree.load()
    detection_utils.check_image_size(record, detection_utils.read_image(record["file_name"], "BGR"))


@pytest.mark.parametrize(
    "box, bbox",
    [
        ((0, 0, 10, 10), [0.0, 0.0, 10.0, 10.0]),
        ((0.5, 2, 10, 10), [0.0, 1.0, 10.0, 10.0]),
        ((5, 5, WIDTH + 1, HEIGHT + 1), [4.0, 4.0, 40.0, 30.0]),
        ((5, 5, WIDTH + 0.3, HEIGHT), [4.0, 4.0, 40.0, 30.0]),
    ],
)
def test_one_pixel_beyond_the_border_is_clipped_in_silence(tree, box, bbox, caplog):
    tree.add("a", object_xml(box=box))
    assert tree.bbox() == bbox
    assert caplog.text == ""


def test_read_annotation_gives_the_box_as_written(tree):
    tree.add(
        "a",
        object_xml("dog", (0, 2.5, WIDTH + 1, 9), extra="<difficult>1</difficult>"),
        object_xml("cat", ("x", 1, 2, 2)),
        object_xml("fish"),
    )
    annotation = read_annotation(str(tree.annotation("a")))
    assert annotation.size == (WIDTH, HEIGHT)
    dog, fish = annotation.objects
    assert (dog.name, dog.box, dog.difficult, dog.number) == ("dog", (0.0, 2.5, 41.0, 9.0), True, 1)
    assert (fish.name, fish.difficult, fish.number) == ("fish", False, 3)
    (problem,) = annotation.problems
    assert (problem.object_number, problem.class_name) == (2, "cat")


# --- what is reported


def without(tag, xml):
    start, end = xml.index(f"<{tag}>"), xml.index(f"</{tag}>") + len(f"</{tag}>")
    return xml[:start] + xml[end:]


@pytest.mark.parametrize(
    "xml, class_name, message",
    [
        (without("name", object_xml()), None, "has no name"),
        (object_xml(" "), None, "has no name"),
        (without("bndbox", object_xml()), "cat", "has no bndbox"),
        (without("ymin", object_xml()), "cat", "has no ymin"),
        (object_xml(box=(1, 1, "", 10)), "cat", "has no xmax"),
        (object_xml(box=("1,5", 1, 9, 9)), "cat", "xmin is '1,5', not a number"),
        (object_xml(box=(1, 1, "nan", 9)), "cat", "xmax is 'nan', not a number"),
        (object_xml(box=(1, 1, 9, "inf")), "cat", "ymax is 'inf', not a number"),
        (object_xml(extra="<difficult>very</difficult>"), "cat", "difficult is 'very'"),
        (object_xml("fish"), "fish", "unknown class"),
        (object_xml(box=(-0.5, 1, 9, 9)), "cat", "outside the 40 x 30 image"),
        (object_xml(box=(1, -1, 9, 9)), "cat", "outside the 40 x 30 image"),
        (object_xml(box=(1, 1, WIDTH + 1.5, 9)), "cat", "outside the 40 x 30 image"),
        (object_xml(box=(1, 1, 9, HEIGHT + 2)), "cat", "outside the 40 x 30 image"),
        (object_xml(box=(9, 1, 8.5, 9)), "cat", "has no area"),
        (object_xml(box=(1, 9, 9, 8.5)), "cat", "has no area"),
        (object_xml(box=(WIDTH + 1, 1, WIDTH + 1, 9)), "cat", "has no area within"),
        (object_xml(box=(1, 0, 9, 0)), "cat", "has no area within"),
    ],
)
def test_bad_object_is_reported_or_skipped(tree, xml, class_name, message):
    tree.add("a", object_xml("dog"), xml)
    tree.add("b", object_xml("dog"))
    (problem,) = tree.problems()
    assert problem.file == str(tree.annotation("a"))
    assert (problem.object_number, problem.class_name) == (2, class_name)
    assert message in problem.message
    assert f"object 2 ({class_name or 'no class'})" in str(problem)

    records = tree.load("skip_objects")
    assert [record["image_id"] for record in records] == ["a", "b"]
    assert [len(record["annotations"]) for record in records] == [1, 1]
    assert [record["image_id"] for record in tree.load("skip_images")] == ["b"]


def remove_image(tree):
    tree.image("a").unlink()
    return tree.root / "JPEGImages" / "a", "no image of this id with one of .jpg, .jpeg, .png, .bmp"


def break_image(tree):
    tree.image("a").write_bytes(b"\xff\xd8 no jpeg")
    return tree.image("a"), "not readable as an image"


def empty_image(tree):
    tree.image("a").write_bytes(b"")
    return tree.image("a"), "not readable as an image"


def resize_image(tree):
    Image.new("RGB", (HEIGHT, WIDTH)).save(tree.image("a"))
    return tree.annotation("a"), "size is 40 x 30, but the picture's is 30 x 40"


def remove_xml(tree):
    tree.annotation("a").unlink()
    return tree.annotation("a"), "no such annotation"


def break_xml(tree):
    tree.annotation("a").write_text("<annotation><object>")
    return tree.annotation("a"), "not readable as XML"


def unknown_encoding_xml(tree):
    xml = '<?xml version="1.0" encoding="klingon"?><annotation/>'
    tree.annotation("a").write_text(xml)
    return tree.annotation("a"), "not readable as XML"


def hostile_xml(tree):
    xml = '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><annotation>&e;</annotation>'
    tree.annotation("a").write_text(xml)
    return tree.annotation("a"), "EntitiesForbidden"


@pytest.mark.parametrize(
    "spoil",
    [
        remove_image,
        break_image,
        empty_image,
        resize_image,
        remove_xml,
        break_xml,
        unknown_encoding_xml,
        hostile_xml,
    ],
)
def test_unusable_image_is_reported_or_skipped(tree, spoil):
    tree.add("a", object_xml())
    tree.add("b", object_xml())
    file, message = spoil(tree)
    (problem,) = tree.problems()
    assert (problem.file, problem.object_number) == (str(file), None)
    assert message in problem.message
    for on_invalid in ("skip_objects", "skip_images"):
        assert [record["image_id"] for record in tree.load(on_invalid)] == ["b"]


def test_size_that_is_no_number_is_reported(tree):
    tree.add("a", object_xml(), size=size_xml("wide", 30))
    tree.add("b")
    (problem,) = tree.problems()
    assert "size/width is 'wide', not a number" in str(problem)
    # The picture's own size serves, so only the strict mode drops the image.
    assert len(tree.load("skip_objects")) == 2
    assert len(tree.load("skip_images")) == 1


def test_all_problems_come_in_one_error(tree):
    tree.add("a", object_xml("fish"), object_xml(), object_xml(box=(5, 5, 4, 4)))
    tree.add("b")
    tree.add("c", object_xml("bird"))
    tree.image("b").unlink()
    tree.annotation("b").unlink()
    problems = tree.problems()
    assert [(Path(p.file).name, p.object_number) for p in problems] == [
        ("a.xml", 1),
        ("a.xml", 3),
        ("b", None),
        ("b.xml", None),
        ("c.xml", 1),
    ]


def test_a_single_problem_is_not_spoken_of_in_the_plural(tree):
    tree.add("a", object_xml("fish"))
    with pytest.raises(InvalidDatasetError, match="^1 problem in split 'train'"):
        tree.load()


def test_message_is_capped_and_names_the_way_out(tree):
    tree.add("a", *[object_xml("fish")] * 60)
    with pytest.raises(InvalidDatasetError) as caught:
        tree.load()
    message = str(caught.value)
    assert len(caught.value.problems) == 60
    assert message.startswith("60 problems in split 'train'")
    assert "classes: cat, dog" in message
    assert message.count("unknown class") == 50
    assert "... and 10 more" in message
    assert "skip_objects" in message and "skip_images" in message


def test_skipping_logs_counts_and_the_first_few(tree, caplog):
    tree.add("a", *[object_xml("fish")] * 7)
    tree.add("b")
    tree.add("c")
    tree.image("b").unlink()
    with caplog.at_level(logging.WARNING):
        records = tree.load("skip_objects")
    assert [record["annotations"] for record in records] == [[], []]
    assert "8 problems" in caplog.text
    assert caplog.text.count("unknown class") == 5
    assert "... and 3 more" in caplog.text
    assert "drops 1 of 3 images; 7 objects were bad" in caplog.text


@pytest.mark.parametrize("on_invalid", ["skip_objects", "skip_images"])
def test_skipping_everything_is_an_error(tree, on_invalid):
    tree.add("a")
    tree.image("a").unlink()
    with pytest.raises(InvalidDatasetError, match="leaves no image"):
        tree.load(on_invalid)


def test_unknown_on_invalid(tree):
    tree.add("a")
    with pytest.raises(ValueError, match="'ignore'.*error, skip_objects, skip_images"):
        tree.load("ignore")


# --- the real sets


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
    assert (len(loaded), len(annotations)) == (images, boxes)
    assert sum(a["difficult"] for a in annotations) == difficult
    for record, reference in zip(loaded, expected):
        for key in ("file_name", "image_id", "height", "width"):
            assert record[key] == reference[key]
        for ours, theirs in zip(record["annotations"], reference["annotations"]):
            assert ours["category_id"] == theirs["category_id"]
            # fod_video counts from 0, which puts Detectron2's own boxes a pixel off the picture.
            assert ours["bbox"] == [max(value, 0.0) for value in theirs["bbox"]]
