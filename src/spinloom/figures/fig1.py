"""Fig. 1: how VAE, GAN and hybrid are trained, and how textures are drawn from them, with the folder's own textures.

a–c: the workflows of the VAE, the GAN and the hybrid. d: sampling from the prior. e: discriminator-driven latent
sampling. The textures are the trained networks' own: x_d is test data, x̃ its reconstruction, x_p = G(z_p); numbers are
those of the folder's config.
"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.patches import Rectangle

from spinloom.draw import PAGE, Figure, colour_wheel, draw_texture
from spinloom.figures.folder import Folder
from spinloom.figures.settings import Fig1
from spinloom.figures.sheet import INK, PLAYERS, Sheet
from spinloom.run import Run
from spinloom.sample import DDLS, decoded, drive, prior_latents, reconstruct
from spinloom.typing import Spins

TILE = 0.52
"""Side of a texture in inches."""

REBUILD = "$|x_d - \\tilde{x}|^2/N$ + $\\beta$ KL"
"""What rebuilds the data: Eq. (1)."""


def draw(folder: Folder, given: Fig1) -> tuple[Figure, str]:
    """The figure and its caption."""
    vae, gan, hybrid = (folder.run(objective) for objective in ("vae", "gan", "hybrid"))
    data = folder.test_data[given.texture]
    training, latent = folder.results["config"]["training"], hybrid.networks.latent
    sheet = Sheet(PAGE, 5.75)
    board = Board(sheet, latent)
    rebuilt = {run.objective: reconstruct(run, data[None])[0] for run in (vae, hybrid)}
    z = prior_latents(0, 1, latent, given.code)
    drawn = {run.objective: decoded(run.decode, z)[0] for run in (gan, hybrid)}
    beta, gamma = training["beta"], training["gamma"]

    board.title("a", "VAE", 0.05, 5.65)
    board.autoencoder(0.38, 5.1, data, rebuilt["vae"])
    board.loss(f"E, G:  {REBUILD},  $\\beta$ = {beta:g}", 0.38, 4.5)

    board.title("b", "GAN", 3.5, 5.65)
    board.generation(3.8, 5.2, drawn["gan"])
    board.texture(5.05, 4.42, data, "$x_d$", "data")
    board.judge(5.75, 4.81, [(5.05, 5.2), (5.05, 4.42)])
    board.loss("G:  −log D($x_p$)\nD:  −log D($x_d$) − log(1 − D($x_p$))", 5.38, 4.24)

    board.title("c", "hybrid", 0.05, 3.94)
    board.autoencoder(0.38, 3.42, data, rebuilt["hybrid"])
    board.texture(2.63, 2.64, data, "$x_d$", "data")
    board.generation(1.38, 1.86, drawn["hybrid"])
    board.judge(3.6, 2.64, [(2.63, 3.42), (2.63, 2.64), (2.63, 1.86)])
    sheet.plain.plot([1.88, 1.88], [2.18, 3.1], color=PLAYERS["G"][1], lw=0.9, ls=(0, (2, 2)))
    sheet.words("one and\nthe same", 1.82, 2.64, ha="right", color=PLAYERS["G"][1])
    lines = (
        f"E:  {REBUILD},  $\\beta$ = {beta:g}",
        f"G:  the same − ½ $\\gamma$ [log D($x_p$) + log D($\\tilde{{x}}$)],  $\\gamma$ = {gamma:g}",
        "D:  −log D($x_d$) − ½ log(1 − D($x_p$)) − ½ log(1 − D($\\tilde{x}$))",
    )
    board.loss("\n".join(lines), 3.55, 3.5)

    settings = DDLS(**folder.results["config"]["ddls"])
    board.title("d", "sampling from the prior", 0.05, 1.36)
    board.generation(0.38, 0.83, drawn["hybrid"])
    board.title("e", "discriminator-driven latent sampling (DDLS)", 2.55, 1.36)
    board.driven(2.9, 0.83, _driven(hybrid, settings, given.code), settings)
    colour_wheel(sheet.axes(PAGE - 1.0, 0.28, 0.96, 0.96))
    return sheet.figure, caption(folder, settings, latent)


def _driven(run: Run, settings: DDLS, code: int) -> Spins:
    """Where the discriminator drives a code of the prior, decoded."""
    z = prior_latents(0, 1, run.networks.latent, code)
    return decoded(run.decode, drive(z, run.decode, run.discriminator, settings, 0, code))[0]


class Board:
    """The parts that the workflows are put together from; y is the height of their middle line."""

    def __init__(self, sheet: Sheet, latent: int) -> None:
        self.sheet, self.latent = sheet, latent

    def title(self, letter: str, words: str, x: float, y: float) -> None:
        self.sheet.letter(letter, x, y + 0.05)
        self.sheet.words(words, x + 0.16, y - 0.02, fontsize=8, fontweight="bold", ha="left")

    def texture(self, x: float, y: float, spins: Spins, symbol: str, words: str = "") -> None:
        up, across = spins.shape[-2:]
        tall = TILE * up / across
        ax = self.sheet.axes(x - TILE / 2, y - tall / 2, TILE, tall)
        draw_texture(ax, spins)
        ax.add_patch(Rectangle((0, 0), 1, 1, transform=ax.transAxes, fill=False, ec=INK, lw=0.8, clip_on=False))
        self.sheet.words(f"{symbol} {words}".strip(), x, y - tall / 2 - 0.04, va="top")

    def code(self, x: float, y: float, symbol: str, words: str) -> None:
        """A code as a narrow column of numbers."""
        self.sheet.box(x, y, 0.13, 0.36, "#ececec", INK, 0.02)
        for line in (-0.06, 0.0, 0.06):
            self.sheet.plain.plot([x - 0.035, x + 0.035], [y + 1.5 * line] * 2, color="0.45", lw=0.7)
        self.sheet.words(symbol, x, y + 0.27)
        self.sheet.words(words, x, y - 0.24, va="top", color="0.35")

    def autoencoder(self, x: float, y: float, data: Spins, rebuilt: Spins) -> None:
        """x_d → E → z_E → G → x̃."""
        sheet = self.sheet
        self.texture(x, y, data, "$x_d$", "data")
        sheet.network("E", x + 0.62, y, 0.36, 0.52, 0.28)
        self.code(x + 1.04, y, "$z_E$", f"n = {self.latent}")
        sheet.network("G", x + 1.5, y, 0.36, 0.52, 0.28)
        self.texture(x + 2.25, y, rebuilt, "$\\tilde{x}$", "rebuilt")
        for start, end in ((0.27, 0.43), (0.81, 0.96), (1.12, 1.31), (1.69, 1.97)):
            sheet.arrow((x + start, y), (x + end, y))

    def generation(self, x: float, y: float, drawn: Spins) -> None:
        """z_p → G → x_p."""
        self.code(x, y, "$z_p$", "N(0, 1)")
        self.sheet.network("G", x + 0.5, y, 0.36, 0.52, 0.28)
        self.texture(x + 1.25, y, drawn, "$x_p$", "fake")
        for start, end in ((0.08, 0.31), (0.69, 0.97)):
            self.sheet.arrow((x + start, y), (x + end, y))

    def judge(self, x: float, y: float, textures: Sequence[tuple[float, float]]) -> None:
        """Textures → D → real or fake."""
        sheet = self.sheet
        for left, height in textures:
            sheet.arrow((left + TILE / 2 + 0.02, height), (x - 0.2, y + 0.3 * (height - y)))
        sheet.network("D", x, y, 0.36, 0.52, 0.28)
        sheet.arrow((x + 0.19, y), (x + 0.36, y))
        sheet.words("real /\nfake", x + 0.39, y, ha="left")

    def driven(self, x: float, y: float, end: Spins, settings: DDLS) -> None:
        """z → G → x → D → logit, and the gradient back to z."""
        sheet = self.sheet
        self.code(x, y, "$z$", f"{settings.steps} steps")
        sheet.network("G", x + 0.5, y, 0.36, 0.52, 0.28)
        self.texture(x + 1.16, y, end, "G($z$)")
        sheet.network("D", x + 1.82, y, 0.36, 0.52, 0.28)
        sheet.words("logit\nD(G($z$))", x + 2.4, y)
        for start, stop in ((0.08, 0.31), (0.69, 0.88), (1.44, 1.63), (2.01, 2.14)):
            sheet.arrow((x + start, y), (x + stop, y))
        back = {"linestyle": (0, (3, 2)), "color": PLAYERS["D"][1]}
        low = y - 0.6
        sheet.plain.plot([x + 2.4, x + 2.4, x], [y - 0.16, low, low], lw=0.9, **back)
        sheet.arrow((x, low), (x, y - 0.4), color=PLAYERS["D"][1])
        words = f"$z$ ← $z$ + $\\alpha$ ∂(logit)/∂$z$,  $\\alpha$ = {settings.step_size:g}"
        sheet.words(words, x + 1.2, low - 0.1, color=PLAYERS["D"][1])

    def loss(self, words: str, x: float, y: float) -> None:
        """What each player minimises."""
        self.sheet.words(words, x, y, ha="left", va="center", color="0.3", linespacing=1.5)


def caption(folder: Folder, settings: DDLS, latent: int) -> str:
    training = folder.results["config"]["training"]
    weights = {
        "energy": "the samples’ energy above the data’s",
        "rest": "their distance from rest",
        "spectrum": "that of their structure factors from the data’s",
        "r1": "the discriminator’s gradient at the data",
    }
    further = [f"{words} (weight {training[name]:g})" for name, words in weights.items() if training.get(name)]
    more = f" The losses of GAN and hybrid here also hold {' and '.join(further)}." if further else ""
    return f"""The paper’s Fig. 1, with the textures ({folder.sides} sites, codes of {latent} numbers) of this
    folder’s networks. Training of (a) the VAE, (b) the GAN and (c) the hybrid: encoder E, generator G, discriminator D;
    x_d a texture of the test data, x̃ = G(E(x_d)) its reconstruction, x_p = G(z_p). (d) Sampling from the prior.
    (e) Discriminator-driven latent sampling of the same code ({settings.rule}, α = {settings.step_size:g},
    {settings.steps} steps): the dashed arrow is the gradient’s way back. Beside each workflow stands what every player
    minimises: KL is the Kullback–Leibler divergence of the code’s posterior from the prior, D stands for the
    probability of being real.{more} Hue and lightness are the spin’s direction."""
