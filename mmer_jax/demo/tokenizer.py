"""A small WordPiece tokenizer of a corpus's own words, in Hugging Face's format."""

from collections import Counter

from tokenizers import normalizers, pre_tokenizers

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MAX_TOKENS = 600


def vocabulary(texts, max_tokens=MAX_TOKENS):
    """Chooses the tokens: the special ones, every character, then the most frequent words.

    Hugging Face's own trainer numbers equally frequent tokens by the order of a hash map, which
    differs from process to process.

    Args:
        texts: list of str.
        max_tokens: the largest vocabulary.

    Returns:
        List of tokens; `[PAD]` is 0.
    """
    normalizer = normalizers.BertNormalizer(lowercase=True)
    splitter = pre_tokenizers.BertPreTokenizer()
    words = Counter()
    for text in texts:
        words.update(word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    characters = sorted({character for word in words for character in word})
    tokens = [*SPECIAL, *characters, *(f"##{character}" for character in characters)]
    ranked = sorted(words, key=lambda word: (-words[word], word))
    return [*tokens, *(word for word in ranked if len(word) > 1)][:max_tokens]


def save(texts, folder):
    """Saves a tokenizer which knows every word of the texts and reads with AutoTokenizer.

    Args:
        texts: list of str.
        folder: Path that is made.
    """
    # It takes seconds to import and only the end of a run needs it.
    from transformers import BertTokenizerFast

    folder.mkdir(parents=True)
    vocab = folder / "vocab.txt"
    vocab.write_text("".join(f"{token}\n" for token in vocabulary(texts)), encoding="utf-8")
    BertTokenizerFast(str(vocab), do_lower_case=True, model_max_length=512).save_pretrained(folder)
