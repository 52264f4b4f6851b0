"""Trainings that leave images out, of both tasks: which they see, and that a resumed one sees the same."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.utils.env import seed_all_rng
from proxy_runs import StopAt

from adapruner_det.engine import AdaPrunerTrainer
from adapruner_det.engine.dynamic_step import EpochSampler, check_dynamic


def of_run(cfg, folder, **settings):
    cfg = cfg.clone()
    cfg.defrost()
    pairs = {"SEED": 1, "DATASETS.TEST": (), "ADAPRUNER.ENABLED": False, "OUTPUT_DIR": str(folder), **settings}
    cfg.merge_from_list([part for pair in pairs.items() for part in pair])
    return cfg


def train(cfg, stop=None, resume=False):
    Path(cfg.OUTPUT_DIR).mkdir(exist_ok=True)
    seed_all_rng(cfg.SEED)
    trainer = AdaPrunerTrainer(cfg)
    trainer.resume_or_load(resume)
    if stop is not None:
        trainer.register_hooks([StopAt(stop)])
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
    else:
        trainer.train()
    return trainer


def test_draws_of_an_epoch_by_hand():
    sampler = EpochSampler(5, seed=0)
    drawn = iter(sampler)
    assert sorted(next(drawn) % 5 for _ in range(5)) == [0, 1, 2, 3, 4]
    sampler.begin(np.array([1, 3]), 1, 6)
    found = [divmod(next(drawn), 5) for _ in range(6)]
    assert [draw for draw, _ in found] == [6, 7, 8, 9, 10, 11]
    assert [sorted(image for _, image in found[i : i + 2]) for i in (0, 2, 4)] == [[1, 3]] * 3
    again = EpochSampler(5, seed=0)
    again.begin(np.array([1, 3]), 1, 6)
    again.start = 9
    assert [divmod(n, 5) for n in itertools.islice(again, 3)] == found[3:]


@pytest.mark.parametrize("task, workers", [("classification", 0), ("detection", 0), ("detection", 2)])
@pytest.mark.parametrize("method", ["infobatch", "seta"])
def test_a_resumed_run_sees_the_same_images(config, tmp_path, task, workers, method):
    settings = {"DYNAMIC.METHOD": method, "DYNAMIC.RATIO": 0.6, "SOLVER.CHECKPOINT_PERIOD": 5,
                "DATALOADER.NUM_WORKERS": workers, "DATALOADER.ASPECT_RATIO_GROUPING": False}  # fmt: skip
    whole, parts = (of_run(config(task), tmp_path / name, **settings) for name in ("whole", "parts"))
    first = train(whole)._trainer
    train(parts, stop=6)
    second = train(parts, resume=True)._trainer
    assert first.epoch == second.epoch > 1 and first.saved == second.saved > 0.05
    np.testing.assert_array_equal(first.last_losses, second.last_losses)
    assert np.isfinite(first.last_losses).all()
    for one, other in zip(first.model.parameters(), second.model.parameters()):
        assert torch.equal(one, other)


def test_infobatch_trains_on_everything_in_the_end_and_logs_what_it_saved(config, tmp_path):
    cfg = of_run(config(), tmp_path, **{"DYNAMIC.METHOD": "infobatch", "DYNAMIC.ANNEAL": 0.5, "SOLVER.MAX_EPOCHS": 8})
    step = train(cfg)._trainer
    assert len(step.sampler.images) == 24 and (step.weights == 1).all()
    logged = [json.loads(line).get("steps_saved") for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert logged[-1] == pytest.approx(step.saved) and 0 < step.saved < 0.5


@pytest.mark.parametrize("share, ratio", [(0.125, 0.9), (0.5, 0.9), (0.2, 0.1), (0.0, 0.9)])
def test_the_last_share_of_the_steps_and_a_part_of_an_epoch_before_it_see_all_images(config, tmp_path, share, ratio):
    """24 images, epochs of three steps or fewer."""
    settings = {"DYNAMIC.METHOD": "infobatch", "DYNAMIC.ANNEAL": share, "DYNAMIC.RATIO": ratio, "SOLVER.MAX_EPOCHS": 8}
    trainer = AdaPrunerTrainer(of_run(config(), tmp_path, **settings))
    step, epochs = trainer._trainer, []
    begin = step._begin_epoch

    def noted():
        begin()
        epochs.append((step.iter, len(step.sampler.images)))

    step._begin_epoch = noted
    trainer.train()
    assert trainer.max_iter == 24
    if not share:
        assert epochs[-1][1] < 24
        return
    since = min(start for start, _ in epochs if all(images == 24 for other, images in epochs if other >= start))
    assert 24 * (1 - share) - 3 < since <= 24 * (1 - share)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"DYNAMIC.METHOD": "infobach"}, "DYNAMIC.METHOD is 'infobach'; it can be infobatch, seta, or empty"),
        ({"DYNAMIC.METHOD": "seta", "DYNAMIC.RATIO": 1.0}, "DYNAMIC.RATIO is 1.0; it is a share"),
        ({"DYNAMIC.METHOD": "seta", "ADAPRUNER.ENABLED": True}, "for trainings that do not prune"),
        (
            {
                "DYNAMIC.METHOD": "seta",
                "DATALOADER.ASPECT_RATIO_GROUPING": True,
                "MODEL.META_ARCHITECTURE": "GeneralizedRCNN",
            },
            "ASPECT_RATIO_GROUPING holds images back",
        ),
        ({"DYNAMIC.METHOD": "seta", "DATALOADER.SAMPLER_TRAIN": "X"}, "leave DATALOADER.SAMPLER_TRAIN X out"),
    ],
)
def test_what_cannot_be_is_refused(config, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        AdaPrunerTrainer(of_run(config(), tmp_path, **settings))


def test_classification_has_no_groups_of_shapes(config):
    cfg = config()
    cfg.defrost()
    cfg.ADAPRUNER.ENABLED = False
    cfg.DYNAMIC.METHOD, cfg.DATALOADER.ASPECT_RATIO_GROUPING = "seta", True  # as it is where a config says nothing
    check_dynamic(cfg)
