#!/usr/bin/env python
"""Writes what a trained classifier sees of each image of a data set, the input of its last layer, for embedding.py.

    python projects/embedding/extract_features.py --config-file configs/mnist/train_small.yaml \\
        --dataset mnist_train --output output/mnist/features.npz \\
        MODEL.WEIGHTS output/mnist/train_small/model_final.pth

The .npz file has the arrays features (N, F) float32, labels (N,) and ids (N,).
"""

import argparse
import io

import numpy as np
import torch
from tqdm import tqdm

from adapruner_det.engine import AdaPrunerTrainer, load_config  # isort: skip  # first: it quiets imports

from adapruner_det.engine.checkpoint import RunCheckpointer
from adapruner_det.engine.setup import set_num_classes
from adapruner_det.files import write_bytes


@torch.no_grad()
def embed_dataset(cfg, model, name):
    """Features (N, F) float32, classes (N,) and ids (N,) of a data set, not augmented, in its order."""
    features, labels, ids = [], [], []
    model.eval()
    for batch in tqdm(AdaPrunerTrainer.build_test_loader(cfg, name), "Features", unit="batch", delay=5):
        # Not in bfloat16, however it was trained: near neighbours would be rounded to one point.
        features.append(model.embed(batch).cpu().numpy())
        labels.append(batch["labels"].cpu().numpy())
        ids += batch["image_ids"]
    return np.concatenate(features), np.concatenate(labels), np.array(ids)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True, help="config the classifier was trained with")
    parser.add_argument("--register", action="append", default=[], metavar="NAME=FORMAT:...", help="other data")
    parser.add_argument("--dataset", help="data set to read [the first of DATASETS.TRAIN]")
    parser.add_argument("--output", required=True, metavar="FILE.npz")
    parser.add_argument("opts", nargs="*", help="KEY VALUE pairs, MODEL.WEIGHTS PATH among them")
    args = parser.parse_args()

    cfg = load_config(args.config_file, args.register, args.opts)
    if cfg.MODEL.META_ARCHITECTURE != "ImageClassifier" or not cfg.MODEL.WEIGHTS:
        raise SystemExit("a config of an ImageClassifier is needed, and its weights: MODEL.WEIGHTS PATH")
    set_num_classes(cfg)
    model = AdaPrunerTrainer.build_model(cfg)
    RunCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    name = args.dataset or cfg.DATASETS.TRAIN[0]
    features, labels, ids = embed_dataset(cfg, model, name)
    content = io.BytesIO()
    np.savez(content, features=features, labels=labels, ids=ids)
    write_bytes(args.output, content.getvalue())
    print(f"{args.output}: {features.shape[1]} features of {len(ids)} images of {name}")


if __name__ == "__main__":
    main()
