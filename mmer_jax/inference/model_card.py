"""The README.md of a model folder: what the model is, how it is used, what it is not fit for."""

import re
from importlib import metadata

from mmer_jax.inference.model import LoadedModel
from mmer_jax.metrics import reliability
from mmer_jax.reporting.analysis import is_synthetic
from mmer_jax.reporting.report import TITLES

VERSIONS = ("mmer_jax", "jax", "flax", "transformers")
CLASSES = {"ang": "anger", "hap": "happiness", "neu": "neutral", "sad": "sadness"}


def markdown(model: LoadedModel) -> str:
    """The model card, with the front matter that the Hugging Face hub reads."""
    name = model.card.get("name") or model.config.name
    parts = [
        _front_matter(model),
        f"# {name}",
        _introduction(model),
        _usage(model),
        _classes(model),
        _texts(model),
        _run(model),
        _limits(model),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(model):
    lines = [
        "---",
        "license: other  # not chosen yet: whoever publishes this model states its licence here",
        "library_name: mmer_jax",
        "pipeline_tag: audio-classification",
        "language: en",
        "tags:",
        "- speech-emotion-recognition",
        "- mmer",
        "- jax",
    ]
    bases = model.card.get("encoders", hub_names(model.config))
    lines += ["base_model:", *(f"- {name}" for name in bases)] if bases else []
    return "\n".join([*lines, "---"])


def hub_names(config) -> list[str]:
    """Those of the encoders that training began with; paths tell nobody anything."""
    named = (getattr(config, part).pretrained for part in config.model.modalities)
    return [n for n in named if re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", n)]


def _introduction(model):
    modalities = " and ".join({"audio": "speech", "text": "text"}[m] for m in _modalities(model))
    text = (
        f"Speech emotion recognition from {modalities} with MMER (Ghosh et al., *MMER: Multimodal "
        "Multi-task Learning for Speech Emotion Recognition*, Interspeech 2023, "
        "[arXiv 2203.16794](https://arxiv.org/abs/2203.16794)), reimplemented in JAX."
    )
    if is_synthetic(model.config):
        text += (
            "\n\n**A demo.** It was trained on a synthetic corpus, sentences spoken by a speech "
            "synthesiser. It shows that the machinery works and says nothing about people."
        )
    return text


def _modalities(model):
    return tuple(model.config.model.modalities)


def _usage(model):
    modalities = _modalities(model)
    words = '"I told you not to touch it."'
    wave = '"speech.wav"' if "audio" in modalities else "None"
    text, option = (f", text={words}", f" --text={words}") if "text" in modalities else ("", "")
    usage = f"""## Use

```python
import mmer_jax

model = mmer_jax.load("FOLDER")  # this folder, or its name on the hub
print(model.predict({wave}{text}))
```

```
python -m mmer_jax.predict FOLDER speech.wav{option}
```"""
    if "audio" in modalities and option and model.config.losses.ctc.weight:
        usage += "\n\nWithout a text the model's own CTC head writes down what is said."
    return usage


def _classes(model):
    listed = [f"{i}: {n}" + _meaning(n) for i, n in enumerate(model.label_names)]
    return "## Classes\n\n" + "\n".join(f"- {line}" for line in listed)


def _texts(model):
    """How often it is right with each text, and whether its probabilities are calibrated."""
    head = "## What it is worth with which text\n\n"
    # Of a head that was not trained, earlier versions kept figures as well.
    sources = {k: v for k, v in model.text_sources.items() if k != "ctc" or not model.lacks_ctc}
    if not sources:
        return head + "Nothing was held out to measure it: its probabilities are not calibrated."
    rows = [_text_row(model, *item) for item in sources.items()]
    return head + (
        "On dialogs held out of training, whose speakers it knows from training. UA is the mean of "
        f"the classes' recalls in percent (guessing: {100 / len(model.label_names):.0f}), the "
        "lower bound the end of its 95 % interval. Logits divided by the temperature give "
        "calibrated probabilities, of single utterances.\n\n"
        "| text | UA | lower bound | WER | temperature |\n|-|-|-|-|-|\n" + "\n".join(rows)
    )


def _text_row(model, source, figures):
    names = {"gold": "the transcript", "ctc": "its own (CTC)", "none": "none"}
    name = names.get(source, source) if model.uses_text else "none, it reads no text"
    known = [
        "" if (x := figures.get(k)) is None else f"{100 * x:.1f}" for k in ("ua", "ua_low", "wer")
    ]
    if reliability.near_chance(figures, len(model.label_names)):
        known[0] += ", **hardly better than guessing**"
    t = figures.get("temperature")
    return f"| {' | '.join([name, *known, 'not calibrated' if t is None else f'{t:.4g}'])} |"


def _meaning(name):
    return f" ({CLASSES[name]})" if name in CLASSES else ""


def _run(model):
    card, config = model.card, model.config
    protocol = card.get("protocol", config.protocol)
    test = "the TEST session, as the authors' code does: its rates are too good"
    # An exported model of before has the old word.
    held = "held-out dialogs of the training sessions"
    chosen = {"heldout": held, "original": test, "published": test}
    selection = card.get("selection", config.selection)
    refit = ", then trained anew on those too" if config.refit else ""
    lines = {
        "corpus": f"{config.data.dataset}, {config.data.emotions}",
        "protocol": f"one {protocol} left out of training and tested",
        "tested fold": card.get("fold"),
        "seed": card.get("seed"),
        "epoch chosen on": chosen.get(selection, selection) + refit,
        "config hash": card.get("fingerprint"),
        "written with": ", ".join(f"{n} {metadata.version(n)}" for n in VERSIONS),
    }
    known = [f"| {k} | {v} |" for k, v in lines.items() if v is not None]
    return "\n".join(["## The run", "", "| | |", "|-|-|", *known, "", _rates(model)])


def _rates(model):
    rates = model.card.get("rates") or {}
    pairs = {title: rates.get(key) for key, title in TITLES.items()}
    recalls = rates.get("recall") or []
    pairs |= {f"recall {n}": r for n, r in zip(model.label_names, recalls)}
    pairs = {title: value for title, value in pairs.items() if value is not None}
    if not pairs:
        return "How well it recognises emotions was not recorded."
    of = ", ".join(f"{k} {model.card[k]}" for k in ("fold", "seed") if k in model.card)
    where = f" of {of}" if of else ""
    head, line = " | ".join(pairs), " | ".join(f"{100 * v:.1f}" for v in pairs.values())
    return (
        f"Rates on the test side{where}, in percent (WA: correct / all; UA: mean of the classes' "
        f"recalls):\n\n| {head} |\n|{'-|' * len(pairs)}\n| {line} |\n\nOne fold of one seed is "
        "one draw: papers report the mean over all folds."
    )


def _limits(model):
    kind = "synthesised" if is_synthetic(model.config) else "acted"
    return f"""## Limits

- It knows {kind} English speech in the classes above, recorded well, one speaker at a time. Other
  languages, spontaneous speech, noise and other emotions are outside of what it was tested on.
- It sorts how speech sounds and reads into classes that actors were asked to play; it does not
  know what anyone feels.
- It is not fit for decisions about people: not for hiring, schools, policing, health, insurance,
  or watching anybody. In places the law forbids such uses.
- Speech and transcripts are personal data; ask before you process anyone's."""
