"""Coverage on clouds with known answers, and its controls on annealed labyrinths."""

import json
import math
from functools import cache

import numpy as np
import pytest
import torch

from spinloom.anneal import anneal
from spinloom.coverage import CoverageReference, compare_vectors, coverage, features, median_bandwidth
from spinloom.errors import BadInput
from spinloom.hamiltonian import Hamiltonian
from spinloom.symmetry import symmetries

H = Hamiltonian(D=0.6)
KNN = ("precision", "recall", "density", "knn_coverage")


def cloud(n, d=2, seed=0, at=0.0, width=1.0):
    return at + width * np.random.default_rng(seed).standard_normal((n, d))


@cache
def labyrinths():
    return anneal(H, size=32, samples=1000, seed=3)


def noise_textures(n, side=32, seed=0):
    spins = torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(seed))
    return spins / spins.norm(dim=1, keepdim=True)


# clouds


@pytest.mark.parametrize("d", [1, 2, 8, 300])
@pytest.mark.parametrize("bandwidth", [None, 0.1, 3.0])
def test_the_same_distribution_scores_095(d, bandwidth):
    """For any bandwidth: a held-out sample and one left out are alike, and 95% of the latter pass."""
    found = [
        compare_vectors(cloud(600, d, seed=2 * s), cloud(600, d, seed=2 * s + 1), bandwidth)["coverage"]
        for s in range(8)
    ]
    # binomial spread of threshold and share together: √(2·0.05·0.95/600)/√8 = 0.0045
    assert np.mean(found) == pytest.approx(0.95, abs=0.015)


def test_dropped_modes_are_missing_coverage():
    modes = 10.0 * np.eye(4)
    real = np.concatenate([cloud(200, 4, seed=s, at=m) for s, m in enumerate(modes)])
    for kept in (1, 2, 3):
        fakes = np.concatenate([cloud(400, 4, seed=10 + s, at=m) for s, m in enumerate(modes[:kept])])
        found = compare_vectors(real, fakes)
        assert found["coverage"] == pytest.approx(0.95 * kept / 4, abs=0.03)
        assert found["recall"] == pytest.approx(kept / 4, abs=0.03)
        assert found["knn_coverage"] == pytest.approx(kept / 4, abs=0.03)
        assert found["precision"] > 0.95


def test_repeated_samples_cover_little():
    """A hundred points ten times each: their copies lift the threshold out of every other point's reach."""
    real, model = cloud(1000, 4, seed=0), cloud(1000, 4, seed=1)
    found = compare_vectors(real, np.repeat(model[:100], 10, axis=0))
    assert found["coverage"] < 0.1
    assert compare_vectors(real, model)["coverage"] > 0.9


def points(vectors):
    """Vectors (n, 6) as "textures" of two sites, for the space of spins, which takes the numbers as they are."""
    return vectors.reshape(-1, 3, 1, 2)


@pytest.mark.parametrize("others", [0, 100])
def test_outliers_inflate_coverage_and_are_flagged(others):
    """900 copies of one point hardly cover; with 100 far ones among them t falls to 0 and "covers" everything."""
    reference = CoverageReference(points(cloud(1000, 6, seed=0)), "spins", second=points(cloud(1000, 6, seed=1)))
    copies = np.repeat(np.zeros((1, 6)), 900, axis=0)
    found = reference(points(np.concatenate([copies, cloud(others, 6, seed=2, width=30)])))
    assert (found.coverage > 0.9) == found.broad == (others > 0)
    if not others:
        assert found.coverage < 0.2
    # no precision tells: nine of ten samples lie on the data
    assert found.knn["precision"] >= 0.9
    assert found.controls["repeated"] < 0.3


