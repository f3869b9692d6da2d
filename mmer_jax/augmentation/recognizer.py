"""A speech recogniser, Whisper: recordings in, transcripts with their confidence out.

Radford et al. 2022, https://arxiv.org/abs/2212.04356; the network is Hugging Face's
`FlaxWhisperForConditionalGeneration`, jitted.
"""

import contextlib
import hashlib
import itertools
import json
import os

import jax
import jax.numpy as jnp
import numpy as np

from mmer_jax.data import bucketing, preprocessing, text
from mmer_jax.data.transcripts import Transcript
from mmer_jax.errors import UserError
from mmer_jax.models.encoders import pretrained, weight_files
from mmer_jax.models.encoders.whisper import HOP, WhisperEncoder, log_mel

# Whisper's own rule: nobody speaks where that is probable and what was written is not.
NO_SPEECH, UNSURE = 0.6, float(np.exp(-1.0))
# Nor where it is certain: of silence and hum whisper-tiny.en says "you" and is rather sure, at 0.92
# to 0.95; of 100 sentences of the demo corpus none is above 0.24.
SILENCE = 0.9
# A loop: a group of at most so many tokens, so many times in a row at least, so many in all.
LONGEST_GROUP, REPEATS, LOOP_TOKENS = 32, 4, 16
_QUIET = preprocessing.SAMPLE_RATE // 10  # samples over which a place to cut is to be quiet


