"""Fig. 6: the networks, layer by layer, as the folder's runs have them.

a: the pre-activation residual block. b–d: generator, discriminator and encoder. The networks are built from the run's
own config and run once; every shape and number of parameters in the figure is read off the modules as they run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spinloom.draw import PAGE, Figure
from spinloom.figures.folder import Folder
from spinloom.figures.sheet import INK, PLAYERS, Sheet
from spinloom.networks import NetworkConfig, PeriodicConv2d, ResBlock
from spinloom.run import Run, build_networks

NETWORKS = {"generator": "G", "discriminator": "D", "encoder": "E"}
"""The networks in the paper's order (b, c, d), each with its letter."""


@dataclass(frozen=True)
class Layer:
    """One line of a network.

    Attributes:
        words: what it does.
        shape: of what comes out, without the batch: (channels, H, W), (numbers,), or () for a single number.
        parameters: that are learnt in it.
        kind: what it is drawn as: "block", "convolution", "dense", or "plain" for what has nothing to learn.
    """

    words: str
    shape: tuple[int, ...]
    parameters: int = 0
    kind: str = "plain"


def network_layers(config: NetworkConfig) -> dict[str, list[Layer]]:
    """The layers of generator, discriminator and encoder, from modules that are built and run once."""
    nets = build_networks(config, tuple(NETWORKS), seed=0)
    height, width = config.size
    spins = torch.nn.functional.normalize(torch.randn(1, 3, height, width), dim=1)
    return {
        "generator": _generator(nets["generator"].eval(), torch.randn(1, config.latent), config),
        "discriminator": _judge(nets["discriminator"].eval(), spins),
        "encoder": _judge(nets["encoder"].eval(), spins),
    }


def _generator(net: nn.Module, z: Tensor, config: NetworkConfig) -> list[Layer]:
    seen, spins = _watched(net, z)
    layers = [Layer("code z ~ N(0, 1)", _shape(z))]
    first, blocks = _part(net, "first"), _part(net, "blocks")
    if isinstance(first, PeriodicConv2d):
        layers.append(Layer("reshape to a grid", seen[first][0]))
    layers.append(_layer(first, seen))
    if isinstance(first, nn.Linear):
        layers.append(Layer("reshape", seen[_children(blocks)[0]][0]))
    layers += [_layer(block, seen) for block in _children(blocks)]
    norm, last = _part(net, "norm"), _part(net, "last")
    layers += [_active(norm, seen[norm][1]), _layer(last, seen)]
    if config.head > 1:
        layers.append(Layer(f"B-spline up {config.head} × {config.head}", _shape(spins)))
    return [*layers, Layer("normalise: spins", _shape(spins))]


def _judge(net: nn.Module, spins: Tensor) -> list[Layer]:
    """The layers of a discriminator or an encoder, which differ in their ends."""
    seen, outcome = _watched(net, spins)
    blocks, last = _part(net, "blocks"), _part(net, "last")
    layers = [Layer("spins", _shape(spins)), *(_layer(block, seen) for block in _children(blocks))]
    norm = getattr(net, "norm", None)
    layers.append(_active(norm, seen[norm][1]) if norm is not None else Layer("LReLU", seen[blocks][1]))
    if isinstance(last, nn.Linear):
        layers.append(Layer("flatten", seen[last][0]))
    layers.append(_layer(last, seen))
    if isinstance(outcome, Tensor):
        return [*layers, Layer("logit", _shape(outcome))]
    whitening = getattr(net, "whitening", None)
    if whitening is not None:
        layers.append(Layer("whiten the means", seen[whitening][1], _count(whitening)))
    mu, logvar = outcome
    assert mu.shape == logvar.shape
    return [*layers, Layer("μ, log σ²: each", _shape(mu))]


def _watched(net: nn.Module, given: Tensor) -> tuple[dict[nn.Module, tuple[tuple[int, ...], tuple[int, ...]]], Any]:
    """Of every module the shapes of what went in and came out, and what the network gives."""
    seen: dict[nn.Module, tuple[tuple[int, ...], tuple[int, ...]]] = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        if inputs:  # a spectral norm's parametrization takes none
            seen[module] = (_shape(inputs[0]), _shape(output) if isinstance(output, Tensor) else ())

    handles = [module.register_forward_hook(note) for module in net.modules() if module is not net]
    try:
        with torch.no_grad():
            return seen, net(given)
    finally:
        for handle in handles:
            handle.remove()


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape[1:])


def _part(net: nn.Module, name: str) -> nn.Module:
    return net.get_submodule(name)


def _children(module: nn.Module) -> list[nn.Module]:
    return list(module.children())


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _active(norm: nn.Module, shape: tuple[int, ...]) -> Layer:
    return Layer("BN, LReLU", shape, _count(norm))


def _layer(module: nn.Module, seen: Mapping[nn.Module, tuple[tuple[int, ...], tuple[int, ...]]]) -> Layer:
    if isinstance(module, ResBlock):
        words, kind = "ResBlock" + (", up 2 × 2" if module.up else ""), "block"
    elif isinstance(module, nn.Conv2d):
        down, across = module.kernel_size
        stride = f", stride {module.stride[0]}" if module.stride[0] > 1 else ""
        words, kind = f"conv {down} × {across}{stride}", "convolution"
    else:
        words, kind = "dense", "dense"
    return Layer(words, seen[module][1], _count(module), kind)


# drawing


