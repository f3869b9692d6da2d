"""What the model makes of one fold's test utterances inside: embeddings, gate, attention."""

import dataclasses

import jax
import numpy as np

from mmer_jax.data import preprocessing
from mmer_jax.data.alphabet import Alphabet
from mmer_jax.data.corpus import Corpus
from mmer_jax.data.text import load_tokenizer
from mmer_jax.errors import UserError
from mmer_jax.models import factory
from mmer_jax.runs import FoldRun
from mmer_jax.training import checkpoint, evaluation
from mmer_jax.training.trainer import Trainer


@dataclasses.dataclass(frozen=True)
class Attention:
    """Where in the speech each token of one utterance looks.

    Attributes:
      utterance: its id.
      weights: float32 [s, t], mean over the heads; each row sums to 1.
      tokens: s texts, special tokens among them.
      wave: float32 [n] in [-1, 1), the model's input.
      frame: seconds from one of the t frames to the next.
    """

    utterance: str
    weights: np.ndarray
    tokens: list[str]
    wave: np.ndarray
    frame: float


@dataclasses.dataclass(frozen=True)
class Features:
    """Of n test utterances, in the order of the fold's predictions.

    Attributes:
      logits: float32 [n, c].
      fused: float32 [n, d].
      gate: float32 [n], mean of the gate over width and tokens; None where there is no gate.
      attention: of the one utterance; None where the model has none.
    """

    logits: np.ndarray
    fused: np.ndarray
    gate: np.ndarray | None
    attention: Attention | None


def extract(fold: FoldRun, utterance: str, data_dir: str = "") -> Features:
    """Features of a fold's test utterances, from the checkpoint that was tested.

    Args:
      fold: a finished one.
      utterance: id of the one whose attention is wanted.
      data_dir: where the prepared dataset is now; empty: where the run had it.

    Raises:
      UserError: checkpoint, dataset or tokenizer are gone, or another corpus is there now.
    """
    trainer, state, utterances = open_fold(fold, data_dir)
    forward = trainer.make_forward(("logits", "fused", "mean_gate", "attention", "frames"))
    rows, attention = {}, None
    for indices, out in evaluation.outputs(trainer, forward, state, utterances):
        weights = out.pop("attention", None)  # large: only one row of it leaves the device
        out = jax.device_get(out)
        for row, index in enumerate(indices):
            if index < 0:
                continue
            rows[index] = {name: values[row] for name, values in out.items()}
            if weights is not None and utterances[index].id == utterance:
                shown = np.asarray(weights[row])[:, : out["frames"][row]]
                attention = _attention(trainer, utterances[index], shown)
    columns = {name: np.stack([rows[i][name] for i in range(len(rows))]) for name in rows[0]}
    fused = columns["fused"].astype(np.float32)
    return Features(columns["logits"], fused, columns.get("mean_gate"), attention)


def open_fold(fold: FoldRun, data_dir: str = "", trainer: Trainer | None = None,
              corpus: Corpus | None = None):  # fmt: skip
    """The state of a fold that was tested, and its test utterances.

    Args:
      fold: a finished one.
      data_dir: where the prepared dataset, or `corpus`, is now; empty: where the run had its own.
      trainer: of another fold of the same run, reused where it fits.
      corpus: another than the run's, of the same classes, to be tested on all of it.

    Returns:
      (Trainer, state, utterances in the order of the fold's predictions, or of `corpus`).

    Raises:
      UserError: checkpoint, dataset or tokenizer are gone, or another corpus is there now.
    """
    config, params = checkpoint.read_params(fold)
    config = factory.as_trained(config, fold.result.normalized)
    # They decide where arrays lie, not what is in them: the run's devices need not be here.
    config.mesh.data, config.mesh.fsdp, config.mesh.model = -1, 1, 1
    # What training read of a recogniser's transcripts need not be here either.
    config.data.asr_transcripts, config.train.asr_texts = "", 0.0
    if data_dir:
        config.data.dir = data_dir
    if corpus:
        config.data.corpora, config.data.dataset = (), corpus.datasets[0]
    # Each prepares waveforms in one way; folds of different versions may differ in it.
    if trainer is None or trainer.config.data.normalize != config.data.normalize:
        alphabet = Alphabet.from_json(fold.result.alphabet)
        trainer = Trainer.for_corpus(config, alphabet, corpus)
    trainer.start_from(config)
    state = trainer.initial_state(1) if params is None else trainer.trained_state(params)
    return trainer, state, corpus.utterances if corpus else _utterances(trainer.corpus, fold)


def _utterances(corpus, fold):
    """The corpus's utterances that the fold's predictions name, in their order."""
    known = {u.id: u for u in corpus.utterances}
    names = [p.utterance for p in fold.result.predictions]
    gone = [name for name in names if name not in known]
    if gone:
        raise UserError(
            f"{len(gone)} of the {len(names)} test utterances ({gone[0]}, ...) are not in the "
            "dataset that is there now: it was prepared from another corpus. Prepare it again "
            "with `tfds build` as for the run, or name its place by --data_dir."
        )
    return tuple(known[name] for name in names)


def _attention(trainer, utterance, weights):
    preprocessor, options = trainer.collator.preprocessor, trainer.config.text
    ids = preprocessor.text_ids(utterance.transcript)
    tokens = spelled(options.tokenizer or options.pretrained, ids)
    wave = preprocessing.to_float(
        trainer.corpus.recordings(utterance)[0][: preprocessor.max_samples]
    )
    frame = trainer.model.frame_samples / preprocessing.SAMPLE_RATE
    return Attention(utterance.id, weights[: len(ids)], tokens, wave, frame)


def spelled(source: str, ids) -> list[str]:
    """Each token id [s] as a readable text.

    Args:
      source: hub name or folder of the tokenizer.
      ids: int [s].
    """
    tokenizer = load_tokenizer(source)
    # One by one, for byte-level tokens are no readable text themselves (Ġword).
    texts = [tokenizer.decode([i], clean_up_tokenization_spaces=False) for i in ids]
    return [text.strip() or tokenizer.convert_ids_to_tokens(int(i)) for text, i in zip(texts, ids)]
