"""The batches: a deterministic grain pipeline keyed by (seed, epoch), loaded in the background."""

import dataclasses
import time

import grain.experimental
import grain.python as grain
import numpy as np

from mmer_jax.configuration import MODALITIES
from mmer_jax.data import audio, batching, text
from mmer_jax.data.corpus import Corpus, Utterance


@dataclasses.dataclass(frozen=True)
class Encoded:
    """An utterance's texts as ids: tokens [s], CTC symbols [u], the paraphrase's tokens [s]."""

    tokens: np.ndarray
    symbols: np.ndarray
    aug_tokens: np.ndarray


class Featurizer:
    """Turns utterances of a corpus into batches of static shape.

    Texts are tokenised once, here; waveforms are read and normalised batch by batch.

    Args:
      corpus: where the audio is read.
      tokenizer: None where the model reads no text.
      max_samples: longer recordings are cut, and their CTC loss masked.
      normalized: waveforms to zero mean and unit variance.
      buckets: how many padded lengths; 0: as few as keep padding at or below `max_padding`.
      augmented: whether batches carry the augmented view; `any_view` says if there is any.
      batch_size: of training, which the padding is figured with.
      max_padding: see `batching.choose`.
      parts: what a training pass may feed, each a sequence of utterances; the padding meant is
        that of the worst of them. None: the whole corpus.
      text_dropout: share of the utterances that a training pass feeds without their words.
      ctc_texts: share that it feeds with what the CTC head wrote, where that is known.
      modalities: of the model: what an augmented view is made of.

    Attributes:
      edges, buckets: padded audio lengths, and the static shapes that go with them.
      choice: the `batching.Choice` of the edges.
    """

    def __init__(self, corpus: Corpus, tokenizer, max_samples: int, normalized: bool, buckets: int,
                 augmented: bool, batch_size: int = 8, max_padding: float = 0.10,
                 parts=None, text_dropout: float = 0.0, ctc_texts: float = 0.0,
                 modalities=MODALITIES):  # fmt: skip
        self.corpus = corpus
        self.max_samples = max_samples
        self.normalized = normalized
        self.augmented = augmented
        self.text_dropout = text_dropout
        self.ctc_texts = ctc_texts
        self._modalities = tuple(modalities)
        self._tokenizer = tokenizer
        self.encoded = [_encode(u, tokenizer) for u in corpus.utterances]
        self.index = {u.id: i for i, u in enumerate(corpus.utterances)}
        self._pad_id = tokenizer.pad_id if tokenizer else 0
        lengths = [self.lengths(u, (0, 0)) for u in corpus.utterances]
        needs, weights = self.needs()
        candidates = batching.edges_by_count(
            needs, buckets or batching.MOST, max_samples, weights=weights
        )
        fed = [[self.lengths(u, (0, 0)) for u in part] for part in parts] if parts else [lengths]
        self.choice = batching.choose(
            candidates[-1:] if buckets else candidates, fed, batch_size, max_padding
        )
        self.edges = self.choice.edges
        self.buckets = batching.make_buckets(
            self.edges,
            # Evaluation feeds the original view alone, in as small a bucket as holds it.
            [original for original, *_ in lengths],
            [max(map(len, (e.tokens, e.aug_tokens)[: 1 + augmented])) for e in self.encoded],
            [len(e.symbols) for e in self.encoded],
        )

    def lengths(self, utterance: Utterance, seed_epoch) -> tuple[int, ...]:
        """Samples of each view that a pass of training feeds, after the cut.

        One view, or two where the augmented one has speech. An utterance that lacks that one has
        its own recording fed in the place.
        """
        views = [utterance.samples]
        if self._augments_speech:
            drawn = self._drawn(utterance, seed_epoch)
            views.append(utterance.samples if drawn is None else utterance.aug_samples[drawn])
        return tuple(min(n, self.max_samples) for n in views)

    def padding_share(self, utterances, batch_size: int, seed_epoch=(0, 0)) -> float:
        """See `batching.padding_share`, for one pass of training over `utterances`."""
        lengths = [self.lengths(u, seed_epoch) for u in utterances]
        return batching.padding_share(lengths, self.edges, batch_size)

    def needs(self) -> tuple[list[int], list[float]]:
        """What edges are chosen for: lengths, and how often each comes up in a pass.

        One for each utterance and augmented recording that may be drawn: the longer of the two.
        """
        needs, weights = [], []
        for u in self.corpus.utterances:
            has_view = self._augments_speech and u.has_view(self._modalities)
            others = [u.aug_samples[k] for k in u.drawable] if has_view else [0]
            needs += [max(u.samples, n) for n in others]
            weights += [1 / len(others)] * len(others)
        return needs, weights

    def tokens(self, transcript: str) -> np.ndarray:
        """A text's ids for the text encoder, int32 [s]."""
        return _tokens(self._tokenizer, transcript)

    def other_tokens(self, utterances, seed_epoch, heard) -> dict[str, np.ndarray]:
        """Id -> ids of what is read in the transcript's place, where (seed, epoch) draws it so.

        That is nothing (`text_dropout`), or what the CTC head wrote (`ctc_texts`). The augmented
        view keeps its words: with the augmented contrastive loss, what voice and poor words say is
        drawn to what voice and true words say together.

        Args:
          utterances: None among them is passed over.
          seed_epoch: (seed, epoch).
          heard: id -> ids of the CTC head's text; who is not in it keeps the transcript.
        """
        if not self.text_dropout and not self.ctc_texts:
            return {}
        found = {}
        for u in (u for u in utterances if u is not None):
            # Not the rng of `_drawn`: which recording comes must not depend on these options.
            drawn = np.random.default_rng((*seed_epoch, self.index[u.id], 1)).random()
            if drawn < self.text_dropout:
                found[u.id] = self.tokens("")
            elif drawn < self.text_dropout + self.ctc_texts and u.id in heard:
                found[u.id] = heard[u.id]
        return found

    def _drawn(self, utterance, seed_epoch):
        """Which augmented recording (seed, epoch) draws; None where there is no view."""
        if not utterance.has_view(self._modalities):
            return None
        among = utterance.drawable
        if len(among) == 1:
            return among[0]
        rng = np.random.default_rng((*seed_epoch, self.index[utterance.id]))
        return among[int(rng.integers(len(among)))]

    @property
    def _augments_speech(self):
        return self.augmented and "audio" in self._modalities

    def batch(self, utterances, bucket: batching.Bucket, seed_epoch, augmented: bool,
              rows=None, tokens=None) -> dict:  # fmt: skip
        """One batch, shapes as in `bucket`; None among `utterances` fills a row.

        Args:
          utterances: those of the whole batch; at least one is not None.
          bucket: the static shapes.
          seed_epoch: (seed, epoch), which draws among several augmented recordings.
          augmented: adds the `aug_*` arrays.
          rows: slice or indices of the b rows to load; None: all.
          tokens: utterance id -> ids that the original view has in its transcript's place.

        Returns:
          audio float32 [b, n], audio_length [b], text_ids and text_mask [b, s], transcript [b, u],
          transcript_length [b], ctc_valid, label, valid [b], index [b] (row in the corpus), and
          aug_valid, aug_audio, aug_audio_length where the model has speech, aug_text_ids,
          aug_text_mask where it has text.
        """
        wanted = np.arange(len(utterances))[slice(None) if rows is None else rows]
        valid = np.array([utterances[i] is not None for i in wanted])
        # A fill row repeats a real utterance: no length is 0, so no statistic divides by 0. One of
        # the whole batch, for all the rows of this process may be fill rows.
        some = next(u for u in utterances if u is not None)
        rows = [utterances[i] or some for i in wanted]
        recordings = [self.corpus.recordings(u) for u in rows]
        tokens = tokens or {}
        out = self._speech("audio", [r[0] for r in recordings], bucket)
        read = [tokens.get(u.id, self._encoded(u).tokens) for u in rows]
        out |= self._text("text", read, bucket)
        symbols = [self._encoded(u).symbols for u in rows]
        out["transcript"], out["transcript_length"] = text.pad(symbols, bucket.symbols)
        uncut = np.array([u.samples <= self.max_samples for u in rows])
        out["ctc_valid"] = valid & uncut & (out["transcript_length"] > 0)
        out["label"] = np.array([u.label for u in rows], np.int32)
        out["valid"] = valid
        out["index"] = np.array([self.index[u.id] for u in rows], np.int32)
        if augmented:
            out |= self._augmented(rows, recordings, bucket, seed_epoch, valid)
        return out

    def _augmented(self, rows, recordings, bucket, seed_epoch, valid):
        exists = np.array([u.has_view(self._modalities) for u in rows])
        out = {"aug_valid": exists & valid}
        if "audio" in self._modalities:
            drawn = [self._drawn(u, seed_epoch) for u in rows]
            speech = [r[0] if k is None else r[1][k] for r, k in zip(recordings, drawn)]
            out |= self._speech("aug_audio", speech, bucket)
        if "text" in self._modalities:
            encoded = [self._encoded(u) for u in rows]
            tokens = [e.aug_tokens if has else e.tokens for e, has in zip(encoded, exists)]
            out |= self._text("aug_text", tokens, bucket)
        return out

    def _encoded(self, utterance):
        return self.encoded[self.index[utterance.id]]

    def _speech(self, name, recordings, bucket):
        waves = [audio.prepare(x, self.max_samples, self.normalized) for x in recordings]
        padded, lengths = audio.pad(waves, bucket.samples)
        return {name: padded, f"{name}_length": lengths}

    def _text(self, name, rows, bucket):
        ids, lengths = text.pad(rows, bucket.tokens, self._pad_id)
        mask = np.arange(bucket.tokens)[None] < lengths[:, None]
        return {f"{name}_ids": ids, f"{name}_mask": mask.astype(np.int32)}


