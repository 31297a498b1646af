"""Saved results as one folder of safetensors and JSON files under a manifest of sizes and hashes."""

from storerec.bundle.folder import Bundle, read_bundle, write_bundle
from storerec.bundle.manifest import FORMAT_NAME, FORMAT_VERSION, MANIFEST, FileEntry, Manifest

__all__ = [
    "FORMAT_NAME",
    "FORMAT_VERSION",
    "MANIFEST",
    "Bundle",
    "FileEntry",
    "Manifest",
    "read_bundle",
    "write_bundle",
]
