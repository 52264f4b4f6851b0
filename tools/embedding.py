#!/usr/bin/env python
"""Measures how far apart the classes lie in a feature space, on the full set and on what was kept.

The Dunn index, the distances between classes and their radii (Yang et al. 2023, Eq. 8 and Fig. 3), and
a t-SNE picture. The features come as a .npz file with the arrays features (N, D), labels (N,) and
ids (N,); a selection says by id which samples are kept:
    python tools/embedding.py --features output/mine/features.npz \\
        --selection output/mine/selection --output output/mine/embedding

Without --selection the file's own array kept (N,) is used. Leaves embedding.json and embedding.png.
No subset has a smaller single linkage than the whole: measure a random selection of the same size as
well (its own `kept` or `tools/selection.py random`) before the difference is put down to a method.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from adapruner_det.files import write_text
from adapruner_det.pruning import Selection
from adapruner_det.report.embedding import MEASURES, FeatureTable, kept_by, load_features, report
from adapruner_det.report.embedding_picture import draw_sample, save_embedding_picture, tsne


def which_kept(args, table: FeatureTable) -> np.ndarray:
    if args.selection:
        return kept_by(Selection.load(args.selection), table.ids, args.dataset)
    if table.kept is None:
        raise SystemExit(f"{args.features} does not say what was kept: name it by --selection DIR")
    return table.kept


def draw(args, table: FeatureTable, kept: np.ndarray, path: Path) -> None:
    rows = draw_sample(len(table.ids), args.max_points, args.seed)
    positions = tsne(table.features[rows], args.pca_dims, args.perplexity, args.seed)
    save_embedding_picture(str(path), positions, table.labels[rows], kept[rows], len(table.ids))


def to_markdown(result: dict[str, Any]) -> str:
    full, kept, changes = result["full"], result["kept"], result["relative_change"]
    rows = [["points", f"{full['num_points']:,}", f"{kept['num_points']:,}",
             f"{kept['num_points'] / full['num_points'] - 1:+.1%}"]]  # fmt: skip
    for name in MEASURES:
        change = "" if changes[name] is None else f"{changes[name]:+.1%}"
        rows.append([name.replace("_", " "), f"{full[name]:.4g}", f"{kept[name]:.4g}", change])
    frame = pd.DataFrame(rows, columns=["measure", "full", "kept", "change"])
    return frame.to_markdown(index=False, disable_numparse=True)


def _at_least(low: int):
    def parse(text: str) -> int:
        value = int(text)
        if value < low:
            raise argparse.ArgumentTypeError(f"{value} is below {low}")
        return value

    return parse


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", required=True, metavar="FILE.npz")
    parser.add_argument("--selection", metavar="DIR", help="the `selection` folder of a pruning run")
    parser.add_argument("--dataset", help="the selection's data set the features are of, if it covers several")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR")
    parser.add_argument("--max-points", type=_at_least(4), default=5000, help="points to draw; all are measured")
    parser.add_argument("--pca-dims", type=_at_least(2), default=50, help="PCA to these many dimensions before t-SNE")
    parser.add_argument("--perplexity", type=float, default=30.0, help="of t-SNE")
    parser.add_argument("--seed", type=int, default=0, help="of the points drawn and of t-SNE")
    return parser.parse_args()


def main(args) -> None:
    table = load_features(args.features)
    kept = which_kept(args, table)
    result = report(table, kept)
    draw(args, table, kept, args.output / "embedding.png")
    sources = {"features": args.features, "selection": args.selection, "dataset": args.dataset}
    text = json.dumps({"sources": sources, **result}, indent=1, allow_nan=False)
    write_text(args.output / "embedding.json", text + "\n")
    print(to_markdown(result))
    print(f"\n{args.output / 'embedding.json'}\n{args.output / 'embedding.png'}")


if __name__ == "__main__":
    main(parse_arguments())