def _encode(utterance, tokenizer):
    return Encoded(
        tokens=_tokens(tokenizer, utterance.transcript),
        symbols=text.ctc_targets(utterance.transcript),
        aug_tokens=_tokens(tokenizer, utterance.aug_transcript),
    )


def _tokens(tokenizer, transcript):
    return tokenizer.ids(transcript) if tokenizer else np.zeros(1, np.int32)


def any_view(parts, modalities) -> bool:
    """Whether any utterance that is trained on has an augmented view for these modalities.

    Args:
      parts: what is trained on, each a sequence of utterances.
      modalities: of the model.
    """
    return any(u.has_view(modalities) for part in parts for u in part)


class TrainBatches:
    """Random access to every batch of a training run, by step.

    Batch `step` depends on (seed, epoch, step within it) alone, so the iterator's whole state is
    the step, and a resumed run sees what an uninterrupted one would have seen. The plan is the
    same in every process; each loads its own rows of a batch.

    Args:
      featurizer: makes the batches.
      utterances: what one pass feeds.
      batch_size: rows of the whole batch.
      epochs: passes.
      seed: of the order and of the augmented recordings drawn.
      rows: slice or indices of a batch's rows that this process loads; None: all.

    Attributes:
      steps_per_epoch: ceil(n / batch_size).
    """

    def __init__(self, featurizer: Featurizer, utterances, batch_size: int, epochs: int, seed: int,
                 rows=None):  # fmt: skip
        self._featurizer = featurizer
        self._heard = {}
        self._utterances = utterances
        self._batch_size = batch_size
        self._seed = seed
        self._rows = rows
        self._plans = {}
        self.steps_per_epoch = -(-len(utterances) // batch_size)
        self._epochs = epochs

    def __len__(self) -> int:
        return self.steps_per_epoch * self._epochs

    def __getitem__(self, step: int) -> dict:
        epoch, position = divmod(step, self.steps_per_epoch)
        bucket, at = self._plan(epoch)[position]
        f, utterances = self._featurizer, _at(self._utterances, at)
        shape, now = f.buckets[bucket], (self._seed, epoch)
        tokens = f.other_tokens(utterances, now, self._heard)
        tokens = {name: _fitted(ids, shape.tokens) for name, ids in tokens.items()}
        return f.batch(utterances, shape, now, f.augmented, self._rows, tokens)

    def hear(self, texts: dict[str, str]) -> None:
        """Takes utterance id -> what the CTC head wrote, for the batches loaded from now on."""
        self._heard = {name: self._featurizer.tokens(words) for name, words in texts.items()}

    def sizes(self, step: int) -> int:
        """How many rows of the whole batch hold an utterance, whatever rows this process loads."""
        epoch, position = divmod(step, self.steps_per_epoch)
        return int((self._plan(epoch)[position][1] != batching.FILL).sum())

    def shape(self, step: int) -> batching.Bucket:
        """The static shapes of a batch, without loading it."""
        epoch, position = divmod(step, self.steps_per_epoch)
        return self._featurizer.buckets[self._plan(epoch)[position][0]]

    def _plan(self, epoch):
        plan = self._plans.get(epoch)
        if plan is None:
            rng = np.random.default_rng((self._seed, epoch))
            f = self._featurizer
            needs = [max(f.lengths(u, (self._seed, epoch))) for u in self._utterances]
            plan = batching.plan(needs, f.edges, self._batch_size, rng)
            # Threads read ahead over the border of two epochs: keep both, not the whole run.
            near = {e: p for e, p in self._plans.items() if abs(e - epoch) <= 2}
            self._plans = near | {epoch: plan}
        return plan


def _fitted(ids, longest):
    """Ids cut to a bucket's width, their last one (the end of the sequence) kept.

    A recognised text can be longer than any transcript that the bucket was made for.
    """
    return ids if len(ids) <= longest else np.concatenate([ids[: longest - 1], ids[-1:]])


class EvalBatches:
    """Random access to one pass over utterances, in order, without the augmented view.

    Args:
      featurizer: makes the batches.
      utterances: what the pass feeds.
      batch_size: rows of the whole batch.
      rows: slice or indices of a batch's rows that this process loads; None: all.
      texts: utterance id -> what is read in its transcript's place.
    """

    def __init__(self, featurizer: Featurizer, utterances, batch_size: int, rows=None, texts=None):
        self._featurizer = featurizer
        self._tokens = {name: featurizer.tokens(t) for name, t in (texts or {}).items()}
        # A recognised text can be longer than any transcript that the buckets were made for.
        longest = max(map(len, self._tokens.values()), default=0)
        self._buckets = batching.with_tokens(featurizer.buckets, longest)
        self._utterances = utterances
        self._rows = rows
        samples = [min(u.samples, featurizer.max_samples) for u in utterances]
        self._plan = batching.plan(samples, featurizer.edges, batch_size)

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, i: int) -> dict:
        bucket, at = self._plan[i]
        return self._featurizer.batch(
            _at(self._utterances, at), self._buckets[bucket], (0, 0), augmented=False,
            rows=self._rows, tokens=self._tokens,
        )  # fmt: skip

    def positions(self, i: int) -> np.ndarray:
        """Each row of the whole batch's place in `utterances`: int [batch_size], -1 fills."""
        return self._plan[i][1].copy()


