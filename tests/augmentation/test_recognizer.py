"""The recogniser writes what Hugging Face's PyTorch writes, as sure of it; loops and silence."""

import os

import numpy as np
import pytest

from mmer_jax.augmentation import recognizer
from mmer_jax.augmentation.recognizer import Recognizer, cut, without_loops
from mmer_jax.errors import UserError
from tests import tiny_whisper

torch = pytest.importorskip("torch")

RATE = 16_000


@pytest.fixture(scope="module", params=["", "de"], ids=["english", "german"])
def pair(request, tmp_path_factory):
    """(Recognizer, HF's PyTorch model, language) of the same folder."""
    folder = tiny_whisper.save(tmp_path_factory.mktemp("whisper"), multilingual=bool(request.param))
    return Recognizer(folder, request.param, 4), _torch(folder), request.param


def _torch(folder):
    from transformers import WhisperForConditionalGeneration

    return WhisperForConditionalGeneration.from_pretrained(folder).eval()


def _waves(count, seconds, seed=0):
    rng = np.random.default_rng(seed)
    loud = rng.uniform(0.01, 0.5, count)
    return [
        (scale * rng.standard_normal(int(RATE * s))).astype(np.float32)
        for scale, s in zip(loud, np.linspace(0.3, seconds, count))
    ]


