import numpy as np
import pytest
from detectron2.data.detection_utils import read_image
from detectron2.structures import BoxMode
from PIL import Image

from adapruner_det.pruning import Selection
from adapruner_det.pruning.decision import REASON_COLUMN, SIMILAR_TO_COLUMN
from adapruner_det.report import pictures
from adapruner_det.report.pictures import save_selection_sheet


def make_image(folder, name, size=(80, 60), boxes=((10, 10, 60, 50),), category_id=0):
    path = folder / f"{name}.png"
    Image.new("RGB", size, (90, 120, 150)).save(path)
    annotations = [{"bbox": list(b), "bbox_mode": BoxMode.XYXY_ABS, "category_id": category_id} for b in boxes]
    return {"file_name": str(path), "image_id": name, "annotations": annotations}


def read(record):
    return read_image(record["file_name"], format="RGB")


def pixels(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def count(image, colour, tolerance=2):
    """Pixels of about a colour given as #RRGGBB."""
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(image - rgb).max(axis=2) <= tolerance).sum())


def save(path, kept, pruned=(), class_names=("cat",), read=read):
    """The sheet of a selection; an image is (record, score)."""
    images, verdicts = [*kept, *pruned], [True] * len(kept) + [False] * len(pruned)
    records = [record for record, _ in images]
    columns = {name: [record.get(name) for record in records] for name in (REASON_COLUMN, SIMILAR_TO_COLUMN)}
    ids, scores = [record["image_id"] for record in records], [score for _, score in images]
    selection = Selection(["d"] * len(ids), ids, scores, verdicts, 0.5, "a method", columns)
    save_selection_sheet(path, selection, records, class_names, read)


def texts(monkeypatch, *args, **kwargs):
    """All texts of the sheet that would be saved."""
    figures = []
    monkeypatch.setattr(pictures, "save_png", lambda figure, path: figures.append(figure))
    save("unused.png", *args, **kwargs)
    (figure,) = figures
    titles = [subfigure.get_suptitle() for subfigure in figure.subfigs]
    captions = [ax.get_xlabel().split("\n") for ax in figure.axes]
    names = [t.get_text() for ax in figure.axes for t in ax.texts]
    return titles, captions, names


@pytest.mark.parametrize("size", [(80, 60), (4000, 3000), (60, 80)])
def test_a_box_is_drawn_where_it_is(tmp_path, size):
    share = np.array([0.1, 0.2, 0.5, 0.9])
    image = make_image(tmp_path, "image", size=size, boxes=[share * (size * 2)])
    bare = make_image(tmp_path, "bare", size=size, boxes=())
    for record in (image, bare):
        save(tmp_path / f"out/{record['image_id']}.png", [(record, 1.0)])
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["bare.png", "image.png"]
    sheet, without = pixels(tmp_path / "out/image.png"), pixels(tmp_path / "out/bare.png")
    assert 300 < sheet.shape[1] < 1000 and 200 < sheet.shape[0] < 1000
    colour = pictures.CLASS_COLOURS[0]
    assert count(sheet, "#5A7896") > 5000 and count(sheet, colour, 40) > count(without, colour, 40) + 100
    rows, columns = np.nonzero(np.abs(sheet - [90, 120, 150]).max(axis=2) <= 2)
    thumbnail = sheet[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    rows, columns = np.nonzero(np.abs(thumbnail - [90, 120, 150]).max(axis=2) > 20)
    drawn = np.array([columns.min(), rows.min(), columns.max(), rows.max()])
    assert drawn / (thumbnail.shape[1::-1] * 2) == pytest.approx(share, abs=0.02)


def test_blocks_are_sorted_titled_and_captioned(tmp_path, monkeypatch):
    image = make_image(tmp_path, "x", category_id=1)
    kept = [({**image, "image_id": f"k{s}", "reason": ""}, s) for s in (1, 3, 2)]
    pruned = [({**image, "image_id": f"p{s}"}, -s) for s in (1, 3, 2)]
    pruned[0][0]["reason"], pruned[1][0]["similar_to"] = "random", "k2"
    kept.append(({**image, "image_id": "has no boxes"}, None))
    monkeypatch.setattr(pictures, "COLUMNS", 2)
    titles, captions, names = texts(monkeypatch, kept, pruned, ["cat", "dog"])
    assert titles == ["Pruned (lowest scores first): 3 images", "Kept (highest scores first): 3 images"]
    assert captions == [
        ["p3", "-3.000", "like k2"], ["p2", "-2.000"], ["p1", "-1.000", "random"],
        ["k3", "+3.000"], ["k2", "+2.000"], ["k1", "+1.000"],
    ]  # fmt: skip
    assert names == ["dog"] * 6


def test_only_the_first_images_of_a_long_list_are_shown(tmp_path, monkeypatch):
    image = make_image(tmp_path, "x")
    kept = [({**image, "image_id": f"{i}"}, float(i)) for i in range(1200)]
    titles, captions, _ = texts(monkeypatch, kept)
    assert titles == [f"Kept (highest scores first): {pictures.MAX_IMAGES} of 1,200 images"]
    assert [c[0] for c in captions] == [str(1199 - i) for i in range(pictures.MAX_IMAGES)]


def test_a_classification_image_shows_its_class_and_a_long_id_is_cut(monkeypatch):
    record = {"image_id": "a_very_long_folder_name/frame_000123", "category_id": 1}
    image = np.zeros((32, 32, 3), np.uint8)
    _, captions, names = texts(monkeypatch, [(record, 0.5)], [], ["cat", "frog"], lambda r: image)
    assert captions == [["a_very_…ame/frame_000123", "frog +0.500"]] and names == []


@pytest.mark.parametrize("size, mode", [((700, 30), "L"), ((30, 700), "RGBA"), ((9, 9), "P")])
def test_images_of_any_size_and_mode(tmp_path, size, mode):
    image = make_image(tmp_path, "image", size, boxes=())
    with Image.open(image["file_name"]) as picture:
        picture.convert(mode, palette=Image.Palette.ADAPTIVE).save(image["file_name"])
    not_math = {**image, "image_id": r"$\frac{$"}
    save(tmp_path / "sheet.png", [(not_math, 0.5)])
    colour = "#737373" if mode == "L" else "#5A7896"
    assert count(pixels(tmp_path / "sheet.png"), colour) > 1000


def test_noisy_images_stay_below_the_size_limit(tmp_path):
    rng = np.random.default_rng(0)
    kept, pruned = ([({"image_id": f"{verdict} {i}"}, i) for i in range(12)] for verdict in ("kept", "pruned"))

    def noise(record):
        return rng.integers(0, 256, (240, 240, 3), dtype=np.uint8)

    save(tmp_path / "sheet.png", kept, pruned, read=noise)
    size = (tmp_path / "sheet.png").stat().st_size
    assert 0.5 * pictures.MAX_BYTES < size <= pictures.MAX_BYTES


def test_sheet_refuses_what_it_cannot_draw(tmp_path):
    path = tmp_path / "sheet.png"
    with pytest.raises(ValueError, match="neither kept nor pruned"):
        save(path, [])
    with pytest.raises(ValueError, match="image 'x': category_id 4 has no name among the 1"):
        save(path, [(make_image(tmp_path, "x", category_id=4), 1.0)])
    with pytest.raises(FileNotFoundError, match="gone.jpg"):
        save(path, [({"file_name": "gone.jpg", "image_id": "g"}, 1.0)])
