"""One pass gives logits and map, and torch.export, ONNX and torch.compile give the same two."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from interp_core import LapModel
from interp_core.deploy.serving import Serving
from interp_core.errors import ContractError

pytestmark = pytest.mark.slow

MakeLap = Callable[..., LapModel]
Images = Callable[..., Tensor]

# Linear heads, one of them with more classes than its attention looks at; a head with a norm; one with convolutions.
HEADS = {
    "linear": ("test_resnet", 4),
    "candidates": ("test_resnet", 12),
    "norm": ("convnext_atto", 4),
    "convolutions": ("mobilenetv3_small_050", 4),
}
EVERY_HEAD = [pytest.param(*network, id=head) for head, network in HEADS.items()]


@pytest.fixture
def served(make_lap: MakeLap) -> Serving:
    return Serving(make_lap())


def close(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


def exported(served: Serving, images: Tensor) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1, max=64)
    return torch.export.export(served, (images,), dynamic_shapes=({0: batch},))


def test_logits_and_map_of_the_predicted_class(make_lap: MakeLap, images: Tensor) -> None:
    lap = make_lap().train()
    served = Serving(lap)
    logits, maps = served(images)
    assert not lap.training
    assert served.lap is lap
    explanation = lap.explain(images)
    assert torch.equal(logits, explanation.logits)
    assert torch.equal(maps, explanation.map)
    with torch.no_grad():
        torch.testing.assert_close(logits, lap(images))
    assert torch.equal(maps, lap.explain(images, logits.argmax(1)).map)


def test_it_costs_one_pass(served: Serving, images: Tensor) -> None:
    calls = []
    handle = served.lap.backbone.conv1.register_forward_hook(lambda *_: calls.append(1))  # type: ignore[union-attr]
    served(images)
    handle.remove()
    assert calls == [1]


def test_no_gradient_and_no_hook_is_left(served: Serving, images: Tensor, snapshot: Callable[..., dict]) -> None:
    before = snapshot(served)
    logits, maps = served(images.requires_grad_())
    assert not logits.requires_grad
    assert not maps.requires_grad
    assert snapshot(served) == before


def test_only_lap_models_are_served() -> None:
    with pytest.raises(ContractError, match="attach LAP"):
        Serving(nn.Identity())  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "classes"), EVERY_HEAD)
def test_it_can_be_exported(name: str, classes: int, make_lap: MakeLap, images_of: Images) -> None:
    """At a size nothing has seen yet, so that what is computed once per size is computed while tracing."""
    served, images = Serving(make_lap(name, classes=classes)), images_of(96, 64)
    program = exported(served, images).module()
    close(program(images), served(images))
    larger_batch = images_of(96, 64, count=5)
    close(program(larger_batch), served(larger_batch))


def test_it_can_be_exported_at_a_size_that_windows_do_not_divide(served: Serving, images_of: Images) -> None:
    images = images_of(81, 113)
    close(exported(served, images).module()(images), served(images))


def test_an_export_leaves_the_model_as_it_was(served: Serving, images_of: Images) -> None:
    images = images_of(80, 112)
    exported(served, images)
    logits, maps = served(images)
    assert type(logits) is type(maps) is Tensor
    assert bool(maps.isfinite().all())


def test_an_exported_file_needs_no_code_of_ours(served: Serving, images: Tensor, tmp_path: Path) -> None:
    torch.export.save(exported(served, images), tmp_path / "model.pt2")
    loaded = torch.export.load(tmp_path / "model.pt2")
    close(loaded.module()(images), served(images))
    assert not [node for node in loaded.graph.nodes if "interp_core" in str(node.target)]


@pytest.mark.parametrize(("name", "classes"), EVERY_HEAD)
@pytest.mark.filterwarnings("ignore")
def test_onnx_gives_the_same(name: str, classes: int, make_lap: MakeLap, images: Tensor, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    served = Serving(make_lap(name, classes=classes))
    program = torch.onnx.export(
        served,
        (images,),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},),
        input_names=["images"],
        output_names=["logits", "map"],
        verbose=False,
    )
    assert program is not None
    program.save(tmp_path / "model.onnx")
    session = runtime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["logits", "map"]
    for batch in (images, images.repeat(3, 1, 1, 1)):
        outputs = session.run(None, {"images": batch.numpy()})
        close(tuple(torch.from_numpy(output) for output in outputs), served(batch))


@pytest.mark.parametrize(("name", "classes"), EVERY_HEAD)
def test_it_compiles_into_one_graph(name: str, classes: int, make_lap: MakeLap, images: Tensor) -> None:
    served = Serving(make_lap(name, classes=classes))
    torch._dynamo.reset()
    compiled = torch.compile(served, fullgraph=True, backend="eager")
    close(compiled(images), served(images))
