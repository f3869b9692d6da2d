"""What frozen encoders give, computed once for all utterances of a corpus and stored beside it.

Of an encoder that is tuned its frozen convolutions (`configuration.CONVOLUTIONS`) can be stored.
"""

import dataclasses
import os
import shutil
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from flax import linen as nn

from mmer_jax import configuration, files
from mmer_jax.configuration import CONVOLUTIONS
from mmer_jax.data import bucketing, loader
from mmer_jax.data.bucketing import Bucket
from mmer_jax.data.features import DTYPE, Store, recording_key, text_key
from mmer_jax.errors import UserError
from mmer_jax.models import encoders, factory, storage
from mmer_jax.models.layers import flat_dense
from mmer_jax.models.mmer import MANY_LAYERS, MMER, jit_at, read_states
from mmer_jax.training import sharding

TOKENS = 16  # texts are padded to multiples of it: each is a compilation
SPARE = 2**28  # bytes of the disk that are left alone
_ESTIMATED = 20  # seconds after which the time that is left is told
# Of Hugging Face's config: no state depends on them.
_ORIGIN = (
    "_name_or_path",
    "transformers_version",
    "architectures",
    "torch_dtype",
    "dtype",
    "do_normalize",
)


def parts(config, model: MMER) -> dict[str, str]:
    """`configuration.cached_parts` of those that the model has."""
    found = configuration.cached_parts(config)
    if found.get("audio") == CONVOLUTIONS and not hasattr(model.audio_encoder, "convolutions"):
        del found["audio"]
    return found


def with_frames(config, model: MMER, buckets) -> tuple[Bucket, ...]:
    """The buckets with the frames that their samples give, where speech is stored."""
    part = parts(config, model).get("audio")
    if not part:
        return buckets

    def frames(samples):
        batch = {"audio": np.zeros((1, samples)), "audio_length": np.array([samples])}
        return _shape(model, part, batch)[-2]

    return tuple(dataclasses.replace(b, frames=frames(b.samples)) for b in buckets)


def stores(config, collator: loader.Collator, model: MMER, params: dict) -> dict[str, Store]:
    """Modality -> the store of its encoder's states, of those that the config says.

    Args:
      config, collator, model: of the run.
      params: host arrays, of the whole model.

    Raises:
      UserError: the dataset is in a bucket, or the run one of several processes.
    """
    if files.is_remote(config.data.dir) or jax.process_count() > 1:
        raise UserError(
            "config.data.cache_features stores states on one machine's disk, beside the dataset; "
            f"config.data.dir is {config.data.dir}, in a run of {jax.process_count()} processes. "
            "Take a folder on a disk and one process, or leave cache_features off."
        )
    found = {}
    for modality, part in parts(config, model).items():
        facts = _facts(config, collator, model, params, modality, part)
        folder = os.path.join(
            os.path.expanduser(config.data.dir), "features", "+".join(collator.corpus.datasets),
            f"{modality}-{Store.digest(facts)}",
        )  # fmt: skip
        *layers, _, width = _shape(model, part, factory.example_batch())[1:]
        entry = "states" if layers else "convolved" if part == CONVOLUTIONS else "hidden"
        found[modality] = Store(folder, facts, (*layers, width), entry)
    return found


def _facts(config, collator, model, params, modality, part):
    """All that a modality's states depend on."""
    encoder = getattr(model, f"{modality}_encoder")
    facts = {
        "encoder": {k: v for k, v in encoder.config.to_dict().items() if k not in _ORIGIN},
        "parameters": storage.params_digest(_at(params, part)),
        "computed_in": [jnp.dtype(encoder.dtype).name, model.precision],
    }
    if modality == "audio":
        facts |= {
            "corpus": collator.corpus.identity,
            "layers": "every" if model.layers in MANY_LAYERS else model.layers,
            "subsample": model.subsample,
            "window": config.audio.window,
            "normalized": collator.preprocessor.normalized,
            "max_samples": collator.preprocessor.max_samples,
        }
    if part == CONVOLUTIONS:
        facts |= {"layers": "convolutions", "subsample": 1}
    return facts


