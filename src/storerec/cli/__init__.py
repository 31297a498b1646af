"""The command line: one file per verb; it parses, calls one function of the pipeline, reports."""

from storerec.cli.app import app, main

__all__ = ["app", "main"]
