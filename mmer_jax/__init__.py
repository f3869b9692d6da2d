"""MMER in JAX: multimodal multi-task emotion recognition from speech."""
