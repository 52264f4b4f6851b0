import pytest
from conftest import ROOT, write_voc_folder

from adapruner_det.benchmark import reading
from adapruner_det.benchmark.timing import Times

pytestmark = pytest.mark.usefixtures("clean_catalogs")


@pytest.fixture
def measure(tmp_path):
    register = [f"mine=voc:{write_voc_folder(tmp_path, {'train': ['a', 'b', 'c']})}:train"]
    config = ROOT / "configs/bccd/prune_yolov3_tiny_R18.yaml"
    return lambda *opts, **options: reading.measure_reading(config, register, opts, **options)


def test_both_read_the_same_images_as_often(measure, monkeypatch):
    read = []
    original = reading.DatasetMapper.__call__

    def spy(mapper, record):
        read.append((record["image_id"], len(mapper.augmentations.augs) == 3))
        return original(mapper, record)

    monkeypatch.setattr(reading.DatasetMapper, "__call__", spy)
    (row,) = measure(rounds=2, images=4)
    both = [[image for image, is_ours in read if is_ours == ours] for ours in (True, False)]
    assert len(read) == 2 * (2 + 2) * 4 and both[0] == both[1]  # 2 rounds warm up
    assert row["images"] == 3 and row["pixels"] == 96 and row["ratio"] > 0


def test_figures_are_cpu_milliseconds_an_image(measure, monkeypatch):
    times = {
        reading.OURS: Times(wall=[9.0] * 3, cpu=[1.0, 1.0, 3.0]),
        reading.DETECTRON2: Times(wall=[9.0] * 3, cpu=[2.0, 2.0, 4.0]),
    }
    monkeypatch.setattr(reading, "alternate", lambda blocks, rounds, **_: times)
    (row,) = measure(rounds=3, images=5)
    assert (row["ours_cpu_ms"], row["detectron2_cpu_ms"], row["ratio"]) == (200, 400, 0.5)
    assert (row["ratio_first_quartile"], row["ratio_third_quartile"]) == (0.5, 0.75)


def test_a_classifier_is_refused(measure):
    with pytest.raises(ValueError, match="prune_yolov3_tiny_R18.yaml is of a classifier"):
        measure("MODEL.META_ARCHITECTURE", "ImageClassifier", rounds=1, images=1)
