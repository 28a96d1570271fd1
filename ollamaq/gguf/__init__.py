"""GGUF files, read and written. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md."""
