"""Predictions of a finished run and of random models: the same as evaluation's, in any company."""

import dataclasses
import json
import subprocess
import sys

import jax
import numpy as np
import pytest
import soundfile

import mmer_jax
from mmer_jax import configuration
from mmer_jax.data import table
from mmer_jax.errors import UserError
from mmer_jax.inference import audio_io, tables
from mmer_jax.inference.prediction import windows
from mmer_jax.inference.predictor import Predictor
from mmer_jax.training import checkpoint_io
from tests.inference import odd_recordings as odd
from tests.inference.tiny_models import made

RATE = 16_000


@pytest.fixture(scope="module")
def fold(tiny_run):
    """Folder of a finished fold whose temperature was fitted."""
    return tiny_run / "fold5"


@pytest.fixture(scope="module")
def predictor(fold):
    made = mmer_jax.load(str(fold), batch_sizes=(1, 4))
    made._edges = (64_000,)  # few shapes to compile
    return made


@pytest.fixture(scope="module")
def tested(fold, prepared):
    """The fold's predictions, each with the path of its wav."""
    rows = json.loads((fold / "result.json").read_text())["predictions"]
    paths = {p.stem: str(p) for p in (prepared / "corpus").glob("IEMOCAP*/**/*.wav")}
    return [row | {"path": paths[row["utterance"]]} for row in rows]


@pytest.fixture(scope="module")
def random_model(tmp_path_factory):
    """Of random parameters, hearing at most a second at once."""
    return shortened(made(tmp_path_factory.mktemp("both")))


def shortened(model, seconds=1.0):
    model.config.data.max_seconds = seconds
    return model


def wave(seconds, seed=0):
    return odd.voice(seconds, seed)[:, 0].astype(np.float32), RATE


def test_logits_are_evaluations(predictor, tested):
    found = predictor.predict([t["path"] for t in tested], [t["transcript"] for t in tested])
    np.testing.assert_allclose([f.logits for f in found], [t["logits"] for t in tested], atol=1e-5)
    for one, row in zip(found, tested):
        assert one.label == row["prediction"] and one.text_source == "gold"
        assert one.calibrated and one.text == row["transcript"]
        logits = one.logits / predictor.model.text_sources["gold"]["temperature"]
        p = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(list(one.probabilities.values()), p, rtol=1e-5)
        assert list(one.probabilities) == row_names(predictor)
        assert len(one.timeline) == 1 and one.timeline[0].end == one.seconds
        assert set(one.timings) == {"read", "speech", "encode", "text", "decide"}


def row_names(predictor):
    return list(predictor.model.label_names)


def test_the_ctc_head_writes_what_evaluation_recognised(predictor, tested):
    found = predictor.predict([t["path"] for t in tested])
    for one, row in zip(found, tested):
        assert one.text == row["recognized"].lower() and one.text_source == "ctc"
    given = predictor.predict(tested[0]["path"], text=found[0].text)
    np.testing.assert_allclose(given.logits, found[0].logits, atol=1e-6)


def test_a_recording_gets_the_same_alone_and_in_any_batch(random_model):
    predictor = Predictor(random_model, batch_sizes=(1, 4))
    items = [wave(0.1 + 0.1 * i, seed=i) for i in range(9)]  # three lengths
    alone = [predictor.predict(item, text="it was you") for item in items]
    assert np.std([a.logits for a in alone], axis=0).min() > 1e-3  # so that a mix-up would show
    rng = np.random.default_rng(0)
    for _ in range(6):
        some = rng.permutation(len(items))[: rng.integers(2, 10)]
        found = predictor.predict([items[i] for i in some], text="it was you")
        for one, i in zip(found, some):
            np.testing.assert_allclose(one.logits, alone[i].logits, atol=1e-5)


def test_the_second_call_of_a_shape_compiles_nothing(random_model):
    own = random_model.model.clone(dropout=0.9)  # equal models share their programs in tests
    predictor = Predictor(dataclasses.replace(random_model, model=own))
    assert predictor.compiled == 0
    predictor.predict(wave(0.6), text="a")
    assert predictor.compiled == 2
    for seconds in (0.55, 0.65):
        predictor.predict(wave(seconds, seed=1), text="it was you")
    assert predictor.compiled == 2
    predictor.predict([wave(0.6)] * 8)
    assert predictor.compiled == 4


