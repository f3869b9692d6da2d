"""WA, UA and F1 against scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as sk

from mmer_jax.metrics import classification


@pytest.mark.parametrize("seed", range(5))
def test_against_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    label, prediction = rng.integers(0, 4, 200), rng.integers(0, 4, 200)
    prediction = np.where(rng.random(200) < 0.5, label, prediction)
    matrix = classification.confusion(label, prediction, 4)
    np.testing.assert_array_equal(matrix, sk.confusion_matrix(label, prediction))
    found = classification.rates(matrix)
    expected = {
        "wa": sk.accuracy_score(label, prediction),
        "ua": sk.balanced_accuracy_score(label, prediction),
        "macro_f1": sk.f1_score(label, prediction, average="macro"),
        "weighted_f1": sk.f1_score(label, prediction, average="weighted"),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-12), name
    p, r, f, _ = sk.precision_recall_fscore_support(label, prediction)
    np.testing.assert_allclose(found["recall"], r)
    np.testing.assert_allclose(found["precision"], p)
    np.testing.assert_allclose(found["f1"], f)


def test_wa_and_ua_are_told_apart():
    # 90 of 90 and 1 of 10 right: WA 0.91, UA 0.55. The released code names them the other way.
    found = classification.rates(np.array([[90, 0], [9, 1]]))
    assert found["wa"] == pytest.approx(0.91)
    assert found["ua"] == pytest.approx(0.55)


def test_an_absent_class_counts_in_no_mean():
    label, prediction = np.array([0, 0, 1]), np.array([0, 1, 1])
    found = classification.rates(classification.confusion(label, prediction, 3))
    assert found["ua"] == pytest.approx(sk.balanced_accuracy_score(label, prediction))
    assert found["macro_f1"] == pytest.approx(sk.f1_score(label, prediction, average="macro"))
    assert found["recall"][2] is None


def test_many_matrices_at_once_are_as_one_by_one():
    matrices = np.random.default_rng(0).integers(0, 9, (20, 4, 4))
    matrices[0, 2] = 0  # a class without utterances
    matrices[1, :, 3] = 0  # one that is never predicted
    matrices[2, 1] = matrices[2, :, 1] = 0  # one that is neither
    found = classification.overall(matrices.reshape(4, 5, 4, 4))
    for i, matrix in enumerate(matrices):
        label, prediction = (np.repeat(x.ravel(), matrix.ravel()) for x in np.indices((4, 4)))
        expected = {
            "wa": sk.accuracy_score(label, prediction),
            "ua": sk.recall_score(label, prediction, average="macro", labels=np.unique(label)),
            "macro_f1": sk.f1_score(label, prediction, average="macro", zero_division=0),
            "weighted_f1": sk.f1_score(label, prediction, average="weighted", zero_division=0),
        }
        for name, value in expected.items():
            assert found[name].ravel()[i] == pytest.approx(value, abs=1e-12), (i, name)


def test_confusion_matrices_add_up():
    rng = np.random.default_rng(0)
    label, prediction = rng.integers(0, 4, 60), rng.integers(0, 4, 60)
    parts = [classification.confusion(label[i::3], prediction[i::3], 4) for i in range(3)]
    np.testing.assert_array_equal(sum(parts), classification.confusion(label, prediction, 4))


def test_log_loss_and_softmax():
    logits = np.random.default_rng(0).normal(size=(20, 4)) * 50
    label = np.random.default_rng(1).integers(0, 4, 20)
    p = classification.softmax(logits)
    np.testing.assert_allclose(p.sum(1), 1)
    expected = np.mean([-np.log(np.exp(row - row.max())[k] / np.exp(row - row.max()).sum())
                        for row, k in zip(logits, label)])  # fmt: skip
    assert classification.log_loss(logits, label) == pytest.approx(expected)
