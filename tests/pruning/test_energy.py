"""E, its terms and the mask that minimises it."""

import itertools

import numpy as np
import pytest
from made_up import statistics
from scipy import sparse

import adapruner_det.pruning.energy as energy_module
from adapruner_det.pruning.annealing import _marginals, exchange, minimise, rests
from adapruner_det.pruning.class_balance import class_quotas, class_weights, image_key, weighted_draw
from adapruner_det.pruning.decision import decide
from adapruner_det.pruning.energy import (
    NORM,
    Energy,
    TermWeights,
    alike,
    copies,
    difficulty,
    energy_of,
    nearest_of_class,
    redundancy,
    whitened,
)

NOTHING = dict(difficulty=0, label_errors=0, redundancy=0, random=0, class_balance=0)
TERMS = dict(difficulty=0.5, label_errors=1.0, redundancy=0.7, random=0.2, class_balance=1.0)


def one_class(unary, k, keep):
    """The energy of images of one class, of which so many stay."""
    k = sparse.csr_matrix(k)
    return Energy({"u": np.array(unary, float)}, k, k, np.zeros(len(unary), int), np.array([keep]))


def by_hand(unary, pairs, keep=1):
    """The energy of a few images: u, and {(i, j): k}."""
    k = np.zeros((len(unary), len(unary)))
    for (i, j), value in pairs.items():
        k[i, j] = k[j, i] = value
    return one_class(unary, k, keep)


