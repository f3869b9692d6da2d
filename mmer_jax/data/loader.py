"""Batches of a corpus: deterministic, keyed by (seed, epoch), loaded in the background by grain."""

import dataclasses
import functools
import time

import grain.experimental
import grain.python as grain
import numpy as np

from mmer_jax.data import bucketing, folds
from mmer_jax.data.corpus import Corpus
from mmer_jax.data.features import recording_key, text_key
from mmer_jax.data.preprocessing import Preprocessor

OVERLONG = 32  # tokens that a text's length is rounded up to, where it does not fit in its bucket


def draw_recording(utterance, seed_epoch) -> int:
    """Which of its augmented recordings an utterance feeds in a pass; it has one at least."""
    count = len(utterance.augmented)
    if count == 1:
        return 0
    return int(np.random.default_rng((*seed_epoch, utterance.index)).integers(count))


def draw_text(utterance, seed_epoch, shares, ctc_transcripts, asr_transcripts) -> str:
    """What the original view of an utterance reads in a pass.

    The augmented view keeps its words: with the augmented contrastive loss, what voice and poor
    words say is drawn to what voice and true words say together.

    Args:
      utterance: of the corpus.
      seed_epoch: (seed, epoch).
      shares: of the utterances that read an empty text, what the CTC head wrote, and what a
        recogniser wrote.
      ctc_transcripts: by id; an utterance that is not in it keeps its transcript.
      asr_transcripts: by id, of all.
    """
    # Not the rng of `draw_recording`: which one comes must not depend on these options.
    draw = np.random.default_rng((*seed_epoch, utterance.index, 1)).random()
    nothing, ctc, asr = shares
    if draw < nothing:
        return ""
    if draw < nothing + ctc:
        return ctc_transcripts.get(utterance.id, utterance.transcript)
    if draw < nothing + ctc + asr:
        return asr_transcripts[utterance.id]
    return utterance.transcript


