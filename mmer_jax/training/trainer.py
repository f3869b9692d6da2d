"""What the folds of a run share: corpus, batches, model and compiled steps."""

import jax

from mmer_jax import losses
from mmer_jax.data import folds, text
from mmer_jax.data.corpus import Corpus
from mmer_jax.data.loader import Collator
from mmer_jax.data.preprocessing import SAMPLE_RATE, Preprocessor
from mmer_jax.losses import memory_bank
from mmer_jax.models import factory, params_file
from mmer_jax.models.forward import make_forward
from mmer_jax.training import checkpoint_io, sharding, state, step
from mmer_jax.training.optimizer import make_optimizer, merge, split_frozen


class Experiment:
    """A config made runnable. One object serves all folds, so each shape is compiled once.

    Attributes:
      config: the whole config.
      corpus: every utterance of the prepared dataset.
      collator: makes batches of them.
      tokenizer_folder: hub name or folder of its tokenizer; "" for speech alone.
      model: the Flax module.
      mesh, shardings: all devices, and where each leaf of the state lies on them.
      train_step: jitted, see `training/step.py`.
      eval_step: jitted, of all parameters and a batch, see `make_forward`.
      pretrained: where the training began, {} before it does: which weights were read, see
        `factory.provenance`, or with `config.init_from` those of `init_from`, and `tokenizer`, each
        with `source` and `sha256`; the former's is that of all parameters, its first 16 digits.

    Raises:
      UserError: no dataset, no tokenizer, no checkpoint, or options that don't go together.
    """

    def __init__(self, config):
        self.config = config
        self.mesh = sharding.make_mesh(config.mesh)
        sharding.check_batch_size("data.eval_batch_size", config.data.eval_batch_size, self.mesh)
        self.corpus = Corpus(config.data.dir, config.data.dataset, config.data.emotions)
        tokenizer, self.tokenizer_folder = text.read_tokenizer(config)
        # Now, for it refuses a tokenizer that no finished fold could keep.
        self._tokenizer_digest = tokenizer.digest() if tokenizer else None
        longest = round(config.data.max_seconds * SAMPLE_RATE)
        self.collator = Collator.from_config(
            config,
            self.corpus,
            Preprocessor(tokenizer, longest, factory.normalizes(config)),
            two_views=bool(losses.of_two_views(config.losses)),
        )
        self.pretrained = {}
        self.model = factory.build_model(
            config,
            classes=len(self.corpus.label_names),
            symbols=len(text.CTC_SYMBOLS),
            vocab_size=tokenizer.vocab_size if tokenizer else 1,
        )
        factory.check_limits(self.model, config, tokenizer, self.collator.edges[-1])
        self.optimizer = make_optimizer(config.optimizer)
        shapes = jax.eval_shape(
            self._fresh, *self._split(factory.param_shapes(self.model)), 1, (1, 1)
        )
        self.shardings = sharding.state_shardings(shapes, self.mesh)
        everything = (self.mesh, self.shardings)
        self.train_step = step.make_train_step(self.model, self.optimizer, config, *everything)
        self.eval_step = self.make_forward(("logits", "symbols"))
        self._params = None

    def make_forward(self, keep):
        """`make_forward` of the model over the mesh; every device has a copy of the outputs."""
        params = merge(self.shardings.params, self.shardings.frozen)
        return make_forward(
            self.model,
            keep,
            in_shardings=(params, sharding.batch_sharding(self.mesh)),
            out_shardings=sharding.replicated(self.mesh),
        )

    def split(self, fold: folds.Fold) -> folds.Split:
        """The utterances that a fold trains on, chooses the epoch by, and tests."""
        c = self.config
        return folds.split(
            self.corpus.utterances, fold, c.selection, c.heldout_fraction, c.seed,
            c.exclude_seen_transcripts,
        )  # fmt: skip

    def reseed(self, config) -> None:
        """Goes on with a config that differs from the one so far by its seed alone."""
        self.config = config
        self._params = None

    def initial_state(self, total_steps: int, steps_per_epoch: int | None = None,
                      last_step: int | None = None) -> state.TrainState:  # fmt: skip
        """The state before training, the same for every fold, on the mesh.

        Args:
          total_steps: batches that the learning rate's schedule spans.
          steps_per_epoch, last_step: of this training, for `train.accumulation`; None: one epoch.
        """
        if self._params is None:
            names = self.corpus.label_names
            self._params = checkpoint_io.initial_params(self.model, self.config, names)
            self.pretrained = self._origin()
        trained, frozen = self._distribute(self._params)
        # What is made of them is made where it is to lie.
        groups = (steps_per_epoch or total_steps, last_step or total_steps)
        fresh = jax.jit(self._fresh, out_shardings=self.shardings)
        return fresh(trained, frozen, total_steps, groups)

    def trained_state(self, params: dict) -> state.TrainState:
        """A state on the mesh that answers with all parameters of a trained model.

        Raises:
          UserError: they are another model's.
        """
        factory.check_params(self.model, params, "The run")
        return state.for_evaluation(*self._distribute(params))

    def _origin(self):
        """See `pretrained`."""
        source = self.config.init_from
        if source:
            digest = params_file.params_digest(self._params)
            origin = {"init_from": {"source": source, "sha256": digest}}
        else:
            origin = factory.provenance(self.model, self.config)
        if self._tokenizer_digest:
            words = {"source": self.tokenizer_folder, "sha256": self._tokenizer_digest}
            origin["tokenizer"] = words
        return origin

    def _distribute(self, params):
        trained, frozen = self._split(params)
        return (
            sharding.distribute(trained, self.shardings.params),
            sharding.distribute(frozen, self.shardings.frozen),
        )

    def _split(self, params):
        options = self.config.optimizer
        return split_frozen(params, tuple(options.frozen), tuple(options.groups))

    def _fresh(self, trained, frozen, total_steps, groups):
        past = memory_bank.create(self.config.losses.memory.size, self.config.model.width)
        seed = self.config.seed
        groups = groups if self.config.train.accumulation > 1 else None
        return state.create(trained, frozen, self.optimizer, total_steps, past, seed, groups)
