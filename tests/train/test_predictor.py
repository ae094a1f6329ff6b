"""Trained models given away: what they say, in Python and in files that others read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import labctl
from labctl.errors import RunError, UsageError
from labctl.registry.card import Places
from labctl.registry.registry import Registry
from labctl.store.run import Run
from labctl.train.assembly import Assembly
from labctl.train.export import export
from labctl.train.predictor import load_model

pytestmark = pytest.mark.slow

SHORT = ("budget=2ep", "schedules.token_drop=null")


@pytest.fixture
def trained(lab: Any) -> tuple[Any, Run]:
    (run,) = lab.train_here("tiny", "seeds=[3]", *SHORT)
    return lab, run


def held_out(lab: Any, run: Run) -> Tensor:
    """uint8 images of the test set, in its order."""
    assembly = Assembly(
        run.plan, Registry(run.source_path, is_quiet=True), Places(lab.project.data_roots)
    )
    test = assembly.splits(torch.device("cpu"))["test"]
    inputs, _ = test.examples.take(torch.arange(len(test)))
    return inputs


def test_it_predicts_what_the_last_evaluation_did(trained: tuple[Any, Run]) -> None:
    lab, run = trained
    model = labctl.load_model(run)
    images = held_out(lab, run)
    assert images.dtype == torch.uint8
    with np.load(run.predictions_path) as kept:
        expected, targets = kept["test"], kept["test_targets"]
    assert np.array_equal(model(images).argmax(1).numpy(), expected)
    assert (expected == targets).mean() == pytest.approx(run.journal.last["test/acc"])
    assert not model.training and not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_images_that_were_scaled_already_are_refused(
    trained: tuple[Any, Run], dtype: torch.dtype
) -> None:
    model = load_model(trained[1])
    with pytest.raises(TypeError, match=r"image inputs of torch.uint8, as they are stored"):
        model(model.example().to(dtype))


def test_a_run_is_found_by_name_or_folder(trained: tuple[Any, Run]) -> None:
    lab, run = trained
    inputs = load_model(run).example()
    expected = load_model(run)(inputs)
    for name in ("tiny/seed=3", str(run.folder), run.plan.key):
        assert torch.equal(load_model(name, project=lab.root)(inputs), expected)
    with pytest.raises(UsageError, match="no run 'tinny'"):
        load_model("tinny", project=lab.root)


def test_one_of_several_runs_must_be_named(trained: tuple[Any, Run]) -> None:
    lab, _ = trained
    lab.train_here("tiny", "seeds=[4]", *SHORT)
    with pytest.raises(UsageError, match="'tiny' means 2 runs") as caught:
        load_model("tiny", project=lab.root)
    assert "seed=3" in str(caught.value) and "seed=4" in str(caught.value)


def test_runs_of_one_name_are_told_apart_by_key(trained: tuple[Any, Run]) -> None:
    lab, run = trained
    copy = run.folder.parent.parent / "other" / run.folder.name
    shutil.copytree(run.folder, copy)
    plan = json.loads((copy / "plan.json").read_text())
    plan["key"] = "0123456789abcdef"
    (copy / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(UsageError, match="means 2 runs") as caught:
        load_model("tiny/seed=3", project=lab.root)
    assert repr(run.plan.key) in caught.value.hint and repr(plan["key"]) in caught.value.hint
    assert load_model(run.plan.key, project=lab.root)


def test_weights_that_are_damaged_are_said(trained: tuple[Any, Run]) -> None:
    _, run = trained
    run.weights_path.write_bytes(run.weights_path.read_bytes()[:500])
    with pytest.raises(RunError, match="weights cannot be read") as caught:
        load_model(run)
    assert caught.value.where == str(run.weights_path)


def test_a_run_without_weights_says_so(trained: tuple[Any, Run]) -> None:
    _, run = trained
    run.weights_path.unlink()
    with pytest.raises(RunError, match="has no weights"):
        load_model(run)


def test_its_code_is_that_of_the_run(trained: tuple[Any, Run]) -> None:
    """Whatever became of the plugin since; and two runs of other code in one process."""
    _, run = trained
    stem = run.source_path / "ctd_vit" / "model.py"
    stem.write_text(stem.read_text(encoding="utf-8") + "\nMARK = 7\n", encoding="utf-8")
    model = load_model(run).model
    assert model.forward.__globals__.get("MARK") == 7


def test_safetensors_hold_the_weights_and_what_they_are(
    trained: tuple[Any, Run], tmp_path: Path
) -> None:
    from safetensors import safe_open

    _, run = trained
    model = load_model(run)
    path = tmp_path / "new" / "x.safetensors"
    export(run, model, path)
    with safe_open(path, "pt") as file:
        facts = file.metadata()
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert json.loads(facts["labctl.plan"])["key"] == run.plan.key == facts["labctl.key"]
    assert json.loads(facts["labctl.inputs"])["mean"] == list(model.spec.mean)
    expected = model.model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_onnx_computes_the_same_for_any_number_of_images(
    trained: tuple[Any, Run], tmp_path: Path
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    _, run = trained
    model = load_model(run)
    path = tmp_path / "x.onnx"
    export(run, model, path)
    session = runtime.InferenceSession(str(path))
    draws = torch.Generator().manual_seed(0)
    for size in (1, 2, 7):
        images = torch.randint(
            0, 256, (size, *model.spec.shape), dtype=torch.uint8, generator=draws
        )
        (logits,) = session.run(None, {"inputs": images.numpy()})
        torch.testing.assert_close(torch.tensor(logits), model(images), rtol=1e-4, atol=1e-5)
    assert session.get_modelmeta().custom_metadata_map["labctl.key"] == run.plan.key


def test_a_number_of_images_that_onnx_would_hold_to_is_an_error(
    trained: tuple[Any, Run], tmp_path: Path
) -> None:
    class Counting(torch.nn.Module):
        def forward(self, inputs: Tensor, knobs: Any) -> Tensor:
            return inputs.reshape(len(inputs), -1)

    _, run = trained
    model = load_model(run)
    model.model = Counting()
    with pytest.raises(RunError, match="they become 2") as caught:
        export(run, model, tmp_path / "x.onnx")
    assert "inputs.shape[0]" in str(caught.value) and not (tmp_path / "x.onnx").exists()


def test_what_onnx_cannot_say_is_an_error(trained: tuple[Any, Run], tmp_path: Path) -> None:
    class Odd(torch.nn.Module):
        def forward(self, inputs: Tensor, knobs: Any) -> Tensor:
            return inputs.flatten(1) if inputs.sum().item() > 0 else inputs.flatten(1) + 1

    _, run = trained
    model = load_model(run)
    model.model = Odd()
    with pytest.raises(RunError, match="ctd_vit cannot be written as ONNX") as caught:
        export(run, model, tmp_path / "x.onnx")
    assert "safetensors" in str(caught.value) and not (tmp_path / "x.onnx").exists()


def test_another_format_is_refused(trained: tuple[Any, Run], tmp_path: Path) -> None:
    _, run = trained
    with pytest.raises(UsageError, match=r"no format for 'x.h5'") as caught:
        export(run, load_model(run), tmp_path / "x.h5")
    assert ".safetensors or .onnx" in str(caught.value)


def test_the_verb_writes_the_file(
    trained: tuple[Any, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, _ = trained
    code, output = lab.labctl("export", "tiny/seed=3", "-o", str(tmp_path / "x.safetensors"))
    assert code == 0 and output.startswith("wrote ") and "MiB" in output, output
    code, output = lab.labctl("export", "tiny/seed=9", "-o", "x.safetensors")
    assert code == 2 and "no run 'tiny/seed=9'" in output


def test_importing_labctl_loads_no_torch() -> None:
    import subprocess
    import sys

    program = "import sys, labctl; labctl.__version__; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
    with pytest.raises(AttributeError, match="no attribute 'lod_model'"):
        labctl.lod_model  # noqa: B018
