"""MMER on the demo corpus: small encoders from scratch, minutes on two CPU cores.

  make demo                                                        corpus, tfds build, this config
  python -m mmer_jax.main --config=configs/demo.py                 speech and text
  python -m mmer_jax.main --config=configs/demo.py:audio_only      speech alone
  python -m mmer_jax.main --config=configs/demo.py:text_only       text alone
  python -m mmer_jax.main --config=configs/demo.py:wav2vec2        raw waveform instead of log-mel
  python -m mmer_jax.main --config=configs/demo.py:smoke           seconds: does it run at all?

The corpus is synthetic: results show that the software works, not how well MMER does on people.
Measured results are in README.md.
"""

from mmer_jax import configuration

VARIANTS = ("default", "audio_only", "text_only", "wav2vec2", "smoke")


def get_config(variant: str = "default"):
    """The config of a variant; see the top of the file."""
    configuration.check_variant(__file__, variant, VARIANTS)
    c = configuration.default()
    c.name = "demo" if variant == "default" else f"demo_{variant}"
    c.data.dir = "build/demo/tfds"
    c.data.batch_size = 16
    c.data.eval_batch_size = 32
    c.data.buckets = 3  # 24 % padding; docs/performance.md says why not more
    c.text.family = "bert"
    c.text.tokenizer = "build/demo/corpus/tokenizer"
    c.text.max_tokens = 48
    c.audio.family = "whisper"
    for size in (c.audio.size, c.text.size):
        size.width, size.layers, size.heads, size.ffn = 64, 2, 4, 128
    c.model.width, c.model.heads, c.model.ffn = 64, 4, 128
    c.optimizer.learning_rate = 1e-3
    c.optimizer.schedule = "cosine"
    c.train.epochs = 8
    c.train.text_dropout = 0.3  # so that a recording without a transcript gets an answer too
    if variant == "audio_only":
        configuration.audio_only(c)
    if variant == "text_only":
        configuration.text_only(c)
    if variant == "wav2vec2":
        _wav2vec2(c)
    if variant == "smoke":
        _smoke(c)
    return c


def _wav2vec2(c):
    """Raw waveforms take far longer to learn from: this shows that the path runs, no more."""
    c.audio.family = "wav2vec2"
    c.audio.conv_channels = 32
    c.folds = (5,)
    c.train.epochs = 1


def _smoke(c):
    for size in (c.audio.size, c.text.size):
        size.width, size.layers, size.heads, size.ffn = 16, 1, 2, 16
    c.model.width, c.model.heads, c.model.ffn = 16, 2, 16
    c.data.buckets = 1
    c.folds = (5,)
    c.train.epochs = 1
