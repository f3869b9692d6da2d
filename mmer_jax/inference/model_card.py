"""The README.md of a model folder; its words are in `templates/model_card.md.j2`."""

import re
from importlib import metadata
from pathlib import Path

from mmer_jax.configuration import PROTOCOLS, datasets
from mmer_jax.data.corpus import is_synthetic
from mmer_jax.metrics import reliability
from mmer_jax.reporting.report import TITLES
from mmer_jax.results import HELDOUT
from mmer_jax.training.checkpoint_io import LoadedModel, hub_names

TEMPLATE = Path(__file__).parent / "templates" / "model_card.md.j2"
VERSIONS = ("mmer_jax", "jax", "flax", "transformers")
CLASSES = {"ang": "anger", "hap": "happiness", "neu": "neutral", "sad": "sadness"}


def markdown(model: LoadedModel) -> str:
    """The model card, with the front matter that the Hugging Face hub reads."""
    from huggingface_hub import ModelCard, ModelCardData

    config, card = model.config, model.card
    synthetic = is_synthetic(config)
    acted = synthetic or all(name.startswith("iemocap") for name in datasets(config))
    languages = ["en"] if acted else card.get("languages", [])
    codes = [name for name in languages if re.fullmatch("[a-z]{2,3}", name)]  # as the hub has them
    front = ModelCardData(
        license="other",
        library_name="mmer_jax",
        pipeline_tag="audio-classification",
        language=codes[0] if len(codes) == 1 else codes or None,
        tags=["speech-emotion-recognition", "mmer", "jax"],
        base_model=card.get("encoders", hub_names(config)) or None,
    )
    modalities = {"audio": "speech", "text": "text"}
    speech = f"the speech of {' and '.join(datasets(config))}"
    if languages:
        speech += f" (language{'s' if len(languages) > 1 else ''}: {', '.join(languages)})"
    if acted:
        manner = "synthesised" if synthetic else "acted"
        speech = f"{manner} English speech, recorded well, one speaker at a time,"
    return str(ModelCard.from_template(
        front,
        template_path=str(TEMPLATE),
        name=card.get("name") or config.name,
        inputs=[modalities[m] for m in config.model.modalities],
        synthetic=synthetic,
        speech=speech,
        words='"I told you not to touch it."',
        uses_audio=model.uses_audio,
        uses_text=model.uses_text,
        has_ctc=not model.lacks_ctc,
        labels=model.label_names,
        meanings=CLASSES,
        heldout=heldout(card),
        text_rows=_text_rows(model),
        facts=_facts(model),
        tested=", ".join(f"{k} {card[k]}" for k in ("fold", "seed") if k in card),
        metrics=_metrics(model),
    )).rstrip() + "\n"  # fmt: skip


def heldout(card: dict) -> str:
    """What was held out of the training of a card's model, in words."""
    return HELDOUT[card.get("heldout") or "dialog"]  # earlier exports don't say it


def _text_rows(model):
    """Accuracy and calibration with each kind of text; [] where nothing was held out."""
    names = {"gold": "the transcript", "ctc": "its own (CTC)", "none": "none"}
    rows = []
    for source, figures in model.measured.items():
        ua, low, wer, cer = (
            "" if (x := figures.get(k)) is None else f"{100 * x:.1f}"
            for k in ("ua", "ua_low", "wer", "cer")
        )
        if reliability.near_chance(figures, len(model.label_names)):
            ua += ", **hardly better than guessing**"
        name = names.get(source, source) if model.uses_text else "none, it reads no text"
        name = f"a recogniser's ({figures.get('recognizer')})" if source == "asr" else name
        t = figures.get("temperature")
        rows.append([name, ua, low, wer, cer, "not calibrated" if t is None else f"{t:.4g}"])
    return rows


def _facts(model):
    card, config = model.card, model.config
    test = "the TEST side, as the authors' code does: its metrics are too good"
    chosen = {
        "heldout": f"{heldout(card)} of the training side",
        "original": test,
        "published": test,  # the word of earlier exports
    }
    protocol = card.get("protocol", config.protocol)
    selection = card.get("selection", config.selection)
    refit = ", then trained anew on those too" if config.refit else ""
    facts = {
        "corpus": ", ".join(datasets(config)),
        "protocol": f"{PROTOCOLS.get(protocol, protocol)} left out of training and tested",
        "tested fold": card.get("fold"),
        "seed": card.get("seed"),
        "epoch chosen on": chosen.get(selection, selection) + refit,
        "config hash": card.get("fingerprint"),
        "written with": ", ".join(f"{n} {metadata.version(n)}" for n in VERSIONS),
    }
    return [pair for pair in facts.items() if pair[1] is not None]


def _metrics(model):
    known = model.card.get("rates") or {}
    values = {title: known.get(key) for key, title in TITLES.items()}
    values |= {f"recall {n}": r for n, r in zip(model.label_names, known.get("recall") or [])}
    return {title: f"{100 * v:.1f}" for title, v in values.items() if v is not None}
