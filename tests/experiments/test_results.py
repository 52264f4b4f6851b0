import numpy as np
import pandas as pd
import pytest

from adapruner_det.experiments.results import draw, read_results, write_tables

CELLS = [("full", 1.0, "any"), ("random", 0.5, "iterations"), ("adapruner", 0.5, "iterations"),
         ("random", 0.8, "epochs"), ("random", 0.8, "iterations")]  # fmt: skip


def frame_of(seeds, models=("Y",), **columns):
    rows = [
        {"model": model, "method": method, "keep_ratio": ratio, "budget": budget, "seed": seed,
         "images": round(100 * ratio), "select_seconds": 1.5, "AP50": 50.0 + seed / 3, "AP": 20.0 + ratio,
         "train_seconds": 60.0, **columns}
        for model in models for method, ratio, budget in CELLS for seed in seeds
    ]  # fmt: skip
    return pd.DataFrame(rows).astype({"images": "Int64"})


@pytest.fixture
def written(tmp_path):
    def write(name, frame):
        (tmp_path / name).mkdir()
        write_tables(frame, tmp_path / name)
        return tmp_path / name / "results.csv"

    return write


def test_seeds_of_two_runs_make_the_table_of_one(written, tmp_path):
    files = [written("a", frame_of([0])), written("b", frame_of([1, 2]))]
    (tmp_path / "merged").mkdir()
    both = read_results(files)
    write_tables(both, tmp_path / "merged")
    draw(both, tmp_path / "merged")
    merged = (tmp_path / "merged" / "table.md").read_text().splitlines()
    together = written("one", frame_of([0, 1, 2])).with_name("table.md").read_text().splitlines()
    assert sorted(merged) == sorted(together) and "50.3 ± 0.3" in merged[2]
    assert (tmp_path / "merged" / "figure.png").stat().st_size > 10_000


def test_everything_comes_first_then_iterations_then_ratios_downwards(written):
    read = read_results([written("a", frame_of([0], ("Y", "F"))), written("b", frame_of([1], ("Y", "F")))])
    assert read["model"].tolist() == ["Y"] * 10 + ["F"] * 10
    order = list(dict.fromkeys(zip(read["method"], read["keep_ratio"], read["budget"])))
    assert order == [CELLS[0], CELLS[4], CELLS[1], CELLS[2], CELLS[3]]


def test_names_that_look_like_numbers_or_nothing_are_names(written):
    files = [written("a", frame_of([0], ("18", "None"))), written("b", frame_of([0], ("18",)))]
    assert read_results(files)["model"].tolist() == ["18"] * len(CELLS) + ["None"] * len(CELLS)


def test_a_training_in_both_files_counts_once_though_it_took_another_time(written):
    files = [written("a", frame_of([0, 1])), written("b", frame_of([1, 2], train_seconds=99.0))]
    read = read_results(files)
    assert len(read) == 3 * len(CELLS)
    assert read[read["seed"] == 1]["train_seconds"].unique().tolist() == [60.0]


def test_what_was_merged_can_be_merged_again_with_its_parts(written):
    digits = 10**0.5 * np.arange(1, 200)  # some of which pandas' fast reader rounds otherwise
    part = pd.concat([frame_of([seed], AP=value) for seed, value in enumerate(digits)])
    file = written("a", part[part["method"] == "full"])
    again = written("b", read_results([file]))
    assert again.read_text() == file.read_text()
    assert len(read_results([file, again])) == len(digits)


def test_another_result_for_the_same_training_is_refused(written):
    files = [written("a", frame_of([0, 1])), written("b", frame_of([1], AP=30.0))]
    with pytest.raises(
        ValueError, match="a/results.csv and .*b/results.csv have other results for model Y, method full"
    ):
        read_results(files)


def test_files_that_do_not_belong_together_are_refused(written, tmp_path):
    detection = written("a", frame_of([0]))
    classification = written("b", frame_of([0]).drop(columns="AP50").rename(columns={"AP": "accuracy"}))
    with pytest.raises(ValueError, match="b/results.csv has the columns .*accuracy.*a/results.csv model"):
        read_results([detection, classification])
    other = tmp_path / "other.csv"
    other.write_text("model,method\nY,full\n")
    with pytest.raises(ValueError, match="other.csv is no results.csv .*: it has no keep_ratio or budget"):
        read_results([other])
    other.write_bytes(b"")
    with pytest.raises(ValueError, match="other.csv is no results.csv"):
        read_results([other])
