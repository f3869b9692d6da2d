"""Every option of a run with its default, and the checks that a whole config must pass.

`default()` is the one place that lists the options (those of a loss come from the losses'
registry); the files in `configs/` change a few of them.
"""

import difflib
import hashlib
import json
import re
import sys

import ml_collections
from ml_collections import config_dict

from mmer_jax.errors import UserError
from mmer_jax.losses import LOSSES
from mmer_jax.metrics import METRICS
from mmer_jax.models import encoders
from mmer_jax.plain import is_kind

MODALITIES = ("audio", "text")
CONVOLUTIONS = "audio_encoder/feature_extractor"  # of the wav2vec2 family, on the waveform
# What each fold tests; `data/folds.py` makes the folds.
PROTOCOLS = {
    "session": "one session",
    "speaker": "one speaker",
    "speakers": "a group of speakers",
    "fold": "one of the corpus' own folds",
    "split": "the corpus' own test part",
    "corpus": "one of several corpora",
}
# Options of `config.audio` that act on the encoder in training alone.
AUGMENTATION = ("layerdrop", "mask_time_prob", "mask_time_length", "mask_feature_prob",
                "mask_feature_length")  # fmt: skip
# Options that may differ between a run and its continuation: they move files or work, not numbers.
NOT_IN_FINGERPRINT = (
    "name", "folds", "seeds", "data.dir", "data.threads", "data.prefetch", "mesh.data", "mesh.fsdp",
    "mesh.model", "train.log_every",
)  # fmt: skip
CHOICES = {
    "protocol": ("auto", *PROTOCOLS),
    "selection": ("heldout", "original"),
    "heldout": ("auto", "dialog", "speaker", "session", "fold", "corpus", "utterance"),
    "data.normalize": ("auto", "utterance", "none"),
    "audio.family": encoders.names("audio"),
    "text.family": encoders.names("text"),
    "model.modalities": (MODALITIES, ("audio",), ("text",)),
    "model.padding": ("masked", "original"),
    "model.fusion": ("cross_modal", "concat"),
    "model.pooling": ("max", "statistics"),
    "audio.window": ("utterance", "30s"),
    "model.dtype": ("float32", "bfloat16"),
    "model.precision": ("default", "tensorfloat32", "float32"),
    "model.remat": ("none", "layers"),
    "model.scan_layers": ("auto", "yes", "no"),
    "optimizer.decay": ("matrices", "all"),
    "optimizer.schedule": ("constant", "linear", "cosine"),
    "selection_metric": (*METRICS, "loss"),
} | {f"losses.{k}.{o}": v for k, loss in LOSSES.items() for o, v in loss.choices.items()}
# Lowest and highest value of each option that has them.
RANGES = {
    "seed": (0, 2**32 - 1),
    "fold_count": (2, 1000),
    "heldout_fraction": (0.01, 0.5),
    "data.max_seconds": (0.1, 60.0),
    "data.batch_size": (1, 65536),
    "data.eval_batch_size": (1, 65536),
    "data.buckets": (0, 64),
    "data.max_padding": (0.001, 0.9),
    "data.threads": (1, 256),
    "data.prefetch": (1, 1024),
    "audio.subsample": (1, 64),
    "audio.attention_dropout": (-1.0, 0.99),
    "audio.layerdrop": (0.0, 0.99),
    "audio.mask_time_prob": (0.0, 1.0),
    "audio.mask_time_length": (1, 1000),
    "audio.mask_feature_prob": (0.0, 1.0),
    "audio.mask_feature_length": (1, 1000),
    "text.max_tokens": (4, 512),
    "audio.conv_channels": (1, 65536),
    "model.width": (1, 65536),
    "model.heads": (1, 1024),
    "model.ffn": (1, 10**6),
    "model.dropout": (0.0, 0.99),
    "optimizer.learning_rate": (0.0, 100.0),
    "optimizer.warmup": (0.0, 1.0),
    "optimizer.weight_decay": (0.0, 1000.0),
    "optimizer.b1": (0.0, 0.999999),
    "optimizer.b2": (0.0, 0.99999999),
    "optimizer.eps": (0.0, 1.0),
    "optimizer.clip_norm": (0.0, 1e6),
    "losses.memory.size": (0, 10**6),
    "losses.memory.start": (0.0, 1.0),
    "train.epochs": (0, 100000),
    "train.chunk_size": (0, 65536),
    "train.accumulation": (1, 65536),
    "train.text_dropout": (0.0, 1.0),
    "train.ctc_texts": (0.0, 1.0),
    "train.asr_texts": (0.0, 1.0),
    "train.log_every": (1, 10**9),
    "mesh.data": (-1, 65536),
    "mesh.fsdp": (1, 65536),
    "mesh.model": (1, 65536),
} | {f"losses.{name}.weight": (0.0, 1000.0) for name in LOSSES}
RANGES |= {f"losses.{k}.temperature": (0.001, 1000.0) for k, loss in LOSSES.items()
           if "temperature" in loss.options}  # fmt: skip
