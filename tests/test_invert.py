"""Pictures turned back into spins: exact spirals, chirality, an analytic decoder, errors that are known."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spinloom.anneal import anneal, relax
from spinloom.commands_invert import _kept_levels
from spinloom.dataset import open_dataset, write_dataset
from spinloom.errors import BadInput
from spinloom.hamiltonian import Hamiltonian
from spinloom.invert import (
    METHODS,
    Inversion,
    Level,
    compare_inversions,
    in_plane_error,
    invert,
    invert_pictures,
    search_codes,
    verdict,
)
from spinloom.pictures import (
    QUENCHED,
    SHARP,
    analytic_guess,
    blurred,
    checked_pictures,
    denoised,
    picture_of,
    read_picture,
    relax_held,
)
from spinloom.run import load
from spinloom.schedule import Schedule
from spinloom.spiral import spiral
from test_paths import MODEL, NETWORKS, spinloom, write_run

QUICK = Schedule.geometric(1.0, 0.02, steps=40, heat_bath=1, over_relax=4).then_relax(100)


@pytest.fixture(scope="module")
def labyrinths() -> torch.Tensor:
    return anneal(MODEL, 32, 4, schedule=QUICK)


@pytest.mark.parametrize("dmi", ["interfacial", "bulk"])
@pytest.mark.parametrize("D", [0.6, -0.6])
def test_the_guess_is_exact_for_spirals_of_either_chirality_and_both_kinds_of_dmi(D, dmi):
    H = Hamiltonian(D=D, dmi=dmi)
    true = torch.stack([spiral(H, 32, n, m, 0.3) for n, m in ((3, 0), (0, 3), (2, 2), (-2, 2))]).float()
    guess = analytic_guess(picture_of(true), H)
    # the direction is the gradient's; along a diagonal its finite differences err by no more than rounding
    assert float((guess * true).sum(1).min()) > 0.9999
    wrong = analytic_guess(picture_of(true), Hamiltonian(D=-D, dmi=dmi))
    assert float((wrong * true).sum(1).mean()) < 0.1


def test_guesses_are_unit_spins_that_show_the_picture(labyrinths):
    picture = picture_of(labyrinths)
    guess = analytic_guess(picture, MODEL)
    assert torch.allclose(guess.norm(dim=1), torch.ones_like(picture), atol=1e-5)
    assert torch.allclose(guess[:, 2], picture, atol=1e-6)
    assert float((guess * labyrinths).sum(1).mean()) > 0.995
    flat = analytic_guess(torch.ones(1, 32, 32), MODEL)
    assert flat.isfinite().all()


def test_bulk_textures_are_interfacial_ones_turned(labyrinths):
    x, y, z = labyrinths.unbind(1)
    turned = torch.stack((y, -x, z), 1)
    bulk = Hamiltonian(D=0.6, dmi="bulk")
    assert torch.allclose(bulk.energy(turned), MODEL.energy(labyrinths), atol=1e-5)
    guess, other = analytic_guess(z, bulk), analytic_guess(z, MODEL)
    assert torch.equal(guess[:, 0], other[:, 1])
    assert torch.equal(guess[:, 1], -other[:, 0])


def test_blur_and_noise_are_what_they_say(labyrinths):
    wave = torch.cos(2 * math.pi * 3 * torch.arange(32) / 32).expand(1, 32, 32)
    factor = math.exp(-((2 * math.pi * 3 / 32) ** 2) * 1.5**2 / 2)
    assert torch.allclose(blurred(wave, 1.5), factor * wave, atol=1e-6)
    picture = picture_of(labyrinths, 0.5, 0, seed=3)
    noise = picture - labyrinths[:, 2]
    assert float(noise.std()) == pytest.approx(0.5, rel=0.05)
    assert torch.equal(picture_of(labyrinths[:2], 0.5, 0, seed=3), picture[:2])
    assert not torch.equal(picture_of(labyrinths, 0.5, 0, seed=4), picture)


def test_denoising_undoes_blur_and_beats_the_picture(labyrinths):
    true = labyrinths[:, 2]

    def away(picture):
        return float((picture - true).square().mean().sqrt())

    soft = picture_of(labyrinths, 0, 2.0)
    assert away(denoised(soft, MODEL, 0, 2.0)) < 0.3 * away(soft)
    loud = picture_of(labyrinths, 0.5)
    assert away(denoised(loud, MODEL, 0.5)) < 0.5 * away(loud)
    assert torch.equal(denoised(true, MODEL), denoised(true, MODEL, 0.0, 0.0))
    assert torch.allclose(denoised(true, MODEL), true, atol=1e-6)


# textures held near a picture


@pytest.fixture(scope="module")
def rested(labyrinths) -> torch.Tensor:
    """Textures at rest: those that were just annealed still creep along soft modes, wherever they are let go."""
    return relax(labyrinths, MODEL, 3000)


def held_energy(spins: torch.Tensor, picture: torch.Tensor, noise: float, blur: float) -> torch.Tensor:
    """E(S) + T|bS_z − p|²/2σ² in float64 (n,): what :func:`relax_held` makes small."""
    away = (blurred(spins[:, 2], blur) - picture).double().square().sum((1, 2))
    return 1024 * MODEL.energy(spins.double()) + QUENCHED * away / (2 * max(noise, SHARP) ** 2)


def held_torque(spins: torch.Tensor, picture: torch.Tensor, noise: float, blur: float) -> float:
    """The largest |S × h| with h = −∂/∂S of :func:`held_energy`, by differentiation."""
    free = spins.double().requires_grad_()
    (slope,) = torch.autograd.grad(held_energy(free, picture, noise, blur).sum(), free)
    return float(torch.linalg.cross(spins.double(), slope, dim=1).norm(dim=1).max())


@pytest.mark.parametrize(("noise", "blur"), [(0.0, 0.0), (0.05, 0.0), (0.1, 1.5), (0.8, 0.0)])
def test_every_step_near_the_picture_lowers_what_is_minimised_and_it_comes_to_rest(labyrinths, noise, blur):
    picture = picture_of(labyrinths[:2], noise, blur, seed=2)
    guess = analytic_guess(picture, MODEL, noise, blur)
    spins, energies = guess, [held_energy(guess, picture, noise, blur)]
    for _ in range(150):
        spins = relax_held(spins, picture, MODEL, noise, blur, steps=1)
        energies.append(held_energy(spins, picture, noise, blur))
    steps = torch.stack(energies).diff(dim=0)
    assert float(steps.max()) < 3e-4  # float32's rounding of 2200 J
    assert float(steps.sum(0).max()) < -0.1
    at_once = relax_held(guess, picture, MODEL, noise, blur, steps=150)
    assert torch.equal(at_once, spins)
    assert torch.allclose(spins.norm(dim=1), torch.ones_like(picture), atol=1e-5)
    rest = relax_held(guess, picture, MODEL, noise, blur, steps=1000)
    began, ended = (held_torque(some, picture, noise, blur) for some in (guess, rest))
    assert ended < 0.015 < 0.15 < began


def test_a_uniform_texture_is_held_where_field_and_picture_balance():
    """E/N = −B cos θ at D = 0 and T(cos θ − p)²/2σ² are least at cos θ = p + Bσ²/T, whatever the blur."""
    H = Hamiltonian(J=2.0, D=0.0, B=0.1)
    angle = torch.full((1, 8, 8), 1.9)
    start = torch.stack((angle.sin(), torch.zeros_like(angle), angle.cos()), 1)
    for noise, blur in ((0.02, 0.0), (0.03, 0.0), (0.03, 2.0)):
        held = relax_held(start, torch.full((1, 8, 8), 0.2), H, noise, blur, steps=600)
        wanted = 0.2 + 0.1 * noise**2 / (QUENCHED * 2.0)
        assert torch.allclose(held[:, 2], torch.full((1, 8, 8), wanted), atol=1e-3)


def test_without_noise_a_texture_at_rest_is_found_behind_its_picture(rested):
    """It is a rest point of E and of the misfit; let go, the guess slides off along soft modes."""
    picture = picture_of(rested)
    guess = analytic_guess(picture, MODEL)
    held, free = relax_held(guess, picture, MODEL), relax(guess, MODEL, 500)
    assert float((held[:, 2] - picture).abs().max()) < 2e-3
    assert held_torque(held, picture, 0, 0) < 1e-4
    near, far = in_plane_error(held, rested).rms, in_plane_error(free, rested).rms
    assert near < 0.05
    assert near < 0.2 * far


def test_at_little_noise_what_is_held_lies_nearer_to_the_truth_than_what_is_let_go(rested):
    noise = 0.05
    picture = picture_of(rested, noise, seed=1)
    guess = analytic_guess(picture, MODEL, noise)
    held, free = relax_held(guess, picture, MODEL, noise), relax(guess, MODEL, 500)
    assert in_plane_error(held, rested).rms < 0.95 * in_plane_error(free, rested).rms
    away = [float((spins[:, 2] - rested[:, 2]).square().mean().sqrt()) for spins in (held, free)]
    assert away[0] < 0.95 * away[1]
    assert away[0] < 0.2 * noise  # far less than the picture itself is off


def test_at_boundless_noise_the_picture_does_not_matter_and_relaxation_is_left(rested):
    picture = picture_of(rested)
    guess = analytic_guess(picture, MODEL)
    held = relax_held(guess, picture, MODEL, 999.0)
    first, other = (relax_held(guess, sign * picture, MODEL, 999.0, steps=100) for sign in (1, -1))
    assert torch.allclose(first, other, atol=1e-5)
    free = relax(guess, MODEL, 500)
    assert torch.allclose(1024 * MODEL.energy(held.double()), 1024 * MODEL.energy(free.double()), atol=2e-3)  # J
    assert (MODEL.energy(guess) - MODEL.energy(held) > 1e-4).all()


def test_errors_of_turned_spins_are_known(labyrinths):
    x, y, z = labyrinths.unbind(1)
    angle = math.radians(20)
    turned = torch.stack((x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle), z), 1)
    error = in_plane_error(turned, labyrinths)
    assert error.rms == pytest.approx(20, abs=1e-2)
    assert error.median == pytest.approx(20, abs=1e-2)
    assert error.reversed == 0
    assert error.charge_right == 1  # a global turn changes no charge
    away = in_plane_error(torch.stack((-x, -y, z), 1), labyrinths)
    assert (away.rms, away.reversed) == (pytest.approx(180), pytest.approx(1))
    mixed = in_plane_error(torch.cat((labyrinths[:2], -labyrinths[2:])), labyrinths)
    assert mixed.dot == pytest.approx(0, abs=1e-6)
    exact = in_plane_error(labyrinths, labyrinths)
    assert exact.rms < 1e-6
    assert exact.dot == pytest.approx(1)


def test_textures_without_an_in_plane_part_have_no_angle_but_a_dot(labyrinths):
    up = torch.tensor([0.0, 0.0, 1.0])[:, None, None].expand(2, 3, 8, 8)
    error = in_plane_error(-up, up)
    assert all(math.isnan(value) for value in (error.rms, error.median, error.reversed))
    assert (error.dot, error.charge_right) == (-1, 1)
    settings = Inversion(starts=1, steps=2, relax=0)

    def decode(z):
        return up[:1].expand(len(z), -1, -1, -1) + 0 * z.sum()

    levels = compare_inversions(decode, up, MODEL, 3, None, (0.0,), settings)
    known = json.loads(json.dumps(levels[0].as_dict(), allow_nan=False))
    assert known["errors"]["guess"]["rms"] is None
    again = Level.of(known, levels[0].picture, levels[0].example)
    assert math.isnan(again.errors["guess"].rms)
    assert again.as_dict() == levels[0].as_dict()
    assert "nowhere" in verdict(levels)


def shifted_spirals(z: torch.Tensor) -> torch.Tensor:
    """Spirals along x whose phase is the first number of the code."""
    place = 2 * math.pi * 3 * torch.arange(32) / 32
    angle = (place + z[:, :1])[:, None, :].expand(-1, 32, -1)
    return torch.stack((angle.sin(), torch.zeros_like(angle), angle.cos()), 1)


def test_a_search_finds_the_code_behind_a_noisy_picture():
    """E does not depend on the phase, so that the answer is the phase of the picture, drawn to 0 by the prior."""
    phase = torch.tensor([[0.8], [-1.1], [0.3]])
    picture = picture_of(shifted_spirals(phase), 0.5, 1.0, seed=1)
    settings = Inversion(noise=0.5, blur=1.0, steps=200)
    z, spins, left = search_codes(shifted_spirals, torch.zeros(3, 1), picture, MODEL, settings)
    assert torch.allclose(z, phase, atol=0.1)
    assert torch.equal(spins, shifted_spirals(z))
    grid = torch.linspace(-2, 2, 401)[:, None]
    misfit = (blurred(shifted_spirals(grid)[:, 2], 1.0) - picture[0]).square().sum((1, 2)) / (2 * (0.25 + 0.15**2))
    objective = misfit + grid[:, 0] ** 2 / 2 + 10 * 1024 * MODEL.energy(shifted_spirals(grid))
    assert float(z[0]) == pytest.approx(float(grid[objective.argmin()]), abs=0.011)
    assert float(left[0]) == pytest.approx(float(misfit[objective.argmin()]), abs=0.1)


def test_every_method_gives_unit_spins_and_the_same_again_whatever_the_batch(labyrinths):
    picture = picture_of(labyrinths, 0.2)

    def encode(spins):
        # the phase of the wave with three periods
        wave = torch.fft.fft(spins[:, 2].mean(1))[:, 3]
        return torch.stack((wave.angle(), torch.zeros(len(spins))), 1)

    settings = Inversion(noise=0.2, starts=3, steps=5, relax=5)
    found = invert_pictures(shifted_spirals, picture, MODEL, 2, settings, encode, seed=4)
    assert tuple(found.spins) == METHODS
    for spins in found.spins.values():
        assert spins.shape == labyrinths.shape
        assert torch.allclose(spins.norm(dim=1), torch.ones_like(picture), atol=1e-4)
    few = invert_pictures(shifted_spirals, picture[:2], MODEL, 2, settings, encode, seed=4)
    assert torch.allclose(few.z, found.z[:2], atol=1e-5)
    blind = invert_pictures(shifted_spirals, picture, MODEL, 2, settings, None, seed=4)
    assert 0 not in blind.start
    assert (MODEL.energy(found.spins["guess relaxed"]) < MODEL.energy(found.spins["guess"])).all()


def test_a_comparison_knows_who_is_nearer_and_does_not_repeat_known_levels():
    true = shifted_spirals(torch.tensor([[0.5], [-0.5], [1.0]]))
    told = []
    settings = Inversion(steps=60, starts=1, relax=0)

    def encode(spins):
        return torch.fft.fft(spins[:, 2].mean(1))[:, 3].angle()[:, None]

    # D < 0 turns the guess round: the network must win by far
    wrong = Hamiltonian(D=-0.6)
    levels = compare_inversions(shifted_spirals, true, wrong, 1, encode, (0.0, 0.5), settings, keep=told.append)
    assert [level.outcome for level in levels] == ["ahead", "ahead"]
    assert levels[0].errors["guess"].reversed > 0.99
    assert levels[0].errors["network"].rms < 5
    assert "the network wins at noise 0, 0.5;" in verdict(levels)
    assert verdict(levels).endswith("the smaller one at 0, 0.5")
    assert told == levels
    again = compare_inversions(
        lambda z: pytest.fail("made again"),  # type: ignore[arg-type]
        *(true, wrong, 1, encode, (0.0, 0.5), settings),
        known={level.noise: level for level in told},
    )
    assert again == levels


def test_pictures_are_read_with_their_top_at_plus_y(tmp_path):
    from PIL import Image

    grey = np.array([[0, 255], [51, 255]], np.uint8)
    Image.fromarray(grey).save(tmp_path / "p.png")
    assert torch.allclose(read_picture(tmp_path / "p.png"), torch.tensor([[-0.6, 1.0], [-1.0, 1.0]]), atol=1e-6)
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    assert torch.allclose(read_picture(tmp_path / "deep.png"), torch.tensor([[-0.6, 1.0], [-1.0, 1.0]]), atol=1e-4)
    values = np.array([[0.25, -1.0], [1.125, 0.5]], np.float32)  # noise goes beyond ±1
    Image.fromarray(values).save(tmp_path / "p.tiff")
    assert torch.equal(read_picture(tmp_path / "p.tiff"), torch.from_numpy(values[::-1].copy()))
    Image.fromarray(100 * values).save(tmp_path / "large.tiff")
    np.save(tmp_path / "p.npy", np.array([[0.5, -1.0]]))
    assert torch.equal(read_picture(tmp_path / "p.npy"), torch.tensor([[0.5, -1.0]]))
    np.save(tmp_path / "bad.npy", np.zeros((2, 2, 2)))
    np.save(tmp_path / "bytes.npy", np.full((4, 4), 200))
    (tmp_path / "text.png").write_text("no picture")
    for name, says in (
        ("bad.npy", "need numbers"),
        ("bytes.npy", "beyond ±1"),
        ("large.tiff", "beyond ±1"),
        ("text.png", "is no picture"),
        ("none.png", "no such file"),
    ):
        with pytest.raises(BadInput, match=says):
            read_picture(tmp_path / name)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Inversion(noise=-1), "noise=-1"),
        (lambda: Inversion(blur=math.nan), "blur=nan"),
        (lambda: Inversion(starts=0), "starts=0"),
        (lambda: Inversion(rate=0.0), "rate=0"),
        (lambda: analytic_guess(torch.zeros(1, 8, 8), Hamiltonian(D=0)), "D=0"),
        (lambda: picture_of(torch.zeros(1, 3, 8, 8), 0.1, seed=-1), "seed=-1"),
        (lambda: picture_of(torch.zeros(1, 3, 8, 8), 0.1, seed=2**64), "seed=18446744073709551616"),
        (lambda: checked_pictures(np.full((2, 4, 4), 255), (4, 4)), "picture 0: .* beyond ±1"),
        (lambda: checked_pictures(torch.full((4, 4), math.inf), (4, 4)), "picture: NaN, infinity"),
    ],
)
def test_what_makes_no_sense_is_refused(make, says):
    with pytest.raises(BadInput, match=says):
        make()


# runs and the command


def test_inverting_with_a_run(tmp_path, labyrinths):
    run = load(write_run(tmp_path / "h", "hybrid"))
    settings = Inversion(steps=2, starts=2, relax=3)
    found = invert(run, labyrinths[0, 2].numpy(), 0.1, settings=settings)
    assert found.spins["network relaxed"].shape == (1, 3, 32, 32)
    assert found.z.shape == (1, NETWORKS.latent)
    for picture, says in (
        (np.zeros((16, 32)), "16 × 32"),
        (np.full((32, 32), np.nan), "NaN"),
        (np.full((32, 32), 200), "beyond ±1"),
    ):
        with pytest.raises(BadInput, match=says):
            invert(run, picture)
    with pytest.raises(BadInput, match="seed=-1"):
        invert(run, labyrinths[0, 2], seed=-1)


def phase_of(spins: torch.Tensor) -> torch.Tensor:
    """The code behind :func:`shifted_spirals`: the phase of the wave with three periods."""
    return torch.fft.fft(spins[:, 2].mean(1))[:, 3].angle()[:, None]


def test_inverting_with_a_generator_of_ones_own():
    """Its textures are a picture's but for noise: it finds the phase, from the encoded guess or from a draw."""
    phase = torch.tensor([[0.8], [-1.1]])
    picture = picture_of(shifted_spirals(phase), 0.5, seed=1)
    settings = Inversion(noise=0.5, steps=60, relax=3)
    for encode in (phase_of, None):
        found = invert(shifted_spirals, picture, settings=settings, H=MODEL, latent=1, encode=encode)
        assert tuple(found.spins) == METHODS
        assert torch.allclose(found.z, phase, atol=0.1)
        assert torch.equal(found.spins["network"], shifted_spirals(found.z))
        assert set(found.start) <= ({0, 1} if encode else {1, 2})
    one = invert(shifted_spirals, picture[0], 0.5, settings=settings, H=MODEL, latent=1, encode=phase_of)
    assert torch.allclose(one.z, phase[:1], atol=0.1)


