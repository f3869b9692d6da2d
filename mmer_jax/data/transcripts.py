"""Transcript files: what a speech recogniser wrote for each utterance of a prepared dataset."""

import contextlib
import dataclasses
import hashlib
import json
import os
import tempfile

from etils import epath

from mmer_jax import files, plain
from mmer_jax.data.corpus import short_name
from mmer_jax.errors import UserError

FORMAT, FOLDER, SUFFIX = 1, "transcripts", ".json"


@dataclasses.dataclass(frozen=True)
class Transcript:
    """What a recogniser wrote for one recording.

    Attributes:
      text: "" where it took the recording for no speech, or wrote no word.
      confidence: geometric mean of the probabilities that it gave to the tokens it wrote.
      no_speech: its probability that nobody speaks.
      note: what became of the text: `no speech`; `no words` (nothing but an annotation, such as
        [BLANK_AUDIO] or (phone ringing)); `repetition` (a loop was cut); `length` (it did not come
        to an end); mostly "".
    """

    text: str
    confidence: float
    no_speech: float
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Transcripts:
    """What one recogniser wrote for a corpus.

    Attributes:
      name: the recogniser's, see `Recognizer.name`.
      recognizer: the model, its digest and the settings.
      transcripts: by utterance id.
      sha256: of the files.
    """

    name: str
    recognizer: dict
    transcripts: dict[str, Transcript]
    sha256: str

    @property
    def texts(self) -> dict[str, str]:
        """Utterance id -> what was written."""
        return {key: t.text for key, t in self.transcripts.items()}


def folder(data_dir: str, dataset: str, version: str) -> str:
    """Folder of the transcript files of a prepared dataset: beside it, for its own is tfds'."""
    return os.path.join(os.path.expanduser(data_dir), FOLDER, *dataset.split("/"), version)


def read(name: str, data_dir: str, corpus) -> Transcripts:
    """The transcripts of a corpus, from the file of each of its datasets.

    Args:
      name: of a file beside a dataset, without its suffix or, where that says which, without its
        digest; or a path; "": the only one there.
      data_dir: where the datasets are.
      corpus: a `Corpus`.

    Raises:
      UserError: no such file, or one that was made for another corpus or by another recogniser.
    """
    transcripts, digest, recognizers = {}, hashlib.sha256(), {}
    for dataset, version in corpus.versions.items():
        path = _find(name, data_dir, dataset, version)
        data, recognizer, found = _read(path, f"Write it again: {command(data_dir, dataset)}")
        prefix = f"{short_name(dataset)}:" if len(corpus.versions) > 1 else ""
        utterances = [u for u in corpus.utterances if not prefix or u.id.startswith(prefix)]
        _check_corpus(path, data_dir, f"{dataset} {version}", found, prefix, utterances)
        transcripts |= {f"{prefix}{key}": transcript for key, (_, transcript) in found.items()}
        digest.update(data.encode())
        recognizers[path] = recognizer
    if any(r != recognizer for r in recognizers.values()):
        raise UserError(
            f"The transcript files {', '.join(recognizers)} are not of one recogniser with the "
            "same settings. Write them all with the same."
        )
    return Transcripts(recognizer["name"], recognizer, transcripts, digest.hexdigest())


def _read(path, again):
    """(text of the file, recogniser, utterance id -> (samples, Transcript))."""
    try:
        data = files.read_text(path)
        stored, found = plain.parse(data), {}
        for row in stored["utterances"]:
            key, samples, transcript = row.pop("id"), row.pop("samples"), Transcript(**row)
            plain.check(transcript)
            if key in found or not plain.is_kind(samples, int):
                raise ValueError(f"{key} comes twice, or without its length")
            found[key] = samples, transcript
        recognizer = stored["recognizer"]
        if not plain.is_kind(recognizer["name"], str):
            raise ValueError("no name")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise UserError(f"{path} is no whole transcript file ({e!r:.150}). {again}") from e
    return data, recognizer, found


