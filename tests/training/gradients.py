"""Gradients of one batch on meshes of forced CPU devices, for test_equality.py: a program.

Apart from the tests because jax's devices are fixed when it starts. Prints nothing; writes
OUT/<case>.npz with the loss, the metrics and every gradient by its path.
"""

import argparse
import json
import os
import pathlib

ROWS, WIDTH, SYMBOLS, VOCABULARY = 32, 16, 32, 50


def config(family, memory):
    """A small model without dropout: what the meshes compute must not depend on a mask."""
    from mmer_jax import configuration

    c = configuration.default()
    c.audio.family, c.text.family = family, "bert"
    for size in (c.audio.size, c.text.size):
        size.width, size.layers, size.heads, size.ffn, size.dropout = WIDTH, 1, 2, 32, 0.0
    c.audio.conv_channels = 8
    c.model.width, c.model.heads, c.model.ffn, c.model.dropout = WIDTH, 2, 32, 0.0
    c.losses.memory.size, c.losses.memory.start = memory, 0.0
    c.optimizer.frozen = ("text_encoder/embeddings/.*",)
    return c


def batch(seed, rows=ROWS):
    """A batch whose rows differ in length, some of which fill, are cut or lack their view."""
    import numpy as np

    rng = np.random.default_rng(seed)
    out = {}
    for view in ("", "aug_"):
        length = rng.integers(3_000, 6_401, rows).astype(np.int32)
        audio = rng.standard_normal((rows, 6_400)).astype(np.float32)
        kept = np.arange(6_400)[None] < length[:, None]
        tokens = np.arange(12)[None] < rng.integers(3, 13, rows)[:, None]
        out |= {f"{view}audio": audio * kept, f"{view}audio_length": length}
        out[f"{view}text_ids"] = rng.integers(1, VOCABULARY, (rows, 12)).astype(np.int32) * tokens
        out[f"{view}text_mask"] = tokens.astype(np.int32)
    valid = np.arange(rows) < rows - 3
    return out | {
        "transcript": rng.integers(1, SYMBOLS, (rows, 3)).astype(np.int32),
        "transcript_length": rng.integers(1, 4, rows).astype(np.int32),
        "label": rng.integers(0, 4, rows).astype(np.int32),
        "index": np.arange(rows, dtype=np.int32) + 5 * seed,  # an utterance may meet its own past
        "valid": valid,
        "ctc_valid": valid & (rng.random(rows) > 0.2),
        "aug_valid": valid & (rng.random(rows) > 0.2),
    }


def compute(case):
    """{name: array} for a case {family, memory, mesh: [data, fsdp, model] or null, chunk}."""
    import jax
    import numpy as np
    from flax import traverse_util

    from mmer_jax.training import gradients, sharding
    from mmer_jax.training.trainer import Trainer

    c = config(case["family"], case["memory"])
    c.train.chunk_size = case["chunk"]
    c.mesh.data, c.mesh.fsdp, c.mesh.model = case["mesh"]
    trainer = Trainer(c, ("ang", "hap", "neu", "sad"), VOCABULARY)
    state, mesh = trainer.initial_state(10), trainer.mesh
    mine = sharding.process_rows(ROWS, mesh)
    place = lambda b: sharding.place({k: v[mine] for k, v in b.items()}, mesh)  # noqa: E731
    if case["memory"]:
        state, _ = trainer.train_step(state, place(batch(1)))
    compiled = jax.jit(
        gradients.make_gradients(trainer.model, c, mesh),
        in_shardings=(trainer.shardings, sharding.batch_sharding(mesh)),
        out_shardings=sharding.replicated(mesh),
    )
    loss, metrics, _, grads = jax.device_get(compiled(state, place(batch(2))))
    flat = traverse_util.flatten_dict(grads, sep="/")
    return {"loss": np.asarray(loss)} | {f"metric {k}": v for k, v in metrics.items()} | flat


def main():
    """See the top of the file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("cases", type=json.loads, help="{name: case}")
    parser.add_argument("--devices", type=int, default=1, help="of each process")
    parser.add_argument("--processes", nargs=3, metavar=("ADDRESS", "COUNT", "NUMBER"))
    args = parser.parse_args()
    os.environ["XLA_FLAGS"] += f" --xla_force_host_platform_device_count={args.devices}"
    os.environ["USE_TF"] = "0"
    import numpy as np

    from mmer_jax import processes

    if args.processes:
        address, count, number = args.processes
        processes.start(address, int(count), int(number), automatic=False)
    for name, case in args.cases.items():
        found = compute(case)
        if processes.is_first():
            np.savez(args.out / f"{name}.npz", **found)


if __name__ == "__main__":
    main()