class Collator:
    """Turns utterances of a corpus into batches of static shapes, the same for all folds of a run.

    What is in a fold's batches must not depend on the other folds of a run, nor on any label: the
    buckets are chosen for all folds of the protocol, by who speaks alone.

    Args:
      config: of the run.
      corpus: where the audio is read.
      preprocessor: of the model's inputs.
      two_views: whether any of the run's losses reads the augmented view.
      training_sides: of the folds, lists of utterances; None: of those of the config's protocol.
      asr_transcripts: utterance id -> what a recogniser wrote; None where none did.
      counts_compiling: whether the buckets are chosen by the time to compile them, too.

    Attributes:
      asr_transcripts: as given, or {}.
      augmented: whether training batches carry the augmented view: none does where no utterance
        that is trained on has one for the model's modalities.
      choice: the `bucketing.Choice` of the edges, for the worst of the folds' training sets.
      edges, buckets: padded audio lengths, and the static shapes that go with them.
      features: `audio`, `text` -> the `features.Store` of its encoder's states, which batches then
        have in the place of waveforms or ids; {} without `config.data.cache_features`, and before
        they are computed.
    """

    def __init__(self, config, corpus: Corpus, preprocessor: Preprocessor, two_views: bool,
                 training_sides=None, asr_transcripts=None,
                 counts_compiling: bool = False):  # fmt: skip
        self.corpus, self.preprocessor = corpus, preprocessor
        self.asr_transcripts = asr_transcripts or {}
        self._modalities = tuple(config.model.modalities)
        train = config.train
        self._text_shares = train.text_dropout, train.ctc_texts, train.asr_texts
        self._balanced = config.losses.ce.class_weights == "balanced"
        sets = training_sides
        if sets is None:
            made = folds.make(corpus.utterances, config)
            sets = [folds.train_test(corpus.utterances, fold)[0] for fold in made]
        self.augmented = two_views and any(self._has_view(u) for us in sets for u in us)
        passes = max(config.train.epochs, 1) if training_sides is None else 1
        self.choice = self._choice(config.data, sets, passes if counts_compiling else 0)
        self.edges = self.choice.edges
        self.buckets = bucketing.make_buckets(self.edges, *self._smallest_shapes())
        self.features = {}

    def class_weights(self, utterances) -> np.ndarray | None:
        """N / (c * utterances of the class), float32 [c], for n that are trained on.

        None where `losses.ce.class_weights` wants none.
        """
        if not self._balanced:
            return None
        labels, classes = [u.label for u in utterances], len(self.corpus.label_names)
        counts = np.maximum(np.bincount(labels, minlength=classes), 1)
        return (len(labels) / (classes * counts)).astype(np.float32)

    def _has_view(self, utterance):
        return utterance.has_view(self._modalities)

    def feeds_recording(self, utterance) -> bool:
        """Whether a pass of training feeds an augmented recording of the utterance."""
        return self.augmented and "audio" in self._modalities and self._has_view(utterance)

    def _choice(self, data, sets, passes):
        lengths, weights = [], []
        for u in self.corpus.utterances:
            # One length for each recording that may be drawn: the longer one of the two views.
            drawn = [r.samples for r in u.augmented] if self.feeds_recording(u) else [0]
            lengths += [max(u.samples, n) for n in drawn]
            weights += [1 / len(drawn)] * len(drawn)
        candidates = bucketing.edges_by_count(
            lengths, data.buckets or bucketing.MOST, self.preprocessor.max_samples, weights
        )
        return bucketing.choose(
            candidates[-1:] if data.buckets else candidates,
            [self.view_lengths(us, (0, 0)) for us in sets],
            data.batch_size,
            data.max_padding,
            0 if data.buckets else passes,
        )

    def _smallest_shapes(self):
        """Samples, tokens and symbols of each utterance, in as small a bucket as may hold it."""
        utterances, ids = self.corpus.utterances, self.preprocessor.text_ids
        encode = self.preprocessor.alphabet.encode
        asr = self.asr_transcripts if self._text_shares[-1] else {}
        tokens = [
            max(
                len(ids(t))
                for t in (u.transcript, asr.get(u.id, ""), u.aug_transcript)[: 2 + self.augmented]
            )
            for u in utterances
        ]
        # Evaluation feeds the original view alone.
        samples = self.view_lengths(utterances).max(1)
        return samples, tokens, [len(encode(u.transcript)) for u in utterances]

    def view_lengths(self, utterances, seed_epoch=None) -> np.ndarray:
        """Samples, after the cut, of the v views of n utterances in a pass: int [n, v].

        One view, or two in training where the augmented one has speech. An utterance that lacks
        that one has its own recording fed in the place.
        """
        views = [[u.samples] for u in utterances]
        if seed_epoch and self.augmented and "audio" in self._modalities:
            for view, u in zip(views, utterances):
                drawn = self.feeds_recording(u) and u.augmented[draw_recording(u, seed_epoch)]
                view.append(drawn.samples if drawn else u.samples)
        return np.minimum(views, self.preprocessor.max_samples)

    def buckets_for(self, utterances, texts) -> tuple[bucketing.Bucket, ...]:
        """The buckets of a pass of evaluation with these texts, which may be longer than their own.

        A bucket changes only where it must, and in coarse steps: each new shape is compiled.
        """
        ids = self.preprocessor.text_ids
        tokens = np.array([len(ids(texts.get(u.id, u.transcript))) for u in utterances])
        which = bucketing.bucket_of(self.view_lengths(utterances).max(1), self.edges)
        out = []
        for k, bucket in enumerate(self.buckets):
            longest = int(tokens[which <= k].max(initial=0))
            if longest > bucket.tokens:
                most = bucketing.rounded(self.preprocessor.tokenizer.max_tokens)
                longest = min(bucketing.rounded(longest, OVERLONG), most)
                bucket = dataclasses.replace(bucket, tokens=longest)
            out.append(bucket)
        return tuple(out)

    def features_for(self, texts) -> dict:
        """The `features` that a pass with these texts can read: a text may have no states."""
        ids = self.preprocessor.text_ids
        store = self.features.get("text")
        if store is None or all(text_key(ids(text)) in store for text in texts.values()):
            return self.features
        return {name: store for name, store in self.features.items() if name != "text"}

    def batch(self, utterances, bucket: bucketing.Bucket, seed_epoch=None, rows=None,
              texts=None, features=None) -> dict:  # fmt: skip
        """One batch, shapes as in `bucket`.

        Args:
          utterances: those of the whole batch; None, but not for all, fills a row.
          bucket: the static shapes.
          seed_epoch: (seed, epoch) of a pass of training, which draw recordings and texts; None for
            evaluation, of the original view alone.
          rows: slice or indices of the b rows to load; None: all.
          texts: utterance id -> what evaluation reads in its transcript's place, and training's
            transcripts by the CTC head.
          features: see `features_for`; None: none are read.

        Returns:
          audio float32 [b, n], audio_length [b], text_ids and text_mask [b, s], transcript [b, u],
          transcript_length [b], ctc_valid, label, valid [b], index [b] (row in the corpus), and
          aug_valid, aug_audio, aug_audio_length where the model has speech, aug_text_ids,
          aug_text_mask where it has text. With `features` float16 audio_hidden [b, t, d],
          audio_states [b, l, t, d] of several layers, or audio_convolved [b, t, channels], and
          audio_mask [b, t] in the place of audio and audio_length; and text_hidden [b, s, d] in
          that of text_ids; aug_ alike.
        """

        def example(u):
            return u and self._example(u, seed_epoch, texts or {}, features or {})

        wanted = np.arange(len(utterances))[slice(None) if rows is None else rows]
        own = [utterances[i] for i in wanted]
        # Fill rows repeat the whole batch's first, whatever rows this process loads.
        first = next(u for u in utterances if u is not None) if None in own else None
        return self.preprocessor.collate([example(u) for u in own], bucket, example(first))

    def _example(self, u, seed_epoch, texts, features):
        p, stored = self.preprocessor, features.get("audio")
        own, augmented = (None, ()) if stored else self.corpus.recordings(u)
        if seed_epoch is None:
            text = texts.get(u.id, u.transcript)
        else:
            text = draw_text(u, seed_epoch, self._text_shares, texts, self.asr_transcripts)
        example = p.example(own, text, u.transcript, u.samples)
        example |= {"label": np.int32(u.label), "index": np.int32(u.index)}
        if stored:
            name = f"audio_{stored.entry}"
            example[name] = stored[recording_key(u)]
        if seed_epoch is not None and self.augmented:
            example["aug_valid"] = has_view = self._has_view(u)
            if "audio" in self._modalities:
                drawn = draw_recording(u, seed_epoch) if has_view else None
                if stored:
                    key = recording_key(u, u.augmented[drawn] if has_view else None)
                    example[f"aug_{name}"] = stored[key]
                else:
                    example["aug_audio"] = p.audio(augmented[drawn] if has_view else own)
            if "text" in self._modalities:
                example["aug_text_ids"] = p.text_ids(u.aug_transcript if has_view else u.transcript)
        return _with_text_states(example, features.get("text"))


