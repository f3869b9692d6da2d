"""Whose voice is cloned, and what becomes of a synthesiser that fails."""

import pathlib
import re
import sys
import time
import types

import numpy as np
import pytest
import soundfile

from mmer_jax.augmentation import speech
from mmer_jax.data import folds
from mmer_jax.data.corpus import Recording, Utterance
from mmer_jax.errors import UserError

# Two sessions of two speakers, each with two emotions, three recordings of each.
UTTERANCES = [
    Utterance(
        i, f"u{i}", label, 32_000, "Hello there.", speaker=f"{session}{sex}", session=session,
    )
    for i, (session, sex, label, _) in enumerate(
        (s, x, y, n) for s in "123" for x in "FM" for y in (0, 1) for n in range(3)
    )
]  # fmt: skip


def corpus(utterances=UTTERANCES):
    return types.SimpleNamespace(utterances=utterances)


def test_a_reference_is_another_speaker_with_the_same_emotion():
    chosen = speech.References(corpus(), seed=0)
    for u in UTTERANCES:
        views = [chosen(u, n) for n in range(1, 7)]
        assert all(r.speaker != u.speaker and r.label == u.label for r in views)
        assert views[0].session == u.session  # tested together with it
        assert len({r.speaker for r in views[:5]}) == 5  # then one after the other
        assert views == [speech.References(corpus(), seed=0)(u, n) for n in range(1, 7)]
    others = [speech.References(corpus(), seed=1)(u, 2) for u in UTTERANCES]
    assert others != [chosen(u, 2) for u in UTTERANCES]


def test_no_fold_trains_on_a_test_speakers_voice_and_each_keeps_a_view():
    chosen = speech.References(corpus(), seed=0)
    with_views = [
        Utterance(**vars(u) | {"augmented": tuple(
            Recording(n, 1, chosen(u, n).speaker) for n in (1, 2, 3)
        )}) for u in UTTERANCES
    ]  # fmt: skip
    for session in "123":
        fold = types.SimpleNamespace(tests=lambda u, s=session: u.session == s)
        train, test = folds.train_test(with_views, fold)
        tested = {u.speaker for u in test}
        assert all(u.augmented for u in train)
        assert not tested & {r.voice for u in train for r in u.augmented}


def test_the_training_part_of_a_corpus_own_division_alone():
    parts = {"1": "train", "2": "train", "3": "test"}
    divided = [Utterance(**vars(u) | {"part": parts[u.session]}) for u in UTTERANCES]
    chosen = speech.References(corpus(divided), seed=0)
    assert all(chosen(u, n).part == "train" for u in divided for n in (1, 2, 3, 4))


def test_references_that_can_not_be():
    lonely = [u for u in UTTERANCES if u.speaker == "1F"]
    with pytest.raises(speech.Failure, match="no other speaker"):
        speech.References(corpus(lonely), 0)(lonely[0], 1)
    nameless = [Utterance(**vars(u) | {"speaker": ""}) for u in UTTERANCES]
    with pytest.raises(UserError, match="who speaks"):
        speech.References(corpus(nameless), 0)


def request(text='It\'s "me"; {out} $HOME -x', emotion="ang", reference=True):
    wave = np.random.default_rng(0).standard_normal(16_000).astype(np.float32) * 0.1
    other = UTTERANCES[3]
    return speech.Request(
        UTTERANCES[0], 1, text, emotion, 5, wave, other if reference else None,
        wave if reference else None,
    )  # fmt: skip


def command(code, tail="{text} {wav} {out}", **options):
    """A way whose program is Python code; its arguments are in sys.argv."""
    return speech.Command(f"{sys.executable} -c '{code}' {tail}", **options)


COPY = "import sys, shutil; shutil.copy(sys.argv[2], sys.argv[3])"


def test_a_command_gets_text_and_reference_as_they_are():
    code = 'import sys, shutil; assert sys.argv[1] == "It\\x27s \\"me\\"; {out} $HOME -x"; ' + (
        COPY.removeprefix("import sys, shutil; ")
    )
    way = command(code.replace("{", "{{").replace("}", "}}"))
    (found,) = way.speak([request()])
    np.testing.assert_allclose(found, request().reference_wave, atol=1e-4)
    assert way.clones and way.voice(request()) == UTTERANCES[3].speaker


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ('import sys; sys.exit("no such voice")', r"exit code 1 \(no such voice\)"),
        ("import time; time.sleep(60)", "not finished after 1 s"),
        ("0", "wrote no file"),
        ('import sys; open(sys.argv[3], "w").write("x")', "no recording"),
    ],
)
def test_a_command_that_fails_says_so_in_one_line(code, found):
    began = time.monotonic()
    (failure,) = command(code, limit=1.0).speak([request()])
    assert isinstance(failure, speech.Failure) and "\n" not in str(failure)
    assert re.search(found, str(failure))
    assert time.monotonic() - began < 30


