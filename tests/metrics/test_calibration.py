"""Calibration error against a count by hand, and a temperature that is known."""

import numpy as np
import pytest

from mmer_jax.metrics import calibration, classification
from mmer_jax.metrics.reliability import near_chance


def test_error_by_hand():
    # Two bins of ten: 0.55 right half of the time, 0.95 always right.
    p = np.array([[0.55, 0.45]] * 4 + [[0.05, 0.95]] * 6)
    label = [0, 0, 1, 1] + [1] * 6
    expected = 0.4 * abs(0.5 - 0.55) + 0.6 * abs(1.0 - 0.95)
    assert calibration.expected_calibration_error(p, label, bins=10) == pytest.approx(expected)
    found = calibration.reliability(p, label, bins=10)
    assert found["count"] == [0, 0, 0, 0, 0, 4, 0, 0, 0, 6]
    assert found["accuracy"][5] == 0.5 and found["accuracy"][0] is None


def test_certainty_falls_in_the_last_bin():
    found = calibration.reliability(np.array([[1.0, 0.0]]), [0], bins=5)
    assert found["count"] == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(temperature):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (20_000, 4))
    p = classification.softmax(logits / temperature)
    label = (p.cumsum(1) > rng.random((len(p), 1))).argmax(1)
    assert calibration.fit_temperature(logits, label) == pytest.approx(temperature, rel=0.05)
    before = calibration.expected_calibration_error(classification.softmax(logits), label)
    after = calibration.expected_calibration_error(p, label)
    assert after < 0.02 and (temperature == 1.0 or before > 3 * after)


def test_the_lower_bound_of_ua_holds():
    rng = np.random.default_rng(0)
    recall, n, draws = np.array([0.95, 0.7, 0.5, 0.2]), np.array([12, 20, 9, 40]), 4000
    right = rng.binomial(n, recall, (draws, 4))
    low = [calibration.ua_lower_bound(_matrix(r, n)) for r in right]
    below = np.mean(np.array(low) <= recall.mean())
    assert 0.965 < below < 0.99  # nominal 0.975; Monte Carlo error 0.0025
    # Nothing wrong among few is no proof of a perfect model; a class unseen is not claimed.
    assert calibration.ua_lower_bound(np.diag([2, 2, 2, 2])) < 0.7
    assert calibration.ua_lower_bound(np.diag([500, 500, 500, 0])) < 0.75


def _matrix(right, n):
    matrix = np.diag(right)
    matrix[:, 0] += n - right
    matrix[0, 0], matrix[0, 1] = right[0], n[0] - right[0]
    return matrix


def test_a_model_that_always_says_the_same_is_near_chance_and_a_good_one_is_not():
    always = np.zeros((4, 4), int)
    always[:, 2] = 50
    assert near_chance({"ua_low": calibration.ua_lower_bound(always)}, 4)
    good = np.full((4, 4), 5) + np.diag([30] * 4)
    assert not near_chance({"ua_low": calibration.ua_lower_bound(good)}, 4)


def test_a_temperature_changes_no_prediction():
    logits = np.random.default_rng(1).normal(size=(50, 4))
    t = calibration.fit_temperature(logits, np.zeros(50, int))
    assert (classification.softmax(logits / t).argmax(1) == logits.argmax(1)).all()
    assert calibration.BOUNDS[0] <= t <= calibration.BOUNDS[1]
