"""The attack libraries of others, where they are installed; else a skip that says how to get them."""

import importlib
import warnings

import pytest

HOW = {
    "foolbox": "pip install mixsolve[attacks]",
    "art": "pip install mixsolve[attacks]",
    "torchattacks": "pip install --no-deps torchattacks==3.5.1",
    "pyautoattack": "pip install --no-deps pyautoattack==0.2.0",
}


def package(name):
    """The package, imported with its own warnings silenced, or a skipped test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if name == "art":
                importlib.import_module("art.attacks.evasion")
                importlib.import_module("art.estimators.classification")
            return importlib.import_module(name)
        except ImportError as error:
            pytest.skip(f"NOT COMPARED with {name}, which is missing ({error}): {HOW[name]}")
