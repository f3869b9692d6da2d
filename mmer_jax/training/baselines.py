"""Floors of a result: what simple classifiers reach on the same folds, without a network of ours.

The majority class; the transcripts alone, logistic regression on TF-IDF of words and pairs of
words; and the speech alone, logistic regression on mean and standard deviation over time of the
audio encoder's hidden states before any training, a linear probe (Alain and Bengio, "Understanding
intermediate layers using linear classifier probes", 2016), of each layer and of all together.
"""

import jax.numpy as jnp
import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mmer_jax.data import folds, text
from mmer_jax.metrics import classification
from mmer_jax.models.layers import masked_statistics
from mmer_jax.models.mmer import jit_at
from mmer_jax.training import checkpoint_io, sharding
from mmer_jax.training.evaluation import fetched, outputs
from mmer_jax.training.trainer import Trainer

C = 0.1  # inverse strength of the probes' L2 penalty, of standardised features


def measure(trainer: Trainer, tested: tuple[folds.Fold, ...], say=print) -> list[dict]:
    """Confusions of each floor in each fold; it learns from all of a fold's training side.

    Args:
      trainer: of the run, with a corpus.
      tested: the folds.
      say: told what comes next.

    Returns:
      `title` and `confusions`, fold's number -> [c, c] numbers, of each floor.
    """
    utterances = trainer.corpus.utterances
    labels = np.array([u.label for u in utterances])
    floors = _floors(trainer, utterances, say)
    at = {u.id: i for i, u in enumerate(utterances)}
    confusions = {title: {} for title in floors}
    for fold in tested:
        say(f"fold {fold.number} ...")
        split = trainer.split(fold)
        sides = split.train + (split.validation if split.heldout else ()), split.test
        train, test = (np.array([at[u.id] for u in side]) for side in sides)
        for title, (model, features) in floors.items():
            predicted = model.fit(features[train], labels[train]).predict(features[test])
            confusion = classification.confusion(labels[test], predicted, len(trainer.label_names))
            confusions[title][fold.number] = confusion.tolist()
    return [{"title": title, "confusions": found} for title, found in confusions.items()]


def _floors(trainer, utterances, say):
    """Title -> classifier, and what it reads of each utterance, an array of n rows."""
    floors = {"majority class": (DummyClassifier(), np.zeros((len(utterances), 1)))}
    if "text" in trainer.config.model.modalities and any(u.transcript for u in utterances):
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\S+")
        model = make_pipeline(
            vectorizer, LogisticRegression(class_weight="balanced", max_iter=1000)
        )
        words = np.array([text.normalized(u.transcript) for u in utterances])
        floors["transcripts, TF-IDF"] = model, words
    if trainer.model.audio_encoder is not None:
        say(f"encoding {len(utterances)} utterances ...")
        states = _pooled_states(trainer, utterances)
        regression = LogisticRegression(C=C, class_weight="balanced", max_iter=2000)
        probe = make_pipeline(StandardScaler(), regression)
        for layer in range(states.shape[1]):
            floors[f"speech, layer {layer}"] = probe, states[:, layer]
        floors["speech, all layers"] = probe, states.reshape(len(states), -1)
    return floors


def _pooled_states(trainer, utterances):
    """Float32 [n, layers + 1, 2 d]: mean and deviation of the states that training begins with."""
    encoder = trainer.model.audio_encoder
    params = checkpoint_io.initial_params(trainer.model, trainer.config, trainer.label_names)

    def pool(params, batch):
        inputs = batch["audio"], batch["audio_length"]
        states, mask = encoder.apply({"params": params["audio_encoder"]}, *inputs, True, True)
        moments = 2 * states[0].shape[-1]
        return jnp.stack([masked_statistics(x, mask)[:, :moments] for x in states], axis=1)

    whole = sharding.replicated(trainer.mesh)
    forward = jit_at(pool, trainer.model.precision, out_shardings=whole)
    found = {}
    batches = outputs(trainer, forward, trainer.trained_state(params), utterances)
    for indices, rows in fetched(batches):
        found |= {i: row for i, row in zip(indices.tolist(), rows) if i >= 0}
    return np.stack([found[i] for i in range(len(utterances))])
