"""Run a network on a CPU by OpenVINO, in float32 and without gradient.

The network is traced, read by OpenVINO's front end for PyTorch, and compiled for any number of images of one size. The
front end is called directly: `openvino.convert_model` reports its use over the network, and takes longer.

Each stream computes one batch on one thread. Threads of one batch would wait for each other at every layer, so that a
busy neighbour on one core would slow all of them down. Cores are not pinned for the same reason.

A network whose control flow depends on pixels is refused, since a trace fixes it.

Limits: rounding differs from torch's. The caller has to compare the outputs.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from interp_core.errors import ContractError

# Single precision on every processor: some compute in half precision by default.
_OPTIONS = {"INFERENCE_PRECISION_HINT": "f32", "EXECUTION_MODE_HINT": "ACCURACY", "ENABLE_CPU_PINNING": False}


def is_installed() -> bool:
    """Return whether OpenVINO can be imported; it has no wheels for some processors."""
    return find_spec("openvino") is not None


def convert(model: nn.Module, images: Tensor) -> OpenVinoGraph:
    """Convert a network in evaluation mode.

    Args:
        model: from images to logits (N, K), float32 on a CPU.
        images: (N, C, H, W), at least two, which the network is traced with.

    Raises:
        Exception: anything that tracing or OpenVINO raises for a network that it cannot take.
    """
    from openvino import PartialShape
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with warnings.catch_warnings(record=True) as caught, torch.no_grad():
        warnings.simplefilter("always")
        traced = torch.jit.trace(model, images, check_trace=False)  # type: ignore[no-untyped-call]
        if any(issubclass(warning.category, torch.jit.TracerWarning) for warning in caught):
            _check_control_flow(model, images)
        # Names for all of them: OpenVINO does not keep the Python objects that it still reads.
        manager, decoder = FrontEndManager(), TorchScriptPythonDecoder(traced)
        front_end = manager.load_by_framework("pytorch")
        graph = front_end.convert(front_end.load(decoder))
    graph.reshape(PartialShape([-1, *images.shape[1:]]))
    return OpenVinoGraph(graph, torch.get_num_threads())


def _check_control_flow(model: nn.Module, images: Tensor) -> None:
    """Run the network on tensors without values, which no control flow can depend on.

    Raises:
        ContractError: it needs their values.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            model(mode.from_tensor(images))
    except Exception as error:  # a network's own code may raise anything
        raise ContractError("its control flow may depend on pixels") from error


class OpenVinoGraph(nn.Module):
    """A converted network: images (N, C, H, W) float32 on the CPU to logits (N, K).

    It may be called by several threads at once. A call uses as many streams as torch has threads in the calling thread.

    Args:
        graph: an `openvino.Model` of one input and one output.
        streams: batches that are computed at once.
    """

    def __init__(self, graph: Any, streams: int) -> None:
        super().__init__()
        self._graph, self.streams = graph, streams
        self._requests: dict[bool, _Requests] = {}
        self._lock = Lock()

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits (N, K)."""
        is_channels_last = not images.is_contiguous() and images.is_contiguous(memory_format=torch.channels_last)
        with self._lock:
            if is_channels_last not in self._requests:
                compiled = _compile(self._graph, self.streams, channels_last=is_channels_last)
                self._requests[is_channels_last] = _Requests(compiled)
        rows = images.detach()
        rows = rows.permute(0, 2, 3, 1) if is_channels_last else rows.contiguous()
        parts = rows.chunk(max(1, min(self.streams, torch.get_num_threads(), len(rows))))
        return torch.cat(self._requests[is_channels_last].compute([part.numpy() for part in parts]))


class _Requests:
    """Inference requests of a compiled graph, which are used again.

    Args:
        compiled: an `openvino.CompiledModel`.
    """

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._idle: SimpleQueue[Any] = SimpleQueue()

    def compute(self, arrays: Sequence[np.ndarray]) -> list[Tensor]:
        """Compute the outputs of several batches at once."""
        from openvino import Tensor as SharedTensor

        requests = [self._take() for _ in arrays]
        for request, array in zip(requests, arrays, strict=True):
            request.set_input_tensor(SharedTensor(array, shared_memory=True))
            request.start_async()
        outputs = []
        for request in requests:
            request.wait()
            outputs.append(torch.from_numpy(request.get_output_tensor().data.copy()))
            self._idle.put(request)
        return outputs

    def _take(self) -> Any:
        try:
            return self._idle.get_nowait()
        except Empty:
            return self._compiled.create_infer_request()


def _compile(graph: Any, streams: int, *, channels_last: bool) -> Any:
    """Compile a graph for one memory format of its images."""
    from openvino import Core, Layout
    from openvino.preprocess import PrePostProcessor

    copy = graph.clone()
    if channels_last:
        processor = PrePostProcessor(copy)
        processor.input().tensor().set_layout(Layout("NHWC"))
        processor.input().model().set_layout(Layout("NCHW"))
        copy = processor.build()
    return Core().compile_model(copy, "CPU", {**_OPTIONS, "NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": streams})
