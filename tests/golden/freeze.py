"""Freezes what a pruning run's statistics lead to: `python tests/golden/freeze.py RUN/selection NAME`.

Keeps 300 images of the run with 24 principal components of their features, and the selections of the default at three
ratios: NAME.npz beside this file. The frozen files are of the demo set, NEU-DET and BCCD, two seeds each.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA

from adapruner_det.pruning.decision import decide
from adapruner_det.pruning.energy import TermWeights
from adapruner_det.pruning.statistics import Statistics

HERE = Path(__file__).parent
RATIOS = (0.9, 0.8, 0.5)
IMAGES, COMPONENTS = 300, 24


def part_of(statistics: Statistics) -> Statistics:
    """Images evenly spread over the data, with few features."""
    images = np.unique(np.linspace(0, len(statistics) - 1, IMAGES).round().astype(int))
    place = np.full(len(statistics), -1)
    place[images] = np.arange(len(images))

    def boxes(of):
        own = place[of.images] >= 0
        columns = {name: values[own] for name, values in of._asdict().items()}
        return type(of)(**{**columns, "images": place[columns["images"]]})

    return replace(
        statistics,
        datasets=[statistics.datasets[i] for i in images],
        ids=[statistics.ids[i] for i in images],
        losses={name: values[images] for name, values in statistics.losses.items()},
        features=PCA(COMPONENTS, random_state=0).fit_transform(statistics.features[images]).astype(np.float32),
        labels=boxes(statistics.labels),
        found=boxes(statistics.found),
    )


def main(folder: str, name: str) -> None:
    statistics = part_of(Statistics.load(folder))
    logits = [decide(statistics, TermWeights(), ratio, seed=0).logits for ratio in RATIOS]
    (HERE / name).mkdir(exist_ok=True)
    statistics.save(HERE / name)
    np.savez_compressed(HERE / name / "logits.npz", ratios=RATIOS, logits=logits)


if __name__ == "__main__":
    main(*sys.argv[1:])
