"""The version of storerec, in one place: packaging, bundles and ``storerec.__version__`` read it here."""

__version__ = "0.1.0"
