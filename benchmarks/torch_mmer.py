"""MMER in PyTorch, written on its own from the paper: what the Flax model is measured against.

Encoders are Hugging Face's PyTorch modules, attention is PyTorch's, and losses are written with
PyTorch's functions; nothing is shared with mmer_jax but the names of parameters (`from_flax`).
"""

import collections
import copy
import re

import numpy as np
import torch
import torch.nn.functional as F
from flax import traverse_util
from torch import nn
from transformers import AutoModel, RobertaModel


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
      text: HF's `RobertaModel`.
      classes, symbols: c and v.
      width, heads, ffn, dropout: of the fusion network; both encoders have its width.
      attends_padding: the audio encoder gets no attention mask, as in the authors' code.

    Attributes:
      margin: where it is not None, it becomes the least relative margin of a maximum so far: where
        two positions' values differ by no more than rounding, each framework may send the gradient
        to another one.
    """

    def __init__(self, audio, text, classes, symbols, width, heads, ffn, dropout=0.1,
                 attends_padding=False):  # fmt: skip
        super().__init__()
        self.attends_padding, self.margin = attends_padding, None
        self.audio_encoder, self.text_encoder = audio, text
        layer = lambda: CrossLayer(width, heads, ffn, dropout)  # noqa: E731
        self.self_attention, self.text_to_audio = layer(), layer()
        self.audio_to_text, self.text_to_text = layer(), layer()
        self.audio_keys, self.audio_queries = nn.Linear(width, width), nn.Linear(width, width)
        self.gate = nn.Linear(2 * width, width)
        self.downsample = nn.Linear(2 * width, width)
        self.emotion = nn.Linear(2 * width, classes)
        self.ctc = nn.Linear(width, symbols)
        projection = lambda: nn.Sequential(collections.OrderedDict(  # noqa: E731
            hidden=nn.Linear(2 * width, width), gelu=nn.GELU(), output=nn.Linear(width, width)
        ))  # fmt: skip
        self.projection, self.aug_projection = projection(), projection()
        self.dropout = nn.Dropout(dropout)

    @classmethod
    def like(cls, model, params: dict) -> "TorchMMER":
        """The same network as a Flax one of wav2vec2 or HuBERT and RoBERTa, with its parameters.

        Raises:
          RuntimeError: names the parameters that one side alone has.
        """
        audio = copy.deepcopy(model.audio_encoder.config)
        audio.update({"layerdrop": 0.0, "mask_time_prob": 0.0})  # ours has neither
        text = RobertaModel(model.text_encoder.config, add_pooling_layer=False)
        twin = cls(
            AutoModel.from_config(audio), text, model.classes, model.symbols, model.width,
            model.heads, model.ffn, model.dropout, model.audio_encoder.original_padding,
        )  # fmt: skip
        twin.load_state_dict({k: torch.from_numpy(x) for k, x in from_flax(params).items()})
        return twin

    def fuse(self, audio, audio_length, ids, mask):
        """One view -> frames [b, t, d], frame mask [b, t], utterance vector [b, 2d]."""
        frames, frame_mask = self.encode_audio(audio, audio_length)
        return frames, frame_mask, self.fuse_text(frames, frame_mask, ids, mask)

    def encode_audio(self, audio, audio_length):
        """Speech [b, n] and its lengths -> frames [b, t, d], frame mask [b, t]."""
        attended = _until(audio_length, audio.shape[1]).long()
        attended = None if self.attends_padding else attended
        frames = self.audio_encoder(audio, attention_mask=attended).last_hidden_state
        count = self.audio_encoder._get_feat_extract_output_lengths(audio_length)
        return frames, _until(count, frames.shape[1])

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
        """[b, n, d], bool [b, n] -> [b, d]."""
        x = x.masked_fill(~mask[..., None], -torch.inf)
        if self.margin is not None:
            first, second = x.detach().topk(2, dim=1).values.unbind(1)
            self.margin = min(self.margin, ((first - second).min() / first.abs().max()).item())
        return x.amax(1)


def _until(lengths, count):
    """Lengths [b] -> bool [b, count], true before each."""
    return torch.arange(count, device=lengths.device)[None] < lengths[:, None]


_LEAVES = {
    "kernel": "weight", "scale": "weight", "embedding": "weight", "bias": "bias",
    "weight_g": "parametrizations.weight.original0",
    "weight_v": "parametrizations.weight.original1",
}  # fmt: skip


def from_flax(tree: dict) -> dict[str, np.ndarray]:
    """The Flax model's parameters, or arrays like some of them, under PyTorch's names and axes.

    PyTorch's attention stacks queries, keys and values.
    """
    found = {}
    for (*module, leaf), x in traverse_util.flatten_dict(tree).items():
        module = [part for part in module if part not in ("fusion", "text", "linear")]
        name = ".".join((*module, _LEAVES[leaf])).replace("attention_output", "attention.out_proj")
        found[name] = np.array(x).T if leaf == "kernel" else np.array(x)
    for query in [name for name in found if re.match(r"\w+\.query\.", name)]:
        layer, _, leaf = query.split(".")
        parts = [found.pop(f"{layer}.{part}.{leaf}") for part in ("query", "key", "value")]
        found[f"{layer}.attention.in_proj_{leaf}"] = np.concatenate(parts)
    return found


def losses(out: dict, batch: dict, temperature: float = 0.07) -> dict:
    """CE, mean CTC, SCL (Khosla et al. 2020), symmetric ACL; `total` with weights 1 and 0.1.

    Every row of the batch counts, and each class has two or more rows.
    """
    z, z_aug = F.normalize(out["projection"]), F.normalize(out["aug_projection"])
    similarity, target = z @ z_aug.T / temperature, torch.arange(len(z), device=z.device)
    return _weighted({
        "ce": F.cross_entropy(out["logits"], batch["label"]),
        "ctc": _ctc(out, batch).mean(),
        "scl": _scl(z, batch["label"], temperature),
        "acl": (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target)) / 2,
    })  # fmt: skip


def original_losses(out: dict, batch: dict, temperature: float = 0.07) -> dict:
    """The same as in the authors' code: CTC summed over the batch, SCL and ACL of raw projections.

    SCL keeps self pairs and divides by the temperature after the softmax; ACL has one direction.
    """
    z, z_aug = out["projection"], out["aug_projection"]
    same = batch["label"][:, None] == batch["label"][None]
    return _weighted({
        "ce": F.cross_entropy(out["logits"], batch["label"]),
        "ctc": _ctc(out, batch).sum(),
        "scl": -(z @ z.T).log_softmax(-1)[same].mean() / temperature,
        "acl": F.cross_entropy(z @ z_aug.T / temperature, torch.arange(len(z))),
    })  # fmt: skip


def _weighted(found):
    return found | {"total": found["ce"] + 0.1 * (found["ctc"] + found["scl"] + found["acl"])}


def _ctc(out, batch):
    """-log p of each transcript, summed over its characters."""
    log_p = out["ctc_logits"].log_softmax(-1).transpose(0, 1)
    frames = out["audio_mask"].sum(1)
    lengths = batch["transcript_length"]
    return F.ctc_loss(log_p, batch["transcript"], frames, lengths, reduction="none")


def _scl(z, label, temperature):
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    scores = (z @ z.T / temperature).masked_fill(itself, -torch.inf)
    positive = (label[:, None] == label[None]) & ~itself
    log_p = scores.log_softmax(-1).masked_fill(~positive, 0.0)
    return (-log_p.sum(1) / positive.sum(1)).mean()


def tensors(batch: dict) -> dict:
    """A batch of arrays as tensors; integers as int64, which PyTorch's lookups ask for."""
    whole = lambda x: x.astype(np.int64) if x.dtype == np.int32 else x  # noqa: E731
    return {name: torch.from_numpy(whole(x)) for name, x in batch.items()}


def adamw(model: TorchMMER, options, **more):
    """AdamW with `config.optimizer`'s numbers and `more`; freezes convolutions, text encoder."""
    model.audio_encoder.feature_extractor._freeze_parameters()  # spares the gradient through it too
    model.text_encoder.requires_grad_(False)
    return torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=options.learning_rate,
        betas=(options.b1, options.b2), eps=options.eps, weight_decay=options.weight_decay, **more,
    )  # fmt: skip


def accumulate(model: TorchMMER, batches, loss_fn=losses, every: int = 1) -> list[float]:
    """Adds up the gradients of the batches' losses, each divided by `every`; returns the losses."""
    found = []
    for batch in map(tensors, batches):
        loss = loss_fn(model(batch), batch)["total"]
        (loss / every).backward()
        found.append(loss.item())
    return found


def update(model: TorchMMER, optimizer, batches, loss_fn=losses, every: int = 1,
           clip_norm: float = 0.0) -> list[float]:  # fmt: skip
    """One step of the optimiser on the batches' gradients, see `accumulate`."""
    optimizer.zero_grad()
    found = accumulate(model, batches, loss_fn, every)
    if clip_norm:
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    optimizer.step()
    return found
