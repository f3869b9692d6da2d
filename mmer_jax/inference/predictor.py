"""Recordings in, emotions out: one model, compiled once per shape."""

import collections
import dataclasses
import itertools
import time
from collections.abc import Iterable, Iterator

import jax
import numpy as np

from mmer_jax.data import alphabet, bucketing
from mmer_jax.data.preprocessing import SAMPLE_RATE
from mmer_jax.errors import UserError
from mmer_jax.inference import audio_io
from mmer_jax.inference.prediction import Prediction, Span, Window, windows
from mmer_jax.metrics import reliability
from mmer_jax.metrics.classification import softmax
from mmer_jax.models.mmer import make_forward
from mmer_jax.training.checkpoint_io import LoadedModel

# What is read before it is computed with. The more, the fuller the batches of one length are, and
# the longer the first answer takes.
_AHEAD_SECONDS, _AHEAD_BATCHES = 600.0, 16
# Around the part that a window answers for: a word on the border is whole in one of two windows.
_MARGIN = SAMPLE_RATE // 2


@dataclasses.dataclass
class _Job:
    """One recording on its way; `rows` are its windows."""

    samples: int
    text: str | None
    timings: dict
    rows: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class _Row:
    """One window: its wave [n], and what becomes of it."""

    job: _Job
    span: Span
    wave: np.ndarray
    speech: bool | None
    text: str = ""
    logits: np.ndarray | None = None
    log_probs: np.ndarray | None = None  # of its own frames