def _check_corpus(path, data_dir, dataset, found, prefix, utterances):
    lengths = {f"{prefix}{key}": samples for key, (samples, _) in found.items()}
    wrong = [u.id for u in utterances if lengths.get(u.id) != u.samples]
    if wrong:
        raise UserError(
            f"{path} was written for another corpus than {dataset} in {data_dir}: {len(wrong)} of "
            f"{len(utterances)} utterances ({wrong[0]}, ...) are not in it, or of another length. "
            f"Write one for this: {command(data_dir, dataset.split()[0])}"
        )


def of_config(config, corpus) -> Transcripts | None:
    """Those of `config.data.asr_transcripts`; None where it names none."""
    data = config.data
    return read(data.asr_transcripts, data.dir, corpus) if data.asr_transcripts else None


def command(data_dir: str, dataset: str, model: str = "openai/whisper-base.en") -> str:
    """The command line that writes a dataset's transcript file."""
    return f"python -m mmer_jax.transcribe {dataset} --data_dir={data_dir} --model={model}"


def _find(name, data_dir, dataset, version):
    if os.path.dirname(name) or name.endswith(SUFFIX):
        path = files.resolve(name)
        if files.exists(path):
            return path
        raise UserError(
            f"There is no transcript file {path}. Write it: {command(data_dir, dataset)}"
        )
    place = folder(data_dir, dataset, version)
    stems = []
    if files.exists(place):
        stems = sorted(p.stem for p in epath.Path(place).iterdir() if p.suffix == SUFFIX)
    fitting = [s for s in stems if s == name] or [s for s in stems if s.rpartition("-")[0] == name]
    fitting = stems if not name else fitting
    if len(fitting) == 1:
        return os.path.join(place, fitting[0] + SUFFIX)
    content = f"{place} holds {', '.join(stems) or 'none'}"
    if len(fitting) > 1:
        raise UserError(f"Several transcript files could be meant: {content}. Name one of them.")
    missing = f"no transcript file {name}" if name else "no transcript file"
    raise UserError(
        f"There is {missing} for {dataset} {version}: {content}. Write it: "
        f"{command(data_dir, dataset)}"
    )


def _partial(path):
    if not files.is_remote(path):
        return f"{path}.partial"
    digest = hashlib.sha256(path.encode()).hexdigest()[:16]
    return os.path.join(tempfile.gettempdir(), f"mmer-{digest}.partial")


def discard_partial(path: str) -> None:
    """Removes, if it can, what a `Writer` that was killed at its end left beside the file."""
    with contextlib.suppress(OSError):
        os.unlink(_partial(path))


class Writer:
    """A transcript file in the making.

    Batches are kept beside it as they come, so that the same command goes on where it was killed;
    the file itself appears when it is whole. Batches that something else made are dropped.

    Args:
      path: of the file.
      header: plain values: all that the transcripts depend on.
    """

    def __init__(self, path: str, header: dict):
        self._path, self._head = path, {"format": FORMAT} | header
        self._journal = files.Journal(_partial(path), self._head)

    @property
    def rows(self) -> list[dict]:
        """Those of the whole batches so far."""
        return [row for batch in self._journal.entries for row in batch]

    @property
    def batches(self) -> int:
        """How many whole batches there are."""
        return len(self._journal.entries)

    def add(self, rows: list[dict]) -> None:
        """Keeps a batch: `id`, `samples` and the fields of its `Transcript`s."""
        self._journal.add(rows)

    def finish(self, order) -> None:
        """Writes the file, with the utterances in the order of these ids."""
        place = {key: i for i, key in enumerate(order)}
        rows = sorted(self.rows, key=lambda row: place[row["id"]])
        # A line for each utterance, to be read by people too.
        head = json.dumps(self._head, indent=1)[:-2]
        body = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in rows)
        files.replace_file(self._path, f'{head},\n "utterances": [\n{body}\n ]\n}}\n')
        self.close()
        discard_partial(self._path)

    def close(self) -> None:
        """Leaves what there is for the next time."""
        self._journal.close()