def _at(utterances, rows):
    return [None if i == batching.FILL else utterances[i] for i in rows]


def background(batches, threads: int, prefetch: int):
    """A grain iterator (with `get_state`/`set_state`) that loads `batches` in threads, in order."""
    return iter(_loaded(batches, threads, prefetch))


def _loaded(batches, threads, prefetch):
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch)
    return grain.MapDataset.source(batches).to_iter_dataset(options)


def device_iterator(batches, place, threads: int, prefetch: int, ahead: int = 2):
    """An iterator over batches that are on the devices already when they are asked for.

    `grain.experimental.device_put` with `place` in the place of `jax.device_put`, which can't put
    together a batch of which each process holds a part.

    Args:
      batches: what `TrainBatches` and `EvalBatches` are: a length and items.
      place: host batch -> device batch; called in a thread of its own, in order.
      threads: that load.
      prefetch: batches in the host's memory ahead, at least 1.
      ahead: batches on the devices ahead, at least 1.

    Returns:
      A `DeviceIterator`.
    """
    placed = _loaded(batches, threads, prefetch).map(place)
    return DeviceIterator(iter(grain.experimental.ThreadPrefetchIterDataset(
        placed, prefetch_buffer_size=ahead)))  # fmt: skip


class DeviceIterator(grain.DatasetIterator):
    """See `device_iterator`. A grain iterator, so orbax saves and restores it as one.

    Its state counts the batches handed out; those that only wait ahead come again after a restart.

    Attributes:
      waited: seconds spent in `__next__` so far, waiting for a batch.
    """

    def __init__(self, source: grain.DatasetIterator):
        super().__init__(source)
        self.waited = 0.0
        self._last = None  # the state at the end, once closed

    def __next__(self):
        if not self._parents:
            raise ValueError("The iterator is closed.")
        began = time.perf_counter()
        try:
            return next(self._parents[0])
        finally:
            self.waited += time.perf_counter() - began

    def get_state(self) -> dict:
        """The state after the last batch handed out."""
        return self._parents[0].get_state() if self._parents else self._last

    def set_state(self, state: dict) -> None:
        """Goes on after the batch that `state` was taken at."""
        self._parents[0].set_state(state)

    def start_prefetch(self) -> None:
        """Starts to load before the first batch is asked for; orbax does so after a restore."""
        for source in self._parents:
            source.start_prefetch()

    def close(self) -> None:
        """Ends the threads; what was loaded ahead is dropped."""
        if self._parents:
            self._last = self.get_state()
            self._parents[0].close()
            # Let go of now: grain's iterators close themselves again when they are deleted, and
            # complain if that comes as late as the interpreter's end.
            self._parents = ()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
