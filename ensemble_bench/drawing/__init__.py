"""Procedural pictures, the same bytes on every machine: integers, ``+ - * /`` and ``sqrt`` only, randomness from a hash."""
