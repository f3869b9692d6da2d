"""Made-up results of folds."""

from mmer_jax.results import FoldResult, PredictionRow


def row(label: str, prediction: str, **values) -> PredictionRow:
    """A row with defaults for all that a test does not name."""
    usual = {
        "utterance": "u", "session": 1, "speaker": "s", "dialog": "d", "probabilities": [0.5, 0.5],
        "logits": [0.0, 0.0], "seen": None, "recognized": None, "transcript": "yes",
    }  # fmt: skip
    return PredictionRow(**usual | {"label": label, "prediction": prediction} | values)


def fold_result(label_names, rows, fold: int = 1, seed: int = 0, **values) -> FoldResult:
    """A fold's result with defaults for all that a test does not name."""
    usual = {
        "name": f"session {fold}", "protocol": "session", "heldout": "dialog",
        "shared_speakers": [], "counts": {"train": 8, "select": 2, "test": len(rows)},
        "chosen": {"epoch": 3, "step": 30}, "temperature": 2.0, "text_sources": {},
        "dataset_version": "1.0.0", "normalized": True, "pretrained": {}, "languages": [],
        "alphabet": "", "layer_weights": None, "history": [],
    }  # fmt: skip
    return FoldResult(
        fold=fold, seed=seed, label_names=label_names, predictions=rows, **usual | values
    )
