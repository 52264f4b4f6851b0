import numpy as np

from adapruner_det.data.records import checked_records, drawn_lots


def records(name="data", ids=range(500)):
    return checked_records(name, [{"image_id": image_id} for image_id in ids])


def test_a_lot_belongs_to_an_image_a_data_set_and_a_seed():
    lots = drawn_lots(records(), seed=0)
    backwards = drawn_lots(records(ids=range(499, -1, -1)), seed=0)
    assert np.array_equal(backwards[::-1], lots)
    for others in (drawn_lots(records(), seed=1), drawn_lots(records("others"), seed=0)):
        assert abs(np.corrcoef(lots, others)[0, 1]) < 0.2


def test_lots_are_spread_evenly_between_0_and_1():
    lots = np.sort(drawn_lots(records(ids=[f"{n:03}" for n in range(500)]), seed=3))
    assert np.abs(lots - np.linspace(0, 1, 500)).max() < 0.1 and len(set(lots)) == 500