def test_no_text_is_an_empty_text(predictor, tested):
    found = predictor.predict(tested[0]["path"], text="")
    assert (found.text, found.text_source) == ("", "none")
    assert np.abs(found.logits - predictor.predict(tested[0]["path"]).logits).max() > 1e-6


def test_a_long_recording_is_heard_in_windows(random_model):
    predictor = Predictor(random_model)
    samples, _ = wave(2.3)
    found = predictor.predict((samples, RATE), text="it was you")
    spans = [(w.start, w.end) for w in found.timeline]
    assert spans == [(0, 1), (0.5, 1.5), (1, 2), (1.3, 2.3)]
    each = [
        predictor.predict((samples[round(a * RATE) : round(b * RATE)], RATE), text="it was you")
        for a, b in spans
    ]
    # Own parts end in the middle of what two neighbours share: 0.75, 1.25, 1.65 s.
    weights = np.array([0.75, 0.5, 0.4, 0.65]) / 2.3
    np.testing.assert_allclose(found.logits, weights @ [e.logits for e in each], atol=1e-5)
    for window, one in zip(found.timeline, each):
        assert window.label == one.label and window.text == "it was you"
        np.testing.assert_allclose(
            list(window.probabilities.values()), list(one.probabilities.values()), atol=1e-5
        )
    log_p = weights @ np.log([list(w.probabilities.values()) for w in found.timeline])
    p = np.exp(log_p) / np.exp(log_p).sum()
    np.testing.assert_allclose(list(found.probabilities.values()), p, rtol=1e-5)


def test_the_text_of_windows_says_nothing_twice(random_model, monkeypatch):
    """A word per frame: the joined text has as many symbols as the recording has frames."""
    predictor = Predictor(random_model)
    seen = []
    monkeypatch.setattr(
        "mmer_jax.inference.predictor.transcribe",
        lambda log_probs, _: seen.append(log_probs) or "x",
    )
    found = predictor.predict(wave(2.3))
    assert found.text_source == "ctc" and len(found.timeline) == 4
    assert [len(x) for x in seen[:-1]] == [50] * 4
    assert len(seen[-1]) == pytest.approx(2.3 * 50, abs=1)


@pytest.mark.parametrize("samples, longest", [(1, 10), (10, 10), (11, 10), (97_531, 16_000)])
def test_windows_cover_a_recording_once(samples, longest):
    spans = windows(samples, longest)
    assert spans[0].own_start == 0 and spans[-1].own_end == samples == spans[-1].end
    for left, right in zip(spans, spans[1:]):
        assert left.own_end == right.own_start
    for s in spans:
        assert 0 <= s.start <= s.own_start < s.own_end <= s.end <= samples
        assert s.end - s.start == min(samples, longest)
    assert sum(s.own_end - s.own_start for s in spans) == samples


def test_speech_alone_and_text_alone(tmp_path):
    predictor = Predictor(shortened(made(tmp_path, "audio")))
    found = predictor.predict(wave(1.5), text="ignored")
    assert (found.text, found.text_source) == ("", "none") and len(found.timeline) == 2
    np.testing.assert_array_equal(found.logits, predictor.predict(wave(1.5)).logits)
    read = Predictor(made(tmp_path, "text"))
    with pytest.raises(UserError, match="this model reads text alone"):
        read.predict(wave(1.5))
    found = read.predict(wave(1.5), text="it was you")
    assert found.text_source == "gold" and found.seconds == 1.5 and len(found.timeline) == 1
    np.testing.assert_array_equal(found.logits, read.predict(None, text="it was you").logits)


def test_a_model_without_a_trained_ctc_head_asks_for_the_text(tmp_path):
    model = made(tmp_path)
    model.config.losses.ctc.weight = 0.0
    with pytest.raises(UserError, match="trained without CTC"):
        Predictor(model).predict(wave(0.6))
    assert Predictor(model).predict(wave(0.6), text="").text_source == "none"


