"""The page of a selection: what it says is what the record says, whatever names the data has; a person can correct it."""

import json
import pathlib
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from detectron2.data import MetadataCatalog
from detectron2.structures import BoxMode
from PIL import Image, ImageEnhance, ImageOps
from pycocotools.coco import COCO

from adapruner_det.baselines.random_draws import random
from adapruner_det.baselines.registry import METHODS
from adapruner_det.data.corrections import correct
from adapruner_det.data.pruned_datasets import SelectionMismatchError
from adapruner_det.data.selection_record import make_selection
from adapruner_det.pruning import Selection
from adapruner_det.pruning.matching import Detections, Labels
from adapruner_det.pruning.statistics import Statistics
from adapruner_det.report import gallery, page_facts
from adapruner_det.report import page as page_module
from adapruner_det.report.doubtful_labels import doubtful_boxes, write_lists
from adapruner_det.report.page import DRAWS, write_report

EVIL = '</script><img src=x onerror="alert(1)">{{ 7 * 7 }}'
CLASSES = ["<b>cat</b>", "dog & co", '"fox"']
SECTIONS = ["fit", "cost", "copies", "leaks", "doubts", "looks", "balance", "map", "run", "all"]
NUM = 20
NO_REASON = {"reason": "", "similar_to": "", "similarity": None}
WHY = {  # of the images that go
    1: {"reason": "near-duplicate", "similar_to": "image_00", "similarity": 0.97},
    2: {"reason": "near-duplicate", "similar_to": "image_00", "similarity": 0.99},
    3: {"reason": "label errors", "similar_to": "", "similarity": None},
    4: {"reason": "random", "similar_to": "", "similarity": None},
}


