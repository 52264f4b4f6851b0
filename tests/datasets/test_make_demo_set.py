"""What datasets/make_demo_set.py writes, and that the record of what was injected is true."""

import hashlib
import sys

import cv2
import make_demo_set as demo
import numpy as np
import pytest
from detectron2.data.datasets.pascal_voc import load_voc_instances

from adapruner_det.data.voc import read_annotation, read_image_set

SMALL = dict(images=40, test_images=10, duplicates=0.2, wrong_labels=0.15)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small demo set: its folder and its record."""
    folder = tmp_path_factory.mktemp("small") / "demo"
    return folder, demo.make_demo_set(folder, **SMALL)


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def read_objects(folder, image_id):
    """[(class name, [xmin, ymin, xmax, ymax])] of an annotation file."""
    found = read_annotation(folder / "Annotations" / f"{image_id}.xml").objects
    return [(obj.name, [int(value) for value in obj.box]) for obj in found]


def read_image(folder, image_id):
    return cv2.imread(str(folder / "JPEGImages" / f"{image_id}.jpg"))


def test_is_a_voc_folder_with_boxes_inside_the_images(small):
    folder, record = small
    trainval, test = read_image_set(folder, "trainval"), read_image_set(folder, "test")
    assert len(trainval) == 40 and len(test) == 10 and len({*trainval, *test}) == 50
    assert trainval == sorted(trainval)
    for image_id in trainval + test:
        assert read_image(folder, image_id).shape == (demo.IMAGE_SIZE, demo.IMAGE_SIZE, 3)
        objects = read_objects(folder, image_id)
        assert 1 <= len(objects) <= demo.MAX_DIGITS
        for name, (xmin, ymin, xmax, ymax) in objects:
            assert name in record["classes"]
            assert 1 <= xmin < xmax <= demo.IMAGE_SIZE and 1 <= ymin < ymax <= demo.IMAGE_SIZE
    dicts = load_voc_instances(str(folder), "trainval", record["classes"])
    assert len(dicts) == 40 and all(item["annotations"] for item in dicts)


def test_boxes_are_tight_around_what_is_seen_and_no_digit_is_buried(monkeypatch):
    """Hard-edged digits on black, each of a grey value of its own, make the picture a label map."""
    drawn, last = [], []  # areas of the strokes that were drawn in a scene; the last one made
    enlarge = demo.enlarge_digit

    def hard_edged(rng, digit):
        last[:] = [(enlarge(rng, digit) > 0.5).astype(np.float32)]
        return last[0]

    def own_grey(rng, background):
        drawn.append(last[0].sum())
        return np.full(3, len(drawn))

    monkeypatch.setattr(demo, "enlarge_digit", hard_edged)
    monkeypatch.setattr(demo, "stroke_colour", own_grey)
    rng = np.random.default_rng(0)
    train, _ = demo.load_sources()
    train.photographs = [np.zeros((200, 200, 3), np.uint8)]
    partly_covered = 0
    for _ in range(50):
        drawn.clear()
        scene = demo.draw_scene(rng, train)
        assert len(scene.objects) == len(drawn) >= 1
        for number, (item, area) in enumerate(zip(scene.objects, drawn), start=1):
            seen = scene.canvas[:, :, 0] == number
            assert item.box == demo.tight_box(seen)
            assert seen.sum() >= demo.MIN_VISIBLE * area
            partly_covered += seen.sum() < area
    assert partly_covered > 5


def test_tight_box_is_half_open_and_voc_counts_from_one():
    mask = np.zeros((20, 30), dtype=bool)
    mask[3:7, 5:16] = True
    assert demo.tight_box(mask) == (5, 3, 16, 7)
    assert demo.voc_box((5, 3, 16, 7)) == [6, 4, 16, 7]


def test_test_images_share_no_digit_and_no_background_with_training_images():
    train, test = demo.load_sources()
    for name in demo.CLASSES:
        seen = {sample.tobytes() for sample in train.digits[name]}
        assert len(train.digits[name]) > 50 and len(test.digits[name]) > 50
        assert not seen & {sample.tobytes() for sample in test.digits[name]}
    whole = demo.load_sample_images().images
    for photograph, upper, lower in zip(whole, train.photographs, test.photographs):
        assert upper.shape[0] + lower.shape[0] == photograph.shape[0]
        assert np.array_equal(np.concatenate([upper, lower])[:, :, ::-1], photograph)


def test_near_duplicates_are_shifted_copies_of_their_parents(small):
    folder, record = small
    pairs = record["near_duplicate_of"]
    assert len(pairs) == 8
    trainval = read_image_set(folder, "trainval")
    size, margin = demo.IMAGE_SIZE, demo.MAX_SHIFT
    for image_id, parent in pairs.items():
        assert {image_id, parent} <= set(trainval) and parent not in pairs
        assert not {image_id, parent} & record["wrong_label"].keys()
        ours, theirs = read_objects(folder, image_id), read_objects(folder, parent)
        assert [name for name, _ in ours] == [name for name, _ in theirs]
        ((x, y, *_),) = {tuple(np.subtract(a, b)) for (_, a), (_, b) in zip(theirs, ours)}  # all moved alike
        assert (x or y) and max(abs(x), abs(y)) <= margin
        image, original = read_image(folder, image_id), read_image(folder, parent)
        inner = image[margin : size - margin, margin : size - margin].astype(float)
        moved = original[margin + y : size - margin + y, margin + x : size - margin + x]
        assert 0 < np.abs(inner - moved).mean() < 16


def test_wrong_labels_are_wrong_in_the_recorded_way(small, tmp_path):
    """The recorded truth is what a set without wrong labels holds for the same image."""
    folder, record = small
    faults = record["wrong_label"]
    assert len(faults) == 6 and {fault["kind"] for fault in faults.values()} == {"class", "box", "missing"}
    demo.make_demo_set(tmp_path / "clean", **{**SMALL, "wrong_labels": 0.0})
    for image_id in set(read_image_set(folder, "trainval")) - record["near_duplicate_of"].keys():
        true, written = read_objects(tmp_path / "clean", image_id), read_objects(folder, image_id)
        fault = faults.get(image_id)
        if fault is None:
            assert written == true
            continue
        assert fault["objects"]
        for name, box in ((truth["name"], truth["bndbox"]) for truth in fault["objects"]):
            assert (name, box) in true and (name, box) not in written
            same_place = [other for other, place in written if place == box]
            if fault["kind"] == "class":
                assert len(same_place) == 1 and same_place[0] != name
            elif fault["kind"] == "box":
                sizes = [(other, place[2] - place[0], place[3] - place[1]) for other, place in written]
                assert (name, box[2] - box[0], box[3] - box[1]) in sizes
            else:
                assert not same_place


def test_images_without_digits_are_no_defects_and_leave_the_others_as_they_are(small, tmp_path):
    folder, record = small
    assert record["without_boxes"] == []
    with_empty = demo.make_demo_set(tmp_path / "empty", **{**SMALL, "empty": 0.1})
    empty = with_empty["without_boxes"]
    assert len(empty) == 4 and set(empty) <= set(read_image_set(tmp_path / "empty", "trainval"))
    assert not set(empty) & {*with_empty["wrong_label"], *with_empty["near_duplicate_of"].values()}
    changed = {*empty, *record["near_duplicate_of"], *record["wrong_label"], *with_empty["wrong_label"]}
    for image_id in read_image_set(folder, "trainval"):
        objects = read_objects(tmp_path / "empty", image_id)
        assert bool(objects) == (image_id not in empty)
        if image_id not in changed:
            assert objects == read_objects(folder, image_id)


def test_ids_do_not_tell_what_was_injected(small):
    folder, record = small
    trainval = read_image_set(folder, "trainval")
    assert all(image_id.isdigit() and len(image_id) == 6 for image_id in trainval)
    for injected in (record["near_duplicate_of"], record["wrong_label"]):
        positions = [trainval.index(image_id) for image_id in injected]
        assert min(positions) < 20 <= max(positions)  # in both halves of the list
    test = read_image_set(folder, "test")
    assert min(test) < max(trainval) and min(trainval) < max(test)


def test_same_settings_same_bytes_and_nothing_else_is_overwritten(small, tmp_path):
    folder, record = tmp_path / "demo", small[1]
    assert demo.make_demo_set(folder, **SMALL) == record
    before = digests(folder)
    assert before == digests(small[0])
    inodes = [path.stat().st_ino for path in folder.rglob("*")]
    assert demo.make_demo_set(folder, **SMALL) == record
    assert [path.stat().st_ino for path in folder.rglob("*")] == inodes
    with pytest.raises(FileExistsError, match="injected.json is not what these settings give .*or delete"):
        demo.make_demo_set(folder, seed=1, **SMALL)
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="holds something else"):
        demo.make_demo_set(tmp_path, **SMALL)
    assert digests(folder) == before and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    "setting",
    [{"images": 0}, {"test_images": 0}, {"duplicates": 0.6}, {"wrong_labels": -0.1}, {"empty": 0.2}, {"seed": -1}],
)
def test_refuses_settings_out_of_range(tmp_path, setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        demo.make_demo_set(tmp_path / "demo", **{**SMALL, **setting})
    assert not list(tmp_path.iterdir())


def test_too_few_images_for_the_wrong_labels_is_said():
    with pytest.raises(ValueError, match="wrong_labels asks for 1 images, but only 0"):
        for seed in range(20):  # one image in four has one digit only
            demo.DemoSet(seed, 1, 1).draw_trainval(1, 0, 1, 0)


def test_command_line(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "demo"
    arguments = f"--output {folder} --images 20 --test-images 4 --duplicates 0.1 --wrong-labels 0.15 --empty 0.2"
    monkeypatch.setattr(sys, "argv", ["make_demo_set.py", *arguments.split()])
    demo.main()
    printed = capsys.readouterr().out
    assert "2 near-duplicates" in printed and "3 with wrong labels" in printed
    assert "4 without digits" in printed
    assert str(folder / "injected.json") in printed
    (folder / "injected.json").unlink()
    with pytest.raises(SystemExit, match="make_demo_set.py: .* holds something else"):
        demo.main()
