"""Prefix beam search against every path, counted one by one."""

import itertools

import numpy as np
import pytest

from mmer_jax.inference import beam


def by_counting(log_probs):
    """Symbols -> log-probability, over all v^t paths."""
    found = {}
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        symbols = tuple(s for s, _ in itertools.groupby(path) if s)
        score = sum(frame[s] for frame, s in zip(log_probs, path))
        found[symbols] = np.logaddexp(found.get(symbols, -np.inf), score)
    return found


def drawn(frames, symbols, seed, sharpness=1.0):
    logits = sharpness * np.random.default_rng(seed).standard_normal((frames, symbols))
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("frames, symbols", [(1, 3), (4, 3), (6, 3), (5, 4)])
def test_a_wide_search_is_exact(frames, symbols, seed):
    log_probs = drawn(frames, symbols, seed)
    expected = by_counting(log_probs)
    found = dict(beam.search(log_probs, 10_000))
    assert found.keys() == expected.keys()
    for symbols_found, score in found.items():
        assert score == pytest.approx(expected[symbols_found], abs=1e-9)
    best = beam.search(log_probs, 10_000)[0]
    assert best[0] == max(expected, key=expected.get)
    assert np.exp(list(found.values())).sum() == pytest.approx(1)


def test_a_narrow_search_comes_close_and_never_claims_too_much():
    for seed in range(20):
        log_probs = drawn(6, 4, seed, sharpness=2.0)
        expected = by_counting(log_probs)
        found = beam.search(log_probs, 40)
        assert len(found) == 40 < len(expected) / 4
        assert expected[found[0][0]] >= max(expected.values()) - 0.01
        for symbols, score in found:
            assert score <= expected[symbols] + 1e-9


def test_letting_go_of_what_all_prefixes_share_changes_nothing(monkeypatch):
    for seed in range(5):
        log_probs = drawn(40, 4, seed, sharpness=4.0)
        monkeypatch.setattr(beam, "_EVERY", 10_000)
        whole = beam.search(log_probs, 6)
        monkeypatch.setattr(beam, "_EVERY", 1)
        assert beam.search(log_probs, 6) == whole


def test_the_best_path_may_spell_another_text():
    # Two frames, blank 0.6 and symbol 0.4: the best path is empty (0.36), yet "1" has 0.64.
    log_probs = np.log([[0.6, 0.4], [0.6, 0.4]])
    assert log_probs.argmax(-1).tolist() == [0, 0]
    (symbols, score), (empty, rest) = beam.search(log_probs, 4)[:2]
    assert symbols == (1,) and np.exp(score) == pytest.approx(0.64)
    assert empty == () and np.exp(rest) == pytest.approx(0.36)


def test_a_doubled_symbol_needs_a_blank_between():
    never = -1e9
    twice = np.array([[never, 0.0], [never, 0.0]])
    assert beam.search(twice, 4)[0][0] == (1,)
    parted = np.array([[never, 0.0], [0.0, never], [never, 0.0]])
    assert beam.search(parted, 4)[0][0] == (1, 1)


def test_no_frames_and_impossible_symbols():
    assert beam.search(np.zeros((0, 3)), 4) == [((), 0.0)]
    log_probs = np.array([[-np.inf, 0.0, -np.inf]])
    assert beam.search(log_probs, 4) == [((1,), 0.0)]
