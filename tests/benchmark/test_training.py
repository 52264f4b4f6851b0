from conftest import ROOT

from adapruner_det.benchmark import training


def test_both_steps_train_on_the_same_batches_and_only_one_prunes(monkeypatch):
    seen, kept = {"plain": [], "pruning": []}, {}
    original = training._trainers

    def spy(*arguments):
        trainers = original(*arguments)
        kept.update(trainers)
        for key, trainer in trainers.items():
            forward = trainer.forward
            trainer.forward = lambda data, key=key, forward=forward: (
                seen[key].append([record["image_index"] for record in data]), forward(data)
            )[1]  # fmt: skip
        return trainers

    monkeypatch.setattr(training, "_trainers", spy)
    (row,) = training.measure_overhead(
        ["YOLOv3-Tiny"], ROOT / "configs", device="cpu", small=True, batch_size=2, image_size=64,
        num_images=1000, rounds=2, mixed_precision=False,
    )  # fmt: skip
    assert seen["plain"] == seen["pruning"] and len(seen["plain"]) == 5  # 2 warm up, 1 for memory
    pruner = kept["pruning"].pruner
    assert pruner.step == 5 and int((pruner.mask.logits != 1).sum()) > 0
    assert not hasattr(kept["plain"], "pruner")
    assert row["ratio"] > 0 and row["plain_mb"] > 50
    # The mask and what is remembered of 1,000 images is all that comes on top, but for vectors.
    assert 0 < row["pruning_mb"] - row["plain_mb"] < 0.2