def problem(num, seed, share):
    """A few images, a quarter of them near-copies of another, as `energy_of` would find them."""
    random = np.random.default_rng(seed)
    places = random.normal(size=(num, 3))
    for _ in range(num // 4):
        copy, original = random.integers(num, size=2)
        places[copy] = places[original] + 0.02 * random.normal(size=3)
    far = np.square(places[:, None] - places).sum(-1) / 2
    np.fill_diagonal(far, np.inf)
    width = np.median(np.sort(far, axis=1)[:, round(1 / share) - 1])
    unary = np.maximum(1.2 * random.normal(size=num) / 1.75 - 1, 0) - 0.2 * random.permutation(num) / num
    return one_class(unary, 0.7 * np.exp(-((2 * far / width) ** 2)), round(num * share))


def greedy(energy, keep):
    """Of those left always the one that the least speaks against, next to its nearest that stays."""
    kept, k = np.zeros(len(energy.unary), bool), energy.redundancy.toarray()
    for _ in range(keep):
        against = energy.unary + np.where(kept, k, 0).max(axis=1)
        kept[np.where(kept, np.inf, against).argmin()] = True
    return kept


def test_e_by_hand():
    energy = by_hand([1, 2, 4], {(0, 1): 3, (1, 2): 4})
    assert energy.response(np.ones(3)) == pytest.approx([3, 5, 4])
    assert energy.value(np.ones(3)) == pytest.approx(7 + 6)
    assert energy.value(np.array([True, False, True])) == 5
    assert energy.response(np.array([0, 0.5, 0])) == pytest.approx([1.5, 0, 2])


def test_the_gradient_is_that_of_e():
    energy, s, step = problem(20, 0, 0.5), np.random.default_rng(0).random(20), 1e-6
    numeric = [(energy.value(s + step * one) - energy.value(s - step * one)) / (2 * step) for one in np.eye(20)]
    assert energy.gradient(s) == pytest.approx(numeric, abs=1e-6)


@pytest.mark.parametrize("keep, kept", [(2, [1, 2]), (3, [0, 1, 2])])
def test_of_two_alike_the_one_stays_that_less_speaks_against_and_both_where_all_else_is_worse(keep, kept):
    m = minimise(by_hand([0.2, 0.1, 0.3, 0.9], {(0, 1): 0.5}, keep))
    assert np.flatnonzero(m > 0).tolist() == kept


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_the_mask_is_at_rest_and_lower_than_random_ones_and_not_above_the_greedy_order(share):
    """A mask at rest can be a little above the lowest E, where that is not at rest: in 1 or 2 of 20 problems."""
    above = []
    for seed in range(20):
        energy, keep, random = problem(40, seed, share), round(40 * share), np.random.default_rng(seed)
        m = minimise(energy)
        assert (m > 0).sum() == keep and np.ptp(m + energy.unary + energy.response(m > 0)) < 1e-9
        drawn = [energy.value(np.isin(np.arange(40), random.permutation(40)[:keep])) for _ in range(100)]
        assert energy.value(m > 0) < min(drawn)
        above.append(energy.value(m > 0) - energy.value(greedy(energy, keep)))
    assert max(above) < 0.03 and np.sum(np.array(above) > 1e-9) <= 2


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_exhaustive_search_finds_nothing_lower(share):
    num, keep = 12, round(12 * share)
    masks = np.array([np.isin(np.arange(num), chosen) for chosen in itertools.combinations(range(num), keep)])
    above = []
    for seed in range(20):
        energy = problem(num, seed, share)
        above.append(energy.value(minimise(energy) > 0) - min(map(energy.value, masks)))
    assert max(above) < 0.001 and np.sum(np.array(above) > 1e-9) <= 1


@pytest.mark.parametrize("share", [0.5, 0.97])
def test_many_copies_come_to_rest(share):
    """2,000 images made of 50 pictures: all of a picture answer alike, and would all go and all come back."""
    random = np.random.default_rng(0)
    of_picture = random.integers(50, size=2000)
    features = random.normal(size=(50, 16)).astype(np.float32)[of_picture]
    energy = energy_of(statistics(2000, features=features, classes=of_picture % 2), TermWeights(), share, 0)
    m = minimise(energy)
    assert (m > 0).sum() == round(2000 * share) and rests(energy, m)


def test_what_an_image_adds_to_e_is_the_difference_of_e_with_and_without_it():
    energy, kept = problem(40, 0, 0.5), np.random.default_rng(0).random(40) < 0.5
    found = _marginals(energy, kept, energy.powers[NORM] @ kept.astype(float))
    for image in range(40):
        with_it, without = kept.copy(), kept.copy()
        with_it[image], without[image] = True, False
        assert found[image] == pytest.approx(energy.value(with_it) - energy.value(without), abs=1e-9)


def test_exchanges_bring_a_random_mask_of_many_images_near_the_lowest_e():
    energy = problem(1000, 0, 0.5)
    drawn = np.isin(np.arange(1000), np.random.default_rng(0).permutation(1000)[:500])
    lowest = energy.value(minimise(energy) > 0)
    exchanged = exchange(energy, drawn)
    assert exchanged.sum() == 500
    assert energy.value(exchanged) - lowest < 0.05 * (energy.value(drawn) - lowest)


def test_a_logit_that_is_not_the_sum_of_its_reasons_is_not_at_rest():
    energy = problem(40, 0, 0.5)
    m = minimise(energy)
    m[3] += 0.01
    assert not rests(energy, m)


def telling():
    """Statistics in which every term has something to say."""
    rare = np.where(np.arange(40) < 6, 1, 0)
    seen = statistics(classes=rare)
    features, losses = seen.features.copy(), seen.losses["loss"].copy()
    features[11], losses[[3, 20, 21]] = features[10], 9.0
    return statistics(classes=rare, features=features, losses={"loss": losses})


@pytest.mark.parametrize("term", TERMS)
def test_each_term_is_heard_and_can_be_switched_off(term):
    all_of_them, without = (energy_of(telling(), TermWeights(**w), 0.6, 0) for w in (TERMS, {**TERMS, term: 0}))
    for name in ("difficulty", "label_errors", "random"):
        assert np.array_equal(all_of_them.own[name], without.own[name]) != (name == term), name
    if term == "redundancy":
        assert all_of_them.redundancy.nnz and not without.redundancy.nnz
    elif term == "class_balance":
        assert without.quotas.tolist() == [24] and all_of_them.quotas.tolist() == [19, 5]
    elif term != "random":
        assert not without.own[term].any()
    assert not np.array_equal(minimise(all_of_them), minimise(without))


@pytest.mark.parametrize("term", ["difficulty", "label_errors", "random"])
def test_a_term_that_is_perturbed_changes_the_selection(term):
    energy = energy_of(telling(), TermWeights(**TERMS), 0.6, 0)
    perturbed = np.flatnonzero(minimise(energy) > 0)[10]
    energy.own[term][perturbed] += 3
    after = minimise(energy) > 0
    assert not after[perturbed] and after.sum() == 24


@pytest.mark.parametrize("power", [0, 1])
def test_with_all_off_but_random_it_is_the_draw_and_with_class_balance_the_weighted_one(power):
    seen = telling()
    weights = TermWeights(**{**NOTHING, "random": 0.2, "class_balance": power})
    draw = weighted_draw([image_key("data", i) for i in seen.ids], 3, class_weights(seen.counts, power))
    m = minimise(energy_of(seen, weights, 0.5, 3))
    assert np.array_equal(np.flatnonzero(m > 0), np.sort(np.argsort(-draw)[:20]))


@pytest.mark.parametrize("losses", [np.ones(40, np.float32), np.zeros(40, np.float32)])
def test_with_nothing_to_tell_images_apart_the_ratio_is_kept(losses):
    """Losses of zero are those of a classifier that is sure of everything."""
    seen = statistics(features=np.ones((40, 4), np.float32), losses={"loss": losses})
    m = minimise(energy_of(seen, TermWeights(**{**TERMS, "random": 0}), 0.5, 0))
    assert (m > 0).sum() == 20 and np.isfinite(m).all()


def test_what_is_known_of_images_decides_within_a_class_and_never_how_many_of_it_stay():
    """The rare class looks wrongly labelled, and is hard: its quota is that of the weighted draw all the same."""
    rare = np.where(np.arange(40) < 10, 1, 0)
    losses = np.ones(40, np.float32)
    losses[:10] = np.arange(10) + 50
    seen = statistics(classes=rare, losses={"loss": losses})
    draw = weighted_draw([image_key("data", i) for i in seen.ids], 0, class_weights(seen.counts, 1.0))
    of_draw = np.bincount(rare[np.argsort(-draw)[:20]])
    for weights in (TermWeights(redundancy=0), TermWeights(label_errors=9.0, difficulty=5.0, redundancy=0)):
        assert np.bincount(rare[minimise(energy_of(seen, weights, 0.5, 0)) > 0]).tolist() == of_draw.tolist()
    easy_first = TermWeights(difficulty=5.0, selection_weight=0.25, label_errors=0, redundancy=0, random=0)
    kept = minimise(energy_of(seen, easy_first, 0.5, 0)) > 0
    assert kept[: of_draw[1]].all() and not kept[of_draw[1] : 10].any()


@pytest.mark.parametrize("noise", [0, 1e-3, 0.1])
def test_copies_have_no_part_in_the_quotas(noise):
    """A rare class balanced by copying, ten of each of ten pictures: the copies go before any image of the other class."""
    classes, pictures = np.repeat([0, 1], [300, 100]), np.r_[:300, np.repeat(np.arange(300, 310), 10)]
    random = np.random.default_rng(0)
    features = random.normal(size=(310, 32))[pictures] + noise * random.normal(size=(400, 32))
    features = features.astype(np.float32)
    seen = statistics(400, classes=classes, features=features)
    kept = minimise(energy_of(seen, TermWeights(label_errors=0), 0.75, 0)) > 0
    of_picture = kept[300:].reshape(10, 10).sum(axis=1)
    assert of_picture.min() == 1 and of_picture.sum() <= 12 and kept[:300].sum() >= 288


@pytest.mark.parametrize("number, noise", [(34, 0), (300, 0), (300, 1e-6), (300, 0.05)])
def test_of_more_copies_than_a_list_holds_one_stays(number, noise):
    """A camera that stands still: one of its frames stays, and all others that stay are unique."""
    random = np.random.default_rng(0)
    features = random.normal(size=(1000, 64))
    features[:number] = features[0] + noise * random.normal(size=(number, 64))
    seen = statistics(1000, classes=np.zeros(1000, int), features=features.astype(np.float32))
    for ratio in (0.5, 0.7):
        decision = decide(seen, TermWeights(label_errors=0), ratio, 0)
        assert (decision.logits[:number] > 0).sum() == 1
        assert decision.reasons[:number].count("near-duplicate") == number - 1


@pytest.mark.parametrize("copied, ratio", [(0.3, 0.9), (0.3, 0.8), (0.6, 0.9), (0.6, 0.7), (1.0, 0.8), (1.0, 0.6)])
def test_copies_go_however_many_images_have_one(copied, ratio):
    """Pictures saved again, a little different each: of each pair one may go, and hardly any other image does."""
    random, number = np.random.default_rng(0), int(300 * copied)
    features = random.normal(size=(300, 64))[np.r_[:300, :number]]
    features += 0.05 * random.normal(size=features.shape)
    seen = statistics(300 + number, features=features.astype(np.float32), classes=np.r_[:300, :number] % 2)
    decision = decide(seen, TermWeights(label_errors=0), ratio, 0)
    kept = decision.logits > 0
    pairs = kept[:number].astype(int) + kept[300:]
    gone = (~kept).sum()
    assert (pairs == 0).sum() <= 0.02 * gone and (pairs == 1).sum() >= 0.98 * gone
    assert decision.reasons.count("near-duplicate") >= 0.98 * gone


@pytest.mark.parametrize("number", [40, 60, 100])
def test_of_few_images_that_differ_hardly_any_is_said_to_be_a_copy(number):
    features = np.abs(np.random.default_rng(0).normal(size=(number, 256))).astype(np.float32)
    for ratio in (0.9, 0.8, 0.5):
        decision = decide(statistics(number, features=features), TermWeights(), ratio, 0)
        assert decision.reasons.count("near-duplicate") <= 0.1 * (decision.logits < 0).sum()


def test_quotas_know_many_copies():
    features = np.random.default_rng(0).normal(size=(701, 64)).astype(np.float32)[np.r_[:700, np.full(300, 700)]]
    seen = statistics(1000, classes=np.repeat([0, 1], [700, 300]), features=features)
    kept = minimise(energy_of(seen, TermWeights(label_errors=0), 0.5, 0)) > 0
    assert kept[700:].sum() == 1 and kept[:700].sum() == 499


def test_of_crowds_without_number_parts_are_compared(monkeypatch):
    monkeypatch.setattr(energy_module, "_CROWD_PAIRS", 100 * 300)
    features = np.random.default_rng(0).normal(size=(1000, 64)).astype(np.float32)
    features[:300] = features[0]
    seen = statistics(1000, classes=np.zeros(1000, int), features=features)
    energy = energy_of(seen, TermWeights(label_errors=0), 0.5, 0)
    assert np.median(np.diff(energy.similarity.indptr)[:300]) < 200
    assert (minimise(energy) > 0)[:300].sum() <= 3


def test_copies_are_those_of_an_image_that_is_none_itself():
    near = np.zeros((4, 4))
    near[[0, 1, 1, 2], [1, 0, 2, 1]] = 0.5
    near[2, 3] = near[3, 2] = 0.3
    draw = np.array([0.9, 0.7, 0.5, 0.3])
    assert copies(sparse.csr_matrix(near), draw, 0.35).tolist() == [False, True, False, False]


def test_each_class_keeps_one_image_and_one_that_stays_as_a_whole_is_above_the_common_threshold():
    losses = np.ones(40, np.float32)
    losses[7] = 50
    seen = statistics(classes=np.where(np.arange(40) == 7, 1, 0), losses={"loss": losses})
    for weights in (TermWeights(label_errors=0), TermWeights(), TermWeights(random=9, class_balance=0.01)):
        for seed in range(5):
            energy = energy_of(seen, weights, 0.1, seed)
            m = minimise(energy)
            assert m[7] > 0 and (m > 0).sum() == 4 and rests(energy, m)


def test_quotas_are_those_of_the_draw_but_one_at_least():
    classes, drawn = np.array([0, 0, 0, 0, 2, 2, 3]), np.array([1, 1, 1, 0, 1, 0, 0], bool)
    assert class_quotas(classes, drawn).tolist() == [2, 0, 1, 1]
    assert class_quotas(classes, np.arange(7) == 4).tolist() == [0, 0, 1, 0]


def test_difficulty_is_eq_4_and_5_less_their_minimum():
    x = np.float32([0.5, 1, 2, 0.5])
    seen = statistics(4, losses={"loss": x}, classes=np.zeros(4, int))
    assert difficulty(seen, 1.0) == pytest.approx(x - np.log(x) - 1, abs=1e-4)
    assert difficulty(seen, 0.25).min() == pytest.approx(0.25 - 0.25 * np.log(0.5) + 0.25 * np.log(0.25), abs=1e-4)


def test_redundancy_by_hand():
    """Two directions at a right angle, a copy, and one at 45 degrees; w is the median distance of the second nearest."""
    features, classes = np.float32([[1, 0], [1, 0], [0, 1], [1, 1]]), np.zeros(4, int)
    places, distances = nearest_of_class(classes, features)
    assert places[:2, 0].tolist() == [1, 0] and places[2, 0] == 3
    similarity, widths = alike(features, places, distances, classes, np.array([True, False, True, False]))
    kernel = redundancy(similarity, widths, 0.7)
    apart = 1 - 0.5**0.5
    width = np.median([apart, apart, 1, apart])
    assert kernel[0, 1] == kernel[1, 0] == pytest.approx(0.7)
    assert kernel[0, 3] == kernel[3, 0] == pytest.approx(0.7 * np.exp(-((2 * apart / width) ** 2)), rel=1e-4)
    assert similarity[0, 1] == pytest.approx(1) and similarity[2, 3] == pytest.approx(0.5**0.5)
    assert kernel.diagonal().tolist() == [0] * 4


def test_only_images_of_a_class_are_alike():
    classes = np.array([0, 1, 0, 1, 2])
    features = np.ones((5, 3), np.float32)
    places, distances = nearest_of_class(classes, features)
    assert places[:, 0].tolist() == [2, 3, 0, 1, -1]
    kernel = redundancy(*alike(features, places, distances, classes, np.ones(5, bool)), 1.0)
    assert sorted(zip(*kernel.nonzero())) == [(0, 2), (1, 3), (2, 0), (3, 1)]


def test_whitening_scales_directions_that_vary_and_drops_rounding():
    random = np.random.default_rng(0)
    features = np.zeros((400, 6), np.float32)
    features[:, 0], features[:, 1] = 100 * random.normal(size=400), 0.5 * random.normal(size=400)
    white = whitened(features)
    assert white.shape == (400, 2) and white.std(axis=0, ddof=1) == pytest.approx([1, 1], rel=1e-3)
    assert whitened(np.ones((400, 6))).shape == (400, 6)


def test_of_many_images_some_tell_the_directions(monkeypatch):
    random = np.random.default_rng(0)
    features = (random.normal(size=(1000, 4)) * [9, 3, 1, 0.3]).astype(np.float32)
    whole = whitened(features)
    monkeypatch.setattr(energy_module, "_LOOKED_AT", 400)
    some = whitened(features)
    assert some.shape == whole.shape and some.dtype == np.float32
    assert np.abs(some.std(axis=0) - 1).max() < 0.1
    assert min(abs(np.corrcoef(a, b)[0, 1]) for a, b in zip(some.T, whole.T)) > 0.97


@pytest.mark.parametrize(
    "name, value", [("label_errors", -1.0), ("redundancy", np.inf), ("class_balance", 11.0), ("selection_weight", 0.0)]
)
def test_weights_that_cannot_be_are_named(name, value):
    with pytest.raises(ValueError, match=name):
        TermWeights(**{name: value})
