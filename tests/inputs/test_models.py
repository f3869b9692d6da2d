"""Damaged folders of models: configs, weights, tokenizers, compiled programs."""

import json
import os
import pathlib

import numpy as np
import pytest
from hypothesis import given
from safetensors.numpy import save_file

from mmer_jax.inference import model_card, stablehlo
from mmer_jax.models import factory
from mmer_jax.models.encoders import pretrained
from mmer_jax.training import checkpoint_io
from tests.inference import tiny_models
from tests.inputs import damage, guard
from tests.inputs.guard import KNOWN, REFUSED, Damaged


@pytest.fixture(scope="module", autouse=True)
def shapes_once():
    """Shapes of equal models are worked out once: half a second that has nothing to do with it."""
    once, made = factory.param_shapes, {}

    def shapes(model):
        key = repr(model)
        if key not in made:
            made[key] = once(model)
        return made[key]

    factory.param_shapes = shapes
    yield
    factory.param_shapes = once


def files_of(folder, *without):
    found = (p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*")) if p.is_file())
    return [name for name in found if not name.startswith(without)]


def content(model):
    """All that a prediction depends on."""
    tokenizer = model.tokenizer and model.tokenizer.digest()
    return checkpoint_io.digest(model), repr(model.model), tokenizer, model.alphabet


def check(model):
    model_card.markdown(model)
    assert len(set(model.label_names)) == len(model.label_names) > 1
    for source in model.text_sources:
        assert (model.held_out(source).get("temperature") or 1.0) > 0


def test_model_folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("models")
    folder = pathlib.Path(tiny_models.written(place))
    spoilt = damage.Spoilt(folder, place / "in" / "spoilt")
    expected = content(checkpoint_io.read(str(folder)))
    names = files_of(folder, "README.md")

    @given(damage.in_a_folder(folder, [*names, "config.json", "model.safetensors"]))
    def run(found):
        name, damaged = found
        # The exported files have digests: only what a person may have edited is not known.
        must = KNOWN if name != "config.json" else ""
        damaged = Damaged(damaged.data, f"{name}: {damaged.how}", must)
        guard.judge("model: exported folders", damaged,
                    lambda: spoilt.read(name, damaged.data, checkpoint_io.read),
                    lambda x: content(x) == expected, check)  # fmt: skip

    run()


def test_model_folders_of_before(tmp_path_factory):
    """Without digests: what contradicts itself is refused all the same."""
    place = tmp_path_factory.mktemp("older")
    folder = pathlib.Path(tiny_models.written(place))
    config = json.loads((folder / "config.json").read_text())
    config.pop("digests")
    (folder / "config.json").write_text(json.dumps(config))
    spoilt = damage.Spoilt(folder, place / "in" / "spoilt")
    expected = content(checkpoint_io.read(str(folder)))

    @given(
        damage.in_a_folder(folder, [*files_of(folder, "README.md"), "audio_encoder/config.json"])
    )
    def run(found):
        name, damaged = found
        damaged = Damaged(damaged.data, f"{name}: {damaged.how}")
        guard.judge("model: folders without digests", damaged,
                    lambda: spoilt.read(name, damaged.data, checkpoint_io.read),
                    lambda x: content(x) == expected, check)  # fmt: skip

    run()


def test_what_is_no_file_in_a_model_folder(tmp_path):
    folder = pathlib.Path(tiny_models.written(tmp_path))
    expected = content(checkpoint_io.read(str(folder)))
    for name in files_of(folder):
        kept = (folder / name).rename(tmp_path / "kept")
        for how, spoil, must in (
            ("a pipe", os.mkfifo, REFUSED), ("a loop", lambda p: p.symlink_to(p), ""),
            ("a device", lambda p: p.symlink_to("/dev/zero"), REFUSED),
            ("a folder", lambda p: p.mkdir(), ""),
            ("a link", lambda p: p.symlink_to(tmp_path / "kept"), guard.SAME),
        ):  # fmt: skip
            spoil(folder / name)
            guard.judge("model: no files", Damaged(name, f"{how}: {name}", must),
                        lambda: checkpoint_io.read(str(folder)),
                        lambda x: content(x) == expected)  # fmt: skip
            (folder / name).rmdir() if how == "a folder" else (folder / name).unlink()
        kept.rename(folder / name)


def test_code_in_a_model_folder_is_not_run(tmp_path):
    folder = pathlib.Path(tiny_models.written(tmp_path))
    code = f"open({str(tmp_path / 'ran')!r}, 'w').close()\n"
    for part in ("", "audio_encoder", "text_encoder", "tokenizer"):
        for name in ("config", "modeling", "tokenization", "__init__"):
            (folder / part / f"{name}.py").write_text(code)
        for name in ("config.json", "tokenizer_config.json"):
            path = folder / part / name
            stored = json.loads(path.read_text()) if path.exists() else {}
            kinds = ("AutoConfig", "AutoModel", "AutoTokenizer", "FlaxAutoModel")
            auto = {"auto_map": dict.fromkeys(kinds, "modeling.Evil"), "tokenizer_class": "Evil"}
            path.write_text(json.dumps(stored | auto))
        (folder / part / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"digests": {}}))
    guard.judge("model: code in a folder", Damaged(folder, "auto_map"),
                lambda: checkpoint_io.read(str(folder)), lambda x: True)  # fmt: skip
    assert not (tmp_path / "ran").exists()


