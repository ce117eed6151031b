"""The command `vice`: it parses, calls and prints, and computes nothing."""

from torchvice.cli.app import main

__all__ = ["main"]