def _expected(theirs, waves, prompt, window, limit):
    """Text tokens, their mean log p and no-speech probability, by HF's PyTorch alone."""
    from transformers import WhisperFeatureExtractor

    bins = theirs.config.num_mel_bins
    extract = WhisperFeatureExtractor(feature_size=bins, chunk_length=window // RATE)
    for wave in waves:
        features = extract(wave, sampling_rate=RATE, return_tensors="pt").input_features
        options = {} if len(prompt) == 2 else {"language": "de", "task": "transcribe"}
        written = theirs.generate(features, max_new_tokens=limit, return_timestamps=False,
                                  **options)[0].tolist()  # fmt: skip
        end = theirs.config.eos_token_id
        words = [t for t in written if t < end]
        ended = len(words) < limit
        ids = torch.tensor([[*prompt, *words, *([end] if ended else [])]])
        with torch.no_grad():
            logits = theirs(input_features=features, decoder_input_ids=ids).logits[0]
        log_p = logits.log_softmax(-1)
        rows = torch.arange(len(prompt) - 1, ids.shape[1] - 1)
        mean = log_p[rows, ids[0, len(prompt) :]].mean()
        yield words, float(mean.exp()), float(log_p[0, prompt[-1] - 1].exp()), ended


def _check(ours, theirs, waves):
    limit = ours.settings["max_tokens"]
    expected = _expected(theirs, waves, ours._prompt, ours._window, limit)
    for found, (words, confidence, no_speech, ended) in zip(ours.transcribe(waves), expected):
        assert found.no_speech == pytest.approx(no_speech, abs=1e-4)
        if not without_loops(words)[1] and found.text:
            assert found.text == ours.tokenizer.decode(words).strip()
            assert found.confidence == pytest.approx(confidence, abs=1e-4)
            assert (found.note == "length") is not ended
            yield found


def test_it_writes_what_pytorch_writes(pair):
    ours, theirs, _ = pair
    found = list(_check(ours, theirs, _waves(10, 0.98)))
    assert len({f.text for f in found}) > 2 and {f.note for f in found} == {"", "length"}


def test_real_weights_write_what_pytorch_writes(prepared):
    folder = os.environ.get("MMER_WHISPER", "")
    if not os.path.isdir(folder):
        pytest.skip("MMER_WHISPER names no folder with an English Whisper model")
    from mmer_jax.data.corpus import Corpus

    corpus = Corpus(str(prepared / "tfds"))
    waves = [corpus.recordings(u)[0] / np.float32(32768) for u in corpus.utterances[:3]]
    assert len(list(_check(Recognizer(folder, batch_size=3), _torch(folder), waves))) == 3


def test_a_recording_gets_the_same_in_any_batch(pair):
    ours, _, _ = pair
    waves = _waves(7, 2.5, seed=1)  # the longer ones have several windows
    together = ours.transcribe(waves)
    for wave, found in zip(waves, together):
        (alone,) = ours.transcribe([wave])
        assert (alone.text, alone.note) == (found.text, found.note)
        assert alone.confidence == pytest.approx(found.confidence, rel=1e-4)


def test_a_long_recording_is_cut_where_it_is_quiet_and_its_texts_follow_on_one_another(pair):
    ours, _, _ = pair
    wave = np.concatenate(_waves(4, 0.9))
    parts = cut(wave, RATE)
    np.testing.assert_array_equal(np.concatenate(parts), wave)
    assert max(map(len, parts)) <= RATE and len(parts) > 1
    (whole,), each = ours.transcribe([wave]), ours.transcribe(parts)
    assert whole.text == " ".join(t.text for t in each if t.text)
    assert min(t.no_speech for t in each) == pytest.approx(whole.no_speech, rel=1e-4)


def test_the_cut_lies_in_the_quiet():
    wave = np.ones(3 * RATE, np.float32)
    wave[int(0.8 * RATE) : int(0.95 * RATE)] = 0
    first = cut(wave, RATE)[0]
    assert 0.8 < len(first) / RATE < 0.95
    assert [len(x) for x in cut(wave[:RATE], RATE)] == [RATE]


@pytest.mark.parametrize(
    ("tokens", "kept"),
    [
        ("a b c", "a b c"),
        ("no no no no no", "no no no no no"),  # people say so
        ("a " + "x " * 40, "a x"),
        ("i " + "am so sorry " * 6 + "mark", "i am so sorry mark"),
        ("a b c d " * 3, "a b c d " * 3),
        ("p " + "a b c d e " * 4 + "q " * 16, "p a b c d e q"),
    ],
)
def test_loops_are_cut_to_one_round(tokens, kept):
    places, looped = without_loops(tokens.split())
    assert [tokens.split()[i] for i in places] == kept.split()
    assert looped is (tokens.split() != kept.split())


def test_a_loop_is_said_and_its_confidence_is_of_what_was_kept(pair, monkeypatch):
    ours, _, _ = pair
    first = len(ours._prompt)
    tokens = np.array([*ours._prompt, 70, *[71, 72] * 10, tiny_whisper.END, tiny_whisper.END])
    log_probs = np.log(np.linspace(0.1, 0.9, len(tokens)))
    found, count = ours._transcript(tokens, first + 21, log_probs, 0.1)
    kept = np.array([0, 1, 2, 21]) + first
    assert found.text == ours.tokenizer.decode([70, 71, 72]) and found.note == "repetition"
    assert count == 4
    assert found.confidence == pytest.approx(np.exp(log_probs[kept - 1].mean()))


def test_silence_has_no_text(pair):
    ours, _, _ = pair

    def decided(words, no_speech, p):
        ids = ours.tokenizer(words)["input_ids"]
        tokens = np.array([*ours._prompt, *ids, tiny_whisper.END])
        log_probs = np.full(len(tokens), np.log(p))
        return ours._transcript(tokens, len(tokens) - 1, log_probs, no_speech)[0]

    for words, no_speech, p, note in (
        ("you", 0.7, 0.2, "no speech"),
        ("you", 0.95, 0.9, "no speech"),
        ("[A]", 0.95, 0.9, "no speech"),
        ("(phone ringing)", 0.1, 0.9, "no words"),
        ("[A] (b) [c]", 0.1, 0.9, "no words"),
        ("...", 0.1, 0.9, "no words"),
    ):
        found = decided(words, no_speech, p)
        assert (found.text, found.note) == ("", note)
    for words, no_speech, p in (("you", 0.5, 0.2), ("you", 0.7, 0.5), ("(sighs) you", 0.1, 0.9)):
        found = decided(words, no_speech, p)
        assert (found.text, found.note) == (words, "")


def test_what_is_no_recogniser_is_one_message(tmp_path, pair):
    _, _, language = pair
    folder = tmp_path / "model"
    tiny_whisper.save(folder, multilingual=bool(language))
    with pytest.raises(UserError, match="en, de" if language else "English alone"):
        Recognizer(str(folder), "fr")
    if language:
        with pytest.raises(UserError, match="--language"):
            Recognizer(str(folder))
        german = Recognizer(str(folder), "German")
        assert german.settings["language"] == "de" and "-de-" in german.name
    tiny_whisper.edit(folder, "config.json", model_type="bert")
    with pytest.raises(UserError, match="bert model"):
        Recognizer(str(folder))


def test_the_name_tells_models_and_settings_from_one_another(tmp_path, monkeypatch):
    names = [
        Recognizer(tiny_whisper.save(tmp_path / str(seed) / "w", seed=seed)).name for seed in (0, 1)
    ]
    monkeypatch.setattr(recognizer, "NO_SPEECH", 0.5)
    names.append(Recognizer(str(tmp_path / "0" / "w")).name)
    assert len({*names}) == 3 and all(n.startswith("w-") for n in names)
