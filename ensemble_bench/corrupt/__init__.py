"""Corruptions of pictures: one file a kind, each corruption a function of a picture, an amount and a stream of draws."""

from __future__ import annotations

from ensemble_bench.registry import Registry, Row

_HERE = "ensemble_bench.corrupt"


def _row(kind: str, name: str, summary: str, module: str = "") -> Row:
    return Row(f"{_HERE}.{module or kind}:{name}", summary, {"kind": kind})


registry = Registry(
    "corruption",
    "ensemble_bench.corruptions",
    {
        "gaussian_noise": _row("noise", "gaussian_noise", "normal noise added to every value"),
        "shot_noise": _row("noise", "shot_noise", "every value drawn anew from a Poisson distribution, as by few photons"),
        "impulse_noise": _row("noise", "impulse_noise", "some values black or white: salt and pepper"),
        "speckle_noise": _row("noise", "speckle_noise", "normal noise in proportion to the value"),
        "defocus_blur": _row("blur", "defocus_blur", "every point a disk, as out of focus"),
        "glass_blur": _row("blur", "glass_blur", "points moved about locally, as behind frosted glass"),
        "motion_blur": _row("blur", "motion_blur", "smeared along a line of random direction"),
        "zoom_blur": _row("blur", "zoom_blur", "mean of several enlargements about the middle"),
        "gaussian_blur": _row("blur", "gaussian_blur", "weighted mean of the surroundings"),
        "snow": _row("weather", "snow", "whitened, with flakes falling aslant"),
        "frost": _row("weather", "frost", "overlaid with a photograph of frosted glass"),
        "fog": _row("weather", "fog", "overlaid with a fractal cloud"),
        "spatter": _row("weather", "spatter", "splashes of water, or of mud from severity 4"),
        "brightness": _row("digital", "brightness", "the V of HSV raised"),
        "contrast": _row("digital", "contrast", "drawn together about the mean colour"),
        "elastic_transform": _row("digital", "elastic_transform", "pulled about by a smooth random field"),
        "pixelate": _row("digital", "pixelate", "made small and large again without smoothing"),
        "jpeg_compression": _row("digital", "jpeg_compression", "saved as JPEG of low quality"),
        "saturate": _row("digital", "saturate", "the S of HSV stretched"),
        "rotation": _row("transforms", "rotation", "turned about the middle, to either side"),
        "horizontal_flip": _row("transforms", "horizontal_flip", "left and right exchanged in a share of the pictures"),
        "vertical_flip": _row("transforms", "vertical_flip", "up and down exchanged in a share of the pictures"),
        "greyscale": _row("transforms", "greyscale", "colours moved towards grey"),
        "occlusion": _row("transforms", "occlusion", "a grey rectangle laid over a random place"),
        "low_pass": _row("transforms", "low_pass", "high spatial frequencies taken away"),
        "high_pass": _row("transforms", "high_pass", "low spatial frequencies taken away"),
    },
)