@pytest.mark.parametrize("form", ["wav2vec2", "published"])
def test_wav2vec2_is_normalised_and_never_sees_padding(tmp_path, form):
    model = made(tmp_path, family="wav2vec2")
    if form == "published":
        encoder = model.model.audio_encoder.clone(original_padding=True)
        object.__setattr__(model, "model", model.model.clone(audio_encoder=encoder))
    predictor = Predictor(model)
    samples, _ = wave(0.6)
    found = predictor.predict((samples, RATE), text="it was you")
    louder = predictor.predict((0.5 * samples + 0.1, RATE), text="it was you")
    np.testing.assert_allclose(found.logits, louder.logits, atol=1e-3)
    exact = jax.jit(model.model.apply)({"params": model.params}, unpadded(model, samples))[0][0]
    np.testing.assert_allclose(found.logits, exact, rtol=1e-4, atol=1e-4)


def unpadded(model, samples):
    ids = model.tokenizer.ids("it was you")[None]
    normalised = (samples - samples.mean()) / samples.std()
    return {
        "audio": normalised[None], "audio_length": np.array([len(samples)], np.int32),
        "text_ids": ids, "text_mask": np.ones_like(ids),
    }  # fmt: skip


def test_a_prediction_is_json(predictor, tested):
    found = json.loads(json.dumps(predictor.predict(tested[0]["path"]).as_dict()))
    assert found["timeline"][0]["start"] == 0 and len(found["logits"]) == 4


def test_a_prediction_is_shown_in_a_line_and_in_a_notebook(predictor, tested):
    found = predictor.predict(tested[0]["path"], text="so <b>glad</b>")
    share = f"{100 * found.probabilities[found.label]:.0f} %"
    line = f"Prediction({found.label} {share}, gold text 'so <b>glad</b>', {found.seconds:.1f} s"
    assert repr(found).startswith(line) and "\n" not in repr(found)
    page = found._repr_html_()
    assert all(f"<td>{name}</td>" in page for name in found.probabilities)
    assert "so &lt;b&gt;glad" in page and "<b>glad" not in page
    silent = dataclasses.replace(found, label=None, probabilities={}, text="", warning="none")
    assert repr(silent) == f"Prediction(no speech, {found.seconds:.1f} s, warning='none')"
    assert "no speech" in silent._repr_html_() and "<table>" not in silent._repr_html_()
    assert found.to_dict() == found.as_dict()


@pytest.mark.parametrize(
    "fields, is_shown",
    [
        ({"text_source": "gold"}, True),
        ({"text_source": "ctc", "held_out": {"wer": 0.2}}, True),
        ({"text_source": "ctc", "held_out": {"wer": 0.9}}, False),
        ({"text_source": "ctc", "held_out": {}}, False),
        ({"text_source": "asr", "recognition": {"confidence": 0.9}}, True),
        ({"text_source": "asr", "recognition": {"confidence": 0.1}}, False),
        ({"text_source": "asr", "recognition": {}, "label": None}, False),
    ],
)
def test_a_text_is_shown_where_it_is_what_was_said(predictor, tested, fields, is_shown):
    given = predictor.predict(tested[0]["path"], text="so glad")
    found = dataclasses.replace(given, warning="", **fields)
    item, names = table.Row(1, tested[0]["path"]), list(found.probabilities)
    assert ("so glad" in tables.Table(names).line(item, found)) == is_shown
    assert "so glad" in tables.Csv(names).line(item, found)


def test_many_predictions_are_a_table(predictor, tested, tmp_path, monkeypatch):
    pandas = pytest.importorskip("pandas")
    items = [tested[0]["path"], str(tmp_path / "no.wav"), tested[1]["path"]]
    table = mmer_jax.to_dataframe(predictor.predict_each(items))
    assert sorted(table.index) == [0, 1, 2] and "no.wav" in table.loc[1, "error"]
    found = predictor.predict(items[::2])
    plain = mmer_jax.to_dataframe(found)
    assert list(plain["label"]) == [p.label for p in found] and "error" not in plain
    for name in predictor.model.label_names:
        assert plain[f"p_{name}"].tolist() == [p.probabilities[name] for p in found]
    assert isinstance(plain, pandas.DataFrame) and len(mmer_jax.to_dataframe([])) == 0
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match="pip install pandas"):
        mmer_jax.to_dataframe(found)


