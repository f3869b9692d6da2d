"""What the folds of a run share: corpus, batches, model and compiled steps."""

import jax

from mmer_jax.data import text
from mmer_jax.data.audio import SAMPLE_RATE
from mmer_jax.data.corpus import Corpus
from mmer_jax.data.pipeline import Featurizer
from mmer_jax.models import factory
from mmer_jax.training import sharding, state, step
from mmer_jax.training.checkpoint import read_params
from mmer_jax.training.optimizer import make_optimizer, split_frozen


class Experiment:
    """A config made runnable. One object serves all folds, so each shape is compiled once.

    Attributes:
      config: the whole config.
      corpus: every utterance of the prepared dataset.
      featurizer: makes batches of them.
      model: the Flax module.
      train_step, eval_step: jitted, see `training/step.py`.

    Raises:
      UserError: no dataset, no tokenizer, no checkpoint, or options that don't go together.
    """

    def __init__(self, config):
        self.config = config
        self.mesh = sharding.make_mesh()
        sharding.check_batch_size("data.batch_size", config.data.batch_size, self.mesh)
        sharding.check_batch_size("data.eval_batch_size", config.data.eval_batch_size, self.mesh)
        self.corpus = Corpus(config.data.dir, config.data.dataset, config.data.emotions)
        tokenizer = _tokenizer(config)
        self.featurizer = Featurizer(
            self.corpus,
            tokenizer,
            max_samples=round(config.data.max_seconds * SAMPLE_RATE),
            normalized=factory.normalizes(config),
            buckets=config.data.buckets,
            augmented=config.losses.acl.weight > 0,
        )
        self.model = factory.build_model(
            config,
            classes=len(self.corpus.label_names),
            symbols=len(text.CTC_SYMBOLS),
            vocab_size=tokenizer.vocab_size if tokenizer else 1,
        )
        self.optimizer = make_optimizer(config.optimizer)
        self.train_step = step.make_train_step(self.model, self.optimizer, config, self.mesh)
        self.eval_step = step.make_eval_step(self.model, self.mesh)
        self._params = None

    def initial_state(self, total_steps: int) -> state.TrainState:
        """The state before training, the same for every fold, on every device."""
        if self._params is None:
            self._params = jax.device_get(self._first_params())
        trained, frozen = split_frozen(self._params, tuple(self.config.optimizer.frozen))
        fresh = state.create(trained, frozen, self.optimizer, total_steps, self.config.seed)
        # device_put may alias host memory that the first step would then donate: copy.
        fresh = jax.tree.map(lambda x: x.copy(), fresh)
        return jax.device_put(fresh, sharding.replicated(self.mesh))

    def _first_params(self):
        if not self.config.init_from:
            return factory.init_params(self.model, self.config, self.config.seed)
        params = read_params(self.config.init_from)
        factory.check_params(self.model, params, self.config.init_from)
        return params


def _tokenizer(config):
    if "text" not in config.model.modalities:
        return None
    source = config.text.tokenizer or config.text.pretrained
    return text.Tokenizer(source, config.text.max_tokens, config.text.keep_events)
