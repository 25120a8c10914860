"""Which versions of libraries a result came from."""

from __future__ import annotations

from importlib import metadata


def current_versions() -> dict[str, str]:
    """Return the versions of the libraries that decide a score."""
    names = ("assay", "torch", "transformers", "tokenizers", "peft", "accelerate", "datasets", "numpy", "scikit-learn")
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
