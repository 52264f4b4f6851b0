import pickle

import pytest

from adapruner_det.data.serialized_records import SerializedRecords, chosen_records

RECORDS = [{"image_id": i, "annotations": [{"bbox": [i, 1.5, 2, 3]}] * i} for i in range(5)]


def test_they_are_the_records_and_none_is_changed_by_a_reader():
    records = SerializedRecords(iter(RECORDS))
    records[1]["image_id"] = 9
    assert len(records) == 5 and list(records) == RECORDS and records == RECORDS and records != RECORDS[:4]
    assert records[-1] == RECORDS[4] and records[1:4:2] == RECORDS[1:4:2] and records[0] in records
    with pytest.raises(IndexError):
        records[5]


def test_some_of_them_with_a_field_of_their_own():
    some = SerializedRecords(RECORDS).with_common(dataset_name="a").where([True, False, True, False, False])
    assert some == [{**RECORDS[i], "dataset_name": "a"} for i in (0, 2)]
    assert chosen_records(some, [False, True]) == [{**RECORDS[2], "dataset_name": "a"}]
    assert chosen_records(RECORDS, [False, True, False, False, False]) == [RECORDS[1]]


def test_worker_processes_get_them_whole_and_others_from_a_file(tmp_path):
    records = SerializedRecords(RECORDS).where([False, True, True, True, True]).with_common(dataset_name="a")
    assert pickle.loads(pickle.dumps(records)) == records
    with open(tmp_path / "records.npy", "w+b") as file:
        told = records.save(file)
    assert len(pickle.dumps(told)) < len(pickle.dumps(records))
    assert told.reading(str(tmp_path / "records.npy")) == records
