import io
import itertools
import zipfile

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from adapruner_det.benchmark import loader
from adapruner_det.benchmark.timing import Times

pytestmark = pytest.mark.usefixtures("clean_catalogs")
OPTS = ("SOLVER.IMS_PER_BATCH", "4")
NUMBER = 12


@pytest.fixture
def measure(tmp_path):
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(tmp_path / "train.zip", "w") as archive:
        for i in range(NUMBER):
            buffer = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(buffer, "PNG")
            archive.writestr(f"{'cat' if i % 2 else 'dog'}/{i}.png", buffer.getvalue())
    config = ROOT / "configs" / "cifar10" / "train_small.yaml"
    register = [f"pets=images:{tmp_path / 'train.zip'}"]
    return lambda **options: loader.measure_loader(config, register, OPTS, device="cpu", **options)


def test_one_model_sees_new_batches_and_its_copy_the_same_one(measure, monkeypatch):
    seen, models = {}, {}
    original = loader._trainer

    def spy(cfg, model, data):
        trainer = original(cfg, model, data)
        key = loader.FIXED if isinstance(data, itertools.repeat) else loader.LOADER
        forward, seen[key], models[key] = trainer.forward, [], model
        trainer.forward = lambda batch: (seen[key].append(batch), forward(batch))[1]
        return trainer

    monkeypatch.setattr(loader, "_trainer", spy)
    (row,) = measure(rounds=2, steps=3)
    fresh, fixed = ([b["image_index"].tolist() for b in seen[key]] for key in (loader.LOADER, loader.FIXED))
    assert len(fresh) == len(fixed) == (2 + 2) * 3  # 2 rounds warm up
    assert len({id(batch) for batch in seen[loader.FIXED]}) == 1 and len(set(map(tuple, fresh))) > 6
    assert sorted(sum(fresh[2:5], [])) == list(range(NUMBER))  # the fixed batch was the first
    assert models[loader.LOADER] is not models[loader.FIXED]
    weights = (models[key].head.weight for key in (loader.LOADER, loader.FIXED))
    assert np.allclose(*(w.detach().numpy() for w in weights), atol=1e-6)
    assert (row["images"], row["batch"], row["network"]) == (NUMBER, 4, "small_resnet")
    assert row["ratio"] > 0


def test_figures_are_images_a_second_and_the_loader_s_share_of_the_fixed_batch_s(measure, monkeypatch):
    times = {
        loader.LOADER: Times(wall=[2.0, 2.0, 4.0], cpu=[4.0] * 3),
        loader.FIXED: Times(wall=[1.0, 1.0, 3.0], cpu=[3.0] * 3),
    }
    monkeypatch.setattr(loader, "alternate", lambda blocks, rounds, **_: times)
    (row,) = measure(rounds=3, steps=5)
    assert row["loader_images_per_s"] == 10 and row["fixed_images_per_s"] == 20
    assert row["ratio"] == 0.5 and row["cpu_ratio"] == 0.75
    assert row["ratio_first_quartile"] == 0.5 and row["ratio_third_quartile"] == 0.75


def test_a_detector_is_refused():
    config = ROOT / "configs" / "Base-YOLOv3-Tiny-R18.yaml"
    with pytest.raises(ValueError, match="R18.yaml: MODEL.META_ARCHITECTURE is .*ImageClassifier"):
        loader.measure_loader(config, [], [], device="cpu", rounds=1, steps=1)