def test_what_a_command_has_started_ends_with_it(tmp_path):
    code = (
        "import subprocess, sys, time; "
        f'subprocess.Popen(["sh", "-c", "sleep 2; touch {tmp_path}/alive"]); time.sleep(60)'
    )
    command(code.replace("{", "{{").replace("}", "}}"), limit=0.7).speak([request()])
    time.sleep(2.5)
    assert not (tmp_path / "alive").exists()


def test_another_rate_is_resampled_and_told_once(tmp_path, capsys):
    sound = tmp_path / "tone.wav"
    tone = 0.2 * np.sin(2 * np.pi * 440 * np.arange(22_050) / 22_050)
    soundfile.write(sound, np.stack([tone, tone], axis=1), 22_050)
    code = f'import sys, shutil; shutil.copy("{sound}", sys.argv[2])'
    way = command(code, "{text} {out}", voice="narrator", workers=2)
    found = way.speak([request(reference=False)] * 3)
    assert [len(x) for x in found] == [16_000] * 3
    spectrum = np.abs(np.fft.rfft(found[0]))
    assert spectrum.argmax() == 440
    assert capsys.readouterr().err.count("22050") == 1
    assert not way.clones and way.voice(request(reference=False)) == "narrator"


@pytest.mark.parametrize(
    ("template", "voice", "found"),
    [
        ("tts {text} {out} {speed}", "x", "has speed"),
        ("tts {text} {wav}", "", "lacks out"),
        ("tts {text {out}", "x", "can't be read"),
        ("tts '{text} {out}", "x", "can't be read"),
        ("tts {text} {out}", "", "neither"),
        ("tts {text} {wav} {out}", "x", "both"),
        ("no-such-program {text} {wav} {out}", "", "no program no-such-program"),
    ],
)
def test_a_template_that_can_not_be_meant_is_refused(template, voice, found):
    with pytest.raises(UserError, match=found):
        speech.Command(template, voice)


def test_a_function(tmp_path, monkeypatch):
    (tmp_path / "my_speech.py").write_text(
        "import numpy as np\n"
        "def say(text, reference, emotion, seed):\n"
        "    if emotion == 'sad':\n        raise RuntimeError('out of memory')\n"
        "    if emotion == 'neu':\n        return np.zeros((2, 8)), 16000\n"
        "    return (reference if reference is not None else np.ones(8000)) * seed, 8000\n"
    )
    monkeypatch.chdir(tmp_path)
    way = speech.create("my_speech:say")
    found = way.speak([request(emotion=e) for e in ("ang", "sad", "neu")])
    assert len(found[0]) == 32_000 and way.voice(request()) == UTTERANCES[3].speaker
    assert "RuntimeError: out of memory" in str(found[1]) and "(2, 8)" in str(found[2])
    own = speech.create("my_speech:say", voice="me")
    assert not own.clones and own.voice(request(reference=False)) == "me"


def test_espeak_speaks_in_its_own_voices_by_emotion():
    way = speech.create("espeak")
    requests = [request("Please put the book on the shelf.", e) for e in ("anger", "sad", "odd")]
    angry, sad, odd = way.speak(requests)
    assert np.abs(angry).mean() > 1.5 * np.abs(sad).mean() and len(odd) > 8000
    assert len(sad) > len(angry)  # slower
    again = way.speak(requests[1:2])
    np.testing.assert_array_equal(again[0], sad)
    names = set()
    for u in UTTERANCES[:8]:
        for n in (1, 2):
            r = request()
            names.add(way.voice(speech.Request(**vars(r) | {"utterance": u, "number": n})))
    assert len(names) > 5 and all(name.startswith("espeak-") for name in names)


def test_other_ways_are_refused():
    for way, template, found in (
        ("festival", "", "the choices are"),
        ("command", "", "belong together"),
        ("signal", "tts {text} {wav} {out}", "belong together"),
    ):
        with pytest.raises(UserError, match=found):
            speech.create(way, template)


def test_only_the_worker_loads_gpl_software():
    source = pathlib.Path(speech.__file__).read_text()
    assert "espeakng_loader" not in source
