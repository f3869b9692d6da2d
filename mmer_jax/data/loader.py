"""Batches of a corpus: deterministic, keyed by (seed, epoch), loaded in the background by grain."""

import time

import grain.experimental
import grain.python as grain
import numpy as np

from mmer_jax.configuration import MODALITIES
from mmer_jax.data import bucketing, folds
from mmer_jax.data.corpus import Corpus
from mmer_jax.data.preprocessing import Preprocessor
from mmer_jax.data.text import ctc_targets


class Collator:
    """Turns utterances of a corpus into batches of static shapes.

    Args:
      corpus: where the audio is read.
      preprocessor: of the model's inputs.
      augmented: whether training batches carry the augmented view.
      buckets: how many padded lengths; 0: as few as keep padding at or below `max_padding`.
      batch_size: of training, which the padding is figured with.
      max_padding: see `bucketing.choose`.
      training_sets: what a training pass may feed, each a sequence of utterances; the padding
        meant is that of the worst of them. None: the whole corpus.
      text_dropout: share of the utterances that a training pass feeds without their words.
      asr_texts: share that it feeds with their ASR transcripts, where these are known.
      modalities: of the model: what an augmented view is made of.

    Attributes:
      edges, buckets: padded audio lengths, and the static shapes that go with them.
      choice: the `bucketing.Choice` of the edges.
    """

    def __init__(self, corpus: Corpus, preprocessor: Preprocessor, augmented: bool,
                 buckets: int = 0, batch_size: int = 8, max_padding: float = 0.10,
                 training_sets=None, text_dropout: float = 0.0, asr_texts: float = 0.0,
                 modalities=MODALITIES):  # fmt: skip
        self.corpus = corpus
        self.preprocessor = preprocessor
        self.augmented = augmented
        self._shares = text_dropout, asr_texts
        self._modalities = tuple(modalities)
        self._index = {u.id: i for i, u in enumerate(corpus.utterances)}
        lengths, weights = self._bucket_lengths()
        longest = preprocessor.max_samples
        candidates = bucketing.edges_by_count(lengths, buckets or bucketing.MOST, longest, weights)
        fed = [self.view_lengths(us) for us in training_sets or [corpus.utterances]]
        self.choice = bucketing.choose(
            candidates[-1:] if buckets else candidates, fed, batch_size, max_padding
        )
        self.edges = self.choice.edges
        self.buckets = bucketing.make_buckets(self.edges, *self._smallest_shapes())

    @classmethod
    def from_config(cls, config, corpus: Corpus, preprocessor: Preprocessor,
                    two_views: bool) -> "Collator":  # fmt: skip
        """The collator of a run, the same for all its folds.

        What is in a fold's batches must not depend on the other folds of a run, nor on any label:
        the buckets are chosen for all folds of the protocol, by who speaks alone.

        Args:
          config, corpus, preprocessor: of the run.
          two_views: whether any of its losses reads the augmented view.
        """
        sets = folds.training_sets(corpus.utterances, config.protocol)
        modalities = tuple(config.model.modalities)
        return cls(
            corpus,
            preprocessor,
            augmented=two_views and any_view(sets, modalities),
            buckets=config.data.buckets,
            batch_size=config.data.batch_size,
            max_padding=config.data.max_padding,
            training_sets=sets,
            text_dropout=config.train.text_dropout,
            asr_texts=config.train.ctc_texts,
            modalities=modalities,
        )

    def view_lengths(self, utterances, seed_epoch=(0, 0)) -> np.ndarray:
        """Samples, after the cut, of the v views of n utterances in a pass of training: int [n, v].

        One view, or two where the augmented one has speech. An utterance that lacks that one has
        its own recording fed in the place.
        """
        views = [[u.samples] for u in utterances]
        if self._augments_speech:
            for view, u in zip(views, utterances):
                drawn = self._drawn(u, seed_epoch)
                view.append(u.samples if drawn is None else u.aug_samples[drawn])
        return np.minimum(views, self.preprocessor.max_samples)

    def _bucket_lengths(self):
        """Lengths that edges are chosen for, and how often each comes up in a pass.

        One for each utterance and augmented recording that may be drawn: the longer of the two.
        """
        lengths, weights = [], []
        for u in self.corpus.utterances:
            has_view = self._augments_speech and u.has_view(self._modalities)
            others = [u.aug_samples[k] for k in u.drawable] if has_view else [0]
            lengths += [max(u.samples, n) for n in others]
            weights += [1 / len(others)] * len(others)
        return lengths, weights

    def _smallest_shapes(self):
        """Samples, tokens and symbols of each utterance, in as small a bucket as may hold it."""
        ids = self.preprocessor.text_ids
        # Evaluation feeds the original view alone.
        samples = [min(u.samples, self.preprocessor.max_samples) for u in self.corpus.utterances]
        tokens = [
            max(len(ids(t)) for t in (u.transcript, u.aug_transcript)[: 1 + self.augmented])
            for u in self.corpus.utterances
        ]
        return samples, tokens, [len(ctc_targets(u.transcript)) for u in self.corpus.utterances]

    @property
    def _augments_speech(self):
        return self.augmented and "audio" in self._modalities

    def _drawn(self, utterance, seed_epoch):
        """Which augmented recording (seed, epoch) draws; None where there is no view."""
        if not utterance.has_view(self._modalities):
            return None
        among = utterance.drawable
        if len(among) == 1:
            return among[0]
        rng = np.random.default_rng((*seed_epoch, self._index[utterance.id]))
        return among[int(rng.integers(len(among)))]

    def draw_texts(self, utterances, seed_epoch, asr_transcripts) -> dict[str, str]:
        """Id -> what is read in the transcript's place, where (seed, epoch) draws it so.

        That is nothing (`text_dropout`), or the ASR transcript (`asr_texts`). The augmented view
        keeps its words: with the augmented contrastive loss, what voice and poor words say is drawn
        to what voice and true words say together.

        Args:
          utterances: None among them is passed over.
          seed_epoch: (seed, epoch).
          asr_transcripts: by id; who is not in it keeps the transcript.
        """
        dropped, recognized = self._shares
        if not dropped and not recognized:
            return {}
        texts = {}
        for u in (u for u in utterances if u is not None):
            # Not the rng of `_drawn`: which recording comes must not depend on these options.
            draw = np.random.default_rng((*seed_epoch, self._index[u.id], 1)).random()
            if draw < dropped:
                texts[u.id] = ""
            elif draw < dropped + recognized and u.id in asr_transcripts:
                texts[u.id] = asr_transcripts[u.id]
        return texts

    def batch(self, utterances, bucket: bucketing.Bucket, seed_epoch=(0, 0),
              augmented: bool = False, rows=None, texts=None) -> dict:  # fmt: skip
        """One batch, shapes as in `bucket`; None among `utterances` fills a row.

        Args:
          utterances: those of the whole batch; at least one is not None.
          bucket: the static shapes.
          seed_epoch: (seed, epoch), which draws among several augmented recordings.
          augmented: adds the `aug_*` arrays.
          rows: slice or indices of the b rows to load; None: all.
          texts: utterance id -> what the original view reads in its transcript's place.

        Returns:
          audio float32 [b, n], audio_length [b], text_ids and text_mask [b, s], transcript [b, u],
          transcript_length [b], ctc_valid, label, valid [b], index [b] (row in the corpus), and
          aug_valid, aug_audio, aug_audio_length where the model has speech, aug_text_ids,
          aug_text_mask where it has text.
        """

        def example(u):
            return u and self._example(u, seed_epoch, augmented, (texts or {}).get(u.id))

        wanted = np.arange(len(utterances))[slice(None) if rows is None else rows]
        own = [utterances[i] for i in wanted]
        # Fill rows repeat the whole batch's first, whatever rows this process loads.
        first = next(u for u in utterances if u is not None) if None in own else None
        return self.preprocessor.collate([example(u) for u in own], bucket, example(first))

    def _example(self, utterance, seed_epoch, augmented, text):
        u, p = utterance, self.preprocessor
        own, others = self.corpus.recordings(u)
        example = p.example(own, u.transcript if text is None else text, u.transcript)
        example |= {"label": np.int32(u.label), "index": np.int32(self._index[u.id])}
        if not augmented:
            return example
        example["aug_valid"] = has_view = u.has_view(self._modalities)
        if "audio" in self._modalities:
            drawn = self._drawn(u, seed_epoch)
            example["aug_audio"] = p.audio(own if drawn is None else others[drawn])
        if "text" in self._modalities:
            example["aug_text_ids"] = p.text_ids(u.aug_transcript if has_view else u.transcript)
        return example


