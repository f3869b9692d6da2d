"""Padding never changes an answer: an utterance alone, and in any batch and bucket."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transformers import BertConfig, HubertConfig, RobertaConfig, Wav2Vec2Config, WhisperConfig

from benchmarks.common import drawn_params
from mmer_jax.models.encoders.text import TextEncoder
from mmer_jax.models.encoders.wav2vec2 import Wav2Vec2Encoder
from mmer_jax.models.encoders.whisper import WhisperEncoder
from mmer_jax.models.mmer import MMER

WIDTH, ROWS, DRAWS = 16, 4, 200
AUDIO = {
    "hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24,
    "conv_dim": (WIDTH,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
TEXT = {
    "vocab_size": 40, "hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 24, "max_position_embeddings": 32,
}  # fmt: skip
BERT, ROBERTA = BertConfig(**TEXT), RobertaConfig(**TEXT)
WHISPER = WhisperConfig(d_model=WIDTH, encoder_layers=1, encoder_attention_heads=2,
                        encoder_ffn_dim=24, max_source_positions=40)  # fmt: skip
ENCODERS = {
    "wav2vec2-base": (Wav2Vec2Encoder(Wav2Vec2Config(**AUDIO)), TextEncoder(BERT)),
    "hubert-large": (Wav2Vec2Encoder(HubertConfig(**AUDIO, **LARGE)), TextEncoder(ROBERTA)),
    "whisper": (WhisperEncoder(WHISPER), TextEncoder(BERT)),
    "whisper, filled up": (WhisperEncoder(WHISPER, window="30s"), TextEncoder(BERT)),
}  # fmt: skip
OPTIONS = {
    "whisper, filled up": {"layers": "weighted", "pooling": "statistics"},
    "hubert-large": {"layers": "all"},
}
# (samples, tokens) of the utterances, and of the buckets that they are padded into.
SIZES = ((1_440, 5), (3_217, 2), (4_799, 9), (6_000, 7))
BUCKETS = ((6_000, 9), (7_360, 12), (9_999, 20))


def _utterances(normalized):
    rng = np.random.default_rng(0)
    made = []
    for samples, tokens in SIZES:
        for _ in range(3):
            audio = rng.standard_normal(samples) * np.linspace(0.05, 1, samples)
            if normalized:
                audio = (audio - audio.mean()) / audio.std()
            made.append((audio.astype(np.float32), rng.integers(3, 40, tokens).astype(np.int32)))
    return made


def _batch(utterances, samples, tokens, rng):
    """Audio padded with zeros; the padded tokens are drawn: no mask may let them count."""
    audio = np.zeros((len(utterances), samples), np.float32)
    ids = rng.integers(3, 40, (len(utterances), tokens)).astype(np.int32)
    mask = np.zeros_like(ids)
    for i, (wave, text) in enumerate(utterances):
        audio[i, : len(wave)], ids[i, : len(text)], mask[i, : len(text)] = wave, text, 1
    lengths = np.array([len(wave) for wave, _ in utterances], np.int32)
    return {
        "audio": audio, "audio_length": lengths, "text_ids": ids, "text_mask": mask,
    }  # fmt: skip


def _compiled(mmer, params):
    """Batch -> logits, with the parameters as arguments: as constants XLA would fold them."""
    apply = jax.jit(mmer.apply)
    return lambda batch: apply({"params": params}, batch)[0]


@pytest.fixture(scope="module", params=ENCODERS)
def model(request):
    """(name, a jitted batch -> logits)."""
    options = OPTIONS.get(request.param, {})
    mmer = MMER(*ENCODERS[request.param], 4, 32, WIDTH, 2, 24, **options)
    return request.param, _compiled(mmer, drawn_params(mmer, seed=1))


def test_logits_do_not_depend_on_batch_or_bucket(model):
    name, run = model
    rng = np.random.default_rng(3)
    utterances = _utterances(normalized="whisper" not in name)
    alone = [run(_batch([u], len(u[0]), len(u[1]), rng))[0] for u in utterances]
    assert np.std(alone, axis=0).min() > 1e-2  # the utterances differ, so a mix-up would show
    largest = 0.0
    for draw in range(DRAWS // ROWS):
        chosen = rng.integers(len(utterances), size=ROWS)
        samples, tokens = BUCKETS[draw % len(BUCKETS)]
        logits = run(_batch([utterances[i] for i in chosen], samples, tokens, rng))
        largest = max(largest, np.abs(logits - jnp.stack([alone[i] for i in chosen])).max())
    print(f"{name}: largest change of a logit over {DRAWS} draws {largest:.1e}")
    assert largest <= 1e-5


def test_original_padding_does_change_answers():
    """What the test above would find, were a mask missing."""
    audio, text = ENCODERS["wav2vec2-base"]
    mmer = MMER(audio.clone(original_padding=True), text, 4, 32, WIDTH, 2, 24)
    rng = np.random.default_rng(2)
    utterance = _utterances(True)[0]
    short, long = _batch([utterance], 1_440, 5, rng), _batch([utterance], 6_000, 5, rng)
    run = _compiled(mmer, drawn_params(mmer, seed=1))
    assert np.abs(run(short) - run(long)).max() > 1e-2
