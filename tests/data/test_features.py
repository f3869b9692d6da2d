"""Stored states: what is read is what was stored, whatever ended the process that stored it."""

import threading

import numpy as np
import pytest

from mmer_jax.data.features import INDEX, STATES, Store
from mmer_jax.errors import UserError

FACTS = {"layers": "weighted", "names": {1: "a"}}


@pytest.fixture
def states():
    rng = np.random.default_rng(0)
    return {
        f"u{i}": rng.standard_normal((2, n, 3)).astype(np.float16) for i, n in enumerate([4, 1])
    }


def opened(folder, facts=FACTS):
    return Store(str(folder), facts, (2, 3))


def stored(folder, *batches):
    store = opened(folder)
    with store.writing(pytest.fail):
        for batch in batches:
            store.append(batch)
    return store


def check(store, states):
    for key, values in states.items():
        assert key in store
        np.testing.assert_array_equal(store[key], values)


def test_what_is_stored_is_read_here_and_elsewhere(tmp_path, states):
    store = stored(tmp_path, states)
    check(store, states)
    check(opened(tmp_path), states)
    assert "u2" not in store and store.bytes(5) == 60
    more = {"u2": np.ones((2, 7, 3), np.float16)}
    with store.writing(pytest.fail):
        store.append(more)
    check(store, states | more)


@pytest.mark.parametrize("torn", [INDEX, STATES])
@pytest.mark.parametrize("by", [1, 11])
def test_what_a_killed_process_left_is_cut_off(tmp_path, states, torn, by):
    """The last entry torn, its states torn, or states without an entry: as if they weren't."""
    first, last = ({key: values} for key, values in states.items())
    stored(tmp_path / "whole", first, last)
    stored(tmp_path / "torn", first, last)
    whole, file = tmp_path / "whole", tmp_path / "torn" / torn
    file.write_bytes(file.read_bytes()[:-by])
    store = opened(tmp_path / "torn")
    check(store, first)
    assert "u1" not in store
    with store.writing(pytest.fail):
        store.append(last)
    check(store, states)
    for name in (INDEX, STATES):
        assert (tmp_path / "torn" / name).read_bytes() == (whole / name).read_bytes()


def test_a_folder_of_other_states_is_refused(tmp_path, states):
    stored(tmp_path, states)
    with pytest.raises(UserError, match="other states"):
        opened(tmp_path, {"layers": "last"})


def test_one_writes_and_the_others_wait(tmp_path, states):
    """The second finds what the first stored."""
    store, other, waited = opened(tmp_path), opened(tmp_path), threading.Event()
    found = []

    def second():
        with other.writing(waited.set):
            found.extend(key for key in states if key in other)

    with store.writing(pytest.fail):
        thread = threading.Thread(target=second)
        thread.start()
        assert waited.wait(30)
        store.append(states)
    thread.join(30)
    assert found == list(states)
    check(other, states)
