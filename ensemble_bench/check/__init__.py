"""The gate: the results of a candidate held against those of a baseline, answer by answer."""
