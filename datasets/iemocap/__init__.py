"""The IEMOCAP dataset as TFDS has it: a folder with a builder."""
