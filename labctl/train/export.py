"""Trained models as files that other programs read."""

from __future__ import annotations

import contextlib
import io
import json
import re
import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from labctl.errors import EnvironmentProblem, RunError, UsageError
from labctl.store.atomic import write_atomic
from labctl.store.run import Run

from .predictor import Predictor

_COLOR = re.compile(r"\x1b\[[0-9;]*m")
MISSING = "pip install 'labctl[export]'"


def export(run: Run, predictor: Predictor, path: Path) -> None:
    """Write the model of a run to `path`, in the format of its suffix.

    `.safetensors` holds parameters and buffers by the model's own names, and the plan as metadata.
    `.onnx` holds what the predictor does, scaling included, for batches of any size.

    Raises:
        UsageError: another suffix.
        EnvironmentProblem: a library is missing.
        RunError: the model does something that the format cannot say.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        known = " or ".join(FORMATS)
        raise UsageError(f"no format for {path.name!r}", hint=f"a name that ends in {known}")
    write = FORMATS[suffix]
    write_atomic(path, lambda file: file.write(write(run, predictor)))


def _facts(run: Run, predictor: Predictor) -> dict[str, str]:
    """What a file says of itself."""
    plan, spec = run.plan, predictor.spec
    return {
        "labctl.run": plan.name,
        "labctl.key": plan.key,
        "labctl.plan": plan.model_dump_json(by_alias=True),
        "labctl.inputs": json.dumps(
            {"kind": spec.inputs, "shape": spec.shape, "mean": spec.mean, "std": spec.std}
        ),
    }


def _safetensors(run: Run, predictor: Predictor) -> bytes:
    try:
        from safetensors.torch import save
    except ImportError:
        raise EnvironmentProblem("safetensors is not installed", hint=MISSING) from None
    state = predictor.model.state_dict()
    # Tied tensors share memory, which the format refuses.
    whole = {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}
    return bytes(save(whole, metadata=_facts(run, predictor)))


def _onnx(run: Run, predictor: Predictor) -> bytes:
    for library in ("onnx", "onnxscript"):
        if find_spec(library) is None:
            raise EnvironmentProblem(f"{library} is not installed", hint=MISSING)
    import onnx

    batch = torch.export.Dim("batch")
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                predictor,
                (predictor.example(),),
                dynamo=True,
                input_names=["inputs"],
                output_names=["logits"],
                dynamic_shapes={"inputs": {0: batch}},
            )
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        first = _COLOR.sub("", str(cause)).strip().splitlines()[0]
        raise RunError(
            f"{run.plan.work.architecture.name} cannot be written as ONNX: {first}",
            hint="a name that ends in .safetensors",
        ) from None
    assert program is not None
    model: Any = program.model_proto
    images = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    if images:
        raise RunError(
            f"{run.plan.work.architecture.name} cannot be written as ONNX for any number of "
            f"inputs: as it is traced, they become {images}",
            hint="inputs.shape[0] instead of len(inputs) in its code, or a name that ends in "
            ".safetensors",
        )
    onnx.helper.set_model_props(model, _facts(run, predictor))
    return bytes(model.SerializeToString())


FORMATS: Mapping[str, Callable[[Run, Predictor], bytes]] = {
    ".safetensors": _safetensors,
    ".onnx": _onnx,
}