ENCODER = {
    "model_type": "wav2vec2", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 16, "conv_dim": [16] * 7, "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2, "vocab_size": 32, "do_normalize": True,
}  # fmt: skip


def test_encoders_of_others(tmp_path_factory):
    """A checkpoint in Hugging Face's format: its config, its preprocessor, its index."""
    folder = tmp_path_factory.mktemp("encoder")
    weights = {"x": "x.safetensors", "y": "y.safetensors"}
    good = {
        "config.json": ENCODER, "model.safetensors.index.json": {"weight_map": weights},
        "preprocessor_config.json": {"do_normalize": True, "sampling_rate": 16_000},
    }  # fmt: skip
    for name, value in good.items():
        (folder / name).write_text(json.dumps(value))
    for name in ("x", "y"):
        save_file({name: np.ones((2, 3), np.float32)}, folder / f"{name}.safetensors")

    def read(path):
        config = pretrained.load_config(path)
        state = pretrained.weight_files.read(pretrained.weight_files.find(path))
        return config.to_dict(), {k: v.tolist() for k, v in state.items()}

    expected = read(str(folder))
    spoilt = damage.Spoilt(folder, folder.parent / "in" / "spoilt")

    @given(damage.in_a_folder(folder, [*good, "x.safetensors"]))
    def run(found):
        name, damaged = found
        damaged = Damaged(damaged.data, f"{name}: {damaged.how}")
        guard.judge("model: Hugging Face folders", damaged,
                    lambda: spoilt.read(name, damaged.data, read),
                    lambda x: x == expected)  # fmt: skip

    run()


def test_programs(tmp_path_factory):
    """StableHLO: nothing of a file that is not as it was written comes to the compiler."""
    place = tmp_path_factory.mktemp("programs")
    model = tiny_models.made(place, "text")
    folder = place / "text"
    checkpoint_io.write(model, str(folder))
    stablehlo.export(model, str(folder), (stablehlo.Bucket(1, 0, 8),))
    spoilt = damage.Spoilt(folder, place / "in" / "spoilt")

    def read(path):
        programs = stablehlo.Programs(path)
        inputs = {"text_ids": np.ones((1, 4), np.int32), "text_mask": np.ones((1, 4), np.int32)}
        program = programs._smallest(inputs)
        programs._call(program)  # deserialised, not compiled
        programs.probabilities(np.zeros((1, 4)), "gold")
        return programs.index

    expected = read(str(folder))
    names = ["stablehlo/index.json", "stablehlo/b1_s8.bin", "model.safetensors"]

    @given(damage.in_a_folder(folder, names))
    def run(found):
        name, damaged = found
        must = "" if name.endswith(".json") else KNOWN
        damaged = Damaged(damaged.data, f"{name}: {damaged.how}", must)
        untouched = name.endswith(".json") or damaged.data == (folder / name).read_bytes()
        guard.judge("model: StableHLO", damaged, lambda: spoilt.read(name, damaged.data, read),
                    lambda x: x == expected and untouched)  # fmt: skip

    run()
