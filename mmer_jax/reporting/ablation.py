"""The named variants of a config whose comparison shows what each part of MMER is worth."""

import dataclasses
import os
import sys
from collections.abc import Callable

import ml_collections

from mmer_jax import configuration, files, runs
from mmer_jax.errors import UserError
from mmer_jax.losses import LOSSES

BASE = "full"
RENAMED = {"released_losses": "original_losses"}
AUXILIARY = tuple(name for name in LOSSES if name != "ce")
# Named before anything is run: p values are corrected for these comparisons. Others explore.
PRIMARY = (
    *(f"no_{name}" for name in AUXILIARY if LOSSES[name].options["weight"]),
    "late_fusion",
    "no_gate",
)


@dataclasses.dataclass(frozen=True)
class Variant:
    """A config that differs from the full model's in one respect.

    Attributes:
      name: of its folder, and on the command line.
      title: for tables.
      config: validated.
      fingerprint: of the config, see `configuration.fingerprint`.
    """

    name: str
    title: str
    config: ml_collections.ConfigDict
    fingerprint: str


def _without(*losses):
    """Title and change of a variant that lacks these losses."""

    def change(c):
        for name in losses:
            c.losses[name].weight = 0.0

    *most, last = map(str.upper, losses)
    return f"without {', '.join(most)} and {last}" if most else f"without {last}", change


def _late_fusion(c):
    c.model.fusion = "concat"


def _without_gate(c):
    c.model.gate = False


def _frozen_encoders(c):
    parts = {"audio": "audio_encoder/.*", "text": "text_encoder/.*"}
    c.optimizer.frozen = tuple(parts[m] for m in c.model.modalities)
    c.audio.update({"layerdrop": 0.0, "mask_time_prob": 0.0, "mask_feature_prob": 0.0})


def _tuned_encoders(c):
    c.optimizer.frozen = ()


CHANGES: dict[str, tuple[str, Callable]] = {
    BASE: ("full model", lambda c: None),
    **{f"no_{name}": _without(name) for name in AUXILIARY},
    "no_auxiliary": _without(*AUXILIARY),
    "audio_only": ("audio only", configuration.audio_only),
    "text_only": ("text only", configuration.text_only),
    "late_fusion": ("late fusion by concatenation", _late_fusion),
    "no_gate": ("without the gate", _without_gate),
    "original_losses": ("losses as in the original code", configuration.original_losses),
    "frozen_encoders": ("both encoders frozen", _frozen_encoders),
    "tuned_encoders": ("both encoders tuned", _tuned_encoders),
}


def make(config: ml_collections.ConfigDict, names=()) -> tuple[list[Variant], dict[str, str]]:
    """The variants of a config, the full model first.

    Args:
      config: of the full model.
      names: of the variants wanted beside it; empty: all.

    Returns:
      The variants, and name -> name of those left out because their config is that of another one.

    Raises:
      UserError: an unknown name, or a variant that can't be run.
    """
    for name in RENAMED.keys() & set(names):
        print(f"The variant {name} is {RENAMED[name]} now.", file=sys.stderr, flush=True)
    names = [RENAMED.get(name, name) for name in names]
    unknown = [name for name in names if name not in CHANGES]
    if unknown:
        raise UserError(
            f"--variants names {', '.join(unknown)}; the choices are: {', '.join(CHANGES)}."
        )
    variants, same = {}, {}
    for name, (title, change) in CHANGES.items():
        if names and name not in (BASE, *names):
            continue
        variant = _variant(config, name, title, change)
        twin = variants.setdefault(variant.fingerprint, variant)
        if twin is not variant:
            same[name] = twin.name
    return list(variants.values()), same


def _variant(config, name, title, change):
    changed = config.copy_and_resolve_references()
    change(changed)
    if name != BASE and not configuration.cached_parts(changed):
        changed.data.cache_features = False  # its encoders are tuned
    try:
        configuration.validate(changed)
    except UserError as e:
        others = ", ".join(n for n in CHANGES if n not in (BASE, name))
        raise UserError(f"The variant {name} can't be run: {e} Or name the others: "
                        f"--variants={others}") from e  # fmt: skip
    return Variant(name, title, changed, configuration.fingerprint(changed))


def with_finished(config, workdir: str, variants: list[Variant]) -> list[Variant]:
    """The variants and those others of which the workdir has a finished fold, in their order."""
    known = {v.name: v for v in variants}
    for name in CHANGES:
        if name in known:
            continue
        try:
            variant = make(config, (name,))[0][-1]
        except UserError:
            continue  # of another config: this one has no such variant
        if variant.name not in known and runs.finished_folds(folder_of(workdir, variant)):
            print(f"in the table too, finished before: {name}", flush=True)
            known[name] = variant
    return [known[name] for name in CHANGES if name in known]


def folder_of(workdir: str, variant: Variant) -> str:
    """The folder of a variant's run; one that has its old name stays where it is."""
    names = [variant.name, *(old for old, new in RENAMED.items() if new == variant.name)]
    folders = [os.path.join(workdir, name, variant.fingerprint) for name in names]
    return next((folder for folder in folders if files.exists(folder)), folders[0])
