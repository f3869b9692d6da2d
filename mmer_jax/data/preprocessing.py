"""Waveforms and texts as a model's inputs, for training, evaluation and prediction alike."""

import dataclasses

import numpy as np

from mmer_jax.data.alphabet import ENGLISH, Alphabet
from mmer_jax.data.bucketing import Bucket
from mmer_jax.data.text import Tokenizer

SAMPLE_RATE = 16_000
# What the names of an encoder's stored states end with: of one layer, of several, of convolutions.
STATES = ("_hidden", "_states", "_convolved")


def to_float(samples: np.ndarray) -> np.ndarray:
    """int16 [n] -> float32 [n] in [-1, 1)."""
    return samples.astype(np.float32) / 32768.0


def normalize(wave: np.ndarray) -> np.ndarray:
    """Zero mean and unit variance over the utterance, as wav2vec2's feature extractor has it.

    The 1e-7 under the root keeps a silent recording finite (all zeros).
    """
    return (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)


def pad(rows, length: int, fill=0) -> tuple[np.ndarray, np.ndarray]:
    """B rows of up to `length` values -> ([b, length] filled with `fill`, int32 lengths [b])."""
    out = np.full((len(rows), length), fill, rows[0].dtype)
    for padded, row in zip(out, rows):
        padded[: len(row)] = row
    return out, np.array([len(row) for row in rows], np.int32)


def _padded_states(rows, length):
    """B arrays [..., n, d] -> [b, ..., length, d] filled with 0, bool mask [b, length]."""
    *layers, _, width = rows[0].shape
    out = np.zeros((len(rows), *layers, length, width), rows[0].dtype)
    for padded, row in zip(out, rows):
        padded[..., : row.shape[-2], :] = row
    counts = np.array([row.shape[-2] for row in rows])
    return out, np.arange(length) < counts[:, None]


@dataclasses.dataclass(frozen=True)
class Preprocessor:
    """How a model's inputs are made.

    Attributes:
      tokenizer: None where the model reads no text.
      max_samples: longer recordings are cut, and their CTC loss is masked.
      normalized: whether waveforms get zero mean and unit variance.
      alphabet: of the CTC loss's targets.
    """

    tokenizer: Tokenizer | None
    max_samples: int
    normalized: bool
    alphabet: Alphabet = ENGLISH

    def audio(self, wave: np.ndarray) -> np.ndarray:
        """int16 or float32 [n] -> float32 [<= max_samples], cut and normalised.

        The cut comes first, so that statistics never depend on what the model does not see.
        """
        wave = wave[: self.max_samples]
        wave = to_float(wave) if wave.dtype == np.int16 else wave
        return normalize(wave) if self.normalized else wave

    def text_ids(self, text: str) -> np.ndarray:
        """Token ids int32 [s]; of a model that reads no text a single 0."""
        return self.tokenizer.ids(text) if self.tokenizer else np.zeros(1, np.int32)

    def example(self, wave=None, text: str | None = None, transcript: str | None = None,
                samples: int = 0) -> dict:  # fmt: skip
        """One utterance, or what is given of it, as arrays of its own lengths.

        Args:
          wave: int16 or float32 [n], 16 kHz.
          text: what the text encoder reads.
          transcript: what is said, as the CTC loss's target.
          samples: of a recording whose wave isn't given.

        Returns:
          `audio` float32 [n], `text_ids` int32 [s], `transcript` int32 [u] CTC symbols and
          `ctc_valid`: False for a recording that is cut, or without symbols.
        """
        example = {}
        if wave is not None:
            example["audio"] = self.audio(wave)
        if text is not None:
            example["text_ids"] = self.text_ids(text)
        if transcript is not None:
            example["transcript"] = self.alphabet.encode(transcript)
            samples = samples if wave is None else len(wave)
            example["ctc_valid"] = samples <= self.max_samples and len(example["transcript"]) > 0
        return example

    def collate(self, examples, bucket: Bucket, fill: dict | None = None) -> dict:
        """Examples as one batch of static shapes.

        Args:
          examples: b dicts as of `example`, all with the same keys; None fills a row.
          bucket: the static shapes.
          fill: example that fill rows repeat, so that no length is 0; None: the first one.

        Returns:
          The examples' keys as arrays [b, ...] and `valid` bool [b], False for fill rows. Audio
          and transcripts come with their `_length` [b], `*_ids` and an encoder's states (see
          `STATES`, padded with 0) with a `*_mask` [b, s]; other bools are False in fill rows.
        """
        fill = fill or next(e for e in examples if e is not None)
        rows = [fill if e is None else e for e in examples]
        batch = {"valid": np.array([e is not None for e in examples])}
        for name in fill:
            values = [row[name] for row in rows]
            if name.endswith("audio"):
                batch[name], batch[f"{name}_length"] = pad(values, bucket.samples)
            elif name.endswith("text_ids"):
                mask = name.replace("ids", "mask")
                batch[name], batch[mask] = self._padded_texts(values, bucket.tokens)
            elif name.endswith(STATES):
                modality = name.rpartition("_")[0]
                is_text = modality.endswith("text")
                length = bucket.tokens if is_text else bucket.frames
                batch[name], mask = _padded_states(values, length)
                batch[f"{modality}_mask"] = mask.astype(np.int32) if is_text else mask
            elif name == "transcript":
                batch[name], batch["transcript_length"] = pad(values, bucket.symbols)
            else:
                column = np.array(values)
                batch[name] = column & batch["valid"] if column.dtype == bool else column
        return batch

    def _padded_texts(self, rows, length):
        """Ids and mask [b, length]; of a longer text the end of the sequence is kept.

        A recognised text can be longer than any transcript that the bucket was made for.
        """
        rows = [
            ids if len(ids) <= length else np.append(ids[: length - 1], ids[-1]) for ids in rows
        ]
        ids, lengths = pad(rows, length, self.tokenizer.pad_id if self.tokenizer else 0)
        return ids, (np.arange(length) < lengths[:, None]).astype(np.int32)
