"""Files that are sound, but of another format: called what they are, with the way to a netCDF-4 file."""

from __future__ import annotations

__all__ = ["CLASSIC", "other_format"]


def __dir__() -> list[str]:
    return __all__


_CONVERT = "Convert it: xarray.open_dataset(old, decode_times=False).drop_encoding().to_netcdf(new)"

CLASSIC = f"it is a netCDF-4 file of the classic model (NETCDF4_CLASSIC), which has no text. {_CONVERT}"
_UNPACK = "Unpack it first"
_ARCHIVE = (
    "If it is a checkpoint (.pt), lk.from_checkpoints reads a series of them; arrays of an .npz go to lk.from_arrays; "
    "a trajectory that was zipped has to be unpacked first: unzip"
)

_BEGINNINGS = {
    b"CDF\x01": ("a netCDF-3 file (classic format)", _CONVERT),
    b"CDF\x02": ("a netCDF-3 file (64-bit offsets)", _CONVERT),
    b"CDF\x05": ("a netCDF-3 file (64-bit data)", _CONVERT),
    b"\x28\xb5\x2f\xfd": ("packed as a whole by zstd", f"{_UNPACK}: zstd -d"),
    b"\x1f\x8b": ("packed as a whole by gzip", f"{_UNPACK}: gunzip"),
    b"BZh": ("packed as a whole by bzip2", f"{_UNPACK}: bunzip2"),
    b"\xfd7zXZ": ("packed as a whole by xz", f"{_UNPACK}: unxz"),
    b"\x04\x22\x4d\x18": ("packed as a whole by lz4", f"{_UNPACK}: lz4 -d"),
    b"PK\x03\x04": ("a zip archive", _ARCHIVE),
    b"\x0e\x03\x13\x01": ("an HDF4 file", "Convert it with h4toh5 or nccopy"),
    b"<!DO": ("a web page", "Ask for the file itself, not for the page about it"),
    b"<htm": ("a web page", "Ask for the file itself, not for the page about it"),
    b"version ": ("a pointer of Git LFS", "Get the file that it stands for: git lfs pull"),
}


def other_format(begin: bytes) -> str | None:
    """Return what a file is that begins with these bytes, and the remedy; None if that is not known.

    Examples
    --------
    >>> other_format(b"CDF\\x01....").partition(".")[0]
    'it is a netCDF-3 file (classic format)'
    """
    for bytes_, (what, remedy) in _BEGINNINGS.items():
        if begin.startswith(bytes_):
            return f"it is {what}. {remedy}"
    return None
