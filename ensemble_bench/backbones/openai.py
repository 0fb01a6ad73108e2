"""The nine checkpoints of OpenAI. Sizes and costs from open_clip's ``docs/model_profile.csv``."""

from __future__ import annotations

from ensemble_bench.backbones.open_clip import Pretrained


def _openai(arch: str, repository: str, gflops: float, millions: float) -> Pretrained:
    return Pretrained(
        id=f"openai/{arch}",
        arch=arch,
        gflops=gflops,
        parameters=round(millions * 1e6),
        tag="openai",
        repository=f"timm/{repository}.openai",
    )


RN50 = _openai("RN50", "resnet50_clip", 12.22, 102.01)
RN101 = _openai("RN101", "resnet101_clip", 19.54, 119.69)
RN50x4 = _openai("RN50x4", "resnet50x4_clip", 42.56, 178.30)
RN50x16 = _openai("RN50x16", "resnet50x16_clip", 149.39, 290.98)
RN50x64 = _openai("RN50x64", "resnet50x64_clip", 529.11, 623.26)
ViT_B_32 = _openai("ViT-B-32", "vit_base_patch32_clip_224", 8.82, 151.28)
ViT_B_16 = _openai("ViT-B-16", "vit_base_patch16_clip_224", 35.13, 149.62)
ViT_L_14 = _openai("ViT-L-14", "vit_large_patch14_clip_224", 162.03, 427.62)
ViT_L_14_336 = _openai("ViT-L-14-336", "vit_large_patch14_clip_336", 381.92, 427.94)
