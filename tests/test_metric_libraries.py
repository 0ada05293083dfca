"""Scores equal those of torch-fidelity 0.4.0, pytorch-fid 0.3.0, torchmetrics 1.9.0 and prdc 0.2 on equal features.

The libraries' figures were recorded with numpy 2.4.6 and scipy 1.17.1 on the features that `features` draws;
RandomState is the generator that numpy will not change.
"""

import numpy as np
import pytest

from jax_sngan.metrics import density_coverage, frechet_distance, inception_score, kernel_distance, precision_recall
from jax_sngan.metrics.kernel import squared_mmd

RELATIVE = 1e-6  # issue 7
SHAPES = {  # real and generated vectors, dimensions, rank
    "plain": (300, 250, 16, 16),
    "n<d": (40, 30, 64, 64),
    "rank 3": (200, 150, 12, 3),
    "tiny": (6, 5, 3, 3),
}
# Where covariances are singular the libraries take roots of eigenvalues that are rounding, of either sign: they differ
# among themselves by up to 7e-8 of the value, and from ours, which leaves those out, by up to 4e-7.
FRECHET = {  # torch-fidelity, pytorch-fid, torchmetrics
    "plain": (13.464704362222506, 13.464704362222392, 13.464704362222278),
    "n<d": (3178.6254965840435, 3178.6254965840435, 3178.6254896922374),
    "rank 3": (2.706575058368202, 2.70657505836823, 2.7065748793508533),
    "tiny": (4.441739930367238, 4.441739930367227, 4.441739930367238),
}
KERNEL = {  # torch-fidelity: mean and deviation of 10 subsets of at most 100, rng_seed 5
    "plain": (40.7917288117354, 49.54768145609886),
    "n<d": (1177.31963139373, 324.7020582870285),
    "rank 3": (4.373585000657859, 2.7657701816178064),
    "tiny": (-14.195838182279667, 7.465929990748307),
}
FIRST_SUBSET = {  # torchmetrics' poly_mmd of the first vectors of either set
    "plain": 24.80170033062649,
    "n<d": 1277.883846295486,
    "rank 3": 7.915389416222865,
    "tiny": 0.4892069262076717,
}
PRDC = {  # prdc, nearest_k 3: precision, recall, density, coverage; torch-fidelity's first two are equal in float32
    "plain": (0.66, 0.9633333333333334, 0.6173333333333333, 0.7266666666666667),
    "n<d": (0.3, 0.975, 0.2333333333333333, 0.35),
    "rank 3": (0.8466666666666667, 0.985, 0.5933333333333333, 0.665),
    "tiny": (1.0, 1.0, 0.8666666666666667, 1.0),
}
INCEPTION_SCORE = (3.0026384595956235, 0.1891685856634121)  # torch-fidelity: 10 splits, not shuffled


def features(name):
    n, m, d, rank = SHAPES[name]
    rng = np.random.RandomState(7)
    basis = rng.standard_normal((rank, d))
    return rng.standard_normal((n, rank)) @ basis + 1, rng.standard_normal((m, rank)) @ basis * 1.2 + 1.3


@pytest.mark.parametrize("name", SHAPES)
def test_frechet(name):
    for value in FRECHET[name]:
        assert frechet_distance(*features(name)) == pytest.approx(value, rel=RELATIVE)


@pytest.mark.parametrize("name", SHAPES)
def test_kernel(name):
    real, fake = features(name)
    size = min(len(real), len(fake), 100)
    assert kernel_distance(real, fake, 5, subsets=10, subset_size=size) == pytest.approx(KERNEL[name], rel=RELATIVE)
    assert squared_mmd(real[:size], fake[:size]) == pytest.approx(FIRST_SUBSET[name], rel=RELATIVE)


@pytest.mark.parametrize("name", SHAPES)
def test_precision_recall_density_coverage(name):
    found = (*precision_recall(*features(name), k=3), *density_coverage(*features(name), k=3))
    assert found == pytest.approx(PRDC[name], rel=RELATIVE)


def test_inception_score():
    logits = 3 * np.random.RandomState(8).standard_normal((203, 7))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert inception_score(probabilities, 10, seed=None) == pytest.approx(INCEPTION_SCORE, rel=RELATIVE)
