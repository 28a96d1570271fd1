"""What training leaves behind: weights as lazy tensors, and the JSON files beside them."""

from ollamaq.checkpoint.directory import Checkpoint, open_checkpoint

__all__ = ["Checkpoint", "open_checkpoint"]
