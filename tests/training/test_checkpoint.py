"""Files of tensors: those of safetensors, whole or not at all, without a copy in memory."""

import os
import resource
from pathlib import Path

import pytest
import safetensors.torch
import torch

from modsearch.training.checkpoint import write_tensors
from modsearch.training.machine import forget_peak, peak_memory

MIB = 2**20


def some(count: int) -> dict[str, torch.Tensor]:
    """A MiB each."""
    return {f"{number}.weight": torch.full((512, 512), float(number)) for number in range(count)}


@pytest.mark.parametrize("meta", [None, {"step": "7"}])
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_file_is_that_of_safetensors_and_as_open_as_the_umask_says(
    mask: int, meta: dict[str, str] | None, tmp_path: Path
) -> None:
    path = tmp_path / "new" / "model.safetensors"
    before = os.umask(mask)
    try:
        write_tensors(path, some(3), meta)
    finally:
        os.umask(before)
    assert path.read_bytes() == safetensors.torch.save(some(3), meta)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask
    assert list(path.parent.iterdir()) == [path]


def test_nothing_is_copied_to_be_written(tmp_path: Path) -> None:
    tensors = some(64)
    if not forget_peak("cpu"):
        pytest.skip("this system does not tell a peak that begins anew")
    before = peak_memory()
    write_tensors(tmp_path / "model.safetensors", tensors)
    assert peak_memory() - before < 16 * MIB


def test_what_can_not_be_written_is_an_error_with_its_path_and_leaves_what_was(
    tmp_path: Path,
) -> None:
    path = tmp_path / "model.safetensors"
    write_tensors(path, some(1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MIB, limits[1]))
    try:
        with pytest.raises(OSError, match=r"can't write .*model\.safetensors: "):
            write_tensors(path, some(4))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == safetensors.torch.save(some(1))
    assert list(tmp_path.iterdir()) == [path]
