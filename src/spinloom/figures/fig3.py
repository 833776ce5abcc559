"""Fig. 3: a plane through the latent spaces of VAE, GAN and hybrid, or of a single run: energy, logit, what lies there.

a: ε of what the codes decode to, along two axes of latent space. b: the discriminators' logits. c: textures at k and m
in two neighbouring domains and at l on the wall between them, what changes circled; d: that place magnified. The maps
are computed from the finished runs and kept beside the figure; a call that is stopped goes on.
"""

from __future__ import annotations

from collections.abc import Sequence

from spinloom.domains import DEEP, find_crossing, find_domains
from spinloom.draw import Figure
from spinloom.figures.folder import Folder, label
from spinloom.figures.settings import Fig3
from spinloom.latent import Plane, latent_map
from spinloom.map_charts import MapPanel, map_figure
from spinloom.rows import display_name

SPAN = (-2, 2)
"""Of either coordinate."""


def draw(folder: Folder, given: Fig3) -> tuple[Figure, str]:
    """The figure and its caption."""
    panels = []
    plane = None
    for objective in folder.objectives:
        run = folder.run(objective)
        decode, H = run.decode, folder.hamiltonian
        score = run.discriminator if "discriminator" in run.nets else None
        plane = Plane.along(run.networks.latent, given.axes, given.seed)
        keep = folder.kept(
            f"map-{objective}-{'-'.join(map(str, given.axes))}-{given.seed}-{given.resolution}.safetensors"
        )
        map_ = latent_map(decode, H, plane, SPAN, given.resolution, score, keep, label(run), show=folder.show)
        panels.append(MapPanel(display_name(objective), map_, find_crossing(decode, H, map_, find_domains(map_))))
    assert plane is not None
    return map_figure(panels), caption(panels, plane, given)


def caption(panels: Sequence[MapPanel], plane: Plane, given: Fig3) -> str:
    told = ""
    for panel in panels:
        if panel.crossing:
            points = ", ".join(map(str, panel.crossing.nodal_points))
            change = f"{panel.crossing.charge_difference:+d}".replace("-", "−")
            told += f" {panel.name}: {points} nodal points at k, l, m; Q changes by {change}."
            if panel.crossing.shallow:
                told += f" Its map has no wall of {DEEP:g} J (†); this one is of {panel.crossing.depth:.2g} J."
    own = ", each column from its own lowest value on, all with the same colour for the same difference"
    none = " A VAE has none." if any(panel.map_.logits is None for panel in panels) else ""
    return f"""The paper’s Fig. 3, on the plane of the axes {plane.names[0]} and {plane.names[1]}, the other components
    of the code being the prior’s draw of seed {given.seed}; {given.resolution} × {given.resolution} codes.
    (a) ε of the textures they decode to{own if len(panels) > 1 else ""}. (b) The discriminator’s logit, brighter where
    it sees data.{none} (c) The textures at k and m, flat places of two neighbouring domains, and at l on the wall
    between them, picked as the steepest wall of the map; what changes is circled. (d) That place magnified, nodal
    points circled; below, ε in J, the nodal points and the charge of the whole texture.{told}"""