class Predictor:
    """Predicts the emotion of recordings.

    Audio is prepared as evaluation prepares it, so a recording up to `config.data.max_seconds` of
    which the transcript is given gets the logits that evaluation gave it. A longer one is cut into
    overlapping windows (see `windows`), and its logits are the mean of those with speech.

    Args:
      model: see `checkpoint_io.read`.
      batch_sizes: rows that a batch may have, 1 among them; each is compiled per shape.
      detect_speech: whether to look for speech first; False takes every recording for speech.

    Attributes:
      model: as given.
      preprocessor: makes its inputs.

    Raises:
      UserError: a wrong batch size, or the detector of speech isn't installed.
    """

    def __init__(
        self, model: LoadedModel, batch_sizes: tuple[int, ...] = (1, 8), detect_speech: bool = True
    ):
        self.model = model
        self._detector = audio_io.SpeechDetector() if detect_speech and model.uses_audio else None
        if not all(isinstance(size, int) and 1 <= size <= 4096 for size in batch_sizes):
            raise UserError(f"batch_sizes is {batch_sizes!r}; expected numbers from 1 to 4096.")
        self._sizes = sorted({1, *batch_sizes})
        self._params = jax.device_put(model.params)
        # Speech is encoded once, whether its transcript is given or still to be written.
        self._encode, self._decide, self._attend = (
            make_forward(model.model, keep, standard_padding=True)
            for keep in (("audio_hidden", "audio_mask", "log_probs"), ("logits",), ("attention",))
        )
        self.preprocessor = model.preprocessor
        self._edges = bucketing.prediction_edges(self.preprocessor.max_samples)

    @property
    def compiled(self) -> int:
        """How many programs have been compiled so far: one call of a known shape adds none."""
        return self._encode._cache_size() + self._decide._cache_size()

    def predict(self, audio, text=None, rate: float | None = None):
        """The prediction for a recording, or those for a list of recordings.

        Args:
          audio: a path, a binary file object, (array, rate) or an array with `rate` (see
            `audio_io.read`); or a list or tuple of such. A model of text alone takes None.
          text: what is said; None: the model's own CTC head writes it; "": speech alone, the text
            branch reads an empty text. A model of speech alone ignores it. For a list: one for
            all, or a list of them.
          rate: Hz, of arrays that come without one.

        Returns:
          A `Prediction`, or a list of them in order.

        Raises:
          UserError: a recording that can't be read, or no text where the model can't do without.
        """
        one = audio_io.is_one(audio)
        if one and not (text is None or isinstance(text, str)):
            raise UserError(f"text is a {type(text).__name__}; one recording takes a str or None.")
        predictions = []
        for _, prediction in self.predict_each([audio] if one else audio, text, rate):
            if isinstance(prediction, UserError):
                raise prediction
            predictions.append(prediction)
        return predictions[0] if one else predictions

    def predict_each(
        self, audio: Iterable, text=None, rate: float | None = None
    ) -> Iterator[tuple[int, Prediction | UserError]]:
        """As `predict` for several recordings, one by one; a bad one does not stop the others.

        Args:
          audio: recordings; read some minutes ahead, never all of them.
          text: one for all (a str, or None), or one each.
          rate: see `predict`.

        Returns:
          An iterator over (index, `Prediction`, or the `UserError` that says what is wrong with the
          recording).

        Raises:
          UserError: not as many texts as recordings.
        """
        return enumerate(self._each(audio, text, rate))

    def _each(self, audio, text, rate):
        pending, samples = [], 0
        for index, (one, words) in enumerate(_paired(audio, text)):
            try:
                job = self._job(index, one, words, rate)
                samples += job.samples
            except UserError as e:
                job = e
            pending.append(job)
            full = len(pending) >= _AHEAD_BATCHES * self._sizes[-1]
            if full or samples > _AHEAD_SECONDS * SAMPLE_RATE:
                yield from self._predictions(pending)
                pending, samples = [], 0
        yield from self._predictions(pending)

    def _job(self, index, audio, text, rate):
        """A recording read and cut."""
        name = audio_io.name_of(audio)
        name = f"recording {index + 1}" if name == "the recording" and index else name
        text = self._checked_text(text, name)
        timings = dict.fromkeys(("read", "speech", "encode", "text", "decide"), 0.0)
        began = time.perf_counter()
        if audio is None and not self.model.uses_audio:
            wave = np.zeros(0, np.float32)
        else:
            wave = audio_io.read(audio, rate, name)
        timings["read"] = time.perf_counter() - began
        # Text is read once, however long the recording that it belongs to.
        longest = self.preprocessor.max_samples if self.model.uses_audio else len(wave)
        job = _Job(len(wave), text, timings)
        for span in windows(len(wave), longest):
            first = max(span.own_start - _MARGIN, span.start)
            last = min(span.own_end + _MARGIN, span.end)
            speech = self._detector(wave[first:last]) if self._detector else None
            job.rows.append(_Row(job, span, wave[span.start : span.end], speech, text or ""))
        timings["speech"] = time.perf_counter() - began - timings["read"]
        return job

    def _checked_text(self, text, name):
        """Input of the text branch; None: the CTC head's transcript."""
        if not self.model.uses_text:
            return ""
        if text is None and not self.model.uses_audio:
            raise UserError(f"{name} comes without text, and this model reads text alone.")
        if text is None:
            if lacks := self.model.lacks_ctc:
                raise UserError(
                    f'{self.model.source} {lacks}. Give the text, or "" for speech alone.'
                )
            return None
        if not isinstance(text, str):
            raise UserError(f"The text of {name} is a {type(text).__name__}; expected a str.")
        text = text.encode("utf-8", "replace").decode("utf-8")  # no half surrogates
        # [LAUGHTER] alone is no words: nothing of it would be read.
        return text if self.model.tokenizer.cleaned(text) else ""

    def _predictions(self, pending):
        """The prediction or error of each, in order."""
        by_length = collections.defaultdict(list)
        for job in pending:
            for row in job.rows if isinstance(job, _Job) else ():
                bucket = bucketing.bucket_of(len(row.wave), self._edges)
                by_length[self._edges[bucket]].append(row)
        for length, rows in sorted(by_length.items()):
            waiting = iter(rows)
            for size in bucketing.prediction_batches(len(rows), self._sizes):
                self._compute(list(itertools.islice(waiting, size)), size, length)
        for job in pending:
            yield self._finished(job) if isinstance(job, _Job) else job

    def _compute(self, rows, size, length):
        """Fills in texts and logits of rows that share a batch; its time is shared as well."""
        times = [time.perf_counter()]
        encoded = self._encoded([row.wave for row in rows], size, length)
        times.append(time.perf_counter())
        self._transcribe(rows, encoded)
        tokens = self._tokens([row.text for row in rows], size)
        times.append(time.perf_counter())
        logits = self._decided(self._decide, encoded, tokens)["logits"]
        times.append(time.perf_counter())
        for row, values in zip(rows, logits):
            row.logits, row.wave = values, None
            for name, begin, end in zip(("encode", "text", "decide"), times, times[1:]):
                row.job.timings[name] += (end - begin) / len(rows)

    def _encoded(self, waves, size, length):
        """Waves of at most `length` -> `audio_hidden`, `audio_mask`, `log_probs` on the device.

        {} where the model uses text alone.
        """
        if not self.model.uses_audio:
            return {}
        examples = [self.preprocessor.example(wave=wave) for wave in waves]
        batch = self._collated(examples, bucketing.Bucket(samples=length), size)
        batch = {name: batch[name] for name in ("audio", "audio_length")}
        return jax.block_until_ready(self._encode(self._params, batch))

    def _tokens(self, texts, size):
        """Texts -> `text_ids` and `text_mask`, int32 [size, s]."""
        examples = [self.preprocessor.example(text=text) for text in texts]
        longest = max(len(example["text_ids"]) for example in examples)
        tokens = min(bucketing.rounded(longest, 16), self.model.config.text.max_tokens)
        batch = self._collated(examples, bucketing.Bucket(tokens=tokens), size)
        return {name: batch[name] for name in ("text_ids", "text_mask")}

    def _collated(self, examples, bucket, size):
        return self.preprocessor.collate(examples + [None] * (size - len(examples)), bucket)

    def _decided(self, forward, encoded, tokens):
        speech = {k: encoded[k] for k in ("audio_hidden", "audio_mask") if k in encoded}
        return jax.device_get(forward(self._params, tokens | speech))

    def attention(self, wave: np.ndarray, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Attention of each token over the speech, of a model with cross-modal fusion.

        Args:
          wave: float32 [n], 16 kHz, one window.
          text: what the text branch reads.

        Returns:
          Weights float32 [s, t], the mean over the heads, and the tokens' ids [s]; no padding.
        """
        length = self._edges[bucketing.bucket_of(len(wave), self._edges)]
        encoded, tokens = self._encoded([wave], 1, length), self._tokens([text], 1)
        weights = self._decided(self._attend, encoded, tokens)["attention"][0]
        count, frames = int(tokens["text_mask"].sum()), int(encoded["audio_mask"].sum())
        return weights[:count, :frames], tokens["text_ids"][0, :count]

    def _transcribe(self, rows, encoded):
        """Fills in the texts that the CTC head is to write."""
        if all(row.job.text is not None for row in rows):
            return
        frame = self.model.model.frame_samples
        host = jax.device_get((encoded["log_probs"], encoded["audio_mask"]))
        for row, log_probs, mask in zip(rows, *host):
            if row.job.text is None:
                row.text = transcribe(log_probs[mask], self.model.alphabet)
                row.log_probs = log_probs[mask][row.span.own_frames(frame)]

    def _finished(self, job):
        """The prediction for a recording whose rows are computed, or an error."""
        mean = _mean(job.rows)
        if not np.isfinite(mean).all():
            return UserError(f"{self.model.source} answers with NaN: its training diverged.")
        text = self._whole_text(job)
        source = "ctc" if job.text is None else "given" if text else "none"
        held_out = self.model.held_out(source)
        temperature = held_out.get("temperature")
        speech = None if self._detector is None else any(row.speech for row in job.rows)
        label, probabilities = self._labelled(mean, temperature, speech)
        classes, uses_text = len(self.model.label_names), self.model.uses_text
        warning = reliability.warning(held_out, source, classes, uses_text)
        return Prediction(
            label=label,
            probabilities=probabilities,
            calibrated=bool(probabilities) and temperature is not None and len(job.rows) == 1,
            logits=np.asarray(mean, np.float32),
            text=text,
            text_source=source,
            seconds=job.samples / SAMPLE_RATE,
            timeline=tuple(self._window(row, temperature) for row in job.rows),
            timings=job.timings,
            speech=speech,
            held_out=held_out,
            warning="no speech found" if speech is False else warning,
        )

    def _whole_text(self, job):
        """Of windows with speech: what their own frames, side by side, spell; no overlap twice."""
        if job.text is not None:
            return job.text
        spoken = [row for row in job.rows if row.speech is not False]
        if len(job.rows) == 1 or not spoken:
            return spoken[0].text if spoken else ""
        log_probs = np.concatenate([row.log_probs for row in spoken])
        return transcribe(log_probs, self.model.alphabet)

    def _labelled(self, logits, temperature, speech):
        """(label, probabilities); of a stretch without speech nothing is said."""
        if speech is False:
            return None, {}
        names = self.model.label_names
        p = softmax(np.asarray(logits, np.float64) / (temperature or 1.0))
        return names[int(p.argmax())], dict(zip(names, p.tolist()))

    def _window(self, row, temperature):
        label, probabilities = self._labelled(row.logits, temperature, row.speech)
        start, end = (x / SAMPLE_RATE for x in (row.span.start, row.span.end))
        # What the CTC head writes without speech, nobody said.
        text = "" if row.job.text is None and row.speech is False else row.text
        return Window(start, end, label, probabilities, text, row.speech)


def _mean(rows):
    """Logits [c] of a recording, by the seconds that each window answers for.

    Windows without speech weigh nothing, unless all are.
    """
    if len(rows) == 1:
        return rows[0].logits
    weights = np.array([row.span.own_end - row.span.own_start for row in rows], np.float64)
    with_speech = weights * [row.speech is not False for row in rows]
    weights = with_speech if with_speech.any() else weights
    return (weights / weights.sum()) @ np.stack([row.logits for row in rows])


def transcribe(log_probs: np.ndarray, symbols: alphabet.Alphabet = alphabet.ENGLISH) -> str:
    """The greedy transcript, in lower case, of CTC log-probabilities [t, v]."""
    path = log_probs.argmax(-1)
    return symbols.decode(path[np.diff(path, prepend=alphabet.BLANK) != 0]).lower()


def _paired(audio, text):
    """(recording, text) one by one."""
    if text is None or isinstance(text, str):
        return zip(audio, itertools.repeat(text))
    audio, text = list(audio), list(text)
    if len(audio) != len(text):
        raise UserError(f"There are {len(audio)} recordings and {len(text)} texts; one each.")
    return zip(audio, text)