_SIZES = {"width": (1, 65536), "layers": (1, 1000), "heads": (1, 1024), "ffn": (1, 10**6),
          "dropout": (0.0, 0.99)}  # fmt: skip
RANGES |= {f"{part}.size.{k}": v for part in MODALITIES for k, v in _SIZES.items()}
# Kinds of values: in words, and of options whose default does not say it all.
_KINDS = {bool: "True or False", int: "a whole number", float: "a number", str: "a text",
          tuple: "a tuple", list[int]: "a tuple of whole numbers", list[str]: "a tuple of texts",
          dict[str, str]: "a dictionary of texts"}  # fmt: skip
_ENTRIES = {
    **dict.fromkeys(("seeds", "folds"), list[int]), "data.label_map": dict[str, str],
    **dict.fromkeys(("data.corpora", "data.labels", "model.modalities", "optimizer.frozen"),
                    list[str]),
}  # fmt: skip
# Options that came after the first fingerprints, and the value that changes nothing.
_LATER = {
    "train.ctc_texts": 0.0,
    "train.asr_texts": 0.0,
    "data.asr_transcripts": "",
    "train.accumulation": 1,
    "text.keep_brackets": True,
    "model.precision": "default",
    "optimizer.groups": [],
    "audio.layers": "last",
    "audio.window": "utterance",
    "audio.adapter": "",
    "audio.ctc_head": False,
    "model.pooling": "max",
    "fold_count": 5,
    "heldout": "auto",
    "data.corpora": [],
    "data.labels": [],
    "data.label_map": {},
    "losses.ce.class_weights": "none",
    "data.cache_features": False,
    "audio.subsample": 1,
    "audio.layerdrop": 0.0,
    "audio.mask_time_prob": 0.0,
    "audio.mask_time_length": 10,
    "audio.mask_feature_prob": 0.0,
    "audio.mask_feature_length": 10,
    "losses.ctc.alphabet": "english",
    "audio.attention_dropout": -1.0,
    "model.scan_layers": "auto",
}
_FORMS = {"literature": "standard", "released": "original"}
# Old name -> new name, and old value -> new value; a value that isn't listed stays as it is.
_RENAMED = {
    "losses.ctc.form": ("losses.ctc.normalization", {"literature": "symbol", "released": "sum"}),
    "losses.scl.form": ("losses.scl.form", _FORMS),
    "losses.acl.form": ("losses.acl.form", _FORMS),
    "selection": ("selection", {"published": "original"}),
    "model.padding": ("model.padding", {"published": "original"}),
}
_RENAMED_VARIANTS = {"released": "original"}
# Options of older versions that changed no number: passed over where a config.json has them.
_GONE = ("bootstrap", "data.emotions")
_BUILDER_CONFIG = "emotions4"  # the only one, when the dataset's name came without it


def _size(width: int, layers: int, heads: int, ffn: int, dropout: float = 0.1):
    """The shape of a transformer that is trained from scratch."""
    return config_dict.create(width=width, layers=layers, heads=heads, ffn=ffn, dropout=dropout)


