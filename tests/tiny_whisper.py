"""A Whisper of random parameters with a tokenizer of bytes, saved in Hugging Face's format."""

import json

from transformers import PreTrainedTokenizerFast, WhisperConfig

END = 256  # <|endoftext|>: bytes before it, special tokens after it
SPECIAL = (
    "<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|translate|>", "<|transcribe|>",
    "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>", "<|0.00|>", "<|0.02|>",
)  # fmt: skip
SECONDS = 1.0  # of its windows


def save(folder, multilingual=False, seed=13) -> str:
    """Writes it; needs PyTorch. Returns the folder's path."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import GenerationConfig, WhisperForConditionalGeneration

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[]))
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    tokens.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL])
    PreTrainedTokenizerFast(tokenizer_object=tokens, eos_token=SPECIAL[0]).save_pretrained(folder)
    config = WhisperConfig(
        d_model=16, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=24,
        decoder_layers=2, decoder_attention_heads=2, decoder_ffn_dim=24,
        vocab_size=END + len(SPECIAL), max_source_positions=50, max_target_positions=40,
        num_mel_bins=80, pad_token_id=END, bos_token_id=END, eos_token_id=END,
        decoder_start_token_id=END + 1,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():
        for p in model.parameters():  # as they begin, it writes one token again and again
            p.add_(0.5 * torch.randn(p.shape))
        model.get_decoder().embed_tokens.weight[END] *= 1.5  # it comes to an end now and then
    # It writes letters and spaces: single bytes are mostly no text.
    written = [letters.index(c) for c in "Ġabcdefghijklmnopqrstuvwxyz"]
    ids = {name: END + i for i, name in enumerate(SPECIAL)}
    languages = {
        "lang_to_id": {k: ids[k] for k in ("<|en|>", "<|de|>")},
        "task_to_id": {k: ids[f"<|{k}|>"] for k in ("translate", "transcribe")},
    }
    model.generation_config = GenerationConfig(
        decoder_start_token_id=END + 1, eos_token_id=END, pad_token_id=END, bos_token_id=END,
        no_timestamps_token_id=ids["<|notimestamps|>"], is_multilingual=multilingual,
        begin_suppress_tokens=[letters.index("Ġ"), END],
        suppress_tokens=[i for i in range(END + len(SPECIAL)) if i not in (*written, END)],
        max_length=20, **(languages if multilingual else {}),
    )  # fmt: skip
    model.save_pretrained(folder)
    return str(folder)


def edit(folder, name, **values):
    """Changes values of one of its JSON files."""
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
