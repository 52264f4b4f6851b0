#!/usr/bin/env python
"""Writes what a trained classifier sees of each image of a data set: features, classes and ids.

    python tools/extract_features.py --config-file configs/mnist/train_small.yaml \\
        --dataset mnist_train --output output/mnist/features.npz \\
        MODEL.WEIGHTS output/mnist/train_small/model_final.pth

The file is what tools/embedding.py measures and draws.
"""

import argparse

from detectron2.checkpoint import DetectionCheckpointer

from adapruner_det.engine import AdaPrunerTrainer, load_config
from adapruner_det.engine.setup import set_num_classes
from adapruner_det.report.embedding import save_features
from adapruner_det.report.features import embed_dataset


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True, help="config the classifier was trained with")
    parser.add_argument("--register", action="append", default=[], metavar="NAME=FORMAT:...",
                        help="a data set of your own, as in train_net.py")  # fmt: skip
    parser.add_argument("--dataset", help="data set to read [the first of DATASETS.TRAIN]")
    parser.add_argument("--output", required=True, metavar="FILE.npz")
    parser.add_argument("opts", nargs="*", help="KEY VALUE pairs, MODEL.WEIGHTS PATH among them")
    return parser.parse_args()


def main(args):
    cfg = load_config(args.config_file, args.register, args.opts)
    if cfg.MODEL.META_ARCHITECTURE != "ImageClassifier" or not cfg.MODEL.WEIGHTS:
        raise SystemExit("a config of an ImageClassifier is needed, and its weights: MODEL.WEIGHTS PATH")
    set_num_classes(cfg)
    model = AdaPrunerTrainer.build_model(cfg)
    DetectionCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    name = args.dataset or cfg.DATASETS.TRAIN[0]
    features, labels, ids = embed_dataset(cfg, model, name)
    save_features(args.output, features, labels, ids)
    print(f"{args.output}: {features.shape[1]} features of {len(ids)} images of {name}")


if __name__ == "__main__":
    main(parse_arguments())