def test_a_run_with_another_hamiltonian_and_encoder(tmp_path, labyrinths):
    run = load(write_run(tmp_path / "h", "hybrid"))
    settings = Inversion(steps=1, starts=1, relax=2)
    usual = invert(run, labyrinths[:1, 2], settings=settings)
    other = invert(run, labyrinths[:1, 2], settings=settings, H=Hamiltonian(D=-0.6))
    assert torch.equal(usual.spins["guess"][:, :2], -other.spins["guess"][:, :2])  # of the other chirality
    ahead = torch.full((1, NETWORKS.latent), 0.5)
    given = invert(run, labyrinths[:1, 2], settings=settings, encode=lambda spins: ahead.expand(len(spins), -1))
    assert float((given.z - ahead).abs().max()) < 2 * settings.rate


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"latent": None}, "latent=None: a callable does not say"),
        ({"H": None}, "H=None: .* give H"),
        ({"H": Hamiltonian(D=0.0)}, "D=0"),
        ({"source": lambda z: z}, r"source: gave shape \(2, 1\)"),
        ({"source": lambda z: shifted_spirals(z).detach()}, "source: has no gradient"),
        ({"encode": lambda spins: spins[:, 2]}, r"encode: gave \(2, 32, 32\) for 2 textures; .* \(n, 1\)"),
        ({"encode": lambda spins: (phase_of(spins), None)}, "encode: gave tuple"),
        ({"mz": torch.zeros(8, 8)}, "the generator's lattice is 32 × 32"),
    ],
)
def test_what_a_generator_of_ones_own_lacks_is_named(arguments, says):
    asked = {"source": shifted_spirals, "mz": torch.zeros(32, 32), "H": MODEL, "latent": 1, **arguments}
    with pytest.raises(BadInput, match=says):
        invert(**asked)


