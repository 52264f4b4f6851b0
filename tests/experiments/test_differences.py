import cv2
import numpy as np
import pandas as pd
import pytest

from adapruner_det.experiments.differences import differences_of, panels_of, save_differences
from adapruner_det.experiments.figure import save_figure
from adapruner_det.experiments.intervals import against_control
from adapruner_det.experiments.table import curves_of
from tests.experiments.test_figure import results

METHODS = ("random", "random_stratified", "adapruner", "csod")


def names_of(figure):
    """From below, as the first panel of a row has them."""
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def of(panel, names):
    """What a panel shows: by method, its dot and the ends of its bar."""
    lines = [line for line in panel.lines if len(line.get_xdata()) == 2 and len(set(line.get_ydata())) == 1]
    dots = [line for line in panel.lines if line.get_marker() == "o"]
    return {name: (dot.get_xdata()[0], *bar.get_xdata()) for name, dot, bar in zip(names, dots, lines)}


def values_of(frame, ratio, method):
    cell = (frame["keep_ratio"] == ratio) & (frame["method"] == method) & (frame["budget"] != "epochs")
    return frame[cell].sort_values("seed")["accuracy"].to_numpy()


def test_each_ratio_shows_the_differences_to_its_own_strongest_control():
    frame = results(models=("A",), budgets=("iterations",), methods=METHODS, ratios=(0.5, 0.9))
    up = (frame["method"] == "random") & (frame["keep_ratio"] == 0.9)
    frame.loc[up, "accuracy"] += 3
    figure = differences_of(frame)
    titles = [panel.get_title() for panel in figure.axes]
    assert titles == ["90% kept,\nless random", "50% kept,\nless random_stratified"]
    for panel, ratio, control in zip(figure.axes, (0.9, 0.5), ("random", "random_stratified")):
        shown = of(panel, names_of(figure))
        assert set(shown) == set(METHODS)
        level, others = values_of(frame, ratio, control), [name for name in METHODS if name != control]
        expected = against_control([values_of(frame, ratio, name) for name in others], level)
        for method, estimate in zip(others, expected):
            assert shown[method] == pytest.approx(estimate[:3])
            assert shown[method][0] == pytest.approx(values_of(frame, ratio, method).mean() - level.mean())
        assert shown[control][0] == 0 and np.isnan(shown[control][1:]).all()
        (everything,) = (line for line in panel.lines if line.get_linestyle() == "--")
        assert everything.get_xdata()[0] == pytest.approx(values_of(frame, 1.0, "full").mean() - level.mean())


def test_the_best_method_stands_on_top_and_adapruner_stands_out():
    frame = results(models=("A",), budgets=("iterations",), methods=METHODS, ratios=(0.5, 0.9))
    frame.loc[frame["method"] == "csod", "accuracy"] += 5
    figure = differences_of(frame)
    names, dots = names_of(figure), [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    means = [dot.get_xdata()[0] for dot in dots]
    assert names[-1] == "csod" and means[-1] == max(means)
    colours = {name: dot.get_color() for name, dot in zip(names, dots)}
    assert len(set(colours.values())) == 3 and colours["random"] == colours["random_stratified"]


def test_a_method_that_a_ratio_lacks_has_no_dot_in_it():
    frame = results(models=("A",), budgets=("iterations",), methods=METHODS, ratios=(0.5, 0.9))
    frame = frame[(frame["method"] != "csod") | (frame["keep_ratio"] == 0.5)]
    figure = differences_of(frame)
    high, low = (of(panel, names_of(figure)) for panel in figure.axes)
    assert np.isnan(high["csod"][0]) and not np.isnan(low["csod"][0])


def test_every_model_and_budget_has_a_row_of_its_own():
    figure = differences_of(results(methods=METHODS, ratios=(0.5, 0.9)))
    labels = [panel.get_ylabel() for panel in figure.axes if panel.get_ylabel()]
    assert labels == [f"{model}\nequal {budget}" for model in "AB" for budget in ("iterations", "epochs")]


def test_it_is_ap_that_is_shown_of_a_detector():
    frame = results(models=("A",), budgets=("iterations",)).rename(columns={"accuracy": "AP"}).assign(AP50=50.0)
    assert differences_of(frame).axes[0].get_xlabel() == "AP, difference"


@pytest.mark.parametrize("what", [{"seeds": (0,)}, {"ratios": (0.8,)}])
def test_one_seed_has_no_bar_and_one_ratio_one_panel(tmp_path, what):
    frame = results(methods=METHODS, **what)
    for curves in curves_of(frame):
        for panel in panels_of(curves):
            assert np.isnan(panel.differences["csod"].low) == ("seeds" in what)
            assert panel.differences[panel.control].mean == 0
    save_differences(frame, tmp_path / "differences.png")
    assert cv2.imread(str(tmp_path / "differences.png")).std() > 5


def test_names_and_legend_are_whole(tmp_path):
    methods = ("random", *(f"a_method_of_a_long_name_{n}" for n in range(24)))
    for names in (methods, methods[:2]):
        figure = differences_of(results(models=("A",), budgets=("epochs",), methods=names, ratios=(0.5,)))
        figure.draw_without_rendering()
        panel = figure.axes[0]
        texts = [*panel.get_yticklabels(), panel.title, panel.yaxis.label, *figure.legends[0].get_texts()]
        for text in texts:
            box = text.get_window_extent()
            assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
        assert panel.get_window_extent().width / figure.dpi > 2


@pytest.mark.parametrize("methods", [(), ("adapruner", "csod"), ("random",)])
def test_without_a_rival_there_is_no_picture_and_an_old_one_goes(tmp_path, methods):
    frame, path = results(methods=methods), tmp_path / "differences.png"
    assert differences_of(frame) is None
    path.write_bytes(b"of another command")
    save_differences(frame, path)
    assert not path.exists()


def test_seeds_that_everything_lacks_do_not_take_its_line_away():
    frame = results(models=("A",), budgets=("iterations",), methods=METHODS, ratios=(0.5,))
    some = frame[(frame["method"] != "full") | (frame["seed"] == 1)]
    (panel,) = panels_of(next(curves_of(some)))
    means = pd.Series({name: group["accuracy"].mean() for name, group in some.groupby("method")})
    assert panel.room == pytest.approx(means["full"] - means[panel.control])
    (panel,) = panels_of(next(curves_of(frame[frame["method"] != "full"])))
    assert np.isnan(panel.room)


def test_a_control_without_values_is_no_rival():
    frame = results(models=("A",), budgets=("iterations",), methods=METHODS, ratios=(0.5,))
    frame.loc[frame["method"] == "random", "accuracy"] = np.nan
    (panel,) = panels_of(next(curves_of(frame)))
    assert panel.control == "random_stratified" and "random" not in panel.differences
    alone = frame.copy()
    alone.loc[alone["method"] != "random_stratified", "accuracy"] = np.nan
    frame.loc[frame["method"] == "random_stratified", "accuracy"] = np.nan
    assert differences_of(frame) is None and differences_of(alone) is None


@pytest.mark.parametrize("save", [save_differences, save_figure])
def test_names_are_no_formulas(tmp_path, save):
    frame = results(models=("$_$",), budgets=("epochs",), methods=("random", "a$_$b", "$^$"), ratios=(0.5,))
    save(frame, tmp_path / "names.png")
    assert cv2.imread(str(tmp_path / "names.png")).std() > 5