def draw(folder: Folder, given: None = None) -> tuple[Figure, str]:
    """The figure and its caption."""
    config = folder.model.networks
    layers = network_layers(config)
    row, head, foot = 0.235, 0.42, 0.06
    longest = max(map(len, layers.values()))
    schema = 1.5
    height = head + row * longest + foot
    sheet = Sheet(PAGE, max(height, 3.9))
    left, gap = schema + 0.2, 0.1
    wide = (PAGE - left - 0.04 - 2 * gap) / 3
    for number, (letter, (name, symbol)) in enumerate(zip("bcd", NETWORKS.items(), strict=True)):
        x = left + number * (wide + gap)
        total = sum(layer.parameters for layer in layers[name])
        sheet.letter(letter, x, sheet.height - 0.03)
        fill, edge = PLAYERS[symbol]
        title = f"{name} {symbol}"
        sheet.words(title, x + 0.15, sheet.height - 0.1, fontsize=9, fontweight="bold", color=edge, ha="left")
        words = f"{total:,} parameters".replace(",", "\u202f")
        sheet.words(words, x + 0.15, sheet.height - 0.26, ha="left", color="0.35")
        column(sheet, layers[name], x, sheet.height - head, wide, row, (fill, edge))
    sheet.letter("a", 0.04, sheet.height - 0.03)
    sheet.words("residual block", 0.19, sheet.height - 0.1, fontsize=9, fontweight="bold", ha="left")
    block(sheet, 0.06, sheet.height - head, config)
    return sheet.figure, caption(config, folder.single)


def column(
    sheet: Sheet, layers: Sequence[Layer], left: float, top: float, wide: float, row: float, colours: tuple[str, str]
) -> None:
    """A network from top to bottom: a box a layer, beside it the shape of what comes out."""
    fill, edge = colours
    oblong = any(len(layer.shape) == 3 and layer.shape[1] != layer.shape[2] for layer in layers)
    boxes, size = (0.62 * wide, 6.2) if oblong else (0.66 * wide, 6.8)
    for number, layer in enumerate(layers):
        y = top - (number + 0.5) * row
        looks = {"block": (fill, edge), "convolution": ("white", edge), "dense": ("white", edge)}
        box_fill, box_edge = looks.get(layer.kind, ("#f2f2f2", "0.6"))
        sheet.box(left + boxes / 2, y, boxes, row - 0.065, box_fill, box_edge)
        sheet.words(layer.words, left + boxes / 2, y - 0.005, fontsize=6.8)
        sheet.words(shape_words(layer.shape), left + boxes + 0.05, y - 0.005, ha="left", fontsize=size)
        if number:
            sheet.plain.plot([left + boxes / 2] * 2, [y + row / 2 - 0.033, y + row / 2 + 0.033], color=INK, lw=0.8)


def shape_words(shape: tuple[int, ...]) -> str:
    """(128, 4, 4) as 128 × 4², (16, 4, 5) as 16×4×5, () as 1."""
    if len(shape) == 3 and shape[1] == shape[2]:
        return f"{shape[0]} × {shape[1]}²"
    return "×".join(map(str, shape)) or "1"


def block(sheet: Sheet, left: float, top: float, config: NetworkConfig) -> None:
    """The residual block, from the top down, its skip on the right."""
    x, skip, across, beside = left + 0.38, left + 1.14, 0.72, 0.64
    lines = ["BN*", "LReLU", "conv 3 × 3", "BN*", "LReLU", "up 2 × 2†", "conv 3 × 3"]
    step, begin, first = 0.29, top - 0.14, top - 0.4
    sheet.words("x", x, top - 0.03, fontsize=8, fontstyle="italic")
    sheet.arrow((x, top - 0.1), (x, first + 0.1))
    for number, words in enumerate(lines):
        y = first - number * step
        _small(sheet, words, x, y, across)
        sheet.arrow((x, y - 0.1), (x, y - step + 0.1))
    plus = first - len(lines) * step
    sheet.words("+", x, plus - 0.003, fontsize=9, fontweight="bold", bbox=_CIRCLE)
    sheet.arrow((x, plus - 0.1), (x, plus - 0.3))
    sheet.plain.plot([x, skip, skip], [begin, begin, plus], color=INK, lw=0.9, zorder=0.5)
    sheet.arrow((skip, plus), (x + 0.1, plus))
    _small(sheet, "conv 1 × 1‡", skip, first - 2 * step, beside)
    _small(sheet, "up 2 × 2†", skip, first - 5 * step, beside)
    notes = f"* not in D\n† in G alone\n‡ where the widths differ\nLReLU: slope {config.slope:g}"
    sheet.words(notes, left, plus - 0.36, ha="left", va="top", color="0.35", linespacing=1.3)


def _small(sheet: Sheet, words: str, x: float, y: float, wide: float) -> None:
    fill, edge = ("white", INK) if words.startswith("conv") else ("#f2f2f2", "0.6")
    sheet.box(x, y, wide, 0.19, fill, edge)
    sheet.words(words, x, y - 0.005, fontsize=6.8)


_CIRCLE: dict[str, Any] = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": INK, "linewidth": 0.9}


def caption(config: NetworkConfig, single: Run | None) -> str:
    height, width = config.size
    whose = "run" if single else "folder"
    absent = [name for name in NETWORKS if single and name not in single.nets]
    told = f" This run has no {absent[0]}: it is as its settings would have it." if absent else ""
    return f"""The paper’s Fig. 6 for the networks of this {whose}, on {height} × {width} sites with a code of
    n = {config.latent} numbers. (a) The pre-activation residual block; the discriminator’s has no batch normalisation
    (BN). (b) Generator, (c) discriminator, (d) encoder; beside every layer stands the shape of what comes out,
    channels × rows × columns (4²: 4 × 4), as read off the running modules. All convolutions are padded periodically;
    all layers of the discriminator are normalised spectrally. LReLU: leaky ReLU of slope {config.slope:g}.{told}"""
