"""The authors' PyTorch checkpoint of MMER -> a folder with parameters and a config of ours.

python -m mmer_jax.convert.original CHECKPOINT.pt OUT_DIR [--text-encoder roberta-base]
"""

from __future__ import annotations

import json
import os
import sys
import typing

import ml_collections

from mmer_jax import cli, configuration, files
from mmer_jax.errors import UserError, first_line
from mmer_jax.models.encoders import names

# What is imported late takes seconds, which --help has not.
if typing.TYPE_CHECKING:
    from mmer_jax.convert.mapping import Converted

# Below the folder that is written.
PARAMS_FOLDER, AUDIO_FOLDER, TEXT_FOLDER = "params", "audio_encoder", "text_encoder"
LABELS_FILE = "labels.json"  # the order that was taken for the checkpoint's outputs

LABELS = ("ang", "hap", "neu", "sad")  # the order of our datasets
ORIGINAL_LABELS = ("hap", "ang", "neu", "sad")  # of the authors' label table; hap includes exc
AGAIN = "Convert it again: python -m mmer_jax.convert.original CHECKPOINT.pt OUT_DIR."


def reorder(params: dict, labels: tuple[str, ...]) -> dict:
    """The parameters with the emotion head's outputs in our order.

    Args:
      params: of the whole model.
      labels: the emotions of its outputs, in their order.

    Raises:
      UserError: not the four emotions.
    """
    if sorted(labels) != sorted(LABELS):
        raise UserError(
            f"--labels is {','.join(labels)}; expected {', '.join(LABELS)} in the order of the "
            "checkpoint's outputs, with commas between."
        )
    from mmer_jax.models.factory import reorder_classes

    return reorder_classes(params, labels, LABELS)


def config_of(converted: Converted, text_encoder: str) -> ml_collections.ConfigDict:
    """The original recipe's config with this checkpoint's sizes.

    Args:
      converted: what `convert` returned.
      text_encoder: hub name or folder, also the tokenizer's.
    """
    c = configuration.default()
    configuration.original(c)
    c.name = "original"
    c.audio.pretrained = AUDIO_FOLDER
    c.text.pretrained = TEXT_FOLDER
    c.text.tokenizer = text_encoder
    c.model.width, c.model.heads = converted.model.width, converted.model.heads
    c.model.ffn, c.model.dropout = converted.model.ffn, converted.model.dropout
    c.optimizer.frozen = ("audio_encoder/feature_extractor/.*", "text_encoder/.*")
    return c


def write(converted: Converted, text_encoder: str, folder: str,
          labels: tuple[str, ...] = ORIGINAL_LABELS) -> None:  # fmt: skip
    """Writes `params` (orbax), `config.json` and both encoders' HF configs; whole, or nothing.

    Args:
      converted: what `convert` returned.
      text_encoder: hub name or folder of the text encoder, whose weights are added.
      folder: must not exist, or be empty.
      labels: the emotions of the checkpoint's outputs, in their order; written in ours.

    Raises:
      UserError: the folder is taken, there is no such text encoder or one of another width, or
        `labels` are not the four emotions.
    """
    import orbax.checkpoint as ocp

    params = reorder(converted.params, labels)
    with files.new_folder(folder) as made:
        text_config, text_params = _text_encoder(text_encoder, converted)
        if os.path.isdir(os.path.expanduser(text_encoder)):
            text_encoder = files.resolve(text_encoder)
        converted.audio_config.save_pretrained(os.path.join(made, AUDIO_FOLDER))
        text_config.save_pretrained(os.path.join(made, TEXT_FOLDER))
        config = configuration.to_json(config_of(converted, text_encoder))
        with open(os.path.join(made, "config.json"), "w") as f:
            json.dump(config, f, indent=2)
        with open(os.path.join(made, LABELS_FILE), "w") as f:
            json.dump({"outputs": labels}, f)
        with ocp.StandardCheckpointer() as checkpointer:
            params = params | {"text_encoder": text_params}
            checkpointer.save(os.path.join(made, PARAMS_FOLDER), params)