def default() -> ml_collections.ConfigDict:
    """All options. The comment beside each is its documentation."""
    c = ml_collections.ConfigDict()
    c.name = "mmer"  # names the default workdir, runs/<name>
    c.seed = 0  # of weights, shuffling, dropout and what is held out
    c.seeds = ()  # runs the whole protocol once per seed, each in its own folder; (): `seed` alone
    # what a fold leaves out and tests: one session, one speaker, a group of speakers, the corpus'
    # own fold, the test part of its own split, or one of several corpora; auto: what the corpus has
    c.protocol = "session"
    c.fold_count = 5  # groups that protocol=speakers divides the speakers into
    c.folds = ()  # numbers of the folds to run; (): all
    c.selection = "heldout"  # chooses the epoch on the training side; original: on the TEST one
    c.selection_metric = "ua"  # what the epoch is chosen by: a metric, or loss
    c.refit = False  # afterwards train anew, on what was held out too, for the chosen steps
    c.exclude_seen_transcripts = False  # take out of training what the test side says word for word
    # what is held out of training as a whole: dialog, speaker, session, fold, corpus or utterance;
    # auto: the official validation part, or dialogs, or speakers, or utterances, what is there
    c.heldout = "auto"
    c.heldout_fraction = 0.12  # share of the training utterances held out

    # model to start from, of the same sizes and classes: a finished fold (runs/x/fold5), an
    # exported model, or a converted checkpoint (configs/converted.py); with {fold} and {seed} in
    # it one for each, such as runs/x/fold{fold}
    c.init_from = ""

    c.data = data = ml_collections.ConfigDict()
    data.dir = "~/tensorflow_datasets"  # where `tfds build --data_dir` put the prepared dataset
    data.dataset = "iemocap/emotions4"  # the dataset's name below data.dir / its builder config
    # several datasets of data.dir in data.dataset's place, for example ("speech_emotion/emodb",
    # "speech_emotion/ravdess")
    data.corpora = ()
    data.labels = ()  # the classes, in the order of tables and logits; (): all of the dataset
    # labels that count as another one, for example {"exc": "hap"}; before data.labels selects
    data.label_map = config_dict.create()
    data.max_seconds = 13.125  # longer utterances are cut here (210 000 samples) and lose their CTC
    data.normalize = "auto"  # utterance: zero mean, unit variance; none; auto: by encoder
    data.batch_size = 8  # training utterances per batch; the contrastive losses see these
    data.eval_batch_size = 16  # utterances per evaluation batch
    # padded lengths, each compiled once; 0: as few as max_padding allows, on accelerators fewer
    # where those would take longer to compile than they save
    data.buckets = 0
    data.max_padding = 0.10  # share of the samples fed that may be padding where buckets is 0
    data.threads = 4  # loader threads
    data.prefetch = 8  # batches prepared ahead
    # what a recogniser wrote (python -m mmer_jax.transcribe): the transcript file's name beside the
    # dataset, with or without its digest, or a path; empty: none
    data.asr_transcripts = ""
    # states of frozen encoders, or of wav2vec2's frozen convolutions, are computed once and stored
    # in data.dir: docs/performance.md
    data.cache_features = False

    c.audio = audio = ml_collections.ConfigDict()
    # of an encoder from scratch: wav2vec2 and its kin on the waveform, whisper on log-mel; a
    # pretrained one brings its own
    audio.family = "wav2vec2"
    audio.pretrained = ""  # hub name or folder in Hugging Face format; empty: from scratch
    # language of adapters that the checkpoint has, as in MMS: eng; none: without its adapters
    audio.adapter = ""
    audio.ctc_head = False  # begins with the checkpoint's own CTC head: wav2vec2-base-960h has one
    audio.size = _size(768, 12, 12, 3072)  # of an encoder from scratch
    audio.conv_channels = 512  # wav2vec2's convolution channels, from scratch
    # which hidden states are read: last, a layer's number as text (0: what enters the first);
    # of all, normalised, weighted: a learned softmax-weighted sum; all: them side by side
    audio.layers = "last"
    audio.window = "utterance"  # Whisper's: a recording's own frames; 30s: silence up to 30 s
    # in training, where the encoder is not frozen: probability of each layer to be left out
    audio.layerdrop = 0.0
    # in training: share of the frames that a learned vector replaces (SpecAugment), if no spans
    # overlapped; Whisper's are of 10 ms, and become 0
    audio.mask_time_prob = 0.0
    audio.mask_time_length = 10  # frames of such a span
    audio.mask_feature_prob = 0.0  # in training: share of an utterance's features that become 0
    audio.mask_feature_length = 10  # features of such a span
    audio.attention_dropout = -1.0  # rate on its attention weights; below 0: as its checkpoint says
    audio.subsample = 1  # frames of 20 ms whose mean is one frame of the model's

    c.text = text = ml_collections.ConfigDict()
    text.family = "roberta"  # of an encoder from scratch; a pretrained one brings its own
    text.pretrained = ""  # hub name or folder in Hugging Face format; empty: from scratch
    text.tokenizer = ""  # hub name or folder; empty: the pretrained encoder's own
    text.size = _size(768, 12, 12, 3072)  # of an encoder from scratch
    text.max_tokens = 128  # longer texts are cut
    text.keep_events = False  # keep [LAUGHTER] and the like in the encoder's text
    text.keep_brackets = True  # keep all else that stands in [...] or (...) there

    c.model = model = ml_collections.ConfigDict()
    model.modalities = MODALITIES  # ("audio",) or ("text",) for one alone
    model.pooling = "max"  # of frames and tokens; statistics: mean, standard deviation and maximum
    model.fusion = "cross_modal"  # concat: both pooled and put side by side, late fusion
    model.gate = True  # the dynamic gate of cross-modal fusion
    model.width = 768  # of the fusion network, d in the paper
    model.heads = 12  # of attention in the fusion network; a divisor of its width
    model.ffn = 3072  # width inside its feed-forward blocks
    model.dropout = 0.1  # of the fusion network and the heads
    model.padding = "masked"  # original: padding leaks into the audio encoder, for parity alone
    model.dtype = "float32"  # of the computation; parameters, softmax, norms, losses stay float32
    model.precision = "default"  # of products: the device's; tensorfloat32 or float32 at least
    model.remat = "none"  # layers: computed again for the gradient; less memory on accelerators
    # the speech encoder's layers in a loop of the compiled program, which compiles in less time
    model.scan_layers = "auto"

    c.losses = losses = ml_collections.ConfigDict()
    for name, loss in LOSSES.items():
        losses[name] = config_dict.create(**loss.options)
    losses.memory = memory = ml_collections.ConfigDict()
    memory.size = 0  # past utterances whose embeddings join the contrastive losses; 0: none
    memory.start = 0.1  # share of all steps before they do: early embeddings drift fast

    c.optimizer = opt = ml_collections.ConfigDict()
    opt.learning_rate = 5e-5  # the peak
    opt.schedule = "linear"  # after the warm-up: constant, linear or cosine, to zero at the end
    opt.warmup = 0.1  # share of all steps in which the rate rises from zero
    opt.weight_decay = 0.01  # AdamW's
    opt.decay = "matrices"  # what decays: matrices, or all parameters
    opt.b1 = 0.9  # AdamW's decay of the mean gradient
    opt.b2 = 0.999  # and of the mean squared gradient
    opt.eps = 1e-8  # added to its denominator
    opt.clip_norm = 1.0  # largest global gradient norm; 0 switches clipping off
    opt.frozen = ()  # regexes over parameter paths, e.g. ("text_encoder/.*",)
    # pairs of such a regex and a factor on the learning rate of what it matches, the first that
    # matches counts: (("(audio|text)_encoder/.*", 0.1),) trains the encoders slower
    opt.groups = ()

    c.train = train = ml_collections.ConfigDict()
    train.epochs = 30  # 0: no training, only the test of what it starts from
    train.chunk_size = 0  # rows that pass the network at once; 0: the whole batch. Saves memory
    # batches whose gradients are averaged for one update; a contrastive loss sees each alone
    train.accumulation = 1
    train.text_dropout = 0.0  # share of the training utterances that come without their words
    # share that comes with what the CTC head writes, from the second epoch on
    train.ctc_texts = 0.0
    train.asr_texts = 0.0  # share that comes with data.asr_transcripts
    train.log_every = 20  # steps between two lines of metrics

    c.mesh = mesh = ml_collections.ConfigDict()
    mesh.data = -1  # devices that share a batch's rows; -1: all that the two others leave
    mesh.fsdp = 1  # devices that share its rows and the parameters as well
    mesh.model = 1  # devices that share each matrix product
    return c


