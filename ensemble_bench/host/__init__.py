"""The one door to CLIP_benchmark: ensembles as its models, tasks and corruptions as its datasets, results in its format.

``ensemble-bench clip-benchmark eval ...`` or ``python -m ensemble_bench.host eval ...`` is CLIP_benchmark's own command with
these doors open; from Python, ``activate.activate()`` opens them. Nothing is changed before that.
"""
