"""The tasks one trainer serves: detection and image classification.

Each is a class without state, whose functions are these. A record is a dict with `dataset_name` and `image_id`.

    load_dataset(cfg, name)            all records of one registered data set, checked
    load_records(cfg)                  the records of DATASETS.TRAIN that DATASETS.SELECTION keeps
    split_competing(cfg, records)      (those a pruning method chooses among, the others)
    split_trainable(cfg, records)      (those plain training uses, the others)
    adapt_model(model, records)        gives the model what it has to know of its training data
    train_loader(cfg, records, sampler)  endless batches in the order of a `ResumableSampler`
    test_loader(cfg, name)             the batches of one data set, once
    evaluator(cfg, name)               Detectron2's; leaves OUTPUT_DIR/inference/<name>/evaluation.json
    read_image(cfg, record)            an image as people see it, (H, W, 3) uint8 RGB
    labelled(records)                  the `Statistics` of images before a model has seen them
    statistics(cfg, model, records)    what a trained model, which is left as it was, says of each image
    object_features(cfg, model, records)  what it sees in the box of each label, (M, F)
    image_indices(batch)               `image_index` of each image of a batch, (B,) integers
"""

from detectron2.config import CfgNode

from .classification import ClassificationTask
from .detection import DetectionTask

Task = DetectionTask | ClassificationTask


def task_of(cfg: CfgNode) -> Task:
    """Classification if the model is an ImageClassifier, else detection."""
    return ClassificationTask() if cfg.MODEL.META_ARCHITECTURE == "ImageClassifier" else DetectionTask()
