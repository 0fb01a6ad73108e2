"""Contract checks that ship with the package, so that a plug-in runs the same ones as the built-ins."""
