"""Measure this machine once, so that encoders run at their best setting and ``run --dry-run`` knows how long a run takes.

Of each backbone: the quickest of the settings that give the same features (runs find it themselves when they first load an
architecture, and stay with it), and the milliseconds of one image on one core. All of it lies in $ENSEMBLE_BENCH_CACHE/machine.
"""

from __future__ import annotations

import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-b", "--backbones", nargs="+", action="extend", metavar="BACKBONE", help="as in run (default: mini)")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="default: fp32")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    parser.add_argument("--again", action="store_true", help="choose settings anew; features may change by rounding")
    parser.add_argument("--compile", action="store_true", help="with --again: try torch.compile as well, which takes minutes")


def main(options: argparse.Namespace) -> int:
    from ensemble_bench import calibration
    from ensemble_bench.errors import BadOption

    if options.compile and not options.again:
        raise BadOption("--compile needs --again: a setting that is kept is not tried against others.")
    from ensemble_bench import backbones, runner, selection
    from ensemble_bench.backbones import tuning

    device = runner.device(options.device)
    pool = backbones.find(selection.opened(options.backbones or ["mini"]))
    if device == "cpu":
        calibration.note("run", {"start": tuning.started()})
    peaks = tuning.peaks(device)
    said = ", ".join(f"{precision} {speed:,.0f}" for precision, speed in peaks.items())
    print(f"{calibration.processor()['name']}: GFLOP/s of one thread in a large matrix product: {said}", flush=True)
    for backbone in pool:
        found = tuning.speed(backbone, device, options.precision, again=options.again, compiled=options.compile)
        print(f"{backbone.id}: {found}", flush=True)
    print(f"kept in {calibration.path()}")
    return 0
