"""MMER in PyTorch, written on its own from the paper: what the Flax model is measured against.

Encoders are Hugging Face's PyTorch modules, attention is PyTorch's, and losses are written with
PyTorch's functions; nothing is shared with mmer_jax but the names of parameters in `load_flax`.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class CrossLayer(nn.Module):
    """One post-norm transformer layer, queries from one sequence, keys and values from another."""

    def __init__(self, width, heads, ffn, dropout):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.attention_norm = nn.LayerNorm(width, eps=1e-12)
        self.intermediate = nn.Linear(width, ffn)
        self.output = nn.Linear(ffn, width)
        self.output_norm = nn.LayerNorm(width, eps=1e-12)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries, memory, mask):
        """[b, q, d], [b, k, d], bool [b, k] -> [b, q, d]."""
        attended, _ = self.attention(
            queries, memory, memory, key_padding_mask=~mask, need_weights=False
        )
        hidden = self.attention_norm(queries + self.dropout(attended))
        inner = self.output(F.gelu(self.intermediate(hidden)))
        return self.output_norm(hidden + self.dropout(inner))


class TorchMMER(nn.Module):
    """The whole network.

    Args:
      audio: HF's `Wav2Vec2Model` or `HubertModel`.
      text: HF's `BertModel` or `RobertaModel`.
      classes, symbols: c and v.
      width, heads, ffn, dropout: of the fusion network; both encoders have its width.
      attends_padding: the audio encoder gets no attention mask, as in the authors' code.
    """

    def __init__(self, audio, text, classes, symbols, width, heads, ffn, dropout=0.1,
                 attends_padding=False):  # fmt: skip
        super().__init__()
        self.attends_padding = attends_padding
        self.margin = np.inf  # least relative margin of a maximum so far, see `_masked_max`
        self.audio_encoder, self.text_encoder = audio, text
        layer = lambda: CrossLayer(width, heads, ffn, dropout)  # noqa: E731
        self.self_attention, self.text_to_audio = layer(), layer()
        self.audio_to_text, self.text_to_text = layer(), layer()
        self.audio_keys, self.audio_queries = nn.Linear(width, width), nn.Linear(width, width)
        self.gate = nn.Linear(2 * width, width)
        self.downsample = nn.Linear(2 * width, width)
        self.emotion = nn.Linear(2 * width, classes)
        self.ctc = nn.Linear(width, symbols)
        projection = lambda: nn.Sequential(  # noqa: E731
            nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, width)
        )
        self.projection, self.aug_projection = projection(), projection()
        self.dropout = nn.Dropout(dropout)

    def fuse(self, audio, audio_length, ids, mask):
        """One view -> frames [b, t, d], frame mask [b, t], utterance vector [b, 2d]."""
        frames, frame_mask = self.encode_audio(audio, audio_length)
        return frames, frame_mask, self.fuse_text(frames, frame_mask, ids, mask)

    def encode_audio(self, audio, audio_length):
        """Speech [b, n] and its lengths -> frames [b, t, d], frame mask [b, t]."""
        attended = (torch.arange(audio.shape[1])[None] < audio_length[:, None]).long()
        attended = None if self.attends_padding else attended
        frames = self.audio_encoder(audio, attention_mask=attended).last_hidden_state
        count = self.audio_encoder._get_feat_extract_output_lengths(audio_length)
        return frames, torch.arange(frames.shape[1])[None] < count[:, None]

    def fuse_text(self, frames, frame_mask, ids, mask):
        """Frames and tokens [b, s] -> utterance vector [b, 2d]."""
        mask = mask.bool()
        tokens = self.dropout(self.text_encoder(ids, attention_mask=mask.long()).last_hidden_state)
        x = self.self_attention(tokens, tokens, mask)
        attended = self.text_to_audio(x, self.audio_keys(frames), frame_mask)
        frames_with_text = self.audio_to_text(self.audio_queries(frames), x, mask)
        refined = self.text_to_text(x, frames_with_text, frame_mask)
        gate = torch.sigmoid(self.gate(torch.cat([refined, attended], -1)))
        pooled = self.downsample(self._masked_max(torch.cat([refined, gate * attended], -1), mask))
        return torch.cat([self._masked_max(frames, frame_mask), pooled], -1)

    def forward(self, batch):
        """A batch of tensors (see `mmer_jax/data/loader.py`) -> dict of what losses read."""
        names = ("audio", "audio_length", "text_ids", "text_mask")
        frames, frame_mask, fused = self.fuse(*(batch[n] for n in names))
        _, _, aug_fused = self.fuse(*(batch[f"aug_{n}"] for n in names))
        return {
            "logits": self.emotion(fused),
            "ctc_logits": self.ctc(self.dropout(frames)),
            "audio_mask": frame_mask,
            "projection": self.projection(fused),
            "aug_projection": self.aug_projection(aug_fused),
        }

    def _masked_max(self, x, mask):
        """[b, n, d], bool [b, n] -> [b, d].

        Where two positions' values differ by no more than rounding, each framework may send the
        gradient to another one: `margin` says how far from that all maxima were.
        """
        x = x.masked_fill(~mask[..., None], -torch.inf)
        first, second = x.detach().topk(2, dim=1).values.unbind(1)
        margin = (first - second).min() / first.abs().max()
        self.margin = min(self.margin, margin.item())
        return x.amax(1)


def losses(out: dict, batch: dict, temperature: float = 0.07) -> dict:
    """CE, mean CTC, SCL (Khosla et al. 2020), symmetric ACL; `total` with weights 1 and 0.1.

    Every row of the batch counts, and each class has two or more rows.
    """
    z, z_aug = F.normalize(out["projection"]), F.normalize(out["aug_projection"])
    similarity, target = z @ z_aug.T / temperature, torch.arange(len(z))
    found = {
        "ce": F.cross_entropy(out["logits"], batch["label"]),
        "ctc": _ctc(out, batch).mean(),
        "scl": _scl(z, batch["label"], temperature),
        "acl": (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target)) / 2,
    }
    rest = found["ctc"] + found["scl"] + found["acl"]
    return found | {"total": found["ce"] + 0.1 * rest}


def original_losses(out: dict, batch: dict, temperature: float = 0.07) -> dict:
    """The same as in the authors' code: CTC summed over the batch, SCL and ACL of raw projections.

    SCL keeps self pairs and divides by the temperature after the softmax; ACL has one direction.
    """
    z, z_aug = out["projection"], out["aug_projection"]
    same = batch["label"][:, None] == batch["label"][None]
    found = {
        "ce": F.cross_entropy(out["logits"], batch["label"]),
        "ctc": _ctc(out, batch).sum(),
        "scl": -(z @ z.T).log_softmax(-1)[same].mean() / temperature,
        "acl": F.cross_entropy(z @ z_aug.T / temperature, torch.arange(len(z))),
    }
    return found | {"total": found["ce"] + 0.1 * (found["ctc"] + found["scl"] + found["acl"])}


def tensors(batch: dict) -> dict:
    """A batch of arrays as tensors; integers as int64, which PyTorch's lookups ask for."""
    whole = lambda x: x.astype(np.int64) if x.dtype == np.int32 else x  # noqa: E731
    return {name: torch.from_numpy(whole(x)) for name, x in batch.items()}


