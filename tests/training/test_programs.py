"""Programs that are compiled ahead: which are used, and what is said."""

import concurrent.futures
import threading

import jax
import numpy as np
import pytest

from mmer_jax.training.programs import Programs


def batch(rows):
    return {"x": np.arange(rows, dtype=np.float32), "label": np.zeros(rows, np.int64)}


@pytest.fixture
def function():
    return jax.jit(lambda first, batch: first * batch["x"].sum())


def test_programs_compiled_ahead_are_those_that_run(function, capsys):
    programs = Programs(function, "training")
    programs.expected = 3
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        for rows in (2, 3, 2):
            programs.compile(pool, jax.ShapeDtypeStruct((), np.float32), batch(rows))
    for rows, expected in ((2, 1.0), (3, 3.0), (3, 3.0)):
        assert programs(np.float32(1), jax.device_put(batch(rows))) == expected
    assert function._cache_size() == 0 and programs.count() == 2
    for rows in (4, 5, 5):
        programs(np.float32(1), jax.device_put(batch(rows)))
    assert function._cache_size() == 2 and programs.count() == 4
    said = capsys.readouterr().out.splitlines()
    shapes = ["1 of 3", "2 of 3", "3 of 3", "4"]
    assert said == [f"training: compiling shape {of}" for of in shapes]


def test_what_a_pool_leaves_is_compiled_when_it_is_needed(function):
    programs, go = Programs(function, "training"), threading.Event()
    pool = concurrent.futures.ThreadPoolExecutor(1)
    pool.submit(go.wait)
    programs.compile(pool, jax.ShapeDtypeStruct((), np.float32), batch(2))
    pool.shutdown(wait=False, cancel_futures=True)
    programs.forget_cancelled()
    go.set()
    assert programs(np.float32(2), jax.device_put(batch(2))) == 2.0 and function._cache_size() == 1
