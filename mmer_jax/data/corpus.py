"""A prepared dataset, read without tensorflow: an index of its utterances, audio on demand."""

import collections
import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import os
import re

import numpy as np
import tqdm
from etils import epath

from mmer_jax import files
from mmer_jax.errors import UserError

INDEX, FORMAT = "index.json", 1  # the index beside the shards; raised where an older one won't do
# Columns that say who speaks, where, and which part of the corpus an utterance is of.
GROUPS = ("speaker", "session", "dialog", "part", "fold", "language")
_NO_MAJORITY = "xxx"  # IEMOCAP's word for raters who disagree: never a class


@dataclasses.dataclass(frozen=True)
class Recording:
    """An augmented recording of an utterance.

    Attributes:
      start: where it begins among the utterance's augmented samples.
      samples: how many it has.
      voice: a speaker of the corpus, another name, "" for unknown.
    """

    start: int
    samples: int
    voice: str = ""


@dataclasses.dataclass(frozen=True)
class Utterance:
    """All facts about an utterance but its audio; what the corpus does not say is "".

    Attributes:
      index: its place in the whole dataset; also the key of what is drawn for it.
      label: class number.
      samples: of its recording, int16 at 16 kHz.
      part: of the corpus' own division: train, validation or test.
      fold: the corpus' own fold that tests it.
      aug_transcript: the same in other words; "" for none.
      augmented: its augmented recordings; of a training utterance those that may be drawn.
    """

    index: int
    id: str
    label: int
    samples: int
    transcript: str = ""
    speaker: str = ""
    session: str = ""
    dialog: str = ""
    part: str = ""
    fold: str = ""
    language: str = ""
    aug_transcript: str = ""
    augmented: tuple[Recording, ...] = ()

    def has_view(self, modalities) -> bool:
        """Whether there is an augmented view for a model of these modalities.

        Speech needs a recording, text a text; a model of both needs both.
        """
        views = {"audio": self.augmented, "text": self.aug_transcript}
        return all(views[name] for name in modalities)

    def without_voices(self, voices) -> "Utterance":
        """The utterance without its augmented recordings in one of these voices."""
        kept = tuple(r for r in self.augmented if r.voice not in voices)
        return dataclasses.replace(self, augmented=kept)

    def without_view(self) -> "Utterance":
        """The utterance without an augmented view, neither text nor recording."""
        return dataclasses.replace(self, aug_transcript="", augmented=())


class Corpus:
    """The utterances of a prepared dataset, in its order, with random access to their audio.

    Args:
      data_dir: what `tfds build --data_dir` was given.
      dataset: the dataset's name and builder config, as in `speech_emotion/ravdess`.
      labels: the classes, in the order of the logits; (): all, in the dataset's order.
      label_map: label of the dataset -> the class that it counts as; others keep their name.

    Attributes:
      folder, version: of the prepared dataset.
      identity: 16 hex digits that change with its files, its recordings or their order.
      label_names: of the c classes.
      left_out: label -> number of its utterances, of those labels that are no class.

    Raises:
      UserError: nothing prepared there, in a format without random access, or a label that the
        dataset does not have.
    """

    def __init__(self, data_dir: str, dataset: str = "iemocap/emotions4", labels=(),
                 label_map=None):  # fmt: skip
        self.folder = _find(data_dir, dataset)
        self.version = os.path.basename(self.folder)
        index = _index(self.folder, tuple(sorted(_sizes(self.folder).items())))
        self._rows = [(split, row) for split, n in index["splits"].items() for row in range(n)]
        classes = _classes(dataset, index["labels"], labels, dict(label_map or {}))
        self.label_names = tuple(dict.fromkeys(classes.values())) if not labels else tuple(labels)
        numbers = {name: self.label_names.index(c) for name, c in classes.items()}
        rows = index["utterances"]
        self.utterances = tuple(
            _utterance(i, row, numbers[row["label"]])
            for i, row in enumerate(rows)
            if row["label"] in numbers
        )
        others = (row["label"] for row in rows if row["label"] not in numbers)
        self.left_out = dict(collections.Counter(others).most_common())
        recordings = [(row["id"], row["samples"], row.get("augmented")) for row in rows]
        known = json.dumps([index["files"], recordings], sort_keys=True)
        self.identity = hashlib.sha256(known.encode()).hexdigest()[:16]

    @classmethod
    def of(cls, config) -> "Corpus":
        """The corpus that a config names."""
        d = config.data
        return cls(d.dir, d.dataset, tuple(d.labels), d.label_map)

    def recordings(self, utterance: Utterance) -> tuple[np.ndarray, list[np.ndarray]]:
        """The utterance's int16 samples [n] and those of each of its augmented recordings."""
        split, row = self._rows[utterance.index]
        example = self._sources[split][row]
        augmented = np.asarray(example["augmented_audio"]) if utterance.augmented else ()
        others = [augmented[r.start : r.start + r.samples] for r in utterance.augmented]
        return np.asarray(example["audio"]), others

    @functools.cached_property
    def _sources(self):
        """Split -> random access to its examples."""
        builder = _builder(self.folder)
        return {split: _source(builder, split) for split in dict.fromkeys(s for s, _ in self._rows)}