def _at(params, part):
    """The parameters of a part."""
    for name in part.split("/"):
        params = params[name]
    return params


def fill(config, collator: loader.Collator, model: MMER, params: dict, mesh,
         found: dict[str, Store]) -> None:  # fmt: skip
    """Computes what the stores lack, batch by batch; what a killed process stored is not lost.

    Args:
      config, collator, model, mesh: of the run.
      params: on the mesh, of the frozen encoders.
      found: see `stores`.

    Raises:
      UserError: no room on the disk, or states that float16 can't hold.
    """
    for modality, part in parts(config, model).items():
        store = found[modality]
        batches = _Batches(collator, modality, config.data.eval_batch_size, store)
        if not len(batches):
            continue
        _check_room(batches.missing(store), modality, part, model, store)
        with store.writing(lambda: _say("another process computes them, waiting for it ...")):
            # It may have done so meanwhile.
            batches = _Batches(collator, modality, config.data.eval_batch_size, store)
            whole = sharding.replicated(mesh)
            encode = jit_at(_encode(model, part), model.precision, out_shardings=whole)
            place = lambda batch: sharding.place(batch, mesh)  # noqa: E731
            options = config.data.threads, config.data.prefetch
            with loader.DeviceIterator(batches, place, *options) as placed:
                for items, batch in zip(_told(batches), placed):
                    states, counts = encode(_at(params, part), batch)
                    _append(store, items, *jax.device_get((states, counts)))


def _encode(model, part):
    """A function: a part's parameters, a batch -> float16 [b, l, t, d] or [b, t, d], int [b].

    Those are the states that the model reads, and how many of each row's are no padding.
    """

    def audio(encoder, batch):
        inputs = batch["audio"], batch["audio_length"]
        states, mask = read_states(encoder, model.layers, model.subsample, *inputs, True)
        return jnp.stack(states, 1) if model.layers in MANY_LAYERS else states[0], mask

    def text(encoder, batch):
        return encoder(batch["text_ids"], batch["text_mask"]), batch["text_mask"]

    def encode(params, batch):
        with nn.intercept_methods(flat_dense):
            if part == CONVOLUTIONS:
                inputs = batch["audio"], batch["audio_length"]
                states, mask = model.audio_encoder.convolutions(params, *inputs)
            else:
                read = audio if part == "audio_encoder" else text
                states, mask = nn.apply(read, getattr(model, part))({"params": params}, batch)
        return states.astype(DTYPE), mask.sum(1)

    return encode


def _shape(model, part, batch):
    """Of what `_encode` makes of a batch."""
    params = _at(factory.param_shapes(model), part)
    return jax.eval_shape(_encode(model, part), params, batch)[0].shape


@dataclasses.dataclass(frozen=True)
class _Item:
    """A recording or a text.

    Attributes:
      key: in the store.
      length: samples or tokens.
      load: returns it as an example.
    """

    key: str
    length: int
    load: Callable[[], dict]


def _recordings(collator):
    """Groups of items: own recordings, and the augmented ones that training may draw."""
    p, corpus = collator.preprocessor, collator.corpus

    def load(u, k):
        own, augmented = corpus.recordings(u)
        return {"audio": p.audio(own if k is None else augmented[k])}

    def item(u, k=None):
        recording = u if k is None else u.augmented[k]
        key = recording_key(u, None if k is None else recording)
        return _Item(key, min(recording.samples, p.max_samples), lambda: load(u, k))

    fed = [u for u in corpus.utterances if collator.feeds_recording(u)]
    return (
        [item(u) for u in corpus.utterances],
        [item(u, k) for u in fed for k in range(len(u.augmented))],
    )


def _texts(collator):
    """Groups of items: what training and evaluation read of the corpus, each text once."""
    utterances, ids = collator.corpus.utterances, collator.preprocessor.text_ids
    texts = [u.transcript for u in utterances] + ["", *collator.asr_transcripts.values()]
    if collator.augmented:
        texts += [u.aug_transcript for u in utterances]
    items = {}
    for tokens in map(ids, texts):
        items[text_key(tokens)] = tokens
    return ([_Item(k, len(t), lambda t=t: {"text_ids": t}) for k, t in items.items()],)