def test_models_off_the_data_are_flagged_and_good_ones_are_not():
    reference = CoverageReference(points(cloud(600, 6, seed=0)), "spins")
    assert not reference(points(cloud(600, 6, seed=1))).broad
    # half of the modes dropped is a low coverage, and a true one
    half = cloud(1200, 6, seed=2)
    dropped = reference(points(half[half[:, 0] > 0]))
    assert not dropped.broad and dropped.coverage < dropped.data_against_data - 0.15
    wide = reference(points(cloud(600, 6, seed=3, width=6)))
    assert wide.broad and wide.knn["precision"] < wide.knn_data_against_data["precision"] / 2
    assert wide.coverage > 0.95


def test_far_noise_covers_nothing():
    real = cloud(500, 6, seed=0)
    found = compare_vectors(real, cloud(500, 6, seed=1, at=30, width=0.5))
    assert found == dict.fromkeys(("coverage", *KNN), 0.0)


def test_a_sample_is_not_its_own_neighbour():
    """A perfect model and a narrow kernel: self-inclusive thresholds would give 0 here."""
    real, fakes = cloud(400, 50, seed=0), cloud(400, 50, seed=1)
    narrow = median_bandwidth(real) / 5
    assert compare_vectors(real, fakes, narrow)["coverage"] > 0.85
    apart = torch.cdist(torch.from_numpy(fakes), torch.from_numpy(fakes)).square() / (2 * narrow**2)
    inclusive = torch.logsumexp(-apart, 1).kthvalue(20).values
    across = torch.cdist(torch.from_numpy(real), torch.from_numpy(fakes)).square() / (2 * narrow**2)
    assert (torch.logsumexp(-across, 1) > inclusive).double().mean() < 0.05


def test_coverage_by_its_definition():
    real, fakes, width = cloud(60, 3, seed=0), cloud(80, 3, seed=1, at=0.5), 0.6

    def kernel(a, b):
        return math.exp(-sum((a - b) ** 2) / (2 * width**2))

    own = sorted(sum(kernel(a, b) for j, b in enumerate(fakes) if j != i) / 79 for i, a in enumerate(fakes))
    passing = [t for t in own if sum(p > t for p in own) >= 0.95 * 80]
    expected = np.mean([sum(kernel(a, b) for b in fakes) / 80 > max(passing) for a in real])
    assert compare_vectors(real, fakes, width)["coverage"] == expected


def test_nearest_neighbour_figures_by_their_definitions():
    k = 3
    real, fakes = cloud(70, 3, seed=0), cloud(50, 3, seed=1, at=0.7)

    def radii(points):
        return [sorted(np.linalg.norm(points - p, axis=1))[k] for p in points]

    across = np.linalg.norm(real[:, None] - fakes[None], axis=2)
    in_real, in_fakes = across <= np.array(radii(real))[:, None], across <= np.array(radii(fakes))[None]
    found = compare_vectors(real, fakes, k=k)
    assert found["precision"] == in_real.any(0).mean()
    assert found["recall"] == in_fakes.any(1).mean()
    assert found["density"] == pytest.approx(in_real.sum() / (k * 50), rel=1e-12)
    assert found["knn_coverage"] == in_real.any(1).mean()


def test_nearest_neighbour_figures_of_the_same_distribution():
    """Naeem et al.: E[density] = 1, and E[coverage] = 1 − ∏ (n − i)/(2n − i) over i = 1 … k for n = m."""
    n, k = 300, 5
    found = [compare_vectors(cloud(n, 3, seed=2 * s), cloud(n, 3, seed=2 * s + 1), k=k) for s in range(20)]
    expected = 1 - math.prod((n - i) / (2 * n - i) for i in range(1, k + 1))
    assert np.mean([f["knn_coverage"] for f in found]) == pytest.approx(expected, abs=0.01)
    assert np.mean([f["density"] for f in found]) == pytest.approx(1, abs=0.03)


def test_a_set_against_itself():
    points = cloud(200, 3)
    found = compare_vectors(points, points)
    assert found["precision"] == found["recall"] == found["knn_coverage"] == 1
    assert found["density"] > 1