def test_a_run_says_how_long_its_codes_are(tmp_path):
    with pytest.raises(BadInput, match="latent=3: a run says"):
        invert(load(write_run(tmp_path / "h", "hybrid")), torch.zeros(32, 32), latent=3)


def test_noise_and_blur_not_given_are_those_of_the_settings(tmp_path, labyrinths):
    run = load(write_run(tmp_path / "h", "hybrid"))
    mz = labyrinths[0, 2]
    told = replace(Inversion(steps=1, starts=1, relax=2), noise=0.4, blur=1.0)
    by_settings = invert(run, mz, settings=told)
    given = invert(run, mz, 0.4, 1.0, settings=replace(told, noise=0.0, blur=0.0))
    for name in METHODS:
        assert torch.equal(by_settings.spins[name], given.spins[name])
    sharp = invert(run, mz, blur=0.0, settings=told)
    assert torch.equal(sharp.spins["guess"], analytic_guess(mz[None], MODEL, 0.4, 0.0))
    assert not torch.equal(sharp.spins["guess"], given.spins["guess"])


def test_a_picture_and_a_comparison_on_the_command_line(tmp_path, labyrinths, capsys):
    run = write_run(tmp_path / "h", "hybrid")
    np.save(tmp_path / "p.npy", labyrinths[0, 2].numpy())
    few = ["--starts", 1, "--steps", 2, "--relax", 5, "--json"]
    out = tmp_path / "one"
    assert spinloom("invert", run, out, "--picture", tmp_path / "p.npy", "--noise", 0.1, *few) == 0
    told = json.loads(capsys.readouterr().out)
    assert tuple(told["methods"]) == METHODS
    assert told["methods"]["guess held"]["misfit"] < 0.1 < told["methods"]["network"]["misfit"]
    spins = open_dataset(out / "spins")
    assert len(spins) == len(METHODS)
    assert MODEL.energy_excess(spins[2].double()).item() == pytest.approx(
        told["methods"]["guess held"]["energy_excess"], abs=1e-3
    )
    assert (out / "invert.png").read_bytes().startswith(b"\x89PNG")
    np.save(tmp_path / "p.npy", -labyrinths[0, 2].numpy())  # its squares are the same
    assert spinloom("invert", run, out, "--picture", tmp_path / "p.npy", "--noise", 0.1, *few) == 2
    assert "checksum" in capsys.readouterr().err

    data = write_dataset(tmp_path / "data", labyrinths, MODEL).path
    out = tmp_path / "many"
    asked = [run, out, "--reference", data, "--textures", 3, "--noise", 0, 0.4, *few]
    assert spinloom("invert", *asked) == 0
    told = json.loads(capsys.readouterr().out)
    assert [level["noise"] for level in told["levels"]] == [0, 0.4]
    assert "the analytic guess, relaxed, wins" in told["verdict"]
    assert told["verdict"].endswith("the smaller one nowhere")  # an untrained network
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    assert len(open_dataset(out / "spins")) == 1 + 2 * len(METHODS)
    assert not list(out.glob("*.partial"))
    (out / "invert.json").write_text(json.dumps({"asked": told["asked"]}))  # as if stopped at the end
    assert spinloom("invert", *asked) == 0
    assert {file: file.read_bytes() for file in before} == before
    assert spinloom("invert", *asked, "--seed", 1) == 2
    assert "seed: 0 there, 1 asked" in capsys.readouterr().err