def validate(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Returns the config if every option can be run; old names of values become the new ones.

    Raises:
      UserError: an option outside its choices or its range; names the option and the choices.
    """
    try:
        values, known = flat(config), flat(default())
    except TypeError as e:  # a ConfigDict can't be gone through then
        raise UserError("A name of an option in the config is no text; see --help for all.") from e
    # A file may add a key to a ConfigDict, and nothing would read it; or it may begin with none.
    for path in values.keys() - known.keys():
        raise unknown(path)
    if lacking := sorted(known.keys() - values.keys()):
        raise UserError(
            f"The config lacks config.{lacking[0]} and {len(lacking) - 1} other options. Begin "
            "with configuration.default() and change that."
        )
    for path, value in values.items():
        kind = _ENTRIES.get(path, type(known[path]))
        if not is_kind(value, list if kind is tuple else kind):
            raise UserError(f"config.{path} is {value!r:.200}; expected {_KINDS[kind]}.")
    for path, (_, renamed) in _RENAMED.items():
        if values.get(path) in renamed:
            values[path] = renamed[values[path]]
            config.update_from_flattened_dict({path: values[path]})
    config.data.corpora = corpora = tuple(map(whole_name, config.data.corpora))
    # Of several, data.dataset says nothing: it must not tell two equal configs apart.
    config.data.dataset = whole_name(corpora[0] if corpora else config.data.dataset)
    if len(corpora) == 1:
        config.data.corpora = ()
    values |= {f"data.{name}": config.data[name] for name in ("corpora", "dataset")}
    for path, choices in CHOICES.items():
        if values[path] not in choices:
            listed = ", ".join(map(str, choices))
            raise UserError(f"config.{path} is {values[path]!r:.200}; the choices are: {listed}.")
    for path, (low, high) in RANGES.items():
        if not low <= values[path] <= high:
            raise UserError(f"config.{path} is {values[path]}; expected {low} to {high}.")
    for message in _clashes(config):
        raise UserError(message)
    return config


def unknown(option: str) -> UserError:
    """What is said of an option that is not there, such as `train.epoch`: which may be meant."""
    known, last = flat(default()), option.split(".")[-1]
    near = [_RENAMED[option][0]] if option in _RENAMED else []
    near = near or [o for o in known if o.split(".")[-1] == last]
    near = near or difflib.get_close_matches(option, known, 1)
    near = near or [o for o in known if difflib.get_close_matches(option, o.split(".")[-1:])]
    meant = (
        f". Is config.{' or config.'.join(near[:3])} meant?" if near else "; see --help for all."
    )
    return UserError(f"There is no option config.{option:.200}{meant}")


def _clashes(c):
    """What is wrong with options that are malformed or don't go together, one by one."""
    text, losses, train, modalities = c.text, c.losses, c.train, tuple(c.model.modalities)
    numbers, seeds = tuple(c.folds), tuple(c.seeds)
    if c.model.width % c.model.heads:
        yield (
            f"config.model.width is {c.model.width}, which config.model.heads ({c.model.heads}) "
            "does not divide; change one of them."
        )
    for name in modalities:
        size = c[name].size
        if not c[name].pretrained and size.width % size.heads:
            yield (
                f"config.{name}.size.width is {size.width}, which config.{name}.size.heads "
                f"({size.heads}) does not divide; change one of them."
            )
    if "text" in modalities and not text.pretrained and not text.tokenizer:
        yield (
            "config.text.tokenizer is empty and there is no config.text.pretrained to bring one. "
            "Name a Hugging Face tokenizer: a hub name or a folder."
        )
    if not re.fullmatch(r"last|weighted|all|[0-9]{1,4}", c.audio.layers):
        yield (
            f"config.audio.layers is {c.audio.layers!r:.100}; expected last, weighted, all or a "
            'layer\'s number as text, for example "3".'
        )
    if not re.fullmatch(r"[\w-]*", c.audio.adapter):
        yield (
            f"config.audio.adapter is {c.audio.adapter!r:.100}; expected a language as in the name "
            "of the checkpoint's file, for example eng of adapter.eng.safetensors, or none."
        )
    if c.audio.adapter and "audio" in modalities and not c.audio.pretrained:
        yield (
            f"config.audio.adapter is {c.audio.adapter!r:.100}, and an encoder from scratch has no "
            "adapters. Name a checkpoint that has them in config.audio.pretrained."
        )
    if c.audio.ctc_head and "audio" in modalities:
        needed = {"audio.pretrained": bool(c.audio.pretrained), "audio.layers=last":
                  c.audio.layers == "last", "audio.subsample=1": c.audio.subsample == 1,
                  "audio.adapter=''": not c.audio.adapter}  # fmt: skip
        if lacks := [f"config.{name}" for name, fits in needed.items() if not fits]:
            yield (
                "config.audio.ctc_head takes over a checkpoint's head, that reads its last layer's "
                f"frames; it needs {', '.join(lacks)}. Set them so, or ctc_head to False."
            )
    if c.mesh.data == 0:
        yield "config.mesh.data is 0; expected a number of devices, or -1 for all."
    if c.data.cache_features:
        yield from _uncacheable(c)
    if _repeats(numbers) or not all(isinstance(f, int) and f >= 1 for f in numbers):
        yield (
            f"config.folds is {numbers!r:.200}; expected different whole numbers from 1, for "
            "example --config.folds='(5,)', or () for all."
        )
    if _repeats(c.data.corpora):
        yield f"config.data.corpora is {tuple(c.data.corpora)!r:.200}; expected each dataset once."
    if c.protocol == "corpus" and not c.data.corpora:
        yield (
            "config.protocol=corpus leaves one of several corpora out, and there is one, "
            f"{c.data.dataset}. Name all by config.data.corpora, or use another protocol."
        )
    if _repeats(c.data.labels):
        yield f"config.data.labels is {tuple(c.data.labels)!r:.200}; expected each label once."
    if _repeats(seeds) or not all(isinstance(s, int) and s >= 0 for s in seeds):
        yield (
            f"config.seeds is {seeds!r:.200}; expected different whole numbers from 0, for example "
            "--config.seeds='(0, 1, 2)'."
        )
    if c.refit and c.selection == "original":
        yield (
            "config.refit trains on what selection=heldout holds out; selection=original holds "
            "out nothing. Switch one of them off."
        )
    if not any(losses[name].weight for name in LOSSES):
        yield "Every weight in config.losses is 0: there is nothing to train on."
    for name in LOSSES if losses.memory.size else ():
        if losses[name].get("form") == "original":
            yield (
                f"config.losses.{name}.form=original has no memory bank; set "
                "config.losses.memory.size=0 or the form to standard."
            )
    if unreadable := _unreadable(c.optimizer):
        yield (
            f"config.optimizer.frozen or config.optimizer.groups can't be read: {unreadable}. "
            "Expected patterns, and pairs of a pattern and a factor on the learning rate, for "
            "example --config.optimizer.groups='((\"audio_encoder/.*\", 0.1),)'."
        )
    acting = acting_in_training(c) if "audio" in modalities else []
    if acting and is_frozen(c, "audio_encoder"):
        yield (
            f"config.audio.{acting[0]} acts on the speech encoder in training, and "
            "config.optimizer.frozen leaves it as it is. Set the one to 0, or train the encoder."
        )
    if train.chunk_size and c.data.batch_size % train.chunk_size:
        yield (
            f"config.data.batch_size is {c.data.batch_size}, which config.train.chunk_size "
            f"({train.chunk_size}) does not divide; change one of them."
        )
    if train.text_dropout + train.ctc_texts + train.asr_texts > 1:
        yield (
            f"config.train.text_dropout ({train.text_dropout}), config.train.ctc_texts "
            f"({train.ctc_texts}) and config.train.asr_texts ({train.asr_texts}) are shares of the "
            "same utterances; together they are above 1."
        )
    if train.asr_texts and "text" not in modalities:
        yield (
            "config.train.asr_texts feeds the text branch with a recogniser's transcripts, and "
            f"config.model.modalities is {modalities!r}. Set it to 0, or use text."
        )
    if train.asr_texts and not c.data.asr_transcripts:
        yield (
            "config.train.asr_texts is set and config.data.asr_transcripts names no transcript "
            "file. Write one with `python -m mmer_jax.transcribe` and name it."
        )
    if train.ctc_texts and modalities != MODALITIES:
        yield (
            "config.train.ctc_texts feeds the text branch with the CTC head's transcript; it needs "
            f"speech and text, and config.model.modalities is {modalities!r}."
        )
    if train.ctc_texts and not losses.ctc.weight:
        yield (
            "config.train.ctc_texts is set and config.losses.ctc.weight is 0: a CTC head that is "
            "not trained writes nothing. Give it a weight."
        )


def acting_in_training(config: ml_collections.ConfigDict) -> list[str]:
    """Which of LayerDrop, masking of frames and of features are switched on."""
    probabilities = ("layerdrop", "mask_time_prob", "mask_feature_prob")
    return [name for name in probabilities if config.audio[name]]


def is_frozen(config: ml_collections.ConfigDict, part: str) -> bool:
    """Whether the optimiser leaves the whole of a part alone, not some of its layers.

    Args:
      config: the whole config.
      part: `audio_encoder` or `text_encoder`, or the path of a module in it.
    """
    return any(re.fullmatch(pattern, f"{part}/any/path") for pattern in config.optimizer.frozen)


def cached_parts(config: ml_collections.ConfigDict) -> dict[str, str]:
    """Modality -> the part whose states are stored, see `config.data.cache_features`.

    It is a frozen encoder, or of one that is tuned the frozen `CONVOLUTIONS`. What a CTC head
    writes is new in every epoch: with `config.train.ctc_texts` the text encoder computes as ever.
    """
    if not config.data.cache_features:
        return {}
    parts = {"audio": ("audio_encoder", CONVOLUTIONS), "text": ("text_encoder",)}
    if config.train.ctc_texts:
        del parts["text"]
    found = {}
    for modality in config.model.modalities:
        frozen = [part for part in parts.get(modality, ()) if is_frozen(config, part)]
        if frozen:
            found[modality] = frozen[0]
    return found


def _uncacheable(c):
    """Why nothing can be stored of what the encoders give, if it is so."""
    if _unreadable(c.optimizer):
        return
    if not cached_parts(c):
        with_ctc = " (config.train.ctc_texts needs the text encoder itself)"
        patterns = ", ".join(f"'{m}_encoder/.*'" for m in c.model.modalities)
        yield (
            "config.data.cache_features stores what a frozen encoder gives, and none is frozen as "
            f"a whole{with_ctc if c.train.ctc_texts else ''}. Freeze one, "
            f'--config.optimizer.frozen="({patterns},)", or the convolutions of the wav2vec2 '
            f"family, '{CONVOLUTIONS}/.*', or leave cache_features off."
        )
    if c.model.padding == "original" and "audio" in c.model.modalities:
        yield (
            "config.model.padding=original makes what the audio encoder gives depend on the batch, "
            "so config.data.cache_features can't store it; use padding=masked or no cache."
        )


def _repeats(numbers):
    return len(set(numbers)) != len(numbers)


def _unreadable(optimizer):
    """What is wrong with the patterns of parameters; None if nothing is."""
    try:
        rates = [(pattern, 1.0) for pattern in optimizer.frozen]
        for pattern, factor in (*rates, *optimizer.groups):
            re.compile(pattern)
            if not 0.0 <= float(factor) <= 1000.0:
                return f"{factor} is no factor"
    except (TypeError, ValueError, re.error, OverflowError, RecursionError) as e:
        return str(e)


def datasets(config: ml_collections.ConfigDict) -> tuple[str, ...]:
    """Names of the prepared datasets that a run is trained and tested on."""
    return tuple(config.data.corpora) or (config.data.dataset,)


def to_json(config: ml_collections.ConfigDict) -> dict:
    """The config as plain JSON values (tuples become lists)."""
    return json.loads(config.to_json_best_effort())


def from_json(plain: dict) -> ml_collections.ConfigDict:
    """The inverse of `to_json`: a validated config; an option that `plain` lacks has its default.

    An option or a value that has another name now is taken under it.

    Args:
      plain: what a run's config.json holds.

    Raises:
      UserError: an option that isn't there any more, or a value that can't be run.
    """
    config = default().lock()  # else it would take a key that it lacks
    try:
        values = _renamed(flat(plain))
    except (AttributeError, TypeError, ValueError) as e:
        raise UserError(
            f"config.json holds no options ({e}): it is damaged, or another program's. Copy it "
            "again."
        ) from e
    for path, value in values.items():
        try:
            config.update_from_flattened_dict({path: value})
        except (AttributeError, LookupError, TypeError, ValueError, OverflowError) as e:
            raise UserError(
                f"config.json has {path:.200}={value!r:.200}, which this version of mmer_jax does "
                "not know. Use the version that the run was made with."
            ) from e
    return validate(config.unlock())


def flat(tree) -> dict[str, object]:
    """Options by path, `{"train.epochs": 30, ...}`, of a config or its JSON values."""
    found = {}
    for key, value in tree.items():
        if key == "label_map" and hasattr(value, "items"):  # its keys are the user's own
            found[key] = dict(value)
        elif hasattr(value, "items"):
            found |= {f"{key}.{name}": inner for name, inner in flat(value).items()}
        else:
            found[key] = value
    return found


def of_fold(config: ml_collections.ConfigDict, number: int) -> ml_collections.ConfigDict:
    """The config of one fold's training, with the model that this fold starts from."""
    c = config.copy_and_resolve_references()
    named = c.init_from.replace("{fold}", str(number)).replace("{seed}", str(c.seed))
    if named != c.init_from:
        c.init_from, c.folds = named, (number,)
    return c


def differences(old: dict, new: dict) -> list[tuple[str, object, object]]:
    """(option, old value, new value) for each option that changes a fold's result.

    An option that one of them lacks has its default: a run can be continued by a version that has
    more options.

    Args:
      old, new: configs as `to_json` gives them.
    """
    known = flat(to_json(default()))
    a, b = known | _renamed(flat(old)), known | _renamed(flat(new))
    keys = sorted((a.keys() | b.keys()) - {*NOT_IN_FINGERPRINT})
    return [(k, a.get(k), b.get(k)) for k in keys if a.get(k) != b.get(k)]


def fingerprint(config: ml_collections.ConfigDict) -> str:
    """12 hex digits that change with any option but the seed that changes a fold's result.

    An option or a loss of a later version counts where it is used: without it, a run has the digits
    that it had before. So does what was renamed: it counts under its old name.
    """
    values = flat(to_json(config))
    left_out = {*NOT_IN_FINGERPRINT, "seed", *(k for k, v in _LATER.items() if values[k] == v)}
    for name, loss in LOSSES.items():
        if not loss.options["weight"] and not values[f"losses.{name}.weight"]:
            left_out |= {f"losses.{name}.{option}" for option in loss.options}
    plain = {k: v for k, v in values.items() if k not in left_out}
    plain["data.dataset"], _, plain["data.emotions"] = values["data.dataset"].partition("/")
    for old, (new, renamed) in _RENAMED.items():
        before = [name for name, value in renamed.items() if value == plain[new]]
        if before:
            del plain[new]
            plain[old] = before[0]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


def _renamed(options):
    """Options by path, what has an old name under its new one, without those that are gone."""
    options = {path: value for path, value in options.items() if path not in _GONE}
    if isinstance(options.get("data.dataset"), str):
        options["data.dataset"] = whole_name(options["data.dataset"])
    for old, (new, values) in _RENAMED.items():
        if old in options:
            value = options.pop(old)
            options.setdefault(new, values.get(value, value) if isinstance(value, str) else value)
    return options


def whole_name(dataset: str) -> str:
    """A dataset's name with its builder config, which IEMOCAP's may come without."""
    return dataset if "/" in dataset else f"{dataset}/{_BUILDER_CONFIG}"


def rename_arguments(argv: list[str]) -> tuple[list[str], list[str]]:
    """A command line with options and values under the names that they have now.

    Args:
      argv: `--config.OPTION=VALUE`, or the value as an argument of its own.

    Returns:
      The arguments, an option that is gone left out, and a notice for each change.
    """
    arguments, notices, rest = [], [], list(argv)
    while rest:
        argument = rest.pop(0)
        flag, has_value, value = argument.partition("=")
        option = flag.removeprefix("--config.")
        if option == flag or option not in (*_RENAMED, *_GONE):
            arguments.append(argument)
            continue
        if not has_value:
            value = rest.pop(0) if rest else ""
        if option in _GONE:
            notices.append(f"--config.{option} does nothing any more and is passed over.")
            continue
        ((new, now),) = _renamed({option: value}).items()
        arguments.append(f"--config.{new}={now}")
        if (new, now) != (option, value):
            notices.append(f"--config.{option}={value} is --config.{new}={now} now.")
    return arguments, notices


def check_variant(file: str, variant: str, variants) -> str:
    """The name that a variant of a config file has now.

    Raises:
      UserError: the file has no such variant; names the choices.
    """
    if variant in _RENAMED_VARIANTS:
        now = _RENAMED_VARIANTS[variant]
        print(f"The variant {variant} is {now} now.", file=sys.stderr)
        variant = now
    if variant not in variants:
        raise UserError(
            f"{file} has no variant {variant!r}; the choices are: {', '.join(variants)}."
        )
    return variant


def audio_only(c: ml_collections.ConfigDict) -> None:
    """Speech alone: no text encoder, no fusion; the losses stay."""
    c.train.asr_texts = 0.0
    _one_modality(c, "audio", "text_encoder")


def text_only(c: ml_collections.ConfigDict) -> None:
    """Text alone: no audio encoder, no fusion, and so no CTC; each utterance keeps its words."""
    _one_modality(c, "text", "audio_encoder")


def _one_modality(c, modality, missing):
    c.model.modalities = (modality,)
    c.train.text_dropout = 0.0
    opt = c.optimizer
    opt.frozen = tuple(p for p in opt.frozen if not p.startswith(missing))
    opt.groups = tuple(g for g in opt.groups if not g[0].startswith(missing))


def original_losses(c: ml_collections.ConfigDict) -> None:
    """The losses as in the authors' code."""
    for name, loss in LOSSES.items():
        c.losses[name].update(loss.original_options)


def original(c: ml_collections.ConfigDict) -> None:
    """Losses, batches, text, padding, optimiser and choice of epoch as in the authors' code.

    An update averages the gradients of 4 batches of 2: the contrastive losses see 2 utterances, and
    CTC counts as its sum over 8 utterances / 4.
    """
    original_losses(c)
    c.selection = "original"
    c.model.padding = "original"
    c.text.keep_events = c.text.keep_brackets = False
    c.data.batch_size, c.train.accumulation = 2, 4
    c.optimizer.schedule = "constant"
    c.optimizer.warmup = 0.0
    c.optimizer.clip_norm = 0.0
    c.optimizer.decay = "all"
    c.train.epochs = 100