class Recognizer:
    """Writes down what is said in recordings.

    Greedy, at most as many tokens as half of the decoder's positions (224) for each window; special
    tokens and timestamps are never written. A recording longer than Whisper's 30 s is cut into
    windows that follow on one another, see `cut`.

    Args:
      source: hub name or folder of a Whisper model in Hugging Face format, its tokenizer with it.
      language: code or English name; "" for an English model.
      batch_size: windows that are computed at once; one by one where there is only one.

    Attributes:
      name: the model's name, the language and 8 digits of a digest over weights and settings.
      settings: plain values: `name`, the model, its digest, and all that changes a transcript.

    Raises:
      UserError: no such model, another kind of model, or a language that it does not know.
    """

    def __init__(self, source: str, language: str = "", batch_size: int = 8):
        config = pretrained.load_config(source)
        if config.model_type != "whisper":
            raise UserError(
                f"{source} is a {config.model_type} model; a recogniser is a Whisper model, such "
                "as openai/whisper-base.en."
            )
        if not 1 <= batch_size <= 4096:
            raise UserError(f"The batch size is {batch_size}; expected a number from 1 to 4096.")
        self.tokenizer = text.load_tokenizer(source)
        generation = _generation(source, config)
        language, self._prompt = _prompt(source, self.tokenizer, config, generation, language)
        self._sizes = sorted({1, batch_size})
        self._window = WhisperEncoder.longest(config)
        self._end = config.eos_token_id
        self.network = _network(config)
        shapes = jax.eval_shape(
            lambda: self.network.init_weights(
                jax.random.key(0), (1, config.num_mel_bins, self._window // HOP)
            )
        )
        self._params = jax.device_put(pretrained.load_params(source, shapes))
        self._forward = jax.jit(self._write)
        self._score = jax.jit(self._probabilities)
        self._options = _options(config, generation, len(self._prompt))
        folder = os.path.expanduser(source)
        known = weight_files.provenance(source)
        settings = {
            # Nothing of the machine it runs on: of a folder its name.
            "model": os.path.basename(os.path.abspath(folder)) if os.path.isdir(folder) else source,
            "sha256": known["sha256"],
            "language": language,
            "max_tokens": self._options.max_length - len(self._prompt),
            "no_speech": [NO_SPEECH, round(UNSURE, 6), SILENCE],
            "loop": [LONGEST_GROUP, REPEATS, LOOP_TOKENS],
        }
        counted = {k: v for k, v in settings.items() if k != "model"}
        digest = hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()[:8]
        parts = [os.path.basename(settings["model"]), language, digest]
        self.name = "-".join(filter(None, parts))
        self.settings = {"name": self.name} | settings

    def transcribe(self, waves) -> list[Transcript]:
        """The transcript of each recording.

        Args:
          waves: of n recordings, int16 or float32 [samples] at 16 kHz.
        """
        windows = [(i, w) for i, wave in enumerate(waves) for w in cut(wave, self._window)]
        parts, waiting = [[] for _ in waves], iter(windows)
        for size in bucketing.prediction_batches(len(windows), self._sizes):
            batch = list(itertools.islice(waiting, size))
            for (i, _), part in zip(batch, self._batch([w for _, w in batch], size)):
                parts[i].append(part)
        return [_joined(one) for one in parts]

    def _batch(self, waves, size):
        """(transcript, tokens counted in its confidence) of each window."""
        audio = np.zeros((size, self._window), np.float32)
        for row, wave in zip(audio, waves):
            row[: len(wave)] = (
                preprocessing.to_float(wave) if wave.dtype == np.int16 else np.asarray(wave)
            )
        audio[len(waves) :] = audio[0]  # of silence it would write long nonsense
        hidden, tokens = self._forward(self._params, audio)
        tokens = np.asarray(tokens)
        lengths = (tokens != self._end).sum(1)
        # To the next multiple, for a program per length would be compiled.
        width = min(bucketing.rounded(int(lengths.max()) + 1, 16), tokens.shape[1])
        log_probs, no_speech = jax.device_get(self._score(self._params, hidden, tokens[:, :width]))
        return [
            self._transcript(*row)
            for row in zip(tokens[: len(waves)], lengths, log_probs, no_speech)
        ]

    def _transcript(self, tokens, length, log_probs, no_speech):
        first, ended = len(self._prompt), length < len(tokens)
        # The end is a decision as well, and counts.
        kept, looped = without_loops(tokens[first:length].tolist())
        kept = np.array([*kept, length - first] if ended else kept, int) + first
        confidence = float(np.exp(log_probs[kept - 1].mean()))
        words = self.tokenizer.decode(tokens[kept], skip_special_tokens=True).strip()
        note = "repetition" if looped else "" if ended else "length"
        unlikely = no_speech > NO_SPEECH and confidence < UNSURE
        if unlikely or no_speech > SILENCE:
            words, note = "", "no speech"
        elif not text.normalized(text.clean(words, False, False)):
            words, note = "", "no words"
        return Transcript(words, confidence, float(no_speech), note), len(kept)

    def _write(self, params, audio):
        """float32 [b, n] -> the encoder's states [b, t, d] and prompt and tokens int32 [b, l]."""
        length = jnp.full(len(audio), audio.shape[1])
        features, _ = log_mel(audio, length, self.network.config.num_mel_bins)
        hidden = self.network.encode(features.transpose(0, 2, 1), params=params)
        prompt = jnp.broadcast_to(jnp.array(self._prompt), (len(audio), len(self._prompt)))
        tokens = self.network.generate(
            jnp.zeros((len(audio), 1)), generation_config=self._options, params=params,
            decoder_input_ids=prompt, encoder_outputs=hidden,
        ).sequences  # fmt: skip
        return hidden, tokens

    def _probabilities(self, params, hidden, tokens):
        """One pass over what was written.

        Returns:
          log p float32 [b, l - 1] of each token after the first, given those before it; p [b] that
          nobody speaks, which Whisper says in the place of the token after the first.
        """
        logits = self.network.decode(tokens, hidden, params=params).logits.astype(jnp.float32)
        norm = jax.nn.logsumexp(logits, axis=-1)
        picked = jnp.take_along_axis(logits[:, :-1], tokens[:, 1:, None], axis=-1)[..., 0]
        # As in Hugging Face's: no name stands for the token in every vocabulary.
        silent = self._prompt[-1] - 1
        return picked - norm[:, :-1], jnp.exp(logits[:, 0, silent] - norm[:, 0])


@contextlib.contextmanager
def quiet():
    """Keeps transformers from saying that its Flax classes will go."""
    import transformers

    shown = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(shown)


def _network(config):
    from transformers import FlaxWhisperForConditionalGeneration

    with quiet():
        return FlaxWhisperForConditionalGeneration(config, _do_init=False)


def _generation(source, config):
    """Hugging Face's options of generation, from the file of old models that of the config."""
    from transformers import GenerationConfig

    with contextlib.suppress(OSError):
        return GenerationConfig.from_pretrained(os.path.expanduser(source))
    return GenerationConfig.from_model_config(config)


def _options(config, generation, prompt):
    """The options of generation that count here."""
    from transformers import GenerationConfig

    # Special tokens and timestamps stand behind the end of the text in every vocabulary.
    special = range(config.eos_token_id + 1, config.vocab_size)
    options = GenerationConfig(
        max_length=prompt + min(config.max_target_positions // 2,
                                config.max_target_positions - prompt),
        eos_token_id=config.eos_token_id,
        pad_token_id=config.eos_token_id,
        decoder_start_token_id=config.decoder_start_token_id,
    )  # fmt: skip
    suppressed = generation.to_dict().get("suppress_tokens") or ()
    options.suppress_tokens = sorted({*suppressed, *special})
    options.begin_suppress_tokens = generation.to_dict().get("begin_suppress_tokens")
    return options


def _prompt(source, tokenizer, config, generation, language):
    """(language's code or "", ids of the tokens that Whisper begins with)."""
    from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

    vocabulary = tokenizer.get_vocab()
    begin, plain = config.decoder_start_token_id, vocabulary.get("<|notimestamps|>")
    if plain is None:
        raise UserError(
            f"The tokenizer of {source} has no token <|notimestamps|>: it is no Whisper's. "
            "Download the model again, with its tokenizer."
        )
    code = TO_LANGUAGE_CODE.get(language.lower(), language.lower())
    # An English model has the languages' tokens too, and no use for them.
    if not getattr(generation, "is_multilingual", config.vocab_size >= 51_865):
        if code not in ("", "en"):
            raise UserError(
                f"{source} writes English alone, and the language is {language}. Leave it out, or "
                "name a multilingual model such as openai/whisper-base."
            )
        return "", (begin, plain)
    known = {c: vocabulary[f"<|{c}|>"] for c in dict.fromkeys(TO_LANGUAGE_CODE.values())
             if f"<|{c}|>" in vocabulary}  # fmt: skip
    if code not in known:
        said = f"does not know the language {language}" if code else "writes several languages"
        raise UserError(
            f"{source} {said}. Say which is spoken, by its code (--language): {', '.join(known)}."
        )
    return code, (begin, known[code], vocabulary["<|transcribe|>"], plain)


def cut(wave: np.ndarray, longest: int) -> list[np.ndarray]:
    """A recording as windows of at most `longest` samples, side by side.

    Each but the last is cut in its last third, where the recording is quietest there: hardly within
    a word.
    """
    parts = []
    while len(wave) > longest:
        first = longest - longest // 3
        power = np.square(wave[first:longest], dtype=np.float64)
        width = min(_QUIET, len(power))
        sums = np.cumsum(np.concatenate([[0.0], power]))
        at = first + int((sums[width:] - sums[:-width]).argmin()) + width // 2
        parts.append(wave[:at])
        wave = wave[at:]
    return [*parts, wave]


def without_loops(tokens: list[int]) -> tuple[list[int], bool]:
    """Places of the tokens that stay where every loop is cut to one round, and whether one was.

    A loop is a group of at most `LONGEST_GROUP` tokens that comes `REPEATS` times or more in a row,
    `LOOP_TOKENS` tokens in all or more: people repeat themselves too, but not as long.
    """
    kept, at = [], 0
    while at < len(tokens):
        size, rounds = _loop(tokens, at)
        kept += range(at, at + size)
        at += size * rounds
    return kept, len(kept) < len(tokens)


def _loop(tokens, at):
    """(size of the group, rounds) of the loop that begins at a place; (1, 1) where none does."""
    for size in range(1, min(LONGEST_GROUP, (len(tokens) - at) // REPEATS) + 1):
        group, rounds = tokens[at : at + size], 1
        while tokens[at + rounds * size : at + (rounds + 1) * size] == group:
            rounds += 1
        if rounds >= REPEATS and rounds * size >= LOOP_TOKENS:
            return size, rounds
    return 1, 1


def _joined(parts):
    """The transcript of a recording from those of its windows."""
    texts = [t for t, _ in parts if t.text]
    spoken = [(t, n) for t, n in parts if t.text] or parts
    count = sum(n for _, n in spoken)
    log = sum(n * np.log(t.confidence) for t, n in spoken) / count
    notes = dict.fromkeys(t.note for t in texts or [t for t, _ in parts] if t.note)
    return Transcript(
        " ".join(t.text for t in texts),
        float(np.exp(log)),
        min(t.no_speech for t, _ in parts),
        ", ".join(notes),
    )
