"""Open corpora of emotional speech, and a user's own table, as one TFDS dataset."""
