"""What a trace is made of: the shadow, the arguments and the method that is called."""

from __future__ import annotations

from dataclasses import dataclass

from modelsummary_ipy.inputs.model_inputs import ModelInputs
from modelsummary_ipy.isolation.shadow import ShadowTemplate


@dataclass(frozen=True)
class TraceRequest:
    """What every trace of one summary has in common; it holds nothing of the user's model.

    Attributes:
        shadow: What every copy that is run is made from, with the requested device and mode.
        inputs: What the user gave, or what was inferred.
        dtypes: Of every ``Size`` in ``inputs``, in their order.
        method: What is called.
        names: The method's positional parameters.
    """

    shadow: ShadowTemplate
    inputs: ModelInputs
    dtypes: tuple[str, ...] = ()
    method: str = "forward"
    names: tuple[str, ...] = ()