def _text_encoder(source, converted):
    import jax
    import numpy as np

    from mmer_jax.models.encoders import pretrained
    from mmer_jax.models.encoders.text import TextEncoder

    config = pretrained.load_config(source)
    if config.model_type not in names("text") or config.hidden_size != converted.model.width:
        raise UserError(
            f"{source} is a {config.model_type} {config.hidden_size} wide; the checkpoint's fusion "
            f"reads token states {converted.model.width} wide from: {', '.join(names('text'))}."
        )
    ids = np.zeros((1, 4), np.int32)
    shapes = jax.eval_shape(TextEncoder(config).init, jax.random.key(0), ids, ids)["params"]
    return config, pretrained.load_params(source, shapes)


def load_config(folder: str) -> ml_collections.ConfigDict:
    """The config of a folder that `write` made, for `main`: it starts from that checkpoint.

    Raises:
      UserError: no such folder, or one that this converter did not write whole.
    """
    folder = os.path.abspath(os.path.expanduser(folder))
    try:
        with open(os.path.join(folder, "config.json")) as f:
            config = configuration.from_json(json.load(f))
    except Exception as e:  # OSError, JSON's or ml_collections'
        raise UserError(
            f"{folder} can't be read as a converted checkpoint ({first_line(e)}). {AGAIN}"
        ) from e
    if not os.path.exists(os.path.join(folder, LABELS_FILE)):
        raise UserError(
            f"{folder} holds no {LABELS_FILE}: an earlier version wrote it, which took the first "
            f"output for anger where the original code has happiness. {AGAIN}"
        )
    config.init_from = folder
    for part in (config.audio, config.text):
        part.pretrained = os.path.join(folder, part.pretrained)
    return config


def load(folder: str) -> tuple[ml_collections.ConfigDict, dict]:
    """The config of a folder that `write` made, and the parameters as host arrays.

    Raises:
      UserError: no such folder, or one that this converter did not write whole.
    """
    import jax
    import orbax.checkpoint as ocp

    config = load_config(folder)
    path = os.path.join(config.init_from, PARAMS_FOLDER)
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            return config, jax.device_get(checkpointer.restore(path))
    except Exception as e:  # orbax raises what the layer below it raised
        raise UserError(f"{path} can't be read as parameters ({first_line(e)}). {AGAIN}") from e


def report(converted: Converted) -> str:
    """The use of every key, and the sizes that were found."""
    import jax

    m, a = converted.model, converted.audio_config
    count = sum(x.size for x in jax.tree.leaves(converted.params))
    lines = [
        f"wav2vec2: {a.num_hidden_layers} layers, width {a.hidden_size}, "
        f"FFN {a.intermediate_size}, convolutions {tuple(a.conv_dim)}, {a.feat_extract_norm} norm",
        f"fusion: width {m.width}, {m.heads} heads, FFN {m.ffn}; {m.classes} classes, "
        f"{m.symbols} CTC symbols",
        f"{len(converted.names)} keys used, {count:,} weights; {len(converted.unused)} not used:",
    ]
    lines += [f"  {key}: {reason}" for key, reason in sorted(converted.unused.items())]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """The command; 1 and one message where something is wrong."""
    parser = cli.Parser(
        prog="python -m mmer_jax.convert.original", description=__doc__.split("\n")[0]
    )
    parser.add_argument("checkpoint", help="the authors' file, CHECKPOINT.pt")
    parser.add_argument("out_dir", help="a new folder")
    parser.add_argument(
        "--text-encoder", default="roberta-base", help="hub name or folder; the authors used this"
    )
    parser.add_argument(
        "--labels",
        default=",".join(ORIGINAL_LABELS),
        help="the emotions of its outputs, in their order; default: %(default)s",
    )
    args = parser.parse_args(argv)

    def work():
        from mmer_jax.convert.mapping import convert
        from mmer_jax.models.encoders import weight_files

        if not os.path.isfile(args.checkpoint):
            raise UserError(f"There is no file {args.checkpoint}.")
        converted = convert(weight_files.read(args.checkpoint), args.checkpoint)
        print(report(converted))
        write(converted, args.text_encoder, args.out_dir, tuple(args.labels.split(",")))
        print(f"Written to {args.out_dir}: params, config.json, {AUDIO_FOLDER}, {TEXT_FOLDER}")

    return cli.attempt(work, "nothing was written")


if __name__ == "__main__":
    sys.exit(main())
