"""preprocessor_config.json decides whether waveforms are normalised, wherever the model goes."""

import json
import shutil

import huggingface_hub
import pytest
import transformers
from transformers import HubertConfig, Wav2Vec2Config, WhisperConfig

from mmer_jax import configuration
from mmer_jax.errors import UserError
from mmer_jax.models import factory
from mmer_jax.models.encoders import pretrained

CONFIGS = {"wav2vec2": Wav2Vec2Config, "hubert": HubertConfig, "whisper": WhisperConfig}


def _checkpoint(folder, kind, content=None):
    CONFIGS[kind]().save_pretrained(folder)
    if content is not None:
        (folder / "preprocessor_config.json").write_text(content)
    c = configuration.default()
    c.audio.pretrained = str(folder)
    return c


@pytest.mark.parametrize("kind, content, expected", [
    ("hubert", '{"do_normalize": false, "sampling_rate": 16000}', False),
    ("wav2vec2", '{"do_normalize": true}', True),
    ("wav2vec2", "{}", True),
    ("wav2vec2", None, True),
    ("whisper", '{"hop_length": 160, "n_fft": 400, "feature_size": 80}', False),
    ("whisper", '{"do_normalize": true}', True),
    ("whisper", None, False),
])  # fmt: skip
def test_auto_follows_the_checkpoint(kind, content, expected, tmp_path):
    config = _checkpoint(tmp_path, kind, content)
    assert factory.normalizes(config) is expected
    for option, value in (("utterance", True), ("none", False)):
        config.data.normalize = option
        assert factory.normalizes(config) is value


def test_it_goes_with_the_encoders_config(tmp_path):
    config = _checkpoint(tmp_path / "a", "hubert", '{"do_normalize": false}')
    pretrained.load_config(str(tmp_path / "a")).save_pretrained(tmp_path / "b")
    shutil.rmtree(tmp_path / "a")
    config.audio.pretrained = str(tmp_path / "b")
    assert not factory.normalizes(config)


@pytest.mark.parametrize("kind, content, words", [
    ("wav2vec2", '{"sampling_rate": 8000}', "sampling_rate=8000; .* sampling_rate=16000"),
    ("whisper", '{"hop_length": 320}', "hop_length=320"),
    ("whisper", '{"feature_size": 128}', "feature_size=128"),
    ("hubert", '{"do_normalize": "no"}', "do_normalize='no'"),
    ("hubert", '{"do_norm', "can't be read"),
    ("hubert", "[]", "can't be read"),
])  # fmt: skip
def test_input_that_is_not_ours_is_one_message(kind, content, words, tmp_path):
    with pytest.raises(UserError, match=words):
        factory.normalizes(_checkpoint(tmp_path, kind, content))


def test_what_cannot_be_looked_for_is_not_guessed(monkeypatch):
    """A hub name whose config.json alone is cached, and no network."""
    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", lambda *a, **k: HubertConfig())
    config = configuration.default()
    config.audio.pretrained = "someone/hubert-of-somewhere"
    with pytest.raises(UserError, match="config.data.normalize=utterance .*normalize=none"):
        factory.normalizes(config)
    for option, expected in (("utterance", True), ("none", False)):
        config.data.normalize = option
        factory.build_model(config, classes=4, symbols=32, vocab_size=9)
        assert factory.normalizes(config) is expected
    config.data.normalize = "auto"
    known = huggingface_hub._CACHED_NO_EXIST  # it was looked for when there was a network
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: known)
    assert factory.normalizes(config) is True


@pytest.mark.parametrize(
    "normalized, expected", [(False, "none"), (True, "utterance"), (None, "utterance")]
)
def test_a_finished_fold_keeps_its_input(normalized, expected, tmp_path):
    """None: of a version that never read the file, and so normalised."""
    config = _checkpoint(tmp_path, "hubert", json.dumps({"do_normalize": False}))
    assert factory.as_trained(config, normalized).data.normalize == expected
    assert config.data.normalize == "auto"