def test_the_bandwidth_rule():
    """Points on a line at 0, 1, 3, 6, 10: nearest others at 1, 1, 2, 3, 4, median 2."""
    points = np.array([[0.0], [1], [3], [6], [10]])
    assert median_bandwidth(points) == 1.0
    assert median_bandwidth(3 * points) == pytest.approx(3)
    with pytest.raises(BadInput, match="copies"):
        median_bandwidth(np.zeros((5, 2)))


def test_figures_do_not_depend_on_units_or_place():
    real, fakes = cloud(300, 4, seed=0), cloud(300, 4, seed=1, at=0.4)
    assert compare_vectors(real, fakes) == compare_vectors(1000 + 7 * real, 1000 + 7 * fakes)


@pytest.mark.parametrize(
    ("real", "fakes", "options", "message"),
    [
        (np.zeros((9,)), cloud(9), {}, "real of shape"),
        (cloud(5), cloud(9), {}, "real of shape"),
        (cloud(9), cloud(9, 3), {}, "make them agree"),
        (cloud(9), np.full((9, 2), np.nan), {}, "fakes=NaN"),
        (cloud(9), cloud(9), {"bandwidth": 0}, "bandwidth=0"),
        (cloud(9), cloud(9), {"k": 0}, "k=0"),
    ],
)
def test_vectors_that_cannot_be_compared_are_refused(real, fakes, options, message):
    with pytest.raises(BadInput, match=message):
        compare_vectors(real, fakes, **options)


# features


def test_features_do_not_see_translations():
    spins = labyrinths()[:20]
    torch.testing.assert_close(features(spins.roll((5, 11), (-2, -1)), H), features(spins, H), rtol=1e-9, atol=1e-9)


def test_features_under_reversal():
    """The first three are odd, all others even."""
    spins = labyrinths()[:20]
    sign = torch.ones(16, dtype=torch.float64)
    sign[:3] = -1
    torch.testing.assert_close(features(-spins, H), sign * features(spins, H), rtol=1e-9, atol=1e-9)


def test_only_orientation_sees_the_other_symmetries():
    spins = labyrinths()[:20]
    even = [i for i in range(16) if i not in range(3, 7)]
    for element in symmetries(H, 32):
        if element.mz_sign > 0:
            # a mirror turns the sign of the Bloch chirality, which in these data is rounding
            moved = features(element(spins), H)[:, even]
            torch.testing.assert_close(moved, features(spins, H)[:, even], rtol=1e-9, atol=1e-6)


def test_features_of_odd_textures_are_finite():
    up = torch.zeros(2, 3, 8, 12)
    up[:, 2] = 1
    assert features(up, H).isfinite().all()
    magnetisation, charge, skewness = features(up)[0, :3].tolist()
    assert (magnetisation, charge, skewness) == (1, 0, 1)
    assert features(noise_textures(3, 8), H).isfinite().all()


# textures


@pytest.mark.parametrize("model", [H, None])
def test_the_feature_space_tells_data_from_its_controls(model):
    reference = CoverageReference(labyrinths(), "features", model, seed=1)
    assert reference.informative
    assert 0.9 < reference.data_against_data < 0.99
    assert reference.controls["repeated"] < 0.3
    assert reference.controls["sector"] < reference.data_against_data - 0.1
    assert reference.controls["noise"] == 0


def test_the_spin_space_is_marked_not_informative():
    """In 3072 numbers a texture, noise lies as near to the data as the data do."""
    found = coverage(labyrinths()[:500], labyrinths()[500:], "spins")
    assert 0.85 < found.data_against_data < 1
    assert found.controls["repeated"] < 0.3
    assert found.controls["noise"] > found.data_against_data - 0.1
    assert not found.informative


