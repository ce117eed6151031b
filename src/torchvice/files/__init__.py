"""Files: written completely or not at all; reading a file never runs code."""

from torchvice.files.reading import check_folder_free, existing_file, read_json, sha256
from torchvice.files.unpickle import read_npy_dict, read_pickle, write_npy_dict
from torchvice.files.writing import atomic, atomic_folder, check_writable, write_json, write_text
from torchvice.files.yaml_text import parse_document, parse_yaml, read_yaml

__all__ = [
    "atomic",
    "atomic_folder",
    "check_folder_free",
    "check_writable",
    "existing_file",
    "parse_document",
    "parse_yaml",
    "read_json",
    "read_npy_dict",
    "read_pickle",
    "read_yaml",
    "sha256",
    "write_json",
    "write_npy_dict",
    "write_text",
]
