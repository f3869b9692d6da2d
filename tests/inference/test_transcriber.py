"""A prediction's text by a recogniser: what it reads, whence it is said to be, how good that is."""

import dataclasses
import json

import numpy as np
import pytest

import mmer_jax
from mmer_jax import predict
from mmer_jax.augmentation.recognizer import Recognizer
from mmer_jax.data.transcripts import Transcript
from mmer_jax.errors import UserError
from mmer_jax.inference.predictor import Predictor
from mmer_jax.training import checkpoint_io
from tests import tiny_whisper
from tests.inference import odd_recordings as odd
from tests.inference.tiny_models import FIGURES, written

RATE = 16_000
MEASURED = FIGURES["ctc"] | {"recognizer": "fake-1", "temperature": 2.2}


class Fake:
    """Writes the seconds that it gets."""

    name = "fake-1"

    def __init__(self):
        self.seconds = []

    def transcribe(self, waves):
        self.seconds += [len(w) / RATE for w in waves]
        return [Transcript(f"it was {len(w) / RATE:g}", 0.8, 0.1, "length") for w in waves]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """One that takes a second at once, and was tested with `Fake`'s texts."""
    found = checkpoint_io.read(written(tmp_path_factory.mktemp("model"), seconds=1.0))
    return dataclasses.replace(found, text_sources=found.text_sources | {"asr": MEASURED})


def test_the_text_is_the_recognisers(model):
    fake = Fake()
    predictor = Predictor(model, transcriber=fake)
    found = predictor.predict(odd.voice(0.5), rate=RATE)
    assert (found.text, found.text_source) == ("it was 0.5", "asr") and fake.seconds == [0.5]
    assert found.recognition == {
        "recognizer": "fake-1", "confidence": 0.8, "no_speech": 0.1, "note": "length",
    }  # fmt: skip
    assert found.held_out == MEASURED and found.calibrated
    given = predictor.predict(odd.voice(0.5), "it was 0.5", RATE)
    np.testing.assert_array_equal(found.logits, given.logits)
    assert given.text_source == "gold" and given.recognition == {} and len(fake.seconds) == 1
    assert predictor.predict(odd.voice(0.5), "", RATE).text_source == "none"
    assert json.loads(json.dumps(found.as_dict()))["recognition"] == found.recognition


def test_another_recognisers_figures_are_not_its_own(model):
    fake = Fake()
    fake.name = "fake-2"
    found = Predictor(model, transcriber=fake).predict(odd.voice(0.5), rate=RATE)
    assert found.held_out == {} and not found.calibrated


def test_each_window_reads_its_own_and_the_whole_is_written_once(model):
    fake = Fake()
    found = Predictor(model, transcriber=fake).predict(odd.voice(2.5), rate=RATE)
    assert len(found.timeline) > 1 and found.text == "it was 2.5"
    assert {w.text for w in found.timeline} == {"it was 1"}
    assert sorted(fake.seconds) == [*[1.0] * len(found.timeline), 2.5]


def test_without_speech_nothing_is_written(model):
    fake = Fake()
    predictor = Predictor(model, transcriber=fake)
    quiet, loud = predictor.predict([np.zeros(RATE, np.float32), odd.voice(0.5)], rate=RATE)
    assert (quiet.text, quiet.label, quiet.recognition) == ("", None, {})
    assert loud.text == "it was 0.5" and fake.seconds == [0.5]


def test_models_without_a_ctc_head_read_it_too(tmp_path, model):
    config = model.config.copy_and_resolve_references()
    config.losses.ctc.weight = 0.0
    without = dataclasses.replace(model, config=config)
    with pytest.raises(UserError, match="can't write down"):
        Predictor(without).predict(odd.voice(0.5), rate=RATE)
    found = Predictor(without, transcriber=Fake()).predict(odd.voice(0.5), rate=RATE)
    assert found.text_source == "asr"
    text_alone = checkpoint_io.read(written(tmp_path, "text"))
    found = Predictor(text_alone, transcriber=Fake()).predict(odd.voice(0.5), rate=RATE)
    assert (found.text, found.text_source) == ("it was 0.5", "asr")
    audio_alone, fake = checkpoint_io.read(written(tmp_path, "audio")), Fake()
    found = Predictor(audio_alone, transcriber=fake).predict(odd.voice(0.5), rate=RATE)
    assert found.text_source == "none" and not fake.seconds


def test_by_name_in_python_and_on_the_command_line(tmp_path, capsys):
    pytest.importorskip("torch")
    name = written(tmp_path)
    whisper = tiny_whisper.save(tmp_path / "whisper")
    found = mmer_jax.load(name, transcriber=whisper).predict(odd.voice(0.5), rate=RATE)
    (expected,) = Recognizer(whisper).transcribe([odd.voice(0.5)[:, 0].astype(np.float32)])
    assert found.text == expected.text and found.recognition["recognizer"].startswith("whisper-")
    (tmp_path / "a.wav").write_bytes(odd.encoded(odd.voice(0.5)))
    out = tmp_path / "out.csv"
    arguments = [name, str(tmp_path / "a.wav"), f"--out={out}"]
    assert predict.main([*arguments, f"--transcriber={whisper}"]) == 0
    assert "recogniser's transcript was not measured" in capsys.readouterr().err
    assert ",asr," in out.read_text()
    assert predict.main(arguments) == 1  # with the CTC head's into the same file
    assert "transcriber" in capsys.readouterr().err
    with pytest.raises(UserError, match="English alone"):
        mmer_jax.load(name, transcriber=whisper, language="de")
