import pytest
from detectron2.data import MetadataCatalog

from adapruner_det.data.records import checked_records


@pytest.mark.parametrize(
    "name, image_id, class_name, message",
    [
        ("../up", "a", "cat", "data set '../up' cannot be part of a file name"),
        ("mine", "a\nb", "cat", "data set mine: image id 'a.nb' holds a line break or a control character: rename it"),
        ("mine", "\x1b]0;x\x07", "cat", "image id '.x1b.*rename it"),
        ("mine", "a\udc80b", "cat", "image id 'a.udc80b' holds"),  # no UTF-8: a list could not be written
        ("mine", "\u202egpj", "cat", "image id '.u202egpj' holds"),
        ("mine", "a", "cat\rdog", "data set mine: class 'cat.rdog' holds"),
    ],
)
def test_names_that_could_not_be_written_are_refused_before_training(
    clean_catalogs, name, image_id, class_name, message
):
    MetadataCatalog.get(name).set(thing_classes=[class_name])
    with pytest.raises(ValueError, match=message) as refused:
        checked_records(name, [{"image_id": "good"}, {"image_id": image_id}])
    assert str(refused.value).isprintable()


def test_a_file_name_that_would_break_a_list_is_refused(clean_catalogs):
    with pytest.raises(ValueError, match="data set mine: file name 'images/a.nb.jpg' holds a line break"):
        checked_records("mine", [{"image_id": 1, "file_name": "images/a\nb.jpg"}])


def test_other_names_pass(clean_catalogs):
    ids = [7, "sub/folder/a b.jpg", "=1+1", "\u79c1\u306e", "caf\u00e9"]
    records = checked_records("mine:train 2", [{"image_id": image_id} for image_id in ids])
    assert [record["image_id"] for record in records] == ids
