"""The command: a corpus's transcript file, and lines of files."""

import csv
import json
import pathlib
import shutil

import pytest

from mmer_jax import transcribe
from mmer_jax.augmentation import recognizer
from mmer_jax.data import transcripts
from mmer_jax.data.corpus import Corpus
from mmer_jax.errors import UserError
from tests import tiny_whisper
from tests.inference import odd_recordings as odd

pytest.importorskip("torch")

DATASET = "iemocap/emotions4"


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    """Folder of a tiny recogniser."""
    return tiny_whisper.save(tmp_path_factory.mktemp("tiny") / "whisper")


@pytest.fixture(scope="module")
def corpus(prepared, tmp_path_factory):
    """A data_dir with the demo corpus that may be written to."""
    data_dir = tmp_path_factory.mktemp("data") / "tfds"
    shutil.copytree(prepared / "tfds" / "iemocap", data_dir / "iemocap")
    return data_dir


@pytest.fixture(scope="module")
def written(whisper, corpus):
    """Path of its transcript file."""
    assert transcribe.main([DATASET, f"--data_dir={corpus}", f"--model={whisper}"]) == 0
    (path,) = corpus.glob("transcripts/iemocap/emotions4/*/*.json")
    return path


def test_the_file_holds_every_utterance_and_what_it_was_made_with(written, corpus, whisper):
    recordings = Corpus(str(corpus))
    found = transcripts.read("", str(corpus), recordings)
    assert list(found.transcripts) == [u.id for u in recordings.utterances]
    assert found.name == written.stem and found.recognizer["model"] == "whisper"
    assert str(corpus) not in written.read_text() and whisper not in written.read_text()
    ours = recognizer.Recognizer(whisper, batch_size=8)
    assert found.recognizer == json.loads(json.dumps(ours.settings))
    some = recordings.utterances[:4]
    for u, t in zip(some, ours.transcribe([recordings.recordings(u)[0] for u in some])):
        assert found.texts[u.id] == t.text
        assert found.transcripts[u.id].confidence == pytest.approx(t.confidence, rel=1e-4)
    # By its name, with and without the digest, and by its path.
    for name in (written.stem, "whisper", str(written)):
        assert transcripts.read(name, str(corpus), recordings) == found


def test_what_is_there_already_is_left(written, corpus, whisper, tmp_path, capsys):
    stat = written.stat()
    left = pathlib.Path(f"{written}.partial")  # of one that was killed at its very end
    left.touch()
    assert transcribe.main([DATASET, f"--data_dir={corpus}", f"--model={whisper}"]) == 0
    assert written.stat() == stat and not left.exists()
    other = tiny_whisper.save(tmp_path / "other", seed=1)
    arguments = [DATASET, f"--data_dir={corpus}", f"--model={other}", f"--out={written}"]
    assert transcribe.main(arguments) == 1
    assert "--out" in capsys.readouterr().err and written.stat() == stat


def test_another_corpus_is_refused_with_the_command(written, prepared_awkward, corpus):
    other = Corpus(str(prepared_awkward / "tfds"))
    with pytest.raises(UserError, match=f"mmer_jax.transcribe {DATASET} --data_dir="):
        transcripts.read(str(written), str(prepared_awkward / "tfds"), other)
    for name in ("nothing", "", "/no/where.json"):
        with pytest.raises(UserError, match="mmer_jax.transcribe"):
            transcripts.read(name, str(prepared_awkward / "tfds"), other)
    copy = written.with_name("whisper-2.json")
    shutil.copy(written, copy)
    with pytest.raises(UserError, match="Name one"):
        transcripts.read("whisper", str(corpus), Corpus(str(corpus)))
    copy.write_text(written.read_text()[:-300])
    with pytest.raises(UserError, match="no whole transcript file"):
        transcripts.read("whisper-2", str(corpus), Corpus(str(corpus)))
    copy.unlink()


def test_files_are_lines_or_a_table_that_goes_on(whisper, tmp_path, capsys):
    for i, name in enumerate("ab"):
        (tmp_path / f"{name}.wav").write_bytes(odd.encoded(odd.voice(0.5 + i)))
    arguments = [str(tmp_path / "a.wav"), str(tmp_path / "no.wav"), f"--model={whisper}"]
    assert transcribe.main(arguments) == 1
    said = capsys.readouterr()
    assert said.out.count("a.wav: ") == 1 and "no.wav" in said.err and "no.wav" not in said.out
    out = tmp_path / "out.csv"
    for _ in range(2):
        assert transcribe.main([str(tmp_path), f"--model={whisper}", f"--out={out}"]) == 0
    rows = list(csv.DictReader(out.open()))
    assert [r["file"] for r in rows] == [str(tmp_path / f"{n}.wav") for n in "ab"]
    assert all(0 < float(r["confidence"]) <= 1 for r in rows)


def test_what_is_neither_is_one_message(whisper, tmp_path, capsys):
    model = f"--model={whisper}"
    for arguments in ([DATASET, "x.wav", model], [DATASET, f"--data_dir={tmp_path}", model],
                      ["x.wav", "--model=/no/where"]):  # fmt: skip
        assert transcribe.main(arguments) == 1
        assert capsys.readouterr().err.splitlines()[-1]
