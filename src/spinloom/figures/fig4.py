"""Fig. 4: discriminator-driven latent sampling on its way, and where the discriminator sees the fake.

a: one texture of the hybrid, or of a single run, while its code climbs the discriminator's logit, nodal points circled,
the place with most of them in the red square. b: that square magnified. c: Grad-CAM: where the discriminator sees a
fake; d: the same by HiResCAM, which keeps the place that Grad-CAM averages away. The path is computed from the finished
run and kept beside the figure.
"""

from __future__ import annotations

from dataclasses import replace

from spinloom.draw import Figure
from spinloom.driven_charts import path_figure
from spinloom.explain import DrivenPaths, nodal_box, watch_paths
from spinloom.figures.folder import Folder, label
from spinloom.figures.settings import Fig4
from spinloom.gradcam import Method, fake_map
from spinloom.rows import display_name
from spinloom.sample import CHUNK, DDLS, decoded

METHODS: dict[str, Method] = {"Grad-CAM": "grad-cam", "HiResCAM": "hirescam"}

ASKED = ("steps", "step_size")
"""What can be asked of the rule."""


def draw(folder: Folder, given: Fig4) -> tuple[Figure, str]:
    """The figure and its caption."""
    run = folder.model
    settings = rule_of(given, DDLS(**folder.results["config"]["ddls"]))
    asked = {name: getattr(given, name) for name in ASKED}
    keep = folder.kept("-".join(["path", str(given.seed), *(f"{key}{value}" for key, value in asked.items() if value)]))
    score, latent = run.discriminator, run.networks.latent
    paths = watch_paths(
        run.decode, score, folder.hamiltonian, latent, settings, CHUNK, given.seed, keep, label(run), show=folder.show
    )
    story = decoded(run.decode, paths.codes[:, paths.shown])
    maps = {name: fake_map(score, story, method=method) for name, method in METHODS.items()}
    return path_figure(paths, story, maps, nodal_box(story[0])), caption(paths, display_name(run.objective))


def rule_of(given: Fig4, own: DDLS) -> DDLS:
    """How codes are driven: ``own``, but for what is given.

    Raises:
        BadInput: they cannot be.
    """
    return replace(own, **{name: getattr(given, name) for name in ASKED if getattr(given, name) is not None})


def caption(paths: DrivenPaths, name: str) -> str:
    points = paths.nodal_points.double().mean(1)
    rule, size = paths.settings.rule, paths.settings.step_size
    return f"""The paper’s Fig. 4: discriminator-driven latent sampling ({rule}, α = {size:g}) of the {name}.
    (a) The texture before and after so many steps, nodal points circled; below, ε in J, the logit, and the nodal
    points. It is the first of {paths.nodal_points.shape[1]} codes with at least as many nodal points as half of those
    that have any; over all of these codes the mean goes from {points[0]:.2f} to {points[-1]:.2f}. (b) The red square
    magnified. (c) Grad-CAM of the fake class and (d) HiResCAM, in units of the logit, each on one scale for all
    steps; blue circles are the nodal points."""