class _Batches:
    """The batches with something that a store lacks: items of like length, b at a time.

    What is in a batch does not depend on what the store holds: a pass that was killed goes on with
    the numbers that it would have had.

    Attributes:
      items: of each batch, None where a row fills it.
    """

    def __init__(self, collator, modality, rows, store):
        self._preprocessor, self.items, self._buckets = collator.preprocessor, [], []
        is_audio = modality == "audio"
        for group in (_recordings if is_audio else _texts)(collator):
            lengths = [item.length for item in group]
            edges = collator.edges
            if not is_audio:
                edges = sorted({bucketing.rounded(n, TOKENS) for n in lengths})
            for k, at in bucketing.plan(lengths, edges, rows):
                items = [None if i == bucketing.FILL else group[i] for i in at]
                if any(item and item.key not in store for item in items):
                    self.items.append(items)
                    self._buckets.append(Bucket(edges[k]) if is_audio else Bucket(tokens=edges[k]))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        examples = [item and item.load() for item in self.items[i]]
        return self._preprocessor.collate(examples, self._buckets[i])

    def missing(self, store) -> list[_Item]:
        """Those of the items that the store lacks."""
        return [x for items in self.items for x in items if x and x.key not in store]


def _check_room(missing, modality, part, model, store):
    """Says what will be stored; a UserError where there is no room for it."""
    per_frame = model.frame_samples if modality == "audio" else 1
    if part == CONVOLUTIONS:
        per_frame = encoders.frame(model.audio_encoder)
    needed = store.bytes(sum(-(-item.length // per_frame) for item in missing))
    parent = store.folder
    while not os.path.exists(parent):
        parent = os.path.dirname(parent)
    free = shutil.disk_usage(parent).free
    what = f"{len(missing)} {'recordings' if modality == 'audio' else 'texts'}"
    if len(store.shape) > 1:
        what += f", {store.shape[0]} layers"
    if needed + SPARE > free:
        raise UserError(
            f"The states of {what} of width {store.shape[-1]} take {_size(needed)}, and the disk "
            f"of {parent} has {_size(free)} left. Make room, or store less: one layer "
            "(config.audio.layers=last, or a layer's number), or means over frames "
            "(config.audio.subsample=4 takes a quarter)."
        )
    _say(f"{what}, {_size(needed)} in {store.folder}")


def _append(store, items, states, counts):
    """Stores a batch's states, those that are not there yet."""
    found = {}
    for item, rows, count in zip(items, states, counts):
        if item is None or item.key in store:
            continue
        found[item.key] = own = rows[..., :count, :]
        finite = np.isfinite(own).all((-1, -2))
        if not finite.all():
            layer = f"layer {int(np.argmin(finite))}" if finite.ndim else "its states"
            raise UserError(
                f"The encoder's states of {item.key!r} are beyond what float16 holds (65504) or no "
                f"numbers: {layer}. Read another layer (config.audio.layers), or leave "
                "config.data.cache_features off."
            )
    store.append(found)


def _told(batches):
    """The items of each batch, with a progress bar, and one line on the time that they take."""
    lengths = [sum(item.length for item in items if item) for items in batches.items]
    begun, done, told = time.monotonic(), 0, False
    with tqdm.tqdm(total=len(batches), desc="features", unit=" batches", disable=None) as bar:
        for items, length in zip(batches.items, lengths):
            yield items
            bar.update()
            done, passed = done + length, time.monotonic() - begun
            left = passed * (sum(lengths) - done) / done
            if not told and passed > _ESTIMATED and left > 60:
                _say(f"about {left / 60:.0f} minutes are left")
                told = True
    _say(f"computed in {(time.monotonic() - begun) / 60:.1f} minutes")


def _size(count):
    return f"{count / 1e9:.1f} GB" if count > 5e7 else f"{count / 1e6:.1f} MB"


def _say(text):
    print(f"features: {text}", flush=True)