class Parsed(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.scripts, self._inside = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._inside.append(tag)

    def handle_endtag(self, tag):
        self._inside = self._inside[: len(self._inside) - self._inside[::-1].index(tag) - 1]

    def handle_data(self, data):
        (self.scripts if self._inside and self._inside[-1] == "script" else self.texts).append(data)

    def of(self, tag, key):
        return [attributes[key] for name, attributes in self.tags if name == tag and key in attributes]

    def data(self):
        return json.loads(self.scripts[0])

    def text(self):
        return " ".join(" ".join(self.texts).split())


def picture(number):
    """A picture unlike those of other numbers."""
    blocks = np.random.default_rng(number).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((400, 300))


def make_set(folder, name="animals"):
    """Twenty pictures of two boxes; the last holds none, the second last has a name to be escaped, 1 and 2 are like 0."""
    MetadataCatalog.get(name).set(thing_classes=CLASSES)
    records = []
    for i in range(NUM):
        file = folder / "pictures" / f"{'day' if i % 2 else 'night'} #1" / f"{i}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        ImageEnhance.Brightness(picture(0 if i < 3 else i)).enhance(1 - i / 100).save(file)
        boxes = [(20, 30, 60, 90), (150 + i, 100, 200, 150)] if i < NUM - 1 else []
        annotations = [
            {"bbox": list(box), "bbox_mode": BoxMode.XYWH_ABS, "category_id": (i + j) % 3}
            for j, box in enumerate(boxes)
        ]
        image_id = EVIL if i == NUM - 2 else f"image_{i:02}"
        records.append({"dataset_name": name, "image_id": image_id, "file_name": str(file), "width": 400, "height": 300,
                        "annotations": annotations})  # fmt: skip
    return records


def make_tested(folder):
    """Two pictures of a list that is tested on; the first is number 5, mirrored, and has a name to be escaped."""
    ImageOps.mirror(picture(5)).save(folder / "leak.png")
    picture(99).save(folder / "own.png")
    named = {"dataset_name": "<i>test</i>", "width": 400, "height": 300, "annotations": []}
    return [{**named, "image_id": i, "file_name": str(folder / f)} for i, f in ((EVIL, "leak.png"), ("own", "own.png"))]


def make_statistics(records, sees_all=True):
    """The model sees all labels but one as another class, or nothing at all."""
    labels = [
        (i, a["category_id"], BoxMode.convert(list(a["bbox"]), a["bbox_mode"], BoxMode.XYXY_ABS))
        for i, record in enumerate(records)
        for a in record["annotations"]
    ]
    images, classes = (np.array([row[k] for row in labels]) for k in (0, 1))
    boxes = np.array([row[2] for row in labels], float)
    seen = classes.copy()
    seen[7] = (seen[7] + 1) % 3  # of image 3
    number = len(labels) if sees_all else 0
    found = Detections(boxes[:number] + 2, np.linspace(0.9, 0.99, number), seen[:number], images[:number])
    features = np.random.default_rng(0).normal(size=(len(records), 5)).astype(np.float32)
    names, ids = (["animals"] * len(records), [str(record["image_id"]) for record in records])
    losses = {"loss": np.arange(len(records), dtype=np.float32)}
    return Statistics(names, ids, losses, features, Labels(boxes, classes, images), found, CLASSES)


def tiles(page):
    """(what, value) of the tiles on the selecting model."""
    texts = [text.strip() for text in page.texts]
    words = [text for text in texts[texts.index("Is the selector fit to judge?") :] if text]
    return list(zip(words, words[1:]))


def make_record(records, folder, **changed):
    selection = make_selection(
        records, [-1.0 if i in WHY else float(i) for i in range(NUM)], [i not in WHY for i in range(NUM)],
        keep_ratio=0.8, method="adapruner",
        columns={
            "final_loss": list(map(float, range(NUM))),
            "visits": [40] * NUM,
            **{name: [WHY.get(i, NO_REASON)[name] for i in range(NUM)] for name in NO_REASON},
        },
        provenance={"reasons": {"with_reason": 3}},
    )  # fmt: skip
    replace(selection, **changed).save(folder)
    return Selection.load(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(records, folder of the selection, its page)."""
    run = tmp_path_factory.mktemp("a run")
    records, folder = make_set(run), run / "selection"
    make_record(records, folder)
    make_statistics(records).save(folder)
    metrics = [{"iteration": i, "kept_ratio": 1 - i / 100, "alpha": 0.1 * i} for i in range(20)]
    (run / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in metrics))
    registered = ["others=voc:a:train", "tested=voc:b:test", "animals=voc:b:train"]
    config = {"DATASETS": {"REGISTER": registered, "TRAIN": ["animals"], "TEST": ["tested"]}}
    make_record(records, folder, provenance={**Selection.load(folder).provenance, "config": json.dumps(config)})
    (run / "inference/tested").mkdir(parents=True)
    (run / "inference/tested/evaluation.json").write_text('{"images": 1234, "bbox": {"AP50": 61.2}}')
    assert write_report(folder, records, None, others=make_tested(run)) == folder / "report.html"
    return records, folder, Parsed((folder / "report.html").read_text(encoding="utf-8"))


def test_sections_come_in_order_and_say_what_the_record_says(made, caplog):
    _, folder, page = made
    write_report(folder, made[0], None, others=make_tested(folder.parent))
    assert "too young" not in caplog.text and "Leaks: 1 of 2 images" in caplog.text
    assert page.of("section", "id") == SECTIONS
    verdict = "Of 20 images 4 go: 2 as copies of an image that stays, 1 for doubtful labels, 1 by lot."
    assert verdict in page.text()
    assert ".yaml --register animals=voc:b:train --register tested=voc:b:test --keep-ratios 0.8" in page.text()
    assert "It has learnt what it judges by." in page.text() and "⚠" not in page.text()
    assert "61% AP50 on tested, 1,234 images it has not seen" in " ".join(f"{b} {a}" for a, b in tiles(page))
    record, data = Selection.load(folder), page.data()
    shown = [data["id"], data["kept"], data["numbers"]["score"]]
    assert [own[:NUM] for own in shown] == [record.ids, [int(k) for k in record.kept], record.scores]
    assert [data["reasons"][r] for r in data["reason"][:5]] == ["", "near-duplicate", "near-duplicate", "doubtful labels", "by lot"]  # fmt: skip
    sections = data["sections"]
    assert sections["copies"] == [[0, 2, 1]]  # the one that stays, then the most alike
    assert sections["leaks"] == [[5, NUM]] and (data["own"], data["id"][NUM]) == (NUM, EVIL)
    assert pd.read_csv(folder / "leaks.csv").iloc[0, :4].tolist() == ["<i>test</i>", EVIL, "animals", "image_05"]
    assert (sections["doubtful"], sections["lot"], sections["empty"]) == ([3], [4], [NUM - 1])
    assert sections["just_kept"][:2] == [0, 5]
    assert "1 image goes for doubtful labels; 1 of them has a box below. Mend what is wrong" in page.text()
    assert "Copies 2 , alike 0" in page.text() and "2 go as copies, 0 as much like one that stays" in page.text()
    assert data["boxes"][0] == [0, 20, 30, 80, 120, 1, 150, 100, 350, 250]
    assert data["found"]["3"][:5] == [0, 22, 32, 82, 122]
    assert len(data["points"]) == NUM and all(0 <= v <= 1 for _, *xy in data["points"] for v in xy)


def test_nothing_is_loaded_from_elsewhere_and_all_pictures_are_there(made):
    _, folder, page = made
    addresses = [a for tag, attributes in page.tags for key, a in attributes.items() if key in ("src", "href")]
    assert [a for a in addresses if not a.startswith(("#", "data:", "doubtful_labels.", "leaks.csv"))] == []
    pictures = [*page.data()["src"], *(doubt["src"] for doubt in page.data()["doubts"])]
    assert len(pictures) == NUM + 2 and all(max(Image.open(folder / p).size) <= 256 for p in pictures)


def test_names_are_escaped_everywhere(made):
    _, _, page = made
    assert [name for name, _ in page.tags].count("script") == 2
    assert not any("onerror" in attributes for _, attributes in page.tags) and "img" not in dict(page.tags)
    assert page.data()["id"][NUM - 2] == EVIL and page.data()["classes"] == CLASSES
    assert "{{ 7 * 7 }}" in page.scripts[0]
    options = [page.texts[i] for i in range(len(page.texts)) if page.texts[i] in CLASSES]
    assert set(options) == set(CLASSES)


def test_images_that_go_for_labels_are_counted_where_no_single_box_stands_out(made, tmp_path, monkeypatch):
    make_record(made[0], tmp_path)
    make_statistics(made[0]).save(tmp_path)
    monkeypatch.setattr(page_module, "doubtful_boxes", lambda *args: [])
    text = Parsed(write_report(tmp_path, made[0], None).read_text(encoding="utf-8")).text()
    assert "No single box stands out" in text and "0 boxes, and 1 image that goes for doubtful labels" in text
    assert "Doubtful labels 1" in " ".join(text.split())


def test_the_hardest_have_a_high_loss_for_what_they_hold(made, tmp_path):
    records, _, page = made
    assert page.data()["sections"]["hardest"][0] == NUM - 1  # the highest loss of all, and no box
    columns = {**make_record(records, tmp_path).columns, "final_loss": [1.0] * NUM}
    make_record(records, tmp_path, columns=columns)
    plain = Parsed(write_report(tmp_path, records, None).read_text(encoding="utf-8"))
    assert "relative loss" not in plain.data()["numbers"] and "The highest losses: rare" in plain.text()
    statistics = make_statistics(records)
    boxes = np.asarray(statistics.counts.sum(axis=1))[:, 0]
    boxes[7], boxes[8] = 40, 1
    images = np.repeat(np.arange(NUM), boxes)
    labels = Labels(np.tile([0.0, 0, 9, 9], (len(images), 1)), np.zeros(len(images), int), images)
    losses = boxes + 0.1
    losses[8] *= 3  # a third of what 40 boxes cost, three times what one box does
    losses[9] = np.nan
    replace(statistics, labels=labels, losses={"loss": losses.astype(np.float32)}).save(tmp_path)
    page = Parsed(write_report(tmp_path, records, None).read_text(encoding="utf-8"))
    relative = page.data()["numbers"]["relative loss"]
    assert page.data()["sections"]["hardest"][0] == 8 and relative[8] > 2 > 1.1 > relative[7] and relative[9] is None
    assert "as many boxes of these classes" in page.text()


def test_a_duplicate_is_shown_with_the_label_it_repeats(made, tmp_path):
    statistics = make_statistics(made[0])
    labels = statistics.labels
    again = np.array([[21, 31, 81, 121], [20, 30, 80, 120]], float)  # of image 0, the second exactly
    repeated = Labels(
        np.concatenate([labels.boxes, again[:1], again[:1] + 100, again[1:]]),
        np.append(labels.classes, [0, 0, 0]), np.append(labels.images, [0, 0, 0]), np.zeros(len(labels.boxes) + 3, bool),
    )  # fmt: skip
    twice = replace(statistics, labels=repeated)
    doubts = [d for d in doubtful_boxes(twice, np.arange(NUM), False) if d["kind"] == "twice"]
    assert [d["label_box"] for d in doubts] == again.tolist()
    assert [d["other_box"] for d in doubts] == [[20, 30, 80, 120]] * 2
    write_lists(tmp_path, doubts, made[0], [(400, 300)] * NUM, CLASSES)
    assert pd.read_csv(tmp_path / "doubtful_labels.csv")["other_x_min"].tolist() == [20, 20]


def test_images_that_go_for_labels_without_one_in_the_list_are_told(made, tmp_path, monkeypatch):
    make_record(made[0], tmp_path)
    make_statistics(made[0]).save(tmp_path)
    of_another = [{**doubt, "i": 5} for doubt in doubtful_boxes(make_statistics(made[0]), np.arange(NUM), False)]
    monkeypatch.setattr(page_module, "doubtful_boxes", lambda *args: of_another)
    page = Parsed(write_report(tmp_path, made[0], None).read_text(encoding="utf-8"))
    assert "1 image goes for doubtful labels; none of them has a box below. It goes because the loss" in page.text()
    (reason,) = page.of("a", "data-reason")
    assert page.data()["reasons"][int(reason)] == "doubtful labels"


def test_doubtful_labels_are_listed_for_annotation_tools(made):
    _, folder, page = made
    (doubt,) = page.data()["doubts"]
    assert (doubt["i"], doubt["kind"], doubt["label"], doubt["seen"]) == (3, "class", 1, 2)
    table = pd.read_csv(folder / "doubtful_labels.csv")
    assert table.loc[0, ["id", "kind", "label", "seen", "seen_x_min"]].tolist() == ["image_03", "class", CLASSES[1], CLASSES[2], 155]  # fmt: skip
    coco = COCO(str(folder / "doubtful_labels.json"))
    (annotation,) = coco.anns.values()
    assert coco.cats[annotation["category_id"]]["name"] == CLASSES[2]
    assert annotation["bbox"] == [155, 102, 200, 150] and annotation["attributes"]["label"] == CLASSES[1]
    assert [image["file_name"] for image in coco.imgs.values()] == ["3.jpg"]


def test_a_model_that_sees_nothing_is_too_young(made, tmp_path, caplog):
    records, _, _ = made
    make_record(records, tmp_path)
    make_statistics(records, sees_all=False).save(tmp_path)
    page = Parsed(write_report(tmp_path, records, None).read_text(encoding="utf-8"))
    assert "Too young to trust." in page.text()
    assert "too young to trust, train it longer or on larger pictures: it does not know well even" in caplog.text


@pytest.mark.parametrize(
    "right, epochs, young", [(0.49, 100, True), (0.69, 4, True), (0.71, 4, False), (0.51, 5, False), (0.51, 0, False)]
)
def test_young_by_what_it_knows_and_how_often_it_looked(right, epochs, young):
    classes = np.zeros(100, int)
    seen = np.where(np.arange(100) < 100 * right, 0, 1)
    box = np.tile([0, 0, 1, 1], (100, 1))
    statistics = Statistics(
        ["a"] * 100, list(map(str, range(100))), {"loss": np.ones(100)}, np.ones((100, 1)),
        Labels(box, classes, np.arange(100)), Detections(box, np.ones(100), seen, np.arange(100)), ["a", "b"],
    )  # fmt: skip
    assert bool(page_facts.fitness(statistics, epochs).young) == young


def test_young_by_what_it_finds_in_images_it_has_not_seen(made):
    statistics = make_statistics(made[0])
    assert not page_facts.fitness(statistics, 40, [page_facts.HeldOut("a", 9, 0.3)]).young
    assert page_facts.fitness(statistics, 40, [page_facts.HeldOut("a", 9, 0.29)]).young == "It finds little in images that it has not seen"  # fmt: skip


def test_costs_are_those_of_a_comparison(made, tmp_path):
    records, folder, page = made
    assert "adapruner compare" in page.text()
    rows = [("full", 1.0, 70.0), ("full", 1.0, 72.0), ("adapruner", 0.8, 69.0), ("random", 0.8, 68.0)]
    results = [{"model": "tiny", "budget": "any", "method": m, "keep_ratio": r, "AP50": ap} for m, r, ap in rows]
    pd.DataFrame(results).to_csv(tmp_path / "results.csv")
    metrics, table = page_facts.costs(tmp_path / "results.csv")
    assert metrics == ["AP50"] and [row["texts"] for row in table] == [["71.0 ± 1.4"], ["69.0"], ["68.0"]]
    with pytest.raises(FileNotFoundError, match="^there is no nofile.csv: `adapruner compare --output DIR` leaves"):
        write_report(folder, records, None, "nofile.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="other.csv is no results.csv"):
        write_report(folder, records, None, tmp_path / "other.csv")


def test_groups_that_lose_more_than_their_share_are_warned_of():
    kept = np.arange(200) % 5 > 0  # 80%
    kept[150:170] = False
    classes = [[0] if i < 150 else [1] if i < 170 else [2] for i in range(200)]
    boxes = [np.array([[0, 0, 10, 10 if kept[i] else 200]]) for i in range(200)]
    tables = {
        table["title"]: table["rows"]
        for table in page_facts.balance(kept, ["a", "b", "c"], classes, boxes, ["x"] * 200)
    }
    assert [tuple(row.values()) for row in tables["Classes"]] == [
        ("a", 150, 120, ""), ("b", 20, 0, "none left"), ("c", 30, 24, ""),
    ]  # fmt: skip
    assert [(row["name"], row["after"]) for row in tables["Box sizes"]] == [("small (below 32²)", 144), ("medium", 0)]
    assert "Sources" not in tables  # all of one
    lost = np.repeat([True, False, True], [130, 40, 30])
    sources = page_facts.sources([f"cam{i % 2}_{i}" for i in range(200)], [""] * 200)
    assert set(sources) == {"cam0", "cam1"}
    (_, table) = page_facts.balance(lost, ["a"], [[0]] * 200, None, ["x"] * 130 + ["y"] * 70)
    assert [row["warning"] for row in table["rows"]] == ["", "loses 57%, all images lose 20%"]


def test_shares_are_of_images_and_sources_that_are_the_classes_are_left_out():
    kept = np.array([True, True, True, False])
    both = page_facts.balance(kept, ["a", "b"], [[0, 1], [0, 1], [0], [1]], None, [*"xxyy"])
    assert [(table["title"], table["share"]) for table in both] == [("Classes", 0.75), ("Sources", 0.75)]
    single = [[0], [0], [1], [1]]
    titles = {sources: [t["title"] for t in page_facts.balance(kept, ["a", "b"], single, None, [*sources])]
              for sources in ("xxyy", "xyxy", "xxyz")}  # fmt: skip
    assert titles == {"xxyy": ["Classes"], "xyxy": ["Classes", "Sources"], "xxyz": ["Classes", "Sources"]}


def test_what_does_not_change_is_a_line_in_the_middle(tmp_path):
    (tmp_path / "metrics.json").write_text("".join(f'{{"iteration": {i}, "alpha": 5, "classification_loss": {i}}}\n' for i in (19, 39)))  # fmt: skip
    alpha, loss = page_facts.curves(tmp_path / "metrics.json")
    assert (alpha["name"], alpha["points"], loss["name"]) == ("alpha", "48.7,20.0 100.0,20.0", "loss of the model, weighted")  # fmt: skip


def luminance(colour):
    """Of sRGB (WCAG 2), from #rgb or #rrggbb and the share of it that is mixed with black."""
    text, share = colour
    digits = text[1:] if len(text) == 7 else "".join(2 * digit for digit in text[1:])
    channels = share * np.frombuffer(bytes.fromhex(digits), np.uint8) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4) @ [
        0.2126,
        0.7152,
        0.0722,
    ]


def test_words_can_be_read_in_light_and_dark():
    css = (pathlib.Path(gallery.__file__).parent / "templates/page.css").read_text()
    light, dark = (dict(re.findall(r"--(\w+):([^;}]+)", block)) for block in re.findall(r":root\{(--[^}]+)\}", css)[:2])
    for colours in (light, {**light, **dark}):
        pure = float(colours["pure"].rstrip("%")) / 100
        names = ["kept", "copies", "alike", "doubtful", "difficulty", "lot", "hand", "outside"]
        written = [((colours[name], pure), colours["card"]) for name in names]
        written += [((colours["doubtful"], pure), colours["bg"]), ((colours["soft"], 1), colours["bg"])]
        written += [((colours["bg"], 1), colours["hand"]), ((colours["kept"], 1), colours["bg"])]
        for word, ground in written:
            low, high = sorted((luminance(word), luminance((ground, 1))))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (word, ground)


def test_classification_from_memory_and_without_statistics(tmp_path):
    MetadataCatalog.get("letters").set(thing_classes=CLASSES)
    records = [{"dataset_name": "letters", "image_id": str(i), "category_id": i % 3} for i in range(6)]
    selection = make_selection(records, [float(i) for i in range(6)], [i > 1 for i in range(6)], keep_ratio=0.6, method="el2n")  # fmt: skip
    selection.save(tmp_path)
    page = write_report(tmp_path, records, lambda record: np.full((8, 8, 3), 100, np.uint8))
    page = Parsed(page.read_text(encoding="utf-8"))
    assert "Of 6 images 2 go: 2 for the lowest scores." in page.text()
    assert page.data()["label"] == [0, 1, 2] * 2 and page.data()["size"] == [[8, 8]] * 6
    assert page.of("section", "id") == [name for name in SECTIONS if name not in ("run", "leaks")]


def test_what_a_draw_prunes_goes_by_lot(made, tmp_path):
    assert {name for name, method in METHODS.items() if method.score.__module__ == random.__module__} == set(DRAWS)
    record = make_record(made[0], tmp_path)
    columns = {name: own for name, own in record.columns.items() if name not in NO_REASON}
    make_record(made[0], tmp_path, method="random", columns=columns, provenance={"class_names": CLASSES})
    page = Parsed(write_report(tmp_path, made[0], None).read_text(encoding="utf-8"))
    assert "Of 20 images 4 go: 4 by lot." in page.text() and "The lowest numbers drawn." in page.text()
    assert "Drawn by lot: the next to go if you keep less." in page.text() and "lowest scores" not in page.text()


def test_of_many_images_those_in_no_section_are_shown_from_their_files(made, tmp_path, monkeypatch):
    records, _, _ = made
    monkeypatch.setattr(gallery, "ALL_THUMBNAILS", 0)
    monkeypatch.setattr(page_module, "SHOWN", 2)
    make_record(records, tmp_path)
    sources = Parsed(write_report(tmp_path, records, None).read_text(encoding="utf-8")).data()["src"]
    assert sources[3] == "thumbnails/3.jpg"
    assert re.fullmatch(r"\.\./.*/pictures/night%20%231/10\.jpg", sources[10])


@pytest.mark.parametrize("reason", ["near-duplicate", "alike"])
def test_what_is_like_another_to_the_model_alone_is_no_copy(made, tmp_path, reason):
    records, _, _ = made
    columns = make_record(records, tmp_path).columns
    columns["reason"][4], columns["similar_to"][4], columns["similarity"][4] = reason, "image_00", 0.5
    make_record(records, tmp_path, columns=columns)
    page = Parsed(write_report(tmp_path, records, None).read_text(encoding="utf-8"))
    assert "2 as copies of an image that stays, 1 as much like one that stays, 1 for doubtful labels." in page.text()
    assert page.data()["reasons"][page.data()["reason"][4]] == "much like one that stays"
    assert page.data()["sections"]["copies"] == [[0, 2, 1, 4]]


def test_an_unreadable_image_is_counted_and_other_data_refused(made, tmp_path):
    records, _, _ = made
    make_record(records, tmp_path)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    broken = [{**records[0], "file_name": str(tmp_path / "broken.jpg")}, *records[1:]]
    page = Parsed(write_report(tmp_path, broken, None).read_text(encoding="utf-8"))
    assert "1 image could not be read." in page.text()
    assert page.data()["src"][:2] == ["", "thumbnails/1.jpg"]
    with pytest.raises(SelectionMismatchError, match="image_00"):
        write_report(tmp_path, records[1:], None)


def test_a_persons_choices_are_told(made, tmp_path):
    records, _, _ = made
    (tmp_path / "mine.csv").write_text("dataset,id,kept\nanimals,image_01,1\nanimals,image_07,0\n")
    correct(make_record(records, tmp_path), tmp_path / "mine.csv").save(tmp_path)
    page = Parsed(write_report(tmp_path, records, None).read_text(encoding="utf-8"))
    assert "4 go: 1 as a copy of an image that stays," in page.text() and "1 by a person's choice." in page.text()
    assert "2 of the choices are a person's." in page.text()


IN_THE_BROWSER = """(() => {
const said = {errors: [], marks: 0};
window.onerror = message => said.errors.push(message);
const filters = document.querySelector("#filters"), set = (key, value) => { filters[key].value = value; filters.oninput(); };
said.all = document.querySelector("#count").textContent;
said.cards = document.querySelectorAll("#list .card").length;
said.copies = [...document.querySelectorAll(`[data-groups=copies] .id`)].map(node => node.textContent);
said.middle = middle("a".repeat(70) + "1");
said.named = document.querySelector("#list .pic").getAttribute("aria-label") + ", " + document.querySelector("#list button").getAttribute("aria-label");
document.querySelector("#points").onkeydown(new KeyboardEvent("keydown", {key: "ArrowRight"}));
const first = document.querySelector("#peek .id").title, across = [...document.querySelectorAll("circle")].map(own => +own.getAttribute("cx"));
said.leftmost = +document.querySelector("circle.near").getAttribute("cx") == Math.min(...across);
document.querySelector("#points").onkeydown(new KeyboardEvent("keydown", {key: "ArrowDown"}));
said.next = document.querySelector("#peek .id").title != first;
set("kept", "0"); said.pruned = document.querySelector("#count").textContent;
set("reason", "2"); said.doubtful = [...document.querySelectorAll("#list .id")].map(node => node.textContent);
document.querySelector("#list button").click();
set("reason", ""); set("kept", "1"); set("sort", "loss"); set("order", "-1");
said.first = D.id[document.querySelectorAll("#list .card")[1].dataset.i];
document.querySelectorAll("#list button")[1].click();
said.leaks = [...document.querySelectorAll("[data-groups=leaks] .pic")].map(node => node.getAttribute("aria-label"));
said.shown = document.querySelector("#marks span").textContent;
said.corrections = corrections();
set("kept", "marked"); const marked = document.querySelectorAll("#list .card").length;
document.querySelector("#list button").focus();
document.querySelector("#list button").click();
said.focus = document.activeElement.getAttribute("aria-label");
said.marked = [marked, document.querySelectorAll("#list .card").length];
document.querySelector("#list button").click();
said.none = document.querySelector("#page").textContent + ", " + document.activeElement.name;
for (const i of [0, 1, 2, 3, 4, 5]) mark(i);
let asked = 0, chooses = 0;
window.confirm = () => asked++ > 0;
const turn_ = turn;
turn = to => { chooses++; turn_(to); };
document.querySelector("#clear").click(); said.kept_marks = [marks.size, asked, chooses];
document.querySelector("#clear").click(); said.cleared = [marks.size, asked, chooses, count(".marked")];
mark(5); document.querySelector("#clear").click(); said.few = [marks.size, asked];
const broken = picture("nowhere.jpg", [0, 0, 9, 9], []);
broken.querySelector("image").dispatchEvent(new Event("error"));
said.broken = broken.textContent + broken.dataset.src + picture("", [0, 0, 9, 9], []).textContent;
said.short = [-0.0004, -0.0972, 1.504, 1234].map(short);
return said;
})()"""


def in_chromium(page, script, profile):
    """What a script says (JSON) that runs in the page, which may write nothing to the console. Skips without Chromium."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("no chromium here to open the page in")
    driven = page.with_name("driven.html")
    script = f"<script>const count = what => document.querySelectorAll(what).length; document.body.dataset.said = JSON.stringify({script});</script>"  # fmt: skip
    driven.write_text(page.read_text(encoding="utf-8").replace("</body>", script + "</body>"), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--user-data-dir={profile}/c"]
    shown = subprocess.run(
        [chromium, *options, "--dump-dom", driven.as_uri()], capture_output=True, text=True, timeout=120
    )
    driven.unlink()
    assert "CONSOLE" not in shown.stderr
    parsed = Parsed(shown.stdout)
    assert "img" not in dict(parsed.tags)  # of the names that would be one
    return json.loads(next(attributes["data-said"] for tag, attributes in parsed.tags if tag == "body"))


def test_in_a_browser(made, tmp_path):
    _, folder, _ = made
    said = in_chromium(folder / "report.html", IN_THE_BROWSER, tmp_path)
    assert said["errors"] == [] and (said["all"], said["cards"]) == ("20 of 20", 20)
    assert said["copies"] == ["image_00", "image_02", "image_01"] and said["leaks"] == ["image_05", EVIL]
    assert said["pruned"] == "4 of 20" and said["doubtful"] == ["image_03"]
    assert said["first"] == EVIL and said["shown"] == "2 marks"
    assert said["short"] == ["-0.0004", "-0.097", "1.50", "1,234"]
    assert said["marked"] == [2, 1] and said["none"] == "no image, kept"
    assert said["named"] == "image_01, keep instead: image_01" and said["focus"] == "you keep it: image_03"
    assert said["leftmost"] and said["next"] and said["broken"] == 2 * "no picture"
    assert said["kept_marks"] == [6, 1, 0] and said["cleared"] == [0, 2, 1, 0] and said["few"] == [0, 2]
    assert said["middle"] == "a" * 14 + "…" + "a" * 24 + "1"
    (tmp_path / "corrections.csv").write_text(said["corrections"], encoding="utf-8")
    corrected = correct(Selection.load(folder), tmp_path / "corrections.csv")
    assert [i for i, kept in enumerate(corrected.kept) if not kept] == [1, 2, 4, NUM - 2]
