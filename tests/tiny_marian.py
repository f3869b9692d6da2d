"""A Marian model of random parameters with its two sentencepiece models, in HF's format."""

import json

from mmer_jax.demo import plan

SENTENCES = sorted({row[0].lower() for rows in plan.POOLS.values() for row in rows})


def save(folder, seed=5, **options) -> str:
    """Writes it; needs PyTorch and sentencepiece. Returns the folder's path.

    Args:
      folder: must not exist.
      seed: of its parameters.
      **options: of `MarianConfig`.
    """
    import sentencepiece
    import torch
    from transformers import MarianConfig, MarianMTModel

    folder.mkdir()
    for name in ("source", "target"):
        with open(folder / f"{name}.spm", "wb") as f:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(SENTENCES), model_writer=f, vocab_size=120,
                minloglevel=2, bos_id=-1, eos_id=0, unk_id=1, pad_id=-1,
            )  # fmt: skip
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.spm"))
    words = [pieces.id_to_piece(i) for i in range(pieces.get_piece_size())]
    vocabulary = {"</s>": 0, "<unk>": 1}
    for word in [*words, "<pad>"]:
        vocabulary.setdefault(word, len(vocabulary))
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"source_lang": "en", "target_lang": "fr", "tokenizer_class": "MarianTokenizer"})
    )
    pad = vocabulary["<pad>"]
    config = MarianConfig(**{
        "vocab_size": len(vocabulary), "d_model": 16, "encoder_layers": 1, "decoder_layers": 1,
        "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16,
        "decoder_ffn_dim": 16, "max_position_embeddings": 64, "pad_token_id": pad,
        "eos_token_id": 0, "decoder_start_token_id": pad, "forced_eos_token_id": 0,
        "scale_embedding": True, "activation_function": "swish",
    } | options)  # fmt: skip
    torch.manual_seed(seed)
    model = MarianMTModel(config).eval()
    with torch.no_grad():
        for p in model.parameters():  # as they begin, every draw is nearly even
            p.add_(0.3 * torch.randn(p.shape))
        model.final_logits_bias += 0.1 * torch.randn(model.final_logits_bias.shape)
    model.save_pretrained(folder)
    return str(folder)