def _with_text_states(example, store):
    """The example, where there is a store with its texts' states in the place of their ids."""
    for view in ("", "aug_") if store else ():
        if f"{view}text_ids" in example:
            example[f"{view}text_hidden"] = store[text_key(example.pop(f"{view}text_ids"))]
    return example


class Batches:
    """Random access to the batches of some passes over utterances, by step.

    Batch `step` depends on (seed, epoch, step within it) and the texts alone, so an iterator's
    whole state is the step, and a resumed run sees what an uninterrupted one would have seen. The
    plan is the same in every process; each loads its own rows of a batch.

    Args:
      collator: makes the batches.
      utterances: n, fed by each pass.
      batch_size: rows of the whole batch.
      rows: slice or indices of a batch's rows that this process loads; None: all.
      epochs: passes.
      seed: of training: the order, the augmented recordings and the texts are drawn; None for
        evaluation, in the order given.
      texts: see `Collator.batch`.

    Attributes:
      steps_per_epoch: ceil(n / batch_size).
      seed: as given.
      texts: of the batches loaded from now on.
    """

    def __init__(self, collator: Collator, utterances, batch_size: int, rows=None, *,
                 epochs: int = 1, seed: int | None = None, texts=None):  # fmt: skip
        self.steps_per_epoch = -(-len(utterances) // batch_size)
        self.seed, self.texts = seed, texts or {}
        self._collator, self._utterances = collator, utterances
        self._batch_size, self._rows, self._epochs = batch_size, rows, epochs
        self._buckets = collator.buckets
        self._class_weights = None if seed is None else collator.class_weights(utterances)
        if seed is None and self.texts:
            # An ASR transcript can be longer than any text that the buckets were made for.
            self._buckets = collator.buckets_for(utterances, self.texts)
        # Threads read ahead over the border of two epochs.
        self.plan = functools.lru_cache(maxsize=4)(self._plan)

    def __len__(self) -> int:
        return self.steps_per_epoch * self._epochs

    def __getitem__(self, step: int) -> dict:
        bucket, at = self._planned(step)
        utterances = [None if i == bucketing.FILL else self._utterances[i] for i in at]
        return self._load(utterances, bucket, step // self.steps_per_epoch)

    def examples(self, step: int = 0):
        """A batch of each bucket that the rest of the pass at `step` has, in its order.

        For their shapes: the shortest utterance alone is loaded, into each.
        """
        epoch, position = divmod(step, self.steps_per_epoch)
        lengths = self._collator.view_lengths(self._utterances, self._key(epoch)).max(1)
        rows = [None] * self._batch_size
        rows[0] = self._utterances[int(lengths.argmin())]
        for bucket in dict.fromkeys(k for k, _ in self.plan(epoch)[position:]):
            yield self._load(rows, bucket, epoch)

    def _load(self, utterances, bucket, epoch):
        """A batch of `utterances`, None for rows that fill it."""
        batch = self._collator.batch(
            utterances, self._buckets[bucket], self._key(epoch), self._rows, self.texts,
            self._features,
        )  # fmt: skip
        if self._class_weights is not None:
            batch["class_weight"] = self._class_weights[batch["label"]]
        return batch

    @functools.cached_property
    def _features(self):
        """When the first batch is loaded: they are computed by then."""
        return self._collator.features_for(self.texts)

    def row_indices(self, step: int) -> np.ndarray:
        """Each row of the whole batch's place in `utterances`: int [batch_size], -1 fills."""
        return self._planned(step)[1].copy()

    def num_valid(self, step: int) -> int:
        """How many rows of the whole batch hold an utterance, whatever rows this process loads."""
        return int((self._planned(step)[1] != bucketing.FILL).sum())

    def _planned(self, step):
        """(bucket, indices) of a batch."""
        epoch, position = divmod(step, self.steps_per_epoch)
        return self.plan(epoch)[position]

    def _plan(self, epoch):
        """See `bucketing.plan`, for one pass."""
        key = self._key(epoch)
        lengths = self._collator.view_lengths(self._utterances, key).max(1)
        rng = key and np.random.default_rng(key)
        return bucketing.plan(lengths, self._collator.edges, self._batch_size, rng)

    def _key(self, epoch):
        return None if self.seed is None else (self.seed, epoch)


class DeviceIterator(grain.DatasetIterator):
    """Batches that are on the devices already when they are asked for.

    `grain.experimental.device_put` with `place` in the place of `jax.device_put`, which can't put
    together a batch of which each process holds a part. A grain iterator, so orbax saves and
    restores it as one: its state counts the batches handed out, and those that only wait ahead come
    again after a restart.

    Args:
      batches: a sequence, such as `Batches`.
      place: host batch -> device batch; called in a thread of its own, in order.
      threads: that load.
      prefetch: batches in the host's memory ahead, at least 1.
      ahead: batches on the devices ahead, at least 1.

    Attributes:
      waited: seconds spent in `__next__` so far, waiting for a batch.
    """

    def __init__(self, batches, place, threads: int, prefetch: int, ahead: int = 2):
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch)
        placed = grain.MapDataset.source(batches).to_iter_dataset(options).map(place)
        super().__init__(
            iter(grain.experimental.ThreadPrefetchIterDataset(placed, prefetch_buffer_size=ahead))
        )
        self.waited = 0.0

    def __next__(self):
        if not self._parents:
            raise ValueError("The iterator is closed.")
        began = time.perf_counter()
        try:
            return next(self._parent)
        finally:
            self.waited += time.perf_counter() - began

    def get_state(self) -> dict:
        """The state after the last batch handed out."""
        return self._parent.get_state()

    def set_state(self, state: dict) -> None:
        """Goes on after the batch that `state` was taken at."""
        self._parent.set_state(state)

    # These two not by `super()`: Python 3.10's last grain (0.2.13) has nothing to inherit there.

    def start_prefetch(self) -> None:
        """Starts to load before the first batch is asked for; orbax does so after a restore."""
        self._parent.start_prefetch()

    def close(self) -> None:
        """Ends the threads; what was loaded ahead is dropped."""
        for source in self._parents:
            source.close()
        # Let go of now: grain's iterators close themselves again when they are deleted, and
        # complain if that comes as late as the interpreter's end.
        self._parents = ()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
