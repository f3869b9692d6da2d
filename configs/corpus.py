"""MMER on an open corpus, or on one's own recordings: prepared by datasets/speech_emotion.

  python -m mmer_jax.main --config=configs/corpus.py:table       one's own table, docs/own_corpus.md
  python -m mmer_jax.main --config=configs/corpus.py:ravdess     RAVDESS, EmoBox's six folds
  python -m mmer_jax.main --config=configs/corpus.py:emodb       EmoDB, German, ten speakers
  python -m mmer_jax.main --config=configs/corpus.py:crema_d     CREMA-D, five groups of speakers
  python -m mmer_jax.main --config=configs/corpus.py:crema_d_voted   its voted emotions
  python -m mmer_jax.main --config=configs/corpus.py:savee       SAVEE, four speakers
  python -m mmer_jax.main --config=configs/corpus.py:tess        TESS, two speakers
  python -m mmer_jax.main --config=configs/corpus.py:meld        MELD, its own test part
  python -m mmer_jax.main --config=configs/corpus.py:esd_en      ESD, English, its own test part
  python -m mmer_jax.main --config=configs/corpus.py:esd_zh      ESD, Mandarin, its own test part

Speech alone where the same few sentences are said in every emotion, so that words tell nothing;
speech and text in a table and in MELD. What is tested follows from the corpus (protocol=auto). The
encoders are downloaded, or are folders, and others are named by options:
--config.audio.pretrained=openai/whisper-tiny.en, --config.text.pretrained=roberta-base; for
encoders from scratch --config.audio.pretrained='' and, for text, a --config.text.tokenizer.
Measured results are in docs/results.md; where a corpus is not there, nothing was measured.
"""

from mmer_jax import configuration

# Whose words are the same in every emotion.
SPOKEN_ALIKE = (
    "ravdess", "emodb", "crema_d", "crema_d_voted", "savee", "tess", "esd_en", "esd_zh"
)  # fmt: skip
WITHOUT_TRANSCRIPTS = ("savee",)
# In a language with characters that the English alphabet lacks.
OWN_ALPHABET = ("emodb", "esd_zh")
# With classes of which some are many times larger than others.
UNEVEN = ("table", "meld", "crema_d_voted")
VARIANTS = ("table", *SPOKEN_ALIKE, "meld")


def get_config(variant: str = "table"):
    """The config of a corpus; see the top of the file."""
    configuration.check_variant(__file__, variant, VARIANTS)
    c = configuration.default()
    c.name = variant
    c.protocol = "auto"
    c.data.dataset = f"speech_emotion/{variant}"
    c.audio.pretrained = "facebook/wav2vec2-base"
    c.text.pretrained = "roberta-base"
    c.optimizer.frozen = ("text_encoder/.*",)
    if variant != "table":
        c.losses.acl.weight = 0.0  # none of them has augmented views
    if variant in SPOKEN_ALIKE:
        configuration.audio_only(c)
    if variant in WITHOUT_TRANSCRIPTS:
        c.losses.ctc.weight = 0.0
    if variant in OWN_ALPHABET:
        c.losses.ctc.alphabet = "corpus"
    if variant in UNEVEN:
        c.losses.ce.class_weights = "balanced"
    return c
