"""The chat format: rendered as in training, kept from being replaced, and where an answer ends."""
