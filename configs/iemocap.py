"""MMER on IEMOCAP, the paper's setting: wav2vec2-base and a frozen RoBERTa-base, five sessions.

  python -m mmer_jax.main --config=configs/iemocap.py --workdir=runs/iemocap
  python -m mmer_jax.main --config=configs/iemocap.py:original     the authors' code's recipe:
                                     4 batches of 2 an update, its losses, text, padding, optimiser
  python -m mmer_jax.main --config=configs/iemocap.py:audio_only   speech alone
  python -m mmer_jax.main --config=configs/iemocap.py:text_only    text alone

The third auxiliary task, contrast with the augmented view (losses.acl, weight 0.1), counts where
the dataset has such views, and a run says so; IEMOCAP comes without them, and this makes them:
  python -m mmer_jax.augment --data=iemocap --out=MANUAL/augmented --texts=marian --speech=signal
Then build the dataset anew, with --overwrite (docs/augmentation.md).

Needs the prepared dataset (datasets/iemocap/README.md) and a network for the two encoders, or
folders that hold them. Not run by the authors of this repository: no result is claimed here.
"""

from mmer_jax import configuration

VARIANTS = ("default", "original", "audio_only", "text_only")


def get_config(variant: str = "default"):
    """The config of a variant; see the top of the file."""
    name = variant  # as given: a run under an old name goes on in its own workdir
    variant = configuration.check_variant(__file__, variant, VARIANTS)
    c = configuration.default()
    c.name = "iemocap" if variant == "default" else f"iemocap_{name}"
    c.audio.pretrained = "facebook/wav2vec2-base"
    c.text.pretrained = "roberta-base"
    c.optimizer.frozen = ("audio_encoder/feature_extractor/.*", "text_encoder/.*")
    if variant == "original":
        configuration.original(c)
    if variant == "audio_only":
        configuration.audio_only(c)
    if variant == "text_only":
        configuration.text_only(c)
    return c
