"""The prepared dataset: what is read, without tensorflow, and what is said where it is missing."""

import dataclasses
import json
import shutil
import subprocess
import sys

import pytest

from mmer_jax.data.corpus import Corpus
from mmer_jax.errors import UserError


def test_every_utterance_with_its_recordings(prepared):
    corpus = Corpus(str(prepared / "tfds"))
    assert corpus.label_names == ("ang", "hap", "neu", "sad")
    assert len(corpus.utterances) == 80 == len({u.id for u in corpus.utterances})
    for u in corpus.utterances:
        audio, augmented = corpus.recordings(u)
        assert len(audio) == u.samples
        assert [len(a) for a in augmented] == [r.samples for r in u.augmented] != []
        assert all(r.voice.startswith("espeak-") for r in u.augmented)
        assert u.session == int(u.id[4]) and u.dialog == u.id[:-5]
        assert u.speaker.endswith(u.id[-4])


def test_reading_batches_imports_no_tensorflow(prepared):
    program = f"""
import sys
from mmer_jax import configuration
from mmer_jax.data import loader, text
from mmer_jax.data.corpus import Corpus
from mmer_jax.data.preprocessing import Preprocessor
corpus = Corpus({str(prepared / "tfds")!r})
tokenizer = text.Tokenizer({str(prepared / "corpus" / "tokenizer")!r}, 32)
preprocessor = Preprocessor(tokenizer, 210_000, False)
collator = loader.Collator(configuration.default(), corpus, preprocessor, True)
batches = loader.Batches(collator, corpus.utterances, 4, seed=0)
with loader.DeviceIterator(batches, dict, 2, 2) as iterator:
    next(iterator)
assert "tensorflow" not in sys.modules, "tensorflow was imported"
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_dataset_of_the_version_before_is_read_with_unknown_voices(prepared, tmp_path):
    shutil.copytree(prepared / "tfds", tmp_path / "tfds")
    (folder,) = (tmp_path / "tfds" / "iemocap" / "emotions4").iterdir()
    features = json.loads((folder / "features.json").read_text())
    del features["featuresDict"]["features"]["augmented_voice"]
    (folder / "features.json").write_text(json.dumps(features))
    before = folder.rename(folder.with_name("1.0.0"))
    info = json.loads((before / "dataset_info.json").read_text())
    (before / "dataset_info.json").write_text(json.dumps(info | {"version": "1.0.0"}))
    old, new = Corpus(str(tmp_path / "tfds")), Corpus(str(prepared / "tfds"))
    for u, now in zip(old.utterances, new.utterances):
        assert {r.voice for r in u.augmented} == {""}
        assert dataclasses.replace(u, augmented=now.augmented) == now


def test_no_dataset_is_a_way_to_one(tmp_path):
    with pytest.raises(UserError, match="No prepared dataset iemocap/emotions4"):
        Corpus(str(tmp_path))


def test_the_newest_version_is_read_and_no_other_folder(prepared, tmp_path):
    """Names are compared as versions: 1.10.0 is newer than 1.9.0, and 1.0.0_old is none."""
    folder = tmp_path / "iemocap" / "emotions4"
    shutil.copytree(prepared / "tfds" / "iemocap" / "emotions4", folder)
    (version,) = (p for p in folder.iterdir() if p.name[0].isdigit())
    version.rename(folder / "1.10.0")
    for name in ("1.9.0", "1.10.0_old", "2.0.0.incompleteABC", "9"):
        (folder / name).mkdir()
    corpus = Corpus(str(tmp_path))
    assert len(corpus.utterances) == 80
    shutil.rmtree(folder / "1.10.0")
    with pytest.raises(UserError, match="No prepared dataset"):
        Corpus(str(tmp_path))
