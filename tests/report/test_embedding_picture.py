import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from adapruner_det.report import embedding_picture
from adapruner_det.report.embedding_picture import draw_sample, save_embedding_picture, tsne


def blobs(num_classes=3, own=15, dims=60, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(num_classes), own)
    return rng.normal(size=(num_classes, dims))[labels] * 5 + rng.normal(size=(len(labels), dims)), labels


def drawn(monkeypatch, *args):
    figures = []
    monkeypatch.setattr(embedding_picture, "save_png", lambda figure, path: figures.append(figure))
    save_embedding_picture("unused.png", *args)
    return figures[0]


def points_of(ax):
    return np.concatenate([c.get_offsets() for c in ax.collections])


def test_tsne_puts_neighbours_of_one_class_together_and_repeats_itself():
    features, labels = blobs()
    positions = tsne(features, perplexity=10)
    assert positions.shape == (45, 2)
    distances = np.linalg.norm(positions[:, None] - positions[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(axis=1)] == labels).all()
    np.testing.assert_array_equal(tsne(features, perplexity=10), positions)


def test_pca_comes_first_where_there_are_many_features(monkeypatch):
    seen = []
    fit = embedding_picture.TSNE.fit_transform
    monkeypatch.setattr(embedding_picture.TSNE, "fit_transform", lambda self, x: seen.append(x.shape) or fit(self, x))
    features, _ = blobs()
    tsne(features, max_dims=10)
    tsne(features[:, :8], max_dims=10)
    assert seen == [(45, 10), (45, 8)]


@pytest.mark.parametrize("shape", [(4, 3), (5, 1)])
def test_tsne_of_few_points(shape):
    assert np.isfinite(tsne(np.random.default_rng(0).normal(size=shape))).all()
    with pytest.raises(ValueError, match="four points at least, got 3"):
        tsne(np.zeros((3, 2)))


def test_a_sample_is_drawn_once_each_and_by_seed():
    assert draw_sample(5, 5).tolist() == [0, 1, 2, 3, 4]
    rows = draw_sample(1000, 100, seed=1)
    assert len(set(rows)) == 100 and rows.tolist() == sorted(rows) and rows.max() >= 900
    assert rows.tolist() == draw_sample(1000, 100, seed=1).tolist()
    assert rows.tolist() != draw_sample(1000, 100, seed=2).tolist()


def test_right_panel_holds_the_kept_points_where_they_were(monkeypatch):
    positions = np.random.default_rng(0).normal(size=(40, 2))
    positions[0] = (9, -9)  # pruned, and the right panel still shows its empty place
    labels, kept = np.arange(40) % 4, np.arange(40) % 5 != 0
    figure = drawn(monkeypatch, positions, labels, kept, 400)
    full, own = figure.axes
    order = np.argsort(labels, kind="stable")
    np.testing.assert_allclose(points_of(full), positions[order])
    np.testing.assert_allclose(points_of(own), positions[order][kept[order]])
    assert full.get_xlim() == own.get_xlim() and full.get_ylim() == own.get_ylim()
    assert full.get_title("left") == "full: 40 points" and own.get_title("left") == "kept: 32 points"
    assert "a random 40 of 400 points, 80.0% of these kept" in figure._suptitle.get_text()


def test_a_class_looks_the_same_in_both_panels_even_if_another_went(monkeypatch):
    positions = np.random.default_rng(0).normal(size=(30, 2))
    labels = np.repeat(["cat", "cow", "dog"], 10)
    full, own = drawn(monkeypatch, positions, labels, labels != "cow").axes
    colours = [[to_hex(c.get_facecolor()[0]) for c in ax.collections] for ax in (full, own)]
    assert len(set(colours[0])) == 3 and colours[1] == [colours[0][0], colours[0][2]]


@pytest.mark.parametrize("num_classes, legends", [(10, 1), (40, 1), (41, 0)])
def test_classes_differ_in_colour_or_marker(monkeypatch, num_classes, legends):
    labels = np.repeat(np.arange(num_classes), 2)
    figure = drawn(monkeypatch, np.random.default_rng(0).normal(size=(len(labels), 2)), labels, labels >= 0)
    assert len(figure.legends) == legends
    looks = {(to_hex(c.get_facecolor()[0]), c.get_paths()[0].vertices.tobytes()) for c in figure.axes[0].collections}
    assert len(looks) == num_classes


def test_file_is_a_png_and_nothing_else_is_left(tmp_path):
    positions = np.random.default_rng(0).normal(size=(30, 2))
    save_embedding_picture(str(tmp_path / "out" / "e.png"), positions, np.arange(30) % 3, np.ones(30, bool))
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["e.png"]
    with Image.open(tmp_path / "out" / "e.png") as image:
        assert image.format == "PNG" and image.width > 1000
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3).astype(int)
    saturation = pixels.max(axis=1) - pixels.min(axis=1)
    assert (saturation > 60).sum() > 500  # coloured points are there


@pytest.mark.parametrize(
    "positions, labels, kept, message",
    [
        (np.zeros((0, 2)), [], [], "needs a position"),
        (np.zeros((3, 2)), [1, 2, 3], [True], "needs a position"),
        (np.zeros((3, 3)), [1, 2, 3], [True] * 3, "needs a position"),
        (np.full((3, 2), np.nan), [1, 2, 3], [True] * 3, "not finite"),
    ],
)
def test_what_cannot_be_drawn_is_said(positions, labels, kept, message):
    with pytest.raises(ValueError, match=f"e.png: .*{message}"):
        save_embedding_picture("e.png", positions, labels, kept)
