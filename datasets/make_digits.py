#!/usr/bin/env python3
"""Writes scikit-learn's handwritten digits as folders of class folders; nothing is downloaded.

OUTPUT gets train/ (1,438 images of 8 x 8 grey pixels) and test/ (359, every fifth image), each with the
folders 0 to 9; the file of an image is named by its index in scikit-learn's array. OUTPUT is digits in
$DETECTRON2_DATASETS, or in ./datasets as in Detectron2. The same files come out each time.
"""

import argparse
import os
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from adapruner_det.files import new_folder

LARGEST = 16  # of a pixel of scikit-learn's
EVERY = 5  # one of so many images is for testing


def make_digits(output: "str | os.PathLike[str]") -> None:
    """Writes <split>/<digit>/<index>.png below `output`, all of them or none.

    Raises:
        FileExistsError: `output` is there already; it may hold something else.
    """
    output = Path(output).expanduser()
    if output.exists():
        raise FileExistsError(f"{output} is there already: delete it, or name another --output")
    images, digits = load_digits(return_X_y=True)
    pixels = (images.reshape(-1, 8, 8) * (255 / LARGEST)).round().astype(np.uint8)
    with new_folder(output) as folder:
        for index, (image, digit) in enumerate(zip(pixels, digits)):
            split = "test" if index % EVERY == EVERY - 1 else "train"
            path = folder / split / str(digit) / f"{index:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--output",
        default=os.path.join(os.getenv("DETECTRON2_DATASETS", "datasets"), "digits"),
        help="folder to make [%(default)s]",
    )
    output = parser.parse_args().output
    try:
        make_digits(output)
    except FileExistsError as error:
        raise SystemExit(f"make_digits.py: {error}") from error
    print(f"{output}: train and test")


if __name__ == "__main__":
    main()