def any_view(training_sets, modalities) -> bool:
    """Whether any utterance that is trained on has an augmented view for these modalities."""
    return any(u.has_view(modalities) for utterances in training_sets for u in utterances)


class TrainBatches:
    """Random access to every batch of a training run, by step.

    Batch `step` depends on (seed, epoch, step within it) alone, so the iterator's whole state is
    the step, and a resumed run sees what an uninterrupted one would have seen. The plan is the
    same in every process; each loads its own rows of a batch.

    Args:
      collator: makes the batches.
      utterances: what one pass feeds.
      batch_size: rows of the whole batch.
      epochs: passes.
      seed: of the order and of the augmented recordings drawn.
      rows: slice or indices of a batch's rows that this process loads; None: all.

    Attributes:
      steps_per_epoch: ceil(n / batch_size).
      asr_transcripts: utterance id -> ASR transcript, of the batches loaded from now on.
    """

    def __init__(self, collator: Collator, utterances, batch_size: int, epochs: int, seed: int,
                 rows=None):  # fmt: skip
        self.steps_per_epoch = -(-len(utterances) // batch_size)
        self.asr_transcripts = {}
        self._collator = collator
        self._utterances = utterances
        self._batch_size = batch_size
        self._epochs = epochs
        self._seed = seed
        self._rows = rows
        self._plans = {}

    def __len__(self) -> int:
        return self.steps_per_epoch * self._epochs

    def __getitem__(self, step: int) -> dict:
        collator, now = self._collator, (self._seed, step // self.steps_per_epoch)
        bucket, at = self._planned(step)
        utterances = _at(self._utterances, at)
        texts = collator.draw_texts(utterances, now, self.asr_transcripts)
        return collator.batch(
            utterances, collator.buckets[bucket], now, collator.augmented, self._rows, texts
        )

    def num_valid(self, step: int) -> int:
        """How many rows of the whole batch hold an utterance, whatever rows this process loads."""
        return int((self._planned(step)[1] != bucketing.FILL).sum())

    def shape(self, step: int) -> bucketing.Bucket:
        """The static shapes of a batch, without loading it."""
        return self._collator.buckets[self._planned(step)[0]]

    def _planned(self, step):
        """(bucket, indices) of a batch."""
        epoch, position = divmod(step, self.steps_per_epoch)
        return self.plan(epoch)[position]

    def plan(self, epoch: int) -> list[tuple[int, np.ndarray]]:
        """See `bucketing.plan`, for one pass."""
        plan = self._plans.get(epoch)
        if plan is None:
            rng = np.random.default_rng((self._seed, epoch))
            lengths = self._collator.view_lengths(self._utterances, (self._seed, epoch)).max(1)
            plan = bucketing.plan(lengths, self._collator.edges, self._batch_size, rng)
            # Threads read ahead over the border of two epochs: keep both, not the whole run.
            near = {e: p for e, p in self._plans.items() if abs(e - epoch) <= 2}
            self._plans = near | {epoch: plan}
        return plan


class EvalBatches:
    """Random access to one pass over utterances, in order, without the augmented view.

    Args:
      collator: makes the batches.
      utterances: what the pass feeds.
      batch_size: rows of the whole batch.
      rows: slice or indices of a batch's rows that this process loads; None: all.
      texts: utterance id -> what is read in its transcript's place.
    """

    def __init__(self, collator: Collator, utterances, batch_size: int, rows=None, texts=None):
        self._collator = collator
        self._utterances = utterances
        self._rows = rows
        self._texts = texts or {}
        preprocessor = collator.preprocessor
        # An ASR transcript can be longer than any text that the buckets were made for.
        longest = max((len(preprocessor.text_ids(t)) for t in self._texts.values()), default=0)
        self._buckets = bucketing.with_tokens(collator.buckets, longest)
        samples = [min(u.samples, preprocessor.max_samples) for u in utterances]
        self._plan = bucketing.plan(samples, collator.edges, batch_size)

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, i: int) -> dict:
        bucket, at = self._plan[i]
        utterances = _at(self._utterances, at)
        return self._collator.batch(
            utterances, self._buckets[bucket], rows=self._rows, texts=self._texts
        )

    def row_indices(self, i: int) -> np.ndarray:
        """Each row of the whole batch's place in `utterances`: int [batch_size], -1 fills."""
        return self._plan[i][1].copy()


def _at(utterances, rows):
    return [None if i == bucketing.FILL else utterances[i] for i in rows]


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
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch)
    placed = grain.MapDataset.source(batches).to_iter_dataset(options).map(place)
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