def test_a_comparison_without_sweeps_afterwards(tmp_path, labyrinths, capsys):
    run, data = write_run(tmp_path / "h", "hybrid"), write_dataset(tmp_path / "data", labyrinths, MODEL).path
    few = ["--textures", 2, "--noise", 0.1, "--starts", 1, "--steps", 1, "--relax", 0, "--json"]
    assert spinloom("invert", run, tmp_path / "out", "--reference", data, *few) == 0
    errors = json.loads(capsys.readouterr().out)["levels"][0]["errors"]
    assert errors["guess"] == errors["guess relaxed"] == errors["guess held"]


def test_levels_of_nearly_the_same_noise_are_kept_apart(tmp_path, labyrinths):
    example = {name: labyrinths[0].clone() for name in METHODS}
    level = Level(0.1, {}, ("guess", "network"), {"mean": 0.0, "error": 0.0}, 0.0, labyrinths[0, 2].clone(), example)
    _, keep = _kept_levels(tmp_path)
    noises = [0.1, 0.1 + 1e-9]
    for noise in noises:
        keep(replace(level, noise=noise))
    known, _ = _kept_levels(tmp_path)
    assert sorted(known) == noises


def test_a_comparison_is_on_textures_that_were_not_trained_on(tmp_path, labyrinths, capsys):
    data = write_dataset(tmp_path / "data", labyrinths.repeat(2, 1, 1, 1), MODEL)
    own = write_run(tmp_path / "own", "hybrid", checksum=data.checksum)
    other = write_run(tmp_path / "other", "hybrid")
    few = ["--noise", 0.1, "--starts", 1, "--steps", 1, "--relax", 1, "--quiet"]
    assert spinloom("invert", own, tmp_path / "three", "--reference", data.path, "--textures", 3, *few) == 2
    assert "has 2 not trained on" in capsys.readouterr().err
    assert not (tmp_path / "three").exists()
    assert spinloom("invert", own, tmp_path / "two", "--reference", data.path, "--textures", 2, *few) == 0
    assert torch.allclose(open_dataset(tmp_path / "two" / "spins")[0], data[6], atol=1e-4)  # the first held-out one
    assert spinloom("invert", other, tmp_path / "all", "--reference", data.path, "--textures", 8, *few) == 0
    assert torch.allclose(open_dataset(tmp_path / "all" / "spins")[0], data[0], atol=1e-4)


