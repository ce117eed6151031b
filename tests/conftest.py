"""Puts this folder on the path of imports, so that every test finds the plain loops of reference.py."""
