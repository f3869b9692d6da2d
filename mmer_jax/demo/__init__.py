"""A synthetic speech corpus in the layout of IEMOCAP, for demonstrations and tests."""
