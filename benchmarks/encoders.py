"""How far each encoder is from Hugging Face's PyTorch: `python -m benchmarks.encoders`.

Small models of random weights, of each kind in its variants, `switched` with every option off its
default. PyTorch computes each utterance alone, ours all in one padded batch. Whisper's encoder,
whose reference takes 30 s windows, is compared in tests/models/encoders/test_whisper.py.
"""

import dataclasses
import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers
from flax import traverse_util

from mmer_jax.models.encoders import ENCODERS, pretrained

LAYERS, DRAWS, ROWS = 2, 200, 4
# Samples or tokens of the utterances, and of the buckets that they are padded into.
SIZES = {"audio": (6_000, 4_321, 2_800, 1_440), "text": (12, 7, 3, 1)}
BUCKETS = {"audio": (6_000, 6_400, 9_999), "text": (12, 16, 20)}
_AUDIO = {
    "hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
    "intermediate_size": 48, "conv_dim": (16,) * 7, "num_conv_pos_embedding_groups": 4,
    "num_conv_pos_embeddings": 16,
}  # fmt: skip
_LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
# Base and large mixed; taps and strides that the published models don't have.
_SWITCHED = {
    "hidden_act": "relu", "feat_extract_activation": "silu", "feat_extract_norm": "layer",
    "conv_bias": True, "layer_norm_eps": 1e-3, "conv_dim": (16, 12, 8, 16, 20, 16, 24),
    "conv_stride": (2, 5, 2, 2, 2, 2, 2), "conv_kernel": (8, 7, 3, 3, 2, 3, 2),
    "num_conv_pos_embeddings": 15, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
_STABLE = {"do_stable_layer_norm": True}
_WAVLM = {"num_buckets": 24, "max_bucket_distance": 10}
_DATA2VEC = {"num_conv_pos_embeddings": 5}
_TEXT = {
    "vocab_size": 50, "hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
    "intermediate_size": 48, "max_position_embeddings": 24,
}  # fmt: skip
_SWITCHED_TEXT = {"hidden_act": "relu", "layer_norm_eps": 1e-3, "pad_token_id": 2}
_DISTILBERT = {
    "vocab_size": 50, "dim": 32, "n_layers": LAYERS, "n_heads": 4, "hidden_dim": 48,
    "max_position_embeddings": 24,
}  # fmt: skip
# Case -> model_type, and options of Hugging Face's config.
CASES = {
    "wav2vec2, base": ("wav2vec2", {}),
    "wav2vec2, large and XLS-R": ("wav2vec2", _LARGE),
    "wav2vec2, MMS with adapters": ("wav2vec2", _LARGE | {"adapter_attn_dim": 6}),
    "wav2vec2, switched": ("wav2vec2", _SWITCHED),
    "hubert, base": ("hubert", {}),
    "hubert, large": ("hubert", _LARGE),
    "hubert, switched": ("hubert", _SWITCHED | {"feat_proj_layer_norm": False}),
    "wavlm, base": ("wavlm", {}),
    "wavlm, large": ("wavlm", _LARGE),
    "wavlm, switched": ("wavlm", _SWITCHED | _STABLE | _WAVLM),
    "data2vec-audio, base": ("data2vec-audio", _DATA2VEC),
    "data2vec-audio, switched": (
        "data2vec-audio", _SWITCHED | _STABLE | {
            "num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 8, "feat_extract_norm": "group",
        },
    ),
    "bert": ("bert", {}),
    "bert, switched": ("bert", _SWITCHED_TEXT | {"type_vocab_size": 3}),
    "roberta": ("roberta", {}),
    "roberta, switched": ("roberta", _SWITCHED_TEXT | {"type_vocab_size": 1}),
    "xlm-roberta": ("xlm-roberta", {}),
    "xlm-roberta, switched": ("xlm-roberta", _SWITCHED_TEXT | {"type_vocab_size": 1}),
    "camembert, switched": ("camembert", _SWITCHED_TEXT | {"type_vocab_size": 1}),
    "electra": ("electra", {"embedding_size": 32}),
    "electra, switched": (
        "electra", _SWITCHED_TEXT | {
            "embedding_size": 16, "num_attention_heads": 2, "type_vocab_size": 3,
        },
    ),
    "distilbert": ("distilbert", {}),
    "distilbert, switched": ("distilbert", {"activation": "relu", "pad_token_id": 2}),
}  # fmt: skip


def config_of(case: str):
    """Hugging Face's config of a case, no dropout in it."""
    kind, options = CASES[case]
    usual = _AUDIO if ENCODERS[kind].modality == "audio" else _TEXT
    usual = _DISTILBERT if kind == "distilbert" else usual
    config = transformers.AutoConfig.for_model(kind, **usual | options)
    config.update({name: 0.0 for name in config.to_dict() if "dropout" in name})
    return config


@dataclasses.dataclass
class Pair:
    """An encoder of a case, in PyTorch and in Flax with the same parameters.

    Attributes:
      theirs: Hugging Face's model in evaluation mode, no bias 0 and no scale 1.
      ours: the Flax module, of the registry's class.
      params: its parameters.
      utterances: one array each, of samples or of ids.
    """

    theirs: torch.nn.Module
    ours: object
    params: dict
    utterances: list

    @property
    def modality(self) -> str:
        """`audio` or `text`."""
        return ENCODERS[self.ours.config.model_type].modality

    def batch(self, utterances, size: int) -> tuple:
        """Arguments of our encoder: utterances padded to `size`, and their lengths or mask."""
        padded = np.zeros((len(utterances), size), utterances[0].dtype)
        for row, x in zip(padded, utterances):
            row[: len(x)] = x
        lengths = np.array([len(x) for x in utterances], np.int32)
        if self.modality == "audio":
            return padded, lengths
        mask = np.arange(size) < lengths[:, None]
        pad = self.ours.config.pad_token_id
        return np.where(mask, padded, pad).astype(np.int32), mask.astype(np.int32)

    def states(self, params, *inputs):
        """All hidden states of ours, [b, t, d] each, and the mask [b, t] of frames or tokens."""
        if self.modality == "audio":
            return self.ours.apply({"params": params}, *inputs, every_state=True)
        return [self.ours.apply({"params": params}, *inputs)], inputs[1]

    def reference(self, utterance):
        """Their hidden states, [t, d] each, of an utterance alone; of text the last one."""
        if self.modality == "audio":
            out = self.theirs(torch.from_numpy(utterance)[None], output_hidden_states=True)
            return [state[0] for state in out.hidden_states]
        return [self.theirs(torch.from_numpy(utterance).long()[None]).last_hidden_state[0]]


def make_pair(case: str, seed: int = 0) -> Pair:
    """Random weights and utterances."""
    config = config_of(case)
    torch.manual_seed(seed)
    theirs = transformers.AutoModel.from_config(config).eval()
    with torch.no_grad():
        for p in theirs.parameters():
            p.add_(0.1 * torch.randn(p.shape))
    ours = ENCODERS[config.model_type].cls(config)
    rng = np.random.default_rng(seed)
    if ENCODERS[config.model_type].modality == "audio":
        utterances = [rng.standard_normal(n).astype(np.float32) for n in SIZES["audio"]]
    else:
        vocabulary = range(3, config.vocab_size)
        utterances = [rng.choice(vocabulary, n).astype(np.int32) for n in SIZES["text"]]
    pair = Pair(theirs, ours, {}, utterances)
    example = pair.batch(utterances[:1], len(utterances[0]))
    shapes = jax.eval_shape(ours.init, jax.random.key(0), *example)["params"]
    state = {name: p.detach().numpy() for name, p in theirs.named_parameters()}
    pair.params = pretrained.from_state(state, shapes, case)
    return pair


def compare(pair: Pair) -> dict[str, float]:
    """How far ours, in a padded batch, is from theirs, utterance by utterance.

    Returns:
      `states`, the largest difference of any hidden state; `gradients`, that of an entry of a
      gradient relative to the parameter's largest, the worst over parameters.
    """
    inputs = pair.batch(pair.utterances, BUCKETS[pair.modality][-1])
    rng = np.random.default_rng(1)

    @jax.jit
    def value_and_grad(params, factors):
        def value(params):
            states, mask = pair.states(params, *inputs)
            return jnp.sum(jnp.where(mask[..., None] > 0, states[-1] * factors, 0)), (states, mask)

        return jax.value_and_grad(value, has_aux=True)(params)

    shape = jax.eval_shape(pair.states, pair.params, *inputs)[0][-1].shape
    factors = rng.standard_normal(shape).astype(np.float32)
    (_, (states, mask)), grads = value_and_grad(pair.params, factors)
    worst = 0.0
    pair.theirs.zero_grad()
    for i, utterance in enumerate(pair.utterances):
        expected = pair.reference(utterance)
        count = len(expected[-1])
        if int(np.sum(mask[i])) != count or len(states) != len(expected):
            return {"states": np.inf, "gradients": np.inf}
        (expected[-1] * torch.from_numpy(factors[i, :count])).sum().backward()
        for ours, theirs in zip(states, expected):
            worst = max(worst, np.abs(ours[i, :count] - theirs.detach().numpy()).max())
    return {"states": float(worst), "gradients": _worst_gradient(pair, grads)}


def _worst_gradient(pair, grads):
    state = {
        name: np.zeros(p.shape, np.float32) if p.grad is None else p.grad.numpy()
        for name, p in pair.theirs.named_parameters()
    }
    expected = pretrained.from_state(state, grads, "the gradients")
    ours, theirs = (traverse_util.flatten_dict(x, sep="/") for x in (grads, expected))
    rounding = 1e-6 * max(np.abs(x).max() for x in theirs.values())
    worst = 0.0
    for name, x in ours.items():
        size = max(np.abs(x).max(), np.abs(theirs[name]).max())
        # A key's bias moves no softmax: rounding is all there is to compare.
        if size > rounding:
            worst = max(worst, np.abs(x - theirs[name]).max() / size)
    return float(worst)


def padding(pair: Pair, draws: int = DRAWS) -> float:
    """Largest change of a state that an utterance's batch and bucket make, over random draws."""
    run = functools.partial(jax.jit(pair.states), pair.params)
    alone = []
    for utterance in pair.utterances:
        states, mask = run(*pair.batch([utterance], len(utterance)))
        alone.append(np.array(states[-1])[0][np.array(mask[0]) > 0])
    rng, worst = np.random.default_rng(2), 0.0
    for draw in range(draws // ROWS):
        chosen = rng.integers(len(alone), size=ROWS)
        size = BUCKETS[pair.modality][draw % len(BUCKETS[pair.modality])]
        states, _ = run(*pair.batch([pair.utterances[i] for i in chosen], size))
        last = np.array(states[-1])
        for row, i in zip(last, chosen):
            worst = max(worst, np.abs(row[: len(alone[i])] - alone[i]).max())
    return float(worst)


def main() -> None:
    """Prints the table; arguments choose cases that begin so."""
    print(f"| encoder | states | gradients | padding, {DRAWS} draws |\n|-|-|-|-|")
    for case in CASES:
        if case.startswith(tuple(sys.argv[1:]) or ""):
            pair = make_pair(case)
            values = (*compare(pair).values(), padding(pair))
            print(f"| {case} | {' | '.join(f'{x:.1e}' for x in values)} |", flush=True)


if __name__ == "__main__":
    main()