def test_failures_of_a_generator_are_seen_in_features():
    real, others = labyrinths()[:500], labyrinths()[500:]
    reference = CoverageReference(real, "features", H)
    perfect = reference(others)
    assert perfect.coverage > 0.85 and perfect.knn["precision"] > 0.9 and perfect.knn["recall"] > 0.9
    one_sign = reference(torch.where((others[:, 2].mean((-2, -1)) < 0)[:, None, None, None], -others, others))
    assert one_sign.coverage < perfect.coverage - 0.1
    assert reference(others[:50].repeat(10, 1, 1, 1)).coverage < 0.3
    assert reference(noise_textures(300)).coverage == 0
    wrong_handed = torch.stack((-others[:, 0], -others[:, 1], others[:, 2]), 1)
    assert reference(wrong_handed).coverage < 0.05
    assert CoverageReference(real, "features")(wrong_handed).coverage < 0.05


def test_held_back_data_can_stand_in_for_the_model():
    reference = CoverageReference(labyrinths()[:400], "features", H, second=labyrinths()[400:])
    found = reference(labyrinths()[400:])
    assert found.coverage == found.data_against_data
    assert found.knn == found.knn_data_against_data
    assert found.counts["data"] == 400 and found.counts["data_as_model"] == 600


def test_answers_depend_on_the_seed_alone():
    real, fakes = labyrinths()[:300], labyrinths()[300:600]
    assert coverage(real, fakes, H=H, seed=4) == CoverageReference(real, H=H, seed=4)(fakes)
    assert coverage(real, fakes, H=H, seed=4).coverage == coverage(real, fakes, H=H, seed=5).coverage
    assert coverage(real, fakes, H=H, seed=4).controls != coverage(real, fakes, H=H, seed=5).controls


def test_arrays_and_data_sets_are_taken_alike():
    class Folder:
        def __init__(self, spins):
            self.spins = spins

        def __getitem__(self, part):
            return self.spins[part]

    real, fakes = labyrinths()[:200], labyrinths()[200:400]
    assert coverage(real.numpy(), fakes.numpy()) == coverage(Folder(real), Folder(fakes))


def test_without_balance_the_sector_is_the_upper_half():
    real = labyrinths()
    up = real[real[:, 2].mean((-2, -1)) > 0.001]
    found = coverage(up[: len(up) // 2], up[len(up) // 2 :])
    assert found.sector == "the upper half in M_z"
    assert coverage(real[:300], real[300:600]).sector == "M_z > 0"


def test_as_dict_is_json_and_values_are_named():
    found = coverage(labyrinths()[:200], labyrinths()[200:400], "spins", k=3)
    again = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert again["k"] == 3 and again["space"] == "spins" and again["informative"] is found.informative
    assert again["broad"] is found.broad
    assert set(again["controls"]) == {"repeated", "sector", "noise"}
    assert tuple(found.values) == ("coverage", *KNN)
    assert found.values["coverage"] == found.coverage
    assert found.values["knn_coverage"] == found.knn["coverage"]


def test_float32_distances_keep_copies_together():
    """|a|² + |b|² − 2a·b in float32: a copy of a texture must stay far nearer than any other texture."""
    real = labyrinths()[:200]
    found = CoverageReference(real, "spins")(real)
    assert found.knn["precision"] == found.knn["recall"] == found.knn["coverage"] == 1
    from spinloom.coverage import _distances

    ((_, squared),) = _distances(real.flatten(1), real.flatten(1))
    exact = torch.cdist(real.flatten(1).double(), real.flatten(1).double()).square()
    assert (squared - exact).abs().max() < 1e-2
    assert squared.diagonal().max() < 1e-3 * exact[exact > 1].min()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda t: coverage(t[:30], t), "real=30"),
        (lambda t: coverage(t, t[:10]), "fakes=10"),
        (lambda t: coverage(t, t[:, :, :16]), "fakes of 16 × 32"),
        (lambda t: coverage(t, t, second=t[..., :16]), "second of 32 × 16"),
        (lambda t: coverage(t, t * math.nan), "fakes=NaN"),
        (lambda t: coverage(t, t, k=0), "k=0"),
        (lambda t: coverage(t[:1].repeat(50, 1, 1, 1), t), "copies"),
    ],
)
def test_textures_that_cannot_be_judged_are_refused(make, message):
    with pytest.raises(BadInput, match=message):
        make(labyrinths()[:60])
