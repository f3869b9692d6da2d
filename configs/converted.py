"""A converted checkpoint of the authors' code: tested as it is, or trained on.

  python -m mmer_jax.convert.original CHECKPOINT.pt OUT_DIR --text-encoder=roberta-base
  python -m mmer_jax.main --config=configs/converted.py:OUT_DIR --config.train.epochs=0   tests it
  python -m mmer_jax.main --config=configs/converted.py:OUT_DIR --config.train.epochs=5   trains on

It sets config.init_from, which takes a finished fold (runs/x/fold5) and an exported model as well,
beside any config that describes the same encoders and sizes. Classes may be in another order.

With epochs=0 nothing is chosen and nothing trained: take the fold whose session the checkpoint was
not trained on, for example --config.folds='(5,)'. No original file was at hand: not measured.
"""

from mmer_jax.convert import original


def get_config(folder: str):
    """The config that the converter wrote into `folder`."""
    return original.load_config(folder)