def is_synthetic(config) -> bool:
    """Whether a run's corpus is the demo's."""
    return config.data.dataset.startswith("demo") or config.name.startswith("demo")


def _find(data_dir, dataset):
    """The folder of the newest version of a prepared dataset."""
    data_dir, (name, _, builder_config) = os.path.expanduser(data_dir), dataset.partition("/")
    folder = os.path.join(data_dir, name, builder_config)
    with contextlib.suppress(OSError, IndexError):
        names = (p.name for p in epath.Path(folder).iterdir())
        # Nothing but a version: a folder 1.0.0_old beside it is somebody's own.
        versions = [name for name in names if re.fullmatch(r"\d+\.\d+\.\d+", name)]
        versions.sort(key=lambda name: [int(n) for n in name.split(".")])
        newest = os.path.join(folder, versions[-1])
        if files.exists(os.path.join(newest, "dataset_info.json")):
            return newest
    steps = f"""\
  1. Put the corpus into a folder MANUAL (datasets/{name}/README.md says what goes where) and run
       tfds build datasets/{name} --config={builder_config} --manual_dir=MANUAL --data_dir={data_dir}
  2. If it is prepared elsewhere, say where: --config.data.dir=FOLDER"""  # noqa: E501
    if name != "speech_emotion":
        steps = f"""\
  1. Without IEMOCAP, run the demo corpus instead: make demo
  2. With IEMOCAP (ask for it at https://sail.usc.edu/iemocap/; the licence is free for research),
     put IEMOCAP_full_release/ or its .tar.gz into a folder MANUAL and run
       tfds build datasets/iemocap --manual_dir=MANUAL --data_dir={data_dir}
  3. If it is prepared elsewhere, say where: --config.data.dir=FOLDER"""
    raise UserError(f"No prepared dataset {dataset} in {data_dir} (config.data.dir).\n{steps}")


def _sizes(folder):
    """Bytes of each file of a prepared dataset: other ones are another dataset."""
    found = (p for p in epath.Path(folder).iterdir() if p.name != INDEX and p.name[0] != ".")
    return {p.name: p.stat().length for p in found}


@functools.lru_cache(maxsize=2)  # where it can't be stored, it is made once all the same
def _index(folder, sizes):
    """What `_make_index` gives: that of the last time, if the files are those it was made from."""
    path, sizes = os.path.join(folder, INDEX), dict(sizes)
    if files.exists(path):
        with contextlib.suppress(ValueError):
            stored = json.loads(files.read_text(path))
            if (stored.get("format"), stored.get("files")) == (FORMAT, sizes):
                return stored
    index = {"format": FORMAT, "files": sizes} | _make_index(folder)
    with contextlib.suppress(OSError):  # a dataset that can only be read
        files.replace_file(path, json.dumps(index))
    return index


