"""Every encoder equals Hugging Face's PyTorch, and padding changes nothing."""

import pytest

pytest.importorskip("torch")

import transformers

from benchmarks import encoders
from mmer_jax.models.encoders import ENCODERS

# What these configs have that changes no state of the encoder, or that no evaluation has.
HEADS = (
    "vocab_size", "final_dropout", "ctc_", "classifier_", "tdnn_", "xvector_", "num_codevector",
    "codevector_", "proj_codevector", "contrastive_", "num_negatives", "diversity_", "num_ctc",
    "use_weighted", "output_hidden_size", "adapter_kernel", "adapter_stride", "num_adapter",
    "use_cache", "summary_", "seq_classif_", "qa_dropout", "sinusoidal", "generator_",
)  # fmt: skip
TRAINING = ("dropout", "layerdrop", "mask_", "apply_spec_augment", "initializer_range")
# Each is off its default in all cases, has one value in them, or is refused where it has another.
ELSEWHERE = ("num_feat_extract_layers", "add_adapter", "conv_pos_batch_norm",
             "position_embedding_type", "max_position_embeddings")  # fmt: skip


@pytest.mark.parametrize("case", encoders.CASES)
def test_equals_pytorch_utterance_by_utterance(case):
    found = encoders.compare(encoders.make_pair(case))
    assert found["states"] < 1e-4 and found["gradients"] < 1e-4, found


@pytest.mark.slow
@pytest.mark.parametrize("case", encoders.CASES)
def test_no_state_depends_on_batch_or_bucket(case):
    assert encoders.padding(encoders.make_pair(case)) < 1e-5


@pytest.mark.parametrize("kind", [k for k in ENCODERS if k != "whisper"])
def test_every_switch_is_off_its_default_in_some_case(kind):
    """Of all options of Hugging Face's config: new ones, of a later version, are noticed."""
    default = transformers.AutoConfig.for_model(kind)
    common = transformers.PretrainedConfig().to_dict().keys()
    configs = [encoders.config_of(case) for case, (k, _) in encoders.CASES.items() if k == kind]
    for name, value in default.to_dict().items():
        if name in common or name in ELSEWHERE or any(x in name for x in TRAINING):
            continue
        if not name.startswith(HEADS):
            assert any(getattr(config, name) != value for config in configs), name