def test_a_bad_recording_stops_a_list_and_no_stream(predictor, tested, tmp_path):
    items = [tested[0]["path"], str(tmp_path / "no.wav"), (np.zeros(10), RATE), tested[1]["path"]]
    with pytest.raises(UserError, match="no.wav"):
        predictor.predict(items)
    found = dict(predictor.predict_each(iter(items)))
    assert list(found) == [0, 1, 2, 3]
    assert [isinstance(found[i], UserError) for i in range(4)] == [False, True, True, False]
    assert "recording 3" in str(found[2])


@pytest.mark.parametrize("text, message", [(["a"], "2 recordings and 1 texts"), ([1, 2], "a int")])
def test_wrong_texts_are_refused(predictor, text, message):
    with pytest.raises(UserError, match=message):
        predictor.predict([wave(0.6)] * 2, text)


def test_the_attention_is_the_models_own(random_model):
    predictor, text = Predictor(random_model), "it was you"
    samples, _ = wave(0.9)
    weights, ids = predictor.attention(samples, text)
    np.testing.assert_array_equal(ids, random_model.tokenizer.ids(text))
    batch = {
        "audio": samples[None], "audio_length": np.array([len(samples)]), "text_ids": ids[None],
        "text_mask": np.ones_like(ids)[None],
    }  # fmt: skip
    _, out = jax.jit(random_model.model.apply)({"params": random_model.params}, batch)
    frames = int(out["audio_mask"].sum())
    expected = out["text_to_audio_attention"].mean(1)[0, :, :frames]
    np.testing.assert_allclose(weights, expected, atol=1e-5)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)


def test_odd_texts_are_read(random_model):
    predictor = Predictor(random_model)
    for text in ("\ud800 half", "x" * 100_000, "\x00\n", "🙂 [LAUGHTER]", "  "):
        assert np.isfinite(predictor.predict(wave(0.6), text=text).logits).all()


def test_a_wrong_batch_size_is_refused(random_model):
    with pytest.raises(UserError):
        Predictor(random_model, (0,))


def test_300_damaged_or_odd_inputs_are_predicted_or_refused(random_model, tmp_path):
    paths = odd.write(tmp_path)
    predictor = Predictor(random_model, detect_speech=False)
    found = dict(predictor.predict_each(paths))
    assert list(found) == list(range(len(paths)))
    for path, answer in zip(paths, found.values()):
        try:
            audio_io.read(path)
        except UserError as e:
            assert str(answer) == str(e)
        else:
            assert sum(answer.probabilities.values()) == pytest.approx(1)


def test_silence_and_the_shortest_recording_have_an_answer(random_model):
    predictor = Predictor(random_model)
    for samples in (np.zeros(8_000, np.int16), np.zeros(480, np.int16), wave(0.03)[0]):
        found = predictor.predict((samples, RATE))
        assert np.isfinite(found.logits).all()


def test_a_model_that_answers_with_nan_says_so(random_model, tmp_path):
    model = made(tmp_path)
    model.params["emotion"]["linear"]["bias"][:] = np.nan
    with pytest.raises(UserError, match="NaN"):
        Predictor(model).predict(wave(0.6))


def test_windows_of_whisper_never_exceed_its_positions(tmp_path):
    model = shortened(made(tmp_path), 60.0)
    assert Predictor(model).preprocessor.max_samples == 30 * RATE


def test_a_file_and_its_samples_are_the_same(predictor, tested):
    samples, rate = soundfile.read(tested[0]["path"], dtype="int16")
    one, two = predictor.predict(tested[0]["path"]), predictor.predict(samples, rate=rate)
    np.testing.assert_array_equal(one.logits, two.logits)


def test_import_alone_loads_no_jax():
    code = "import sys, mmer_jax; assert 'jax' not in sys.modules and callable(mmer_jax.load)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_configs_of_runs_are_valid(predictor):
    configuration.validate(predictor.model.config)
    assert checkpoint_io.read(predictor.model.source).card["fold"] == 5