def _make_index(folder):
    """Labels, number of examples by split, and utterances with the names of their labels."""
    builder = _builder(folder)
    features = builder.info.features
    lacks = {"utterance", "audio", "label"} - features.keys()
    if lacks:
        raise UserError(
            f"The dataset in {folder} has no {', '.join(sorted(lacks))}. Build it by one of the "
            "builders in datasets/."
        )
    names = getattr(features["label"], "names", None)
    splits = sorted(builder.info.splits, key=natural)
    total = sum(builder.info.splits[s].num_examples for s in splits)
    counts, rows = {}, []
    with tqdm.tqdm(total=total, desc="indexing", unit=" utterances", disable=None) as bar:
        for split in splits:
            source = _source(builder, split)
            counts[split] = len(source)
            for example in source:
                rows.append(_row(example, names, split))
                bar.update()
    labels = names or (builder.info.metadata or {}).get("labels")
    labels = labels or sorted({row["label"] for row in rows})
    return {"labels": list(labels), "splits": counts, "utterances": rows}


def _row(example, names, split):
    """An utterance's facts as JSON, without those that are empty."""

    def text(name, default=""):
        value = example.get(name, default)
        return value.decode("utf-8") if isinstance(value, bytes) else str(value)

    lengths = [int(n) for n in example.get("augmented_lengths", ())]
    starts = itertools.accumulate(lengths[:-1], initial=0)
    # Before version 1.1.0 of IEMOCAP's dataset nothing said whose voice it is.
    voices = (str(v, "utf-8") for v in example.get("augmented_voice", [b""] * len(lengths)))
    session = re.fullmatch(r"session(\d+)", split)
    row = {
        "id": text("utterance"),
        "label": names[int(example["label"])] if names else text("label"),
        "samples": len(example["audio"]),
        "transcript": text("transcript"),
        **{name: text("split" if name == "part" else name) for name in GROUPS},
        "aug_transcript": text("augmented_transcript"),
        "augmented": list(zip(starts, lengths, voices)),
    }
    row["session"] = row["session"] or (session[1] if session else "")  # IEMOCAP's: by its split
    return {name: value for name, value in row.items() if value or name == "samples"}


def _utterance(index, row, label):
    augmented = tuple(Recording(*r) for r in row.get("augmented", ()))
    return Utterance(**row | {"index": index, "label": label, "augmented": augmented})


def _classes(dataset, there, labels, label_map):
    """Label of the dataset -> its class, of those that are one."""
    there = [name for name in there if name != _NO_MAJORITY]
    classes = {name: label_map.get(name, name) for name in there}
    known = list(dict.fromkeys(classes.values()))
    wrong = [f"config.data.label_map maps {x!r}" for x in label_map if x not in there]
    wrong += [f"config.data.labels names {x!r}" for x in labels if x not in known]
    if wrong:
        after = f", with the map {', '.join(known)}" if known != there else ""
        raise UserError(
            f"{'; '.join(wrong)}: {dataset} has the labels {', '.join(there)}{after}. Name some of "
            "these."
        )
    classes = {name: c for name, c in classes.items() if not labels or c in labels}
    if len(set(classes.values())) < 2:
        raise UserError(
            f"Of the labels of {dataset} ({', '.join(there)}), config.data.labels and label_map "
            "leave less than two classes; name at least two."
        )
    return classes


def _builder(folder):
    import tensorflow_datasets as tfds

    return tfds.builder_from_directory(folder)


def _source(builder, split):
    try:
        return builder.as_data_source(split)
    except NotImplementedError as e:
        raise UserError(
            f"The dataset in {builder.data_dir} is stored as {builder.info.file_format}, which has "
            f"no random access. Build it again with `tfds build datasets/{builder.name} "
            "--overwrite --file_format=array_record`."
        ) from e


def natural(name: str) -> tuple:
    """A key that sorts names as people do: 2 before 10."""
    return [int(x) if i % 2 else x for i, x in enumerate(re.split(r"(\d+)", name))], name
