"""Model, optimiser and compiled steps of a config on all devices; they need no corpus."""

import functools

import jax

from mmer_jax import configuration, losses
from mmer_jax.data import folds, loader, text, transcripts
from mmer_jax.data.alphabet import ENGLISH, Alphabet
from mmer_jax.data.corpus import Corpus
from mmer_jax.errors import UserError
from mmer_jax.losses import memory_bank
from mmer_jax.models import factory, storage
from mmer_jax.models.mmer import make_forward
from mmer_jax.training import checkpoint_io, features, sharding, step
from mmer_jax.training.optimizer import make_optimizer, merge, split_frozen
from mmer_jax.training.programs import Programs


class Trainer:
    """A config made runnable. One object serves all folds, so each shape is compiled once.

    Args:
      config: see `mmer_jax/configuration.py`.
      label_names: of the c classes, in the order of the logits.
      vocab_size: of the tokenizer; used by a text encoder from scratch.
      collator: makes batches of a corpus; None where no corpus is trained on or evaluated.

    Attributes:
      model: the Flax module.
      tokenizer: the collator's; None without one, and for a model of speech alone.
      alphabet: of the CTC head: the collator's; English without one.
      optimizer: see `make_optimizer`.
      mesh, shapes, shardings: all devices; each leaf of the state, and where it lies on them.
      train_step: `Programs`, (state, batch) -> (state, metrics), see `make_train_step`.
      eval_step: `Programs`, (all parameters, batch) -> `logits` and `symbols`, see `make_forward`.
      asr: the `Transcripts` of `config.data.asr_transcripts`; None without, and for another corpus.
      pretrained: where the training began, {} before it does: which weights were read, see
        `factory.provenance`, or with `config.init_from` those of `init_from`, and `tokenizer`, each
        with `source` and `sha256`; the former's is that of all parameters, its first 16 digits.

    Raises:
      UserError: no such encoder, or options that don't go together.
    """

    def __init__(self, config, label_names, vocab_size: int, collator=None):
        self.config, self.label_names, self.collator = config, tuple(label_names), collator
        self.tokenizer = collator.preprocessor.tokenizer if collator else None
        self.alphabet = collator.preprocessor.alphabet if collator else ENGLISH
        self.model = model = factory.build_model(
            config, len(self.label_names), len(self.alphabet.symbols), vocab_size
        )
        # Now, for it refuses a tokenizer that no finished fold could keep.
        self._tokenizer_digest = self.tokenizer.digest() if self.tokenizer else None
        self.pretrained, self._params = {}, None
        self.asr = None
        self.mesh = sharding.make_mesh(config.mesh)
        self.optimizer = make_optimizer(config.optimizer)
        parts = self._split(factory.param_shapes(model))
        self.shapes = jax.eval_shape(self._fresh, *parts, 1, (1, 1))
        self.shardings = sharding.state_shardings(self.shapes, self.mesh)
        self.train_step = Programs(
            step.make_train_step(model, self.optimizer, config, self.mesh, self.shardings),
            "training",
        )
        self.eval_step = self.make_forward(("logits", "symbols"))
        if collator:
            self.train_step.expected = self.eval_step.expected = len(collator.buckets)

    @classmethod
    def for_corpus(cls, config, alphabet: Alphabet | None = None,
                   corpus: Corpus | None = None) -> "Trainer":  # fmt: skip
        """Reads the corpus that the config names, and its tokenizer, for training and evaluation.

        Args:
          config: of the run.
          alphabet: that of its finished folds; None: as `config.losses.ctc.alphabet` says. The
            corpus' own is of all its transcripts, one for all folds, or that of `init_from`.
          corpus: another, all of which is evaluated; None: the config's.

        Raises:
          UserError: no dataset, no tokenizer, or options that don't go together.
        """
        sides = None if corpus is None else [corpus.utterances]
        corpus = corpus or Corpus.of(config)
        tokenizer = text.read_tokenizer(config)
        two_views = sides is None and bool(losses.of_two_views(config.losses))
        alphabet = alphabet or _alphabet(config, corpus)
        preprocessor = factory.preprocessor(config, tokenizer, alphabet=alphabet)
        asr = transcripts.of_config(config, corpus) if sides is None else None
        texts = asr and asr.texts
        on_accelerator = jax.default_backend() != "cpu"
        collator = loader.Collator(
            config, corpus, preprocessor, two_views, sides, texts, on_accelerator
        )
        vocab_size = tokenizer.vocab_size if tokenizer else 1
        trainer = cls(config, corpus.label_names, vocab_size, collator)
        trainer.asr = asr
        sharding.check_batch_size("data.eval_batch_size", config.data.eval_batch_size, trainer.mesh)
        factory.check_limits(trainer.model, config, tokenizer, collator.edges[-1])
        collator.buckets = features.with_frames(config, trainer.model, collator.buckets)
        return trainer

    @property
    def corpus(self) -> Corpus:
        """The prepared dataset."""
        return self.collator.corpus

    def split(self, fold: folds.Fold) -> folds.Split:
        """The utterances that a fold trains on, selects the epoch by, and tests."""
        return folds.split(self.corpus, fold, self.config)

    def make_forward(self, keep):
        """`Programs` of `make_forward` over the mesh; every device has a copy of the outputs.

        Trainers whose models differ in training alone have the same function.
        """
        model = factory.as_evaluated(self.model)
        params = merge(self.shardings.params, self.shardings.frozen)
        places = {
            "in_shardings": (params, sharding.batch_sharding(self.mesh)),
            "out_shardings": sharding.replicated(self.mesh),
        }

        def make():
            return Programs(make_forward(model, keep, **places), "evaluation")

        # A tree's words depend on the order in which it was filled; its leaves have their own.
        return factory.shared(make, "forward", model, tuple(keep), *jax.tree.flatten(places))

    def to_devices(self, batches):
        """A `loader.DeviceIterator` over the mesh: batches, some of them loaded ahead."""
        options = self.config.data
        place = functools.partial(sharding.place, mesh=self.mesh)
        return loader.DeviceIterator(batches, place, options.threads, options.prefetch)

    def start_from(self, config) -> None:
        """Takes a config that differs from the one so far in its seed or `init_from` alone."""
        if (config.seed, config.init_from) != (self.config.seed, self.config.init_from):
            self._params = None
        self.config = config

    def initial_state(self, total_steps: int, steps_per_epoch: int | None = None,
                      last_step: int | None = None,
                      params: dict | None = None) -> step.TrainState:  # fmt: skip
        """The state before training, the same for every fold, on the mesh.

        Args:
          total_steps: batches that the learning rate's schedule spans.
          steps_per_epoch, last_step: of this training, for `train.accumulation`; None: one epoch.
          params: host arrays; None: those that the config says, see `checkpoint_io.initial_params`.

        Raises:
          UserError: no model is where `config.init_from` says, or another than the config's.
        """
        trained, frozen = self._distribute(params or self._configured_params())
        # What is made of them is made where it is to lie.
        groups = (steps_per_epoch or total_steps, last_step or total_steps)
        fresh = jax.jit(self._fresh, out_shardings=self.shardings)
        return fresh(trained, frozen, total_steps, groups)

    def trained_state(self, params: dict) -> step.TrainState:
        """A state on the mesh with all parameters of a trained model and nothing else, to evaluate.

        Raises:
          UserError: they are another model's.
        """
        factory.check_params(self.model, params, "The run")
        trained, frozen = self._distribute(params)
        return step.TrainState(None, None, trained, frozen, opt_state=(), memory={}, rng=None)

    def _configured_params(self):
        if self._params is None:
            self._params = checkpoint_io.initial_params(
                self.model, self.config, self.label_names, self.alphabet
            )
            self.pretrained = self._provenance()
        return self._params

    def _provenance(self):
        """See `pretrained`."""
        source = self.config.init_from
        if source:
            digest = storage.params_digest(self._params)
            origin = {"init_from": {"source": source, "sha256": digest}}
        else:
            origin = factory.provenance(self.model, self.config)
        if self.tokenizer:
            names = {"source": self.tokenizer.source, "sha256": self._tokenizer_digest}
            origin["tokenizer"] = names
        if self.asr:
            origin["asr_transcripts"] = {"source": self.asr.name, "sha256": self.asr.sha256}
        return origin

    def _distribute(self, params):
        """Parameters on the mesh, and with them what batches hold of the frozen encoders."""
        trained, frozen = self._split(params)
        trained = sharding.distribute(trained, self.shardings.params)
        frozen = sharding.distribute(frozen, self.shardings.frozen)
        if self.collator and self.config.data.cache_features:
            stores = features.stores(self.config, self.collator, self.model, params)
            features.fill(self.config, self.collator, self.model, frozen, self.mesh, stores)
            self.collator.features = stores
        return trained, frozen

    def _split(self, params):
        options = self.config.optimizer
        return split_frozen(params, tuple(options.frozen), tuple(options.groups))

    def _fresh(self, trained, frozen, total_steps, groups):
        c = self.config
        past = memory_bank.create(c.losses.memory.size, c.model.width)
        groups = groups if c.train.accumulation > 1 else None
        return step.initial_state(
            trained, frozen, self.optimizer, total_steps, past, c.seed, groups
        )


def _alphabet(config, corpus):
    """The characters of the CTC head of a run that begins."""
    if config.losses.ctc.alphabet == "english":
        return ENGLISH
    if config.init_from:
        config = configuration.of_fold(config, (*config.folds, 1)[0])  # all folds have the same
        found = checkpoint_io.read(config.init_from, config.text.tokenizer).alphabet
        if found.is_english:
            raise UserError(
                f"config.losses.ctc.alphabet is corpus, and config.init_from={config.init_from} "
                "writes the English alphabet. Set --config.losses.ctc.alphabet=english."
            )
        return found
    if not config.losses.ctc.weight or "audio" not in config.model.modalities:
        return ENGLISH  # of a head that is not trained, or not there
    alphabet = Alphabet.of_transcripts(u.transcript for u in corpus.utterances)
    if not alphabet.characters:
        raise UserError(
            "config.losses.ctc.alphabet is corpus, and no two transcripts of "
            f"{', '.join(corpus.datasets)} share a character: there is nothing to write. Build it "
            "with transcripts, or train without CTC: --config.losses.ctc.weight=0.0."
        )
    return alphabet
