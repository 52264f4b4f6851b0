import pytest

from adapruner_det.data.records import checked_records


def test_records_carry_the_name_of_their_data_set_and_ids_are_unique():
    assert checked_records("data", [{"image_id": "a"}]) == [{"image_id": "a", "dataset_name": "data"}]
    with pytest.raises(ValueError, match="data set data holds no image"):
        checked_records("data", [])
    with pytest.raises(ValueError, match=r"occur more than once: \['a'\]"):
        checked_records("data", [{"image_id": "a"}, {"image_id": "b"}, {"image_id": "a"}])
