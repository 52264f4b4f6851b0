import numpy as np
import pytest
from made_up import statistics

from adapruner_det.pruning.statistics import Statistics


def equal(one, other):
    for name, values in vars(one).items():
        others = getattr(other, name)
        if isinstance(values, dict):
            assert values.keys() == others.keys()
            values, others = list(values.values()), list(others.values())
        if isinstance(values, tuple):
            for a, b in zip(values, others):
                assert np.array_equal(a, b)
        else:
            assert np.array_equal(values, others), name
    return True


def part(whole, places):
    """Statistics of some of the images only."""

    def boxes(of):
        own = np.isin(of.images, places)
        renumbered = np.searchsorted(places, of.images[own])
        return type(of)(*(values[own] for values in of))._replace(images=renumbered)

    return Statistics(
        datasets=[whole.datasets[i] for i in places],
        ids=[whole.ids[i] for i in places],
        losses={name: values[places] for name, values in whole.losses.items()},
        counts=whole.counts[places],
        features=whole.features[places],
        labels=boxes(whole.labels),
        found=boxes(whole.found),
        class_names=whole.class_names,
    )


def test_what_is_saved_is_what_is_loaded(tmp_path):
    seen = statistics(7, losses={"loss_box": np.arange(7, dtype=np.float32), "loss_cls": np.ones(7, np.float32)})
    seen.save(tmp_path)
    assert equal(Statistics.load(tmp_path), seen)
    assert seen.loss.tolist() == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_what_processes_saw_is_put_in_the_order_of_the_images(processes):
    whole = statistics(10)
    together = Statistics.interleaved([part(whole, np.arange(n, 10, processes)) for n in range(processes)])
    assert together.ids == whole.ids and np.array_equal(together.features, whole.features)
    assert np.array_equal(together.loss, whole.loss) and np.array_equal(together.counts, whole.counts)
    order = np.argsort(together.labels.images)
    assert np.array_equal(together.labels.boxes[order], whole.labels.boxes)
    assert np.array_equal(together.found.classes[np.argsort(together.found.images)], whole.found.classes)


def test_no_file_half_a_file_and_a_newer_one_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no statistics.npz"):
        Statistics.load(tmp_path)
    statistics().save(tmp_path)
    content = (tmp_path / "statistics.npz").read_bytes()
    (tmp_path / "statistics.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="statistics.npz is not a file of statistics this version can read"):
        Statistics.load(tmp_path)
    np.savez(tmp_path / "statistics.npz", format=np.array(99))
    with pytest.raises(ValueError, match="its format is 99, this version reads 1"):
        Statistics.load(tmp_path)


def test_one_value_an_image_is_asked_for():
    with pytest.raises(ValueError, match=r"of 40 images need one value an image of each kind: \{'loss loss': 3\}"):
        statistics(losses={"loss": np.ones(3, np.float32)})


@pytest.mark.parametrize("what", ["losses", "features"])
def test_images_of_which_the_model_says_no_number_are_named(what):
    values = {"losses": {"loss": np.ones(40, np.float32)}, "features": np.ones((40, 2), np.float32)}[what]
    (values["loss"] if what == "losses" else values)[[3, 30]] = np.nan
    with pytest.raises(
        FloatingPointError, match="of 2 images is no number, or a negative loss .the first: data 003, data 030."
    ):
        statistics(**{what: values}).check_finite()
    statistics().check_finite()


def test_a_negative_loss_is_named():
    """Eq. 5 takes its logarithm."""
    losses = np.ones(40, np.float32)
    losses[12] = -0.5
    with pytest.raises(FloatingPointError, match="of 1 images is no number, or a negative loss .the first: data 012."):
        statistics(losses={"loss": losses}).check_finite()


def test_statistics_without_classes_or_crowds():
    with pytest.raises(ValueError, match=r"count the objects of \(0,\) classes; there are \[\]"):
        statistics(counts=np.zeros((40, 0), int), class_names=[])
    labels = statistics().labels._replace(crowds=None)
    assert statistics(labels=labels).labels.crowds.tolist() == [False] * 40
