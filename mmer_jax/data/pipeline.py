"""The batches: a deterministic grain pipeline keyed by (seed, epoch), loaded in the background."""

import dataclasses

import grain.python as grain
import numpy as np

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
      buckets: how many padded lengths.
      augmented: whether batches carry the augmented view.
    """

    def __init__(self, corpus: Corpus, tokenizer, max_samples: int, normalized: bool, buckets: int,
                 augmented: bool):  # fmt: skip
        self.corpus = corpus
        self.max_samples = max_samples
        self.normalized = normalized
        self.augmented = augmented
        self.encoded = [_encode(u, tokenizer) for u in corpus.utterances]
        self.index = {u.id: i for i, u in enumerate(corpus.utterances)}
        self._pad_id = tokenizer.pad_id if tokenizer else 0
        samples = [self.samples(u) for u in corpus.utterances]
        self.edges = batching.choose_edges(samples, buckets, max_samples)
        self.buckets = batching.make_buckets(
            self.edges,
            samples,
            [max(len(e.tokens), len(e.aug_tokens)) for e in self.encoded],
            [len(e.symbols) for e in self.encoded],
        )

    def samples(self, utterance: Utterance) -> int:
        """Samples that the utterance's longest view needs after the cut."""
        views = (utterance.samples, *(utterance.aug_samples if self.augmented else ()))
        return min(max(views), self.max_samples)

    def batch(self, utterances, bucket: batching.Bucket, seed_epoch, augmented: bool) -> dict:
        """One batch, shapes as in `bucket`; None among `utterances` fills a row.

        Args:
          utterances: b of them; at least one is not None.
          bucket: the static shapes.
          seed_epoch: (seed, epoch), which draws among several augmented recordings.
          augmented: adds the `aug_*` arrays.

        Returns:
          audio float32 [b, n], audio_length [b], text_ids and text_mask [b, s], transcript [b, u],
          transcript_length [b], ctc_valid, label, valid [b], index [b] (row in the corpus), and
          aug_audio, aug_audio_length, aug_text_ids, aug_text_mask, aug_valid.
        """
        valid = np.array([u is not None for u in utterances])
        # A fill row repeats a real utterance: no length is 0, so no statistic divides by 0.
        some = next(u for u in utterances if u is not None)
        rows = [u if u is not None else some for u in utterances]
        recordings = [self.corpus.recordings(u) for u in rows]
        out = self._speech("audio", [r[0] for r in recordings], bucket)
        out |= self._text("text", [self._encoded(u).tokens for u in rows], bucket)
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
        exists = np.array([bool(u.aug_samples and u.aug_transcript) for u in rows])
        speech = [
            _draw(r[1], (*seed_epoch, self.index[u.id])) if e else r[0]
            for u, r, e in zip(rows, recordings, exists)
        ]
        tokens = [
            self._encoded(u).aug_tokens if e else self._encoded(u).tokens
            for u, e in zip(rows, exists)
        ]
        out = self._speech("aug_audio", speech, bucket) | self._text("aug_text", tokens, bucket)
        return out | {"aug_valid": exists & valid}

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
    def tokens(transcript):
        return tokenizer.ids(transcript) if tokenizer else np.zeros(1, np.int32)

    return Encoded(
        tokens=tokens(utterance.transcript),
        symbols=text.ctc_targets(utterance.transcript),
        aug_tokens=tokens(utterance.aug_transcript),
    )


def _draw(recordings, key):
    return recordings[np.random.default_rng(key).integers(len(recordings))]


class TrainBatches:
    """Random access to every batch of a training run, by step.

    Batch `step` depends on (seed, epoch, step within it) alone, so the iterator's whole state is
    the step, and a resumed run sees what an uninterrupted one would have seen.
    """

    def __init__(self, featurizer: Featurizer, utterances, batch_size: int, epochs: int, seed: int):
        self._featurizer = featurizer
        self._utterances = utterances
        self._samples = [featurizer.samples(u) for u in utterances]
        self._batch_size = batch_size
        self._seed = seed
        self._plans = {}
        self.steps_per_epoch = -(-len(utterances) // batch_size)
        self._epochs = epochs

    def __len__(self) -> int:
        return self.steps_per_epoch * self._epochs

    def __getitem__(self, step: int) -> dict:
        epoch, position = divmod(step, self.steps_per_epoch)
        bucket, rows = self._plan(epoch)[position]
        utterances = [None if i == batching.FILL else self._utterances[i] for i in rows]
        f = self._featurizer
        return f.batch(utterances, f.buckets[bucket], (self._seed, epoch), f.augmented)

    def _plan(self, epoch):
        plan = self._plans.get(epoch)
        if plan is None:
            rng = np.random.default_rng((self._seed, epoch))
            plan = batching.plan(self._samples, self._featurizer.edges, self._batch_size, rng)
            # Threads may read at the border of two epochs: keep both, not the whole run.
            self._plans = {e: p for e, p in self._plans.items() if e == epoch - 1} | {epoch: plan}
        return plan


class EvalBatches:
    """Random access to one pass over utterances, in order, without the augmented view."""

    def __init__(self, featurizer: Featurizer, utterances, batch_size: int):
        self._featurizer = featurizer
        self._utterances = utterances
        samples = [min(u.samples, featurizer.max_samples) for u in utterances]
        self._plan = batching.plan(samples, featurizer.edges, batch_size)

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, i: int) -> dict:
        bucket, rows = self._plan[i]
        utterances = [None if r == batching.FILL else self._utterances[r] for r in rows]
        f = self._featurizer
        return f.batch(utterances, f.buckets[bucket], (0, 0), augmented=False)


def background(batches, threads: int, prefetch: int):
    """A grain iterator (with `get_state`/`set_state`) that loads `batches` in threads, in order."""
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch)
    return iter(grain.MapDataset.source(batches).to_iter_dataset(options))
