"""The picture that a maximizer starts from."""

from pathlib import Path
from typing import Any

from torch import Tensor

from fvlightning.errors import InputError
from fvlightning.io import UnreadableImageError, digest_of_tensors, read_image, to_tensor


class InitialPicture:
    """The picture that all pictures of a maximizer start from.

    Args:
        source: Image file, or tensor ``(C, H, W)`` in [0, 1].

    Attributes:
        picture: ``(C, H, W)`` in [0, 1], float32, on the CPU.

    Raises:
        InputError: The file cannot be read, or the tensor is not a picture.
    """

    def __init__(self, source: str | Path | Tensor) -> None:
        self._file = None if isinstance(source, Tensor) else str(source)
        if not isinstance(source, Tensor):
            try:
                source = to_tensor(read_image(source)) / 255
            except UnreadableImageError as error:
                raise InputError(f"Maximizer(initial_picture=...): {error}") from error
        if source.ndim != 3 or not source.numel() or not source.is_floating_point():
            problem = f"{source.dtype} of shape {tuple(source.shape)} is not a picture"
            raise InputError(f"Maximizer(initial_picture=...): {problem}; give (C, H, W) in [0, 1]")
        # Not `min() < 0 or max() > 1`, which lets NaN pass.
        if not bool(((source >= 0) & (source <= 1)).all()):
            raise InputError("Maximizer(initial_picture=...): must be in [0, 1]; divide bytes by 255")
        self.picture = source.detach().float().cpu()

    @property
    def settings(self) -> dict[str, Any]:
        """The name of the file and a digest of the picture, which tell one initial picture from another."""
        return {"file": self._file, "digest": digest_of_tensors(self.picture)}
