"""FLOPs counted against closed forms, explicit products and torch's own counter."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from labctl.errors import PluginError
from labctl.measure.flops import count
from labctl.measure.formula import register_formula

devices = pytest.mark.parametrize("device", ["cpu", "meta"])


def leaf(*shape: int, device: str) -> Tensor:
    return torch.zeros(shape, device=device, requires_grad=True)


def explicit(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    return scores.softmax(-1) @ v


ATTENTIONS = [
    pytest.param((2, 3, 7, 8), (2, 3, 7, 8), (2, 3, 7, 8), {}, id="self"),
    pytest.param((2, 3, 7, 8), (2, 3, 5, 8), (2, 3, 5, 8), {}, id="cross"),
    pytest.param((2, 3, 7, 8), (2, 3, 5, 8), (2, 3, 5, 6), {}, id="narrow values"),
    pytest.param((2, 3, 7, 8), (2, 3, 7, 8), (2, 3, 7, 8), {"is_causal": True}, id="causal"),
    pytest.param((2, 4, 7, 8), (2, 1, 7, 8), (2, 1, 7, 8), {"enable_gqa": True}, id="shared keys"),
]


@devices
@pytest.mark.parametrize(("q", "k", "v", "options"), ATTENTIONS)
def test_fused_attention_costs_what_explicit_attention_costs(
    device: str, q: Any, k: Any, v: Any, options: Any
) -> None:
    leaves = leaf(*q, device=device), leaf(*k, device=device), leaf(*v, device=device)
    (b, h, n, d), m, e = q, k[2], v[3]
    forward = 2 * b * h * n * m * (d + e)

    def fused() -> Tensor:
        return F.scaled_dot_product_attention(*leaves, **options)

    assert count(lambda: explicit(*leaves)).flops == forward
    assert count(fused).flops == forward
    assert count(lambda: explicit(*leaves).sum().backward()).flops == 3 * forward
    trained = count(lambda: fused().sum().backward())
    assert trained.flops == 3 * forward
    assert trained.uncounted == {}


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("backend", "kernel"),
    [
        (SDPBackend.FLASH_ATTENTION, "flash_attention"),
        (SDPBackend.EFFICIENT_ATTENTION, "efficient_attention"),
        (SDPBackend.CUDNN_ATTENTION, "cudnn_attention"),
    ],
)
def test_every_kernel_on_the_gpu_costs_the_same(backend: SDPBackend, kernel: str) -> None:
    q, k = (
        torch.zeros(2, 3, n, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        for n in (128, 64)
    )

    def work() -> None:
        with sdpa_kernel(backend):
            F.scaled_dot_product_attention(q, k, k).sum().backward()

    forward = 2 * 2 * 3 * 128 * 64 * 2 * 64
    counted = count(work)
    assert counted.by_operator == {
        f"aten._scaled_dot_product_{kernel}": forward,
        f"aten._scaled_dot_product_{kernel}_backward": 2 * forward,
    }
    assert counted.uncounted == {}


def test_attention_on_the_cpu_is_the_fused_operator() -> None:
    """Otherwise the tests above would compare explicit attention with itself."""
    q = leaf(2, 3, 7, 8, device="cpu")
    counted = count(lambda: F.scaled_dot_product_attention(q, q, q).sum().backward())
    assert set(counted.by_operator) == {
        "aten._scaled_dot_product_flash_attention_for_cpu",
        "aten._scaled_dot_product_flash_attention_for_cpu_backward",
    }


@devices
@pytest.mark.parametrize("fused", [False, True])
def test_vision_transformer_has_its_known_figures(
    build_vit: Callable[..., nn.Module], device: str, fused: bool
) -> None:
    model = build_vit(fused=fused).to(device)
    images = torch.zeros(2, 3, 32, 32, device=device)
    assert sum(p.numel() for p in model.parameters()) == 4_766_474

    forward = count(lambda: model(images, {}))
    assert forward.flops == 2 * 640_953_344
    assert forward.uncounted == {}

    # Nothing asks for the gradient of the images, which the patch convolution would give:
    # 64 positions x 256 channels x 3 x 4 x 4 weights each.
    unneeded = 2 * 2 * 64 * 256 * 48
    train = count(lambda: model(images, {}).sum().backward())
    assert train.flops == 3 * forward.flops - unneeded
    assert train.uncounted == {}


def test_formulas_agree_with_torch_where_torch_has_them() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 6, 4, stride=2),
        nn.Flatten(),
        nn.Linear(6 * 10 * 10, 5),
    )
    images = torch.zeros(2, 3, 8, 8, requires_grad=True)

    def work() -> None:
        model(images).sum().backward()

    with FlopCounterMode(display=False) as counter:
        work()
    assert count(work).flops == counter.get_total_flops() > 0


@devices
@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_grouped_convolution_costs_three_times_its_forward_pass(
    device: str, groups: int, dims: int
) -> None:
    layers = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
    layer = layers[dims](8, 16, 3, stride=2, groups=groups, device=device)
    x = leaf(2, 8, *(9,) * dims, device=device)
    forward = 2 * 2 * 4**dims * 16 * (8 // groups) * 3**dims
    assert count(lambda: layer(x)).flops == forward
    assert count(lambda: layer(x).sum().backward()).flops == 3 * forward
    assert count(lambda: layer(x.detach()).sum().backward()).flops == 2 * forward


@pytest.mark.parametrize("groups", [1, 4])
def test_transposed_convolution_counts_input_positions(groups: int) -> None:
    layer = nn.ConvTranspose2d(8, 12, 4, stride=4, groups=groups)
    x = leaf(2, 8, 5, 5, device="cpu")
    forward = 2 * 2 * 25 * 8 * (12 // groups) * 16
    assert count(lambda: layer(x)).flops == forward
    assert count(lambda: layer(x).sum().backward()).flops == 3 * forward


@devices
def test_products_with_vectors_count_as_matrix_products(device: str) -> None:
    matrix, vector = torch.zeros(5, 7, device=device), torch.zeros(7, device=device)
    batch = torch.zeros(3, 5, 7, device=device)
    cases: list[tuple[Callable[[], object], Callable[[], object]]] = [
        (lambda: matrix @ vector, lambda: matrix @ vector[:, None]),
        (lambda: batch @ vector, lambda: batch @ vector[:, None]),
        (lambda: vector @ vector, lambda: vector[None] @ vector[:, None]),
        (lambda: torch.vdot(vector, vector), lambda: vector[None] @ vector[:, None]),
        (
            lambda: torch.addmv(torch.zeros(5, device=device), matrix, vector),
            lambda: matrix @ vector[:, None],
        ),
        (
            lambda: torch.addbmm(torch.zeros(5, 5, device=device), batch, batch.mT),
            lambda: batch @ batch.mT,
        ),
    ]
    for with_vector, with_matrix in cases:
        assert count(with_vector).flops == count(with_matrix).flops > 0
        assert count(with_vector).uncounted == {}


def test_lstm_is_counted_on_meta_and_named_where_one_kernel_hides_it() -> None:
    batch, steps, width, hidden = 2, 5, 8, 16

    def lstm(device: str) -> Callable[[], object]:
        layer = nn.LSTM(width, hidden, batch_first=True, device=device)
        x = torch.zeros(batch, steps, width, device=device)
        return lambda: layer(x)[0]

    on_meta = count(lstm("meta"))
    assert on_meta.flops == 2 * batch * steps * 4 * hidden * (width + hidden)
    assert on_meta.uncounted == {}
    if torch.backends.mkldnn.is_available():
        on_cpu = count(lstm("cpu"))
        assert on_cpu.flops == 0
        assert on_cpu.uncounted == {"aten.mkldnn_rnn_layer": 1}


@devices
def test_fourier_transforms_are_named(device: str) -> None:
    x = leaf(4, 16, device=device)
    counted = count(lambda: torch.fft.irfft(torch.fft.rfft(x)).sum().backward())
    assert counted.flops == 0
    # two forward, and two in their gradients: r2c of irfft, c2c of rfft
    assert counted.uncounted == {"aten._fft_r2c": 2, "aten._fft_c2r": 1, "aten._fft_c2c": 1}


@devices
@pytest.mark.parametrize(
    ("work", "name"),
    [
        (torch.linalg.eigh, "aten._linalg_eigh"),
        (torch.linalg.inv, "aten.linalg_inv_ex"),
        (torch.linalg.qr, "aten.linalg_qr"),
        (torch.matrix_exp, "aten.linalg_matrix_exp"),
        (lambda x: torch.cdist(x, x, p=1), "aten._cdist_forward"),
    ],
)
def test_linear_algebra_is_named(device: str, work: Callable[[Tensor], object], name: str) -> None:
    assert count(lambda: work(torch.eye(4, device=device))).uncounted == {name: 1}


@torch.library.custom_op("labctl_flops_test::double", mutates_args=())
def double(x: Tensor) -> Tensor:
    return x * 2


@torch.library.custom_op("labctl_flops_test::gram", mutates_args=())
def gram(x: Tensor) -> Tensor:
    return x @ x.mT


@gram.register_fake
def _(x: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], x.shape[-2])


def gram_flops(x: Any, **_: Any) -> int:
    batch, n, d = x
    return int(2 * batch * n * n * d)


def other_flops(x: Any, **_: Any) -> int:
    return 0


def test_an_operator_of_a_plugin_is_named_until_it_has_a_formula() -> None:
    x = torch.zeros(3, 4, 5)
    assert count(lambda: double(x)).uncounted == {"labctl_flops_test.double": 1}

    assert count(lambda: gram(x)).uncounted == {"labctl_flops_test.gram": 1}
    register_formula(torch.ops.labctl_flops_test.gram, gram_flops)
    for device in ("cpu", "meta"):
        counted = count(lambda: gram(x.to(device)))  # noqa: B023 - called at once
        assert counted.by_operator == {"labctl_flops_test.gram": 2 * 3 * 4 * 4 * 5}
        assert counted.uncounted == {}


def test_an_operator_has_one_formula() -> None:
    operator = torch.ops.labctl_flops_test.double
    register_formula(operator, other_flops)
    register_formula(operator, other_flops)
    with pytest.raises(PluginError, match=r"double already has a FLOP formula: .*other_flops"):
        register_formula(operator, gram_flops)
    with pytest.raises(PluginError, match=r"aten\.mv"):
        register_formula(torch.ops.aten.mv, gram_flops)


@devices
def test_what_training_usually_runs_leaves_nothing_uncounted(device: str) -> None:
    class Everything(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(11, 8)
            self.conv = nn.Conv2d(1, 8, 3, padding=1)
            self.norms = nn.Sequential(nn.BatchNorm2d(8), nn.GroupNorm(2, 8), nn.InstanceNorm2d(8))
            self.rest = nn.Sequential(
                nn.Dropout(0.1), nn.Linear(8, 8), nn.LayerNorm(8), nn.RMSNorm(8), nn.PReLU()
            )

        def forward(self, tokens: Tensor) -> Tensor:
            x: Tensor = self.conv(self.embedding(tokens)[:, None])
            x = F.silu(F.mish(self.norms(x)))
            x = F.avg_pool2d(F.max_pool2d(x, 2), 2)
            x = F.interpolate(x, scale_factor=2, mode="bilinear") + F.interpolate(x, scale_factor=2)
            x = F.grid_sample(x, torch.zeros(2, 6, 6, 2, device=x.device), align_corners=False)
            x = F.pad(x, (1, 1, 1, 1), mode="reflect").roll(1, 2).flip(3)
            x = F.adaptive_avg_pool2d(x, 1).flatten(1) + x.amax((2, 3)) + x.std((2, 3))
            x = self.rest(F.glu(torch.cat([x, x], 1)) + F.elu(x) + F.hardswish(x) + F.softplus(x))
            kept = x.gather(1, x.topk(4).indices) * x.sort(1).values[:, :4].cumsum(1)
            x = torch.where(x > 0, x, x.softmax(1)) + kept.repeat(1, 2).logsumexp(1, keepdim=True)
            x = x.scatter_add(1, x.argmax(1, keepdim=True), x[:, :1]).masked_fill(x > 9, 0.0)
            return x

    model = Everything().to(device)
    tokens = torch.zeros(2, 8, dtype=torch.long, device=device)
    targets = torch.zeros(2, dtype=torch.long, device=device)
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(model.parameters(), fused=device == "cpu"),
        torch.optim.AdamW(model.parameters(), foreach=True),
        torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True),
        torch.optim.RMSprop(model.parameters()),
    ]

    def step() -> None:
        logits = model(tokens)
        loss = F.cross_entropy(logits, targets, label_smoothing=0.1)
        loss = loss + F.mse_loss(logits, logits.detach())
        loss = loss + F.kl_div(logits, logits, reduction="batchmean", log_target=True)
        loss = loss + F.binary_cross_entropy_with_logits(logits, logits.sigmoid())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    counted = count(step)
    assert counted.uncounted == {}
    assert set(counted.by_operator) == {
        "aten.convolution",
        "aten.convolution_backward",
        "aten.addmm",
        "aten.mm",
    }


@devices
def test_inference_mode_hides_nothing(device: str) -> None:
    layer, x = nn.Linear(8, 8, device=device), torch.zeros(2, 3, 8, device=device)

    def inferred() -> None:
        with torch.inference_mode():
            F.scaled_dot_product_attention(layer(x), x, x)
            torch.fft.fft(x)

    counted = count(inferred)
    assert counted.flops == 2 * 6 * 64 + 2 * 2 * 3 * 3 * 16
    assert counted.uncounted == {"aten._fft_r2c": 1}


@devices
def test_recomputation_is_counted(device: str) -> None:
    layer, x = nn.Linear(8, 8, device=device), leaf(4, 8, device=device)
    forward = 2 * 4 * 8 * 8
    plain = count(lambda: layer(x).sum().backward())
    again = count(lambda: checkpoint(layer, x, use_reentrant=True).sum().backward())
    assert (plain.flops, again.flops) == (3 * forward, 4 * forward)


def test_vectorised_gradients_are_counted() -> None:
    layer, x = nn.Linear(8, 6), torch.zeros(5, 8)
    weights: dict[str, Tensor] = dict(layer.named_parameters())

    def loss(weights: dict[str, Tensor], example: Tensor) -> Tensor:
        outputs: Tensor = torch.func.functional_call(layer, weights, (example,))
        return outputs.square().sum()

    counted = count(lambda: torch.func.vmap(torch.func.grad(loss), (None, 0))(weights, x))
    assert counted.flops == 2 * 5 * 2 * 8 * 6  # forward, and an outer product for each example
    assert counted.uncounted == {}


def test_transformer_layers_show_their_products_in_evaluation() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    x = torch.zeros(2, 5, 8)
    linear, attention = 2 * 10 * (3 * 64 + 64 + 2 * 128), 2 * 2 * 5 * 5 * 16

    @torch.no_grad()
    def evaluate() -> None:
        layer(x)

    counted = count(evaluate)
    assert counted.flops == linear + attention
    assert counted.uncounted == {}
    assert torch.backends.mha.get_fastpath_enabled()


def test_control_flow_operators_run_and_are_named() -> None:
    from torch._higher_order_ops import while_loop

    results: list[Tensor] = []

    def work() -> None:
        matrix = torch.full((2, 2), 0.5)
        _, x = while_loop(
            lambda i, x: i < 3, lambda i, x: (i + 1, x @ matrix), (torch.tensor(0), torch.eye(2))
        )
        results.append(x)

    assert count(work).uncounted == {"while_loop": 1}
    assert torch.equal(results[0], torch.full((2, 2), 0.5))


def test_errors_of_the_work_arrive_and_leave_no_trace() -> None:
    with pytest.raises(ZeroDivisionError):
        count(lambda: 1 / 0)
    assert torch.backends.mha.get_fastpath_enabled()
    assert count(lambda: torch.zeros(2, 3) @ torch.zeros(3, 4)).flops == 2 * 2 * 3 * 4
