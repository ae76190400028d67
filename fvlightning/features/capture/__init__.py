"""A network as the engine sees it: frozen, run as far as needed, in which precision, with which layers."""

from fvlightning.features.capture.activation import Activation, Activations, tensor_of
from fvlightning.features.capture.capture import Capture, device_and_dtype, find_layer, watched
from fvlightning.features.capture.diagnosis import explained, is_out_of_memory, out_of_memory, quantized_layers
from fvlightning.features.capture.frozen import Precision, frozen, full_precision, is_compiled, warn_of_batch_statistics
from fvlightning.features.capture.relus import open_relus
from fvlightning.features.capture.survey import (
    LayerSurvey,
    class_layers,
    measure_layers,
    remembers_passes,
    survey_layers,
)

__all__ = [
    "Activation",
    "Activations",
    "Capture",
    "LayerSurvey",
    "Precision",
    "class_layers",
    "device_and_dtype",
    "explained",
    "find_layer",
    "frozen",
    "full_precision",
    "is_compiled",
    "is_out_of_memory",
    "measure_layers",
    "open_relus",
    "out_of_memory",
    "quantized_layers",
    "remembers_passes",
    "survey_layers",
    "tensor_of",
    "warn_of_batch_statistics",
    "watched",
]
