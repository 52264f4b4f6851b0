"""The order in which training sees its images."""

import itertools
from collections.abc import Iterator

from detectron2.data.samplers import TrainingSampler


class ResumableSampler(TrainingSampler):
    """Detectron2's endless stream of permutations, able to start where an earlier run stopped.

    It yields draw * size + index, where `draw` counts the images drawn by all processes since iteration 0; whoever
    loads the image takes the two apart. `start` is the first draw.
    """

    start = 0

    def __iter__(self) -> Iterator[int]:
        drawn = itertools.islice(enumerate(self._infinite_indices()), self.start + self._rank, None, self._world_size)
        for draw, index in drawn:
            yield draw * self._size + index
