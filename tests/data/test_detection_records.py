"""Which images pruning, training on a selection and plain training take."""

import pytest
from conftest import write_voc_folder
from detectron2.data import DatasetCatalog
from detectron2.data.datasets.pascal_voc import load_voc_instances

from adapruner_det.data.detection_records import EMPTY_IMAGES, load_dataset, split_competing
from adapruner_det.data.validation import InvalidDatasetError
from adapruner_det.engine import load_config
from adapruner_det.engine.detection import DetectionTask

BOX, CROWD = {"category_id": 0, "iscrowd": 0}, {"category_id": 0, "iscrowd": 1}
RECORDS = [
    {"image_id": name, "annotations": annotations}
    for name, annotations in {"box": [BOX], "both": [CROWD, BOX], "crowd": [CROWD, CROWD], "empty": []}.items()
]


def ids_of(records):
    return [record["image_id"] for record in records]


@pytest.mark.parametrize("mode, competing", [
    ("prune", ["box", "both", "empty"]), ("keep", ["box", "both"]), ("drop", ["box", "both"]),
])  # fmt: skip
def test_images_with_crowds_only_never_compete(mode, competing):
    first, others = split_competing(RECORDS, mode)
    assert ids_of(first) == competing
    assert sorted(ids_of(others)) == sorted(set(ids_of(RECORDS)) - set(competing))


@pytest.mark.parametrize("settings, trained_on", [
    (("DATASETS.SELECTION", "some/folder"), ["box", "both", "empty"]),
    (("DATALOADER.FILTER_EMPTY_ANNOTATIONS", "False"), ["box", "both", "empty"]),
    ((), ["box", "both"]),
])  # fmt: skip
def test_nor_are_they_trained_on(settings, trained_on):
    first, others = DetectionTask.split_trainable(load_config(opts=list(settings)), RECORDS)
    assert ids_of(first) == trained_on and len(first) + len(others) == 4


@pytest.mark.parametrize("mode", EMPTY_IMAGES)
def test_a_data_set_without_any_box_is_refused(mode):
    with pytest.raises(ValueError, match="none of the 2 images has a box to learn from"):
        split_competing(RECORDS[2:], mode)


def test_pictures_of_data_sets_of_other_readers_are_decoded(tmp_path, clean_catalogs):
    folder = write_voc_folder(tmp_path, {"all": ["a", "b"]})
    DatasetCatalog.register("own", lambda: load_voc_instances(str(folder), "all", ["black", "white"]))
    assert ids_of(load_dataset("own")) == ["a", "b"]
    picture = folder / "JPEGImages/a.jpg"
    picture.write_bytes(picture.read_bytes()[:-99])
    with pytest.raises(InvalidDatasetError, match=r"data set own:\n.*a\.jpg: not readable as an image: .*truncated"):
        load_dataset("own")
    assert ids_of(load_dataset("own", "skip_images")) == ["b"]
