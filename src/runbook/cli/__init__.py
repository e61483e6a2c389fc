"""Words in, words out: one command a file, and the renderings they share."""
