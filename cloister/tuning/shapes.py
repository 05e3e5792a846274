"""What known models cost, for a machine that has none of them: what their config.json gives; pure.

Figures by `ceiling.shape` from the config.json of Qwen2.5-VL-3B-Instruct and -7B-Instruct, of which
the others are fine-tuned: a test computes them again.
"""

from collections.abc import Mapping

from cloister.tuning.ceiling import Shape

_QWEN_3B = Shape(text=3_085_697_024, vision=666_664_960, kv_bytes=36_864)
_QWEN_7B = Shape(text=7_070_285_824, vision=674_529_280, kv_bytes=57_344)

SHAPES: Mapping[str, Shape] = {
    "nanonets/Nanonets-OCR2-3B": _QWEN_3B,
    "Qwen/Qwen2.5-VL-3B-Instruct": _QWEN_3B,
    "allenai/olmOCR-2-7B-1025": _QWEN_7B,
}