def adamw(model: TorchMMER, options):
    """PyTorch's AdamW with `config.optimizer`'s numbers; freezes convolutions and text encoder."""
    for name, p in model.named_parameters():
        p.requires_grad_(not name.startswith(("audio_encoder.feature_extractor", "text_encoder")))
    return torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=options.learning_rate,
        betas=(options.b1, options.b2), eps=options.eps, weight_decay=options.weight_decay,
    )  # fmt: skip


def _ctc(out, batch):
    """-log p of each transcript, summed over its characters."""
    log_p = out["ctc_logits"].log_softmax(-1).transpose(0, 1)
    frames = out["audio_mask"].sum(1)
    lengths = batch["transcript_length"]
    return F.ctc_loss(log_p, batch["transcript"], frames, lengths, reduction="none")


def _scl(z, label, temperature):
    itself = torch.eye(len(z), dtype=torch.bool)
    scores = (z @ z.T / temperature).masked_fill(itself, -torch.inf)
    positive = (label[:, None] == label[None]) & ~itself
    log_p = scores.log_softmax(-1).masked_fill(~positive, 0.0)
    return (-log_p.sum(1) / positive.sum(1)).mean()


def load_flax(model: TorchMMER, params: dict) -> dict[str, tuple[str, ...]]:
    """Copies the Flax model's parameters in; returns PyTorch name -> Flax paths.

    PyTorch's attention stacks the query, key and value weights: there a name has three paths.

    Args:
      model: gets the weights.
      params: flat, `a/b/kernel` -> array. All must find a place, and each place its weights.

    Raises:
      ValueError: names what is left over on either side.
    """
    theirs = model.state_dict()
    names = {name: (path,) for path in params for name in _torch_names(path) if name in theirs}
    for layer in ("self_attention", "text_to_audio", "audio_to_text", "text_to_text"):
        flax = f"fusion/text/{layer}" if layer == "self_attention" else f"fusion/{layer}"
        for leaf, suffix in (("kernel", "in_proj_weight"), ("bias", "in_proj_bias")):
            stacked = tuple(f"{flax}/{part}/{leaf}" for part in ("query", "key", "value"))
            names[f"{layer}.attention.{suffix}"] = stacked
    left = {name for name in theirs if not _untouched(name)} ^ names.keys()
    left |= params.keys() - {path for paths in names.values() for path in paths}
    if left:
        raise ValueError(f"these have no counterpart: {sorted(left)[:5]}")
    filled = {name: torch.from_numpy(torch_layout(params, paths)) for name, paths in names.items()}
    model.load_state_dict(theirs | filled)
    return names


def torch_layout(values: dict, paths: tuple[str, ...]) -> np.ndarray:
    """The Flax arrays at `paths` as the one PyTorch array that they are."""
    arrays = [np.array(values[p].T if p.endswith("kernel") else values[p]) for p in paths]
    return np.ascontiguousarray(np.concatenate(arrays))


def _untouched(name):
    """What HF's modules hold and MMER never reads: SpecAugment's embedding, BERT's pooler, ids."""
    return "masked_spec_embed" in name or ".pooler." in name or name.endswith("_ids")


def _torch_names(path):
    *module, leaf = path.split("/")
    module = ".".join(m for m in module if m not in ("fusion", "text", "linear"))
    module = module.replace("attention_output", "attention.out_proj")
    for head in ("projection", "aug_projection"):
        for ours, index in (("hidden", "0"), ("output", "2")):
            module = f"{head}.{index}" if module == f"{head}.{ours}" else module
    leaves = {
        "kernel": ("weight",), "scale": ("weight",), "embedding": ("weight",), "bias": ("bias",),
        "weight_g": ("parametrizations.weight.original0",),
        "weight_v": ("parametrizations.weight.original1",),
    }  # fmt: skip
    return [f"{module}.{name}" for name in leaves[leaf]]
