"""What can be chosen about the figures."""

from __future__ import annotations

from dataclasses import dataclass, field

from spinloom.errors import BadInput, whole


def _counts(figure: str, settings: object, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if value is not None and whole(f"{figure}.{name}", value) < 0:
            raise BadInput(f"{figure}.{name}={value}: must not be negative; use e.g. 0")


@dataclass(frozen=True)
class Fig1:
    """What is shown.

    Attributes:
        texture: which of the test data is shown.
        code: which of the prior's codes is driven.
    """

    texture: int = 0
    code: int = 0

    def __post_init__(self) -> None:
        _counts("fig1", self, "texture", "code")


@dataclass(frozen=True)
class Fig3:
    """What is shown.

    Attributes:
        resolution: pixels a side of the maps.
        axes: two axes of latent space, from 0.
        seed: of the draw that fixes the other axes.
    """

    resolution: int = 256
    axes: tuple[int, int] = (0, 1)
    seed: int = 0

    def __post_init__(self) -> None:
        _counts("fig3", self, "resolution", "seed")


@dataclass(frozen=True)
class Fig4:
    """What is shown.

    Attributes:
        seed: of the codes that are watched.
        steps: in which they are driven; the folder's own unless given, 100 of a single run.
        step_size: of these; the folder's own unless given, 0.1 of a single run.
    """

    seed: int = 0
    steps: int | None = None
    step_size: float | int | None = None

    def __post_init__(self) -> None:
        _counts("fig4", self, "seed", "steps")


@dataclass(frozen=True)
class Fig5:
    """What is searched and shown. From codes that gradients have brought far off, the searches for M_z may end at a
    uniform texture: the default is none of these, the paper's way.

    Attributes:
        resolution: pixels a side of the plane's map.
        images: textures along a line.
        population: of a search; the package's own unless given.
        generations: of a search; the package's own unless given.
        head_start: gradient steps first.
        inner_relax: sweeps before a texture is judged; the package's own unless given.
        relax: sweeps of the answer; the package's own unless given.
        seed: of the first search; the others have the next two.
    """

    resolution: int = 96
    images: int = 33
    population: int | None = None
    generations: int | None = None
    head_start: int = 0
    inner_relax: int | None = None
    relax: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        searches = ("population", "generations", "head_start", "inner_relax", "relax")
        _counts("fig5", self, "resolution", "images", *searches, "seed")


@dataclass(frozen=True)
class FigureSettings:
    """The settings of the figures that have any.

    Attributes:
        fig1: the workflows.
        fig3: the planes through latent space.
        fig4: the driven path.
        fig5: the searches and the ways between what they find.
    """

    fig1: Fig1 = field(default_factory=Fig1)
    fig3: Fig3 = field(default_factory=Fig3)
    fig4: Fig4 = field(default_factory=Fig4)
    fig5: Fig5 = field(default_factory=Fig5)