def test_what_invert_refuses_on_the_command_line(tmp_path, labyrinths, capsys):
    run = write_run(tmp_path / "h", "hybrid")
    alike = write_run(tmp_path / "alike", "hybrid", model=Hamiltonian(D=0.0))
    wrong = write_dataset(tmp_path / "wrong", labyrinths, Hamiltonian(D=0.5)).path
    unknown = write_dataset(tmp_path / "unknown", labyrinths).path
    np.save(tmp_path / "small.npy", np.zeros((8, 8)))
    data = write_dataset(tmp_path / "data", labyrinths, MODEL).path
    out = tmp_path / "out"
    small: Path = tmp_path / "small.npy"
    for arguments, says in (
        ([], "one of them"),
        (["--picture", small, "--reference", data], "one of them"),
        (["--picture", small], "8 × 8"),
        (["--picture", small, "--noise", 0.1, 0.2], "a single number"),
        (["--picture", tmp_path / "none.png"], "no such file"),
        (["--reference", data, "--textures", 9], "--textures 9"),
        (["--reference", data, "--noise", -1], "--noise -1"),
        (["--reference", data, "--textures", 2, "--seed", -1], "from 0 to 2⁶⁴ − 1"),
        (["--reference", wrong, "--textures", 2], "its Hamiltonian is J=1.0, D=0.5"),
        (["--reference", unknown, "--textures", 2], "its Hamiltonian is unknown"),
        (["--reference", data, "--textures", 2, "--device", "cuda"], "no CUDA GPU"),
        ([alike, "--reference", data, "--textures", 2], "D=0"),
    ):
        first, *rest = arguments or [""]
        of, rest = (first, rest) if first is alike else (run, arguments)
        assert spinloom("invert", of, out, *rest) == 2
        line = capsys.readouterr().err.strip()
        assert says in line
        assert len(line.splitlines()) == 1
        assert not out.exists()
