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


def bars(panel):
    """The means and the spreads that a panel shows of each method."""
    parts = {bar.get_label(): (bar[0].get_ydata(), bar[2][0].get_segments()) for bar in panel.containers}
    return {name: (means, [(ends[1, 1] - ends[0, 1]) / 2 for ends in spreads])
            for name, (means, spreads) in parts.items()}  # fmt: skip


def test_every_model_and_budget_gets_a_panel_with_its_means_and_spreads():
    frame = results()
    figure = figure_of(frame)
    titles = [panel.get_title() for panel in figure.axes]
    assert titles == ["A, equal iterations", "A, equal epochs", "B, equal iterations", "B, equal epochs"]
    panel, own = figure.axes[2], frame[frame["model"] == "B"]
    full = next(line for line in panel.lines if line.get_label() == "full")
    assert full.get_ydata() == pytest.approx([own[own["method"] == "full"]["accuracy"].mean()] * 2)
    own = own[own["budget"] == "iterations"].groupby(["method", "keep_ratio"])["accuracy"]
    assert set(bars(panel)) == {"random", "adapruner"}
    for name, (means, spreads) in bars(panel).items():
        assert means == pytest.approx(own.mean()[name].to_numpy()) and spreads == pytest.approx(own.std()[name])
    assert [label.get_text() for label in figure.axes[3].get_xticklabels()] == ["50", "70", "90"]


@pytest.mark.parametrize("models", [("A",), ("A", "B")])
def test_many_methods_look_different_and_have_a_whole_legend_beside_their_panels(models):
    methods = [f"a_method_of_a_long_name_{n}" for n in range(18)]
    figure = figure_of(results(models=models, budgets=("epochs",), methods=methods, ratios=(0.5, 0.9)))
    lines = [bar[0] for bar in figure.axes[0].containers]
    assert len({(one.get_color(), one.get_linestyle(), one.get_marker()) for one in lines}) == 18
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


def test_the_methods_of_a_lone_ratio_stay_beside_it_and_within_the_panel():
    methods = [f"method {n}" for n in range(30)]
    for names in (methods[:2], methods):
        panel = figure_of(results(models=("A",), budgets=("epochs",), methods=names, ratios=(0.8,))).axes[0]
        left, right = panel.get_xlim()
        places = [bar[0].get_xdata()[0] for bar in panel.containers]
        assert left < min(places) == 0.8 and max(places) < right
        assert (places[1] - places[0]) / (right - left) < 0.05
