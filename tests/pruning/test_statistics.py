import numpy as np
import pytest
from made_up import statistics

from adapruner_det.pruning.matching import Detections
from adapruner_det.pruning.statistics import Statistics, most_without_numbers


def flat(seen):
    """All arrays, by name."""
    arrays = {**vars(seen), **seen.losses, **seen.labels._asdict()}
    arrays.update({f"found {name}": values for name, values in seen.found._asdict().items()})
    return {name: np.asarray(values) for name, values in arrays.items() if name not in ("losses", "labels", "found")}


def part(whole, places):
    """Statistics of some of the images only."""

    def boxes(of):
        own = np.isin(of.images, places)
        return type(of)(*(values[own] for values in of))._replace(images=np.searchsorted(places, of.images[own]))

    return Statistics(
        [whole.datasets[i] for i in places],
        [whole.ids[i] for i in places],
        {name: values[places] for name, values in whole.losses.items()},
        whole.features[places],
        boxes(whole.labels),
        boxes(whole.found),
        whole.class_names,
    )


def test_what_is_saved_is_what_is_loaded(tmp_path):
    seen = statistics(7, losses={"loss_box": np.arange(7, dtype=np.float32), "loss_cls": np.ones(7, np.float32)})
    seen.save(tmp_path)
    loaded = Statistics.load(tmp_path)
    assert flat(loaded).keys() == flat(seen).keys()
    assert all(np.array_equal(values, flat(loaded)[name]) for name, values in flat(seen).items())
    assert seen.loss.tolist() == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_what_processes_saw_is_put_in_the_order_of_the_images(processes):
    whole = statistics(10)
    together = Statistics.interleaved([part(whole, np.arange(n, 10, processes)) for n in range(processes)])
    assert together.ids == whole.ids and np.array_equal(together.features, whole.features)
    assert np.array_equal(together.loss, whole.loss) and (together.counts != whole.counts).nnz == 0
    assert np.array_equal(together.labels.boxes[np.argsort(together.labels.images)], whole.labels.boxes)
    assert np.array_equal(together.found.classes[np.argsort(together.found.images)], whole.found.classes)


@pytest.mark.parametrize("first", [0, 1])
def test_a_loss_that_one_process_alone_saw_is_zero_for_the_images_of_the_others(first):
    whole = statistics(4, losses={"x": np.arange(4, dtype=np.float32), "y": np.ones(4, np.float32)})
    parts = [part(whole, np.arange(n, 4, 2)) for n in range(2)]
    del parts[first].losses["y"]
    together = Statistics.interleaved(parts)
    assert together.losses["x"].tolist() == [0, 1, 2, 3]
    assert together.losses["y"].tolist() == ([0, 1, 0, 1] if first == 0 else [1, 0, 1, 0])


def test_no_file_half_a_file_and_a_newer_one_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no statistics.npz"):
        Statistics.load(tmp_path)
    statistics().save(tmp_path)
    content = (tmp_path / "statistics.npz").read_bytes()
    (tmp_path / "statistics.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="statistics.npz is not a file of statistics this version can read"):
        Statistics.load(tmp_path)
    np.savez(tmp_path / "statistics.npz", format=np.array(99))
    with pytest.raises(ValueError, match="its format is 99, this version reads 2"):
        Statistics.load(tmp_path)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"losses": {"loss": np.ones(3)}}, r"of 40 images need one value an image of each kind: \{'loss loss': 3\}"),
        ({"class_names": ["cat"]}, r"labels of class 1, classes are \['cat'\]"),
        ({"labels": statistics().labels._replace(classes=np.zeros(2, int))}, "labels need as many boxes"),
        ({"found": Detections(*statistics(41).found)}, "detections are of the images 0 to 40, but there are 40"),
    ],
)
def test_what_does_not_fit_together_is_named(given, message):
    with pytest.raises(ValueError, match=message):
        statistics(**given)


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("loss:loss", lambda a: np.full(40, "x"), "loss:loss is an array of <U1"),
        ("labels:classes", lambda a: a.astype(float), "labels:classes is an array of float64 with 1 dimensions"),
        ("labels:classes", lambda a: a - 1, "labels:classes has values below 0"),
        ("features", lambda a: a[:, 0], "features is an array of float32 with 1 dimensions"),
        ("ids", lambda a: np.arange(40), "ids is an array of int64"),
        ("labels:boxes", lambda a: a * np.nan, "labels:boxes has values that are no number"),
        ("labels:classes", lambda a: a + 5, "labels:classes has 6, but there are 2 classes"),
        ("found:scores", lambda a: a.astype(str), "found:scores is an array of <U32"),
        ("found:images", lambda a: a[:3], "detections need as many boxes"),
        ("labels:crowds", lambda a: None, "labels:crowds is an array of object|Object arrays cannot be loaded"),
        ("class_names", None, "class_names is missing"),
    ],
)
def test_arrays_that_cannot_be_are_refused_with_the_file_s_name(tmp_path, name, change, message):
    arrays = statistics().arrays()
    before = arrays.pop(name)
    if change:
        arrays[name] = change(before)
    np.savez(tmp_path / "statistics.npz", **arrays)
    with pytest.raises(ValueError, match=f"statistics.npz is not a file of .* can read: ({message})"):
        Statistics.load(tmp_path)


@pytest.mark.parametrize("kind, value", [("losses", np.nan), ("losses", -0.5), ("features", np.inf)])
def test_images_of_which_the_model_says_no_number_are_named_and_like_no_others(kind, value, caplog):
    features = np.random.default_rng(1).normal(3, 2, (40, 64)).astype(np.float32)
    given = {"losses": {"loss": np.ones(40, np.float32)}, "features": features}[kind]
    values = given["loss"] if kind == "losses" else given
    values[[3, 30]] = value
    seen = statistics(**{"features": features, kind: given})
    usual = seen.finite()
    assert "of 2 images is no number, or a negative loss (the first: data 003, data 030); they are" in caplog.text
    others = np.delete(np.arange(40), [3, 30])
    assert (usual.features[others] == features[others]).all() and usual.features.dtype == np.float32
    if kind == "losses":
        assert usual.loss.tolist() == [1.0] * 40 and (usual.features == features).all()
    else:
        assert (usual.loss == seen.loss).all()
    similar = np.corrcoef(usual.features)
    assert np.sort(similar[[3, 30]])[:, -2].max() < 0.5  # but to itself
    values[20:] = value
    with pytest.raises(
        FloatingPointError, match="of 21 images is no number, .* .the first: data 003, data 020, .*diverged"
    ):
        statistics(**{kind: given}).finite()


def test_objects_of_which_the_model_says_no_number_have_zeros(caplog):
    objects = np.ones((40, 3), np.float32)
    objects[[3, 30], [0, 2]] = np.nan, np.inf
    usual = statistics(objects=objects, losses={}, features=np.zeros((40, 0), np.float32)).finite().objects
    assert "of 2 images is no number, or a negative loss (the first: data 003, data 030); they are" in caplog.text
    assert not usual[[3, 30]].any() and usual.sum() == 38 * 3 and usual.dtype == np.float32
    objects[20:] = np.nan
    with pytest.raises(FloatingPointError, match="of 21 images is no number, .*diverged"):
        statistics(objects=objects).finite()


@pytest.mark.parametrize("images, most", [(2, 1), (19, 9), (20, 10), (999, 10), (5000, 50)])
def test_how_many_images_may_be_without_numbers(images, most):
    assert most_without_numbers(images) == most


def test_without_crowds_there_are_none():
    assert not statistics(labels=statistics().labels._replace(crowds=None)).labels.crowds.any()
