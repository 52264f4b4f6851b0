import cv2
import numpy as np
import pandas as pd
import pytest

from adapruner_det.experiments.figure import figure_of, save_figure


def results(models=("A", "B"), budgets=("iterations", "epochs"), methods=("random", "adapruner"),
            ratios=(0.5, 0.7, 0.9), seeds=(0, 1, 2)):  # fmt: skip
    rng = np.random.default_rng(0)
    cells = [("full", "any", 1.0)]
    cells += [(method, budget, ratio) for budget in budgets for ratio in ratios for method in methods]
    return pd.DataFrame(
        {
            "model": model, "method": method, "budget": budget, "keep_ratio": ratio, "seed": seed,
            "accuracy": 80 + 10 * ratio + (method != "random") + rng.normal(scale=0.4),
        }
        for model in models for method, budget, ratio in cells for seed in seeds
    )  # fmt: skip


def test_every_model_and_budget_gets_a_panel_with_its_means_and_spreads():
    frame = results()
    figure = figure_of(frame)
    titles = [panel.get_title() for panel in figure.axes]
    assert titles == ["A, equal iterations", "A, equal epochs", "B, equal iterations", "B, equal epochs"]
    panel = figure.axes[2]
    lines = {line.get_label(): line for line in panel.lines}
    assert set(lines) == {"full", "random", "adapruner"}
    own = frame[frame["model"] == "B"]
    full = own[own["method"] == "full"]["accuracy"]
    assert lines["full"].get_ydata() == pytest.approx([full.mean()] * 2)
    own = own[(own["budget"] == "iterations") & (own["method"] == "adapruner")]
    by_ratio = own.groupby("keep_ratio")["accuracy"]
    assert list(lines["adapruner"].get_xdata()) == [0.5, 0.7, 0.9]
    assert lines["adapruner"].get_ydata() == pytest.approx(by_ratio.mean().to_numpy())
    band = panel.collections[-1].get_paths()[0].vertices[:, 1]
    assert band.max() == pytest.approx((by_ratio.mean() + by_ratio.std()).max())
    assert band.min() == pytest.approx((by_ratio.mean() - by_ratio.std()).min())
    assert [label.get_text() for label in figure.axes[3].get_xticklabels()] == ["50", "70", "90"]


def test_methods_look_different_however_many_there_are():
    figure = figure_of(results(methods=[f"m{n}" for n in range(14)]))
    looks = [(line.get_color(), line.get_linestyle(), line.get_marker()) for line in figure.axes[0].lines]
    assert len(set(looks)) == len(looks) == 15


@pytest.mark.parametrize("models", [("A",), ("A", "B")])
def test_the_legend_of_many_methods_is_whole_and_leaves_the_panels_their_room(models):
    methods = [f"a_method_of_a_long_name_{n}" for n in range(18)]
    figure = figure_of(results(models=models, budgets=("epochs",), methods=methods, ratios=(0.5, 0.9)))
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["full", *methods]
    shown = legend.get_window_extent()
    assert 0 <= shown.x0 and 0 <= shown.y0
    assert shown.x1 <= figure.bbox.x1 and shown.y1 <= figure.bbox.y1
    widths = [panel.get_window_extent().width / figure.dpi for panel in figure.axes]
    assert min(widths) > 3.2  # inches


@pytest.mark.parametrize("what", [{}, {"ratios": (0.8,)}, {"seeds": (0,)}, {"methods": ()}])
def test_few_of_anything_can_be_drawn(tmp_path, what):
    save_figure(results(**what), tmp_path / "figure.png")
    assert cv2.imread(str(tmp_path / "figure.png")).std() > 5  # something is drawn
    assert [path.name for path in tmp_path.iterdir()] == ["figure.png"]


def test_methods_at_a_single_ratio_stand_side_by_side():
    panel = figure_of(results(methods=("random", "adapruner", "el2n"), ratios=(0.7,))).axes[0]
    places = {float(line.get_xdata()[0]) for line in panel.lines if line.get_label() in ("random", "el2n")}
    (tick,) = panel.get_xticks()
    assert len(places) == 2 and tick == 0.7 and sum(places) / 2 == pytest.approx(tick)
