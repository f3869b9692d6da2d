"""The folder of augmented views in the making: texts, recordings, what a recogniser writes of them.

    OUT/augmented.csv    utterance, text, audio, voice: what the builders in datasets/ read
    OUT/wav/             16 kHz, mono, 16 bit
    OUT/.augment/        what a killed command goes on with

All that is drawn depends on seed, utterance and number of the view, or on a batch whose place is
fixed: an interrupted command ends with the same bytes.
"""

import contextlib
import csv
import hashlib
import io
import json
import os
import re
import sys
import time

import numpy as np
import soundfile
import tqdm

from mmer_jax import files, plain
from mmer_jax.augmentation import quality, speech
from mmer_jax.augmentation import texts as ways
from mmer_jax.augmentation.speech import Failure, seed_of
from mmer_jax.data import preprocessing, text
from mmer_jax.data.preprocessing import SAMPLE_RATE
from mmer_jax.errors import UserError
from mmer_jax.metrics import asr

FORMAT = 1
TABLE, WAVS, STATE = "augmented.csv", "wav", ".augment"
# No builder takes a folder that holds it.
UNFINISHED = "unfinished.run_augment_again"
_HOPELESS = 10  # failures after which, none having succeeded, the command ends


class Views:
    """The views of a corpus.

    Args:
      corpus: a `Corpus` of one dataset.
      out: the folder.
      texts: a way of `texts` or `translation`; None: the utterances keep their words.
      speech: a way of `speech`; None: texts alone.
      similarity: of (sources, candidates), with `settings`, or `texts.overlap`.
      recognizer: a `Recognizer` that listens to each recording, or None.
      limits: what is taken.
      count: recordings of an utterance.
      seed: of all that is drawn.

    Attributes:
      texts, recordings: rows of what is there, as `quality.summary` takes them.
      failed: recordings that could not be made this time.

    Raises:
      UserError: another process writes there, or the folder was made with something else.
    """

    def __init__(self, corpus, out, texts, speech, similarity, recognizer, limits, count, seed):
        self.corpus, self.out, self.limits, self.seed = corpus, files.resolve(out), limits, seed
        if files.is_remote(self.out):
            raise UserError(f"{out} is in a bucket; make the views on a disk and copy them.")
        self._way, self._speech, self._similarity = texts, speech, similarity
        self._recognizer, self._count = recognizer, count
        facts = [(u.id, u.samples, u.label, u.speaker, u.transcript) for u in corpus.utterances]
        self._made_with = json.loads(json.dumps({
            "format": FORMAT, "seed": seed,
            "dataset": corpus.datasets[0],
            "recordings": hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16],
            "texts": texts and texts.settings,
            "similarity": texts and getattr(similarity, "settings", {"model": "word overlap"}),
            "min_similarity": texts and limits.similarity,
            "speech": speech and speech.settings,
            "views": count, "max_length": limits.length, "copy": limits.copy,
            "recognizer": recognizer and recognizer.settings,
            "max_wer": limits.wer if recognizer else None,
        }))  # fmt: skip
        self.texts, self.recordings, self.failed, self.seconds = {}, [], 0, {}

    def make(self) -> None:
        """Makes what is not there yet, and writes the table."""
        state = os.path.join(self.out, STATE)
        if os.path.isdir(self.out) and not os.path.isdir(state) and os.listdir(self.out):
            raise UserError(
                f"{self.out} holds {', '.join(sorted(os.listdir(self.out))[:3])}, which this "
                "command did not make. Name another folder by --out."
            )
        os.makedirs(state, exist_ok=True)
        taken = (
            f"Another process is making views in {self.out}. Wait for it, or name another folder "
            "by --out."
        )
        with files.lock(os.path.join(state, "lock"), taken):
            self._check(os.path.join(state, "made_with.json"))
            stages = [("texts", self._add_texts, self._way), ("speech", self._speak, self._speech),
                      ("recogniser", self._listen, self._recognizer and self._speech)]  # fmt: skip
            for name, stage, wanted in stages:
                if wanted:
                    journal = files.Journal(os.path.join(state, f"{name}.jsonl"), self._made_with)
                    with contextlib.closing(journal):
                        stage(journal)
                    self.seconds[name] = sum(entry["seconds"] for entry in journal.entries)
            self._finish()

    def _check(self, path):
        """Raises UserError where the folder is of other options."""
        if files.exists(path):
            before = plain.read(path, f"Delete {self.out}, and make the views again.")
            before = before if isinstance(before, dict) else {}
            changed = [k for k in self._made_with if before.get(k) != self._made_with[k]]
            if changed:
                said = "; ".join(
                    f"{k} {json.dumps(before.get(k))[:200]} there, "
                    f"{json.dumps(self._made_with[k])[:200]} now" for k in changed
                )  # fmt: skip
                raise UserError(
                    f"The views in {self.out} are made with something else: {said}. Name another "
                    "folder by --out, or delete it."
                )
        files.replace_file(path, json.dumps(self._made_with, indent=1) + "\n")

    def _begun(self):
        """Marks the folder: what is written now is not in the table."""
        files.replace_file(os.path.join(self.out, UNFINISHED), "Run mmer_jax.augment again.\n")

    def _progress(self, name, total, done):
        return tqdm.tqdm(total=total, initial=done, desc=name, unit=" utterances" if
                         name == "texts" else " recordings", disable=None)  # fmt: skip

    def source(self, utterance) -> str:
        """The words of an utterance as they are spoken."""
        return text.clean(utterance.transcript, False, False)

    def _add_texts(self, journal):
        queue = [u for u in self.corpus.utterances if speech.can_be_said(self.source(u))]
        # Of like length: a batch is as wide as its longest text.
        queue.sort(key=lambda u: (len(self.source(u)), u.index))
        batch = self._way.batch
        done = sum(len(entry["rows"]) for entry in journal.entries)
        with self._progress("texts", len(queue), done) as bar:
            for at in range(len(journal.entries) * batch, len(queue), batch):
                self._begun()
                began = time.monotonic()
                rows = self._chosen(queue[at : at + batch], seed_of(self.seed, at))
                journal.add({"rows": rows, "seconds": round(time.monotonic() - began, 3)})
                bar.update(len(rows))
        self.texts = {row["id"]: row for entry in journal.entries for row in entry["rows"]}

    def _chosen(self, utterances, seed):
        sources = [self.source(u) for u in utterances]
        found = self._way.candidates(utterances, sources, seed)
        found = [[text.clean(c, False, False) for c in candidates] for candidates in found]
        pairs = [(s, c) for s, candidates in zip(sources, found) for c in candidates]
        scores = iter(self._similarity(*map(list, zip(*pairs))) if pairs else ())
        rows = []
        for u, source, candidates in zip(utterances, sources, found):
            own = [float(next(scores)) for _ in candidates]
            chosen, score, why = ways.choose(source, candidates, own, self.limits.similarity)
            rows.append({"id": u.id, "text": chosen, "similarity": round(score, 4),
                         "rejected": why})  # fmt: skip
        return rows

    def said(self, utterance) -> str:
        """What a view says: other words, or the utterance's own where there are none."""
        return self.texts.get(utterance.id, {}).get("text") or self.source(utterance)

    def _speak(self, journal):
        way, count = self._speech, self._count
        there = _by_view(journal)
        speaking = [
            u for u in self.corpus.utterances
            if not way.needs_text or speech.can_be_said(self.said(u))
        ]  # fmt: skip
        queue = [(u, n) for u in speaking for n in range(1, count + 1) if (u.id, n) not in there]
        references = speech.References(self.corpus, self.seed) if way.clones else None
        with self._progress("speech", len(speaking) * count, len(there)) as bar:
            for at in range(0, len(queue), way.batch):
                self._begun()
                began, rows = time.monotonic(), []
                requests = []
                for u, n in queue[at : at + way.batch]:
                    try:
                        requests.append(self._request(u, n, references))
                    except Failure as e:
                        self._fail(bar, u, n, e)
                for r, wave in zip(requests, way.speak(requests) if requests else ()):
                    if not isinstance(wave, Failure) and quality.is_silent(wave, r.wave):
                        wave = Failure(speech.SILENT)
                    if isinstance(wave, Failure):
                        self._fail(bar, r.utterance, r.number, wave)
                    else:
                        rows.append(self._keep(r, wave))
                if rows:
                    journal.add({"rows": rows, "seconds": round(time.monotonic() - began, 3)})
                there |= {(row["id"], row["view"]): row for row in rows}
                bar.update(len(rows))
                if self.failed >= _HOPELESS and not there:
                    raise UserError(
                        f"Each of the first {self.failed} recordings failed; the messages above "
                        "say why. Mend that and run the same command again."
                    )
        order = {u.id: i for i, u in enumerate(self.corpus.utterances)}
        self.recordings = sorted(there.values(), key=lambda row: (order[row["id"]], row["view"]))

    def _request(self, u, number, references):
        def wave(utterance):
            return preprocessing.to_float(self.corpus.recordings(utterance)[0])

        reference = references and references(u, number)
        return speech.Request(
            u, number, self.said(u) if self._speech.needs_text else self.source(u),
            self.corpus.label_names[u.label], seed_of(self.seed, u.id, number), wave(u), reference,
            reference and wave(reference),
        )  # fmt: skip

    def _fail(self, bar, utterance, number, failure):
        self.failed += 1
        bar.write(f"error: {utterance.id}, view {number}: {failure}", file=sys.stderr)

    def _keep(self, request, wave):
        """Writes a recording that passes; its row."""
        u = request.utterance
        rejected = quality.fault(wave, request, self.limits)
        name = re.sub(r"[^\w.-]", "_", u.id)
        name += "" if name == u.id else f"_{seed_of(u.id):08x}"
        audio = f"{WAVS}/{request.number}_{name}.wav"
        if not rejected:
            peak = max(1.0, float(np.abs(wave).max()))
            data = io.BytesIO()
            soundfile.write(data, wave / peak, SAMPLE_RATE, "PCM_16", format="WAV")
            files.replace_file(os.path.join(self.out, audio), data.getvalue())
        return {
            "id": u.id, "view": request.number, "text": request.text, "audio": audio,
            "voice": self._speech.voice(request), "ratio": round(len(wave) / len(request.wave), 4),
            "rejected": rejected, "reference": request.reference.id if request.reference else "",
        }  # fmt: skip

    def _listen(self, journal):
        recognized = _by_view(journal)
        taken = [row for row in self.recordings if not row["rejected"]]
        left = [row for row in taken if (row["id"], row["view"]) not in recognized]
        batch = 8
        with self._progress("listening", len(taken), len(taken) - len(left)) as bar:
            for at in range(0, len(left), batch):
                self._begun()
                began, rows = time.monotonic(), left[at : at + batch]
                waves = [
                    soundfile.read(os.path.join(self.out, row["audio"]), dtype="int16")[0]
                    for row in rows
                ]
                found = self._recognizer.transcribe(waves)
                rows = [{"id": row["id"], "view": row["view"], "recognized": t.text}
                        for row, t in zip(rows, found)]  # fmt: skip
                journal.add({"rows": rows, "seconds": round(time.monotonic() - began, 3)})
                recognized |= {(row["id"], row["view"]): row for row in rows}
                bar.update(len(rows))
        for row in taken:
            row["recognized"] = recognized[row["id"], row["view"]]["recognized"]
            row["wer"] = asr.recognizer_rates([row["text"]], [row["recognized"]])["wer"]
            if row["wer"] is not None and row["wer"] > self.limits.wer:
                row["rejected"] = quality.ERRORS
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(self.out, row["audio"]))

    def _finish(self):
        """Writes the table; from now on the folder may be built from."""
        taken = {}
        for row in self.recordings:
            if not row["rejected"]:
                taken.setdefault(row["id"], []).append(row)
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["utterance", "text", "audio", "voice"])
        for u in self.corpus.utterances:
            words = self.texts.get(u.id, {}).get("text", "")
            if u.id in taken:
                # A model of speech and text needs both; without other words it reads the same.
                words = words or " ".join(u.transcript.split())
                writer.writerows([u.id, words, r["audio"], r["voice"]] for r in taken[u.id])
            elif words:
                writer.writerow([u.id, words, "", ""])
        files.replace_file(os.path.join(self.out, TABLE), out.getvalue())
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.out, UNFINISHED))


def _by_view(journal):
    """(utterance, number) -> row."""
    return {(r["id"], r["view"]): r for entry in journal.entries for r in entry["rows"]}
