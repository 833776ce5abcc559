"""OVF files: every variant of the two versions built byte by byte, round trips, and files that lie."""

import os
import struct
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import spinloom as sl
from spinloom.errors import BadInput
from spinloom.ovf import ovf_bytes

CORPUS = Path(__file__).parent / "corpus" / "ovf"
REAL = Path(os.environ.get("SPINLOOM_OVF", Path(__file__).resolve().parents[2] / "shared" / "ovf"))
"""Files that OOMMF and mumax³ wrote, where they are at hand."""

NODES = (4, 3, 2)
CELL = (2e-9, 3e-9, 1e-9)


def field(nodes=NODES, seed=0) -> np.ndarray:
    """Unit vectors (Z, 3, Y, X), float32."""
    spins = np.random.default_rng(seed).standard_normal((nodes[2], 3, nodes[1], nodes[0]))
    return (spins / np.linalg.norm(spins, axis=1, keepdims=True)).astype(np.float32)


def built(
    version: int = 2,
    representation: str = "Binary 4",
    nodes=NODES,
    vectors: np.ndarray | None = None,
    multiplier: float = 1,
    unit: str = "A/m",
    meshunit: str = "m",
    cell=CELL,
    change=lambda header: header,
    newline: bytes = b"\n",
    before_end: bytes = b"\n",
    check: float | None = None,
    order: str | None = None,
) -> bytes:
    """A file as the OOMMF User's Guide describes it, written number by number in the order of the guide."""
    vectors = field(nodes) if vectors is None else vectors
    header = [
        "# OOMMF OVF 2.0" if version == 2 else "# OOMMF: rectangular mesh v1.0",
        "# Segment count: 1",
        "# Begin: Segment",
        "# Begin: Header",
        "# Title: Long file title goes here",
        "# Desc: Optional description line 1.",
        "# Desc: Optional description line 2.",
        f"# meshunit: {meshunit}",
        "# meshtype: rectangular",
        *(f"# {axis}base: {side / 2}" for axis, side in zip("xyz", cell, strict=True)),
        *(f"# {axis}stepsize: {side}" for axis, side in zip("xyz", cell, strict=True)),
        *(f"# {axis}nodes: {many}" for axis, many in zip("xyz", nodes, strict=True)),
        *(f"# {axis}min: 0" for axis in "xyz"),
        *(f"# {axis}max: {many * side}" for axis, many, side in zip("xyz", nodes, cell, strict=True)),
    ]
    if version == 2:
        header += ["# valuedim: 3", "# valuelabels: m_x m_y m_z", f"# valueunits: {unit} {unit} {unit}"]
    else:
        header += [f"# valueunit: {unit}", f"# valuemultiplier: {multiplier}"]
        header += ["# ValueRangeMinMag: 1e-8", "# ValueRangeMaxMag: 1.0"]
    header += ["# End: Header", f"# Begin: Data {representation}"]
    order = order or (">" if version == 1 else "<")
    numbers = []
    for z in range(nodes[2]):
        for y in range(nodes[1]):
            for x in range(nodes[0]):
                numbers += [float(vectors[z, component, y, x]) for component in range(3)]
    if representation.lower() == "text":
        triples = zip(*[iter(numbers)] * 3, strict=True)
        data = newline.join(" ".join(map(repr, triple)).encode() for triple in triples)
    elif representation.lower() == "binary 4":
        check = 1234567.0 if check is None else check
        data = struct.pack(f"{order}{1 + len(numbers)}f", check, *numbers)
    else:
        check = 123456789012345.0 if check is None else check
        data = struct.pack(f"{order}{1 + len(numbers)}d", check, *numbers)
    end = [f"# End: Data {representation}", "# End: Segment", ""]
    head = newline.join(line.encode() for line in change(header))
    return head + newline + data + before_end + newline.join(line.encode() for line in end)


@pytest.fixture
def put(tmp_path):
    def write(content: bytes, name: str = "m.ovf") -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


def refusal(path, **options) -> str:
    with pytest.raises(BadInput) as caught:
        sl.read_ovf(path, **options)
    line = str(caught.value)
    assert "\n" not in line and ";" in line and len(line) < 400, line
    assert line.isprintable()
    return line


# ---------------------------------------------------------------- what the guide describes


@pytest.mark.parametrize("representation", ["Text", "Binary 4", "Binary 8"])
@pytest.mark.parametrize("version", [1, 2])
def test_every_variant(put, version, representation):
    read = sl.read_ovf(put(built(version, representation)))
    assert tuple(read.vectors.shape) == (2, 3, 3, 4)
    assert np.array_equal(read.vectors.numpy(), field())
    assert torch.equal(read.spins, torch.from_numpy(field()))  # unit vectors keep their bits
    assert read.cell == CELL
    assert (read.valueunit, read.title) == ("A/m", "Long file title goes here")
    assert not read.outside.any()


def test_the_check_values_are_the_guides_bytes():
    assert bytes.fromhex("4996b438") in built(1, "Binary 4")
    assert bytes.fromhex("42dc12218377de40") in built(1, "Binary 8")
    assert bytes.fromhex("38b49649") in ovf_bytes(field()[0])


def test_x_runs_fastest_and_row_r_plus_1_lies_at_plus_y(put):
    vectors = np.zeros((2, 3, 3, 4), np.float32)
    vectors[:, 2] = -1
    vectors[1, :, 2, 0] = (1, 0, 0)
    read = sl.read_ovf(put(built(2, "Text", vectors=vectors)))
    assert torch.equal(read.vectors.float(), torch.from_numpy(vectors))
    # the first triple that is not (0, 0, −1) is number x + 4 (y + 3 z)
    lines = built(2, "Text", vectors=vectors).decode().splitlines()
    data = lines[lines.index("# Begin: Data Text") + 1 :]
    assert data[0 + 4 * (2 + 3 * 1)] == "1.0 0.0 0.0"


@pytest.mark.parametrize("representation", ["Text", "Binary 4", "Binary 8"])
def test_the_multiplier_of_version_1_scales(put, representation):
    read = sl.read_ovf(put(built(1, representation, multiplier=8e5)))
    assert np.allclose(read.vectors.numpy(), 8e5 * field().astype(np.float64), rtol=1e-15)
    assert torch.allclose(read.spins, torch.from_numpy(field()), atol=1e-7)
    assert torch.allclose(read.magnitude, torch.full((2, 3, 4), 8e5, dtype=torch.float64), rtol=1e-6)


@pytest.mark.parametrize(("unit", "metres"), [("m", 1), ("nm", 1e-9), ("um", 1e-6), ("µm", 1e-6), ("mm", 1e-3)])
def test_lengths_come_in_metres(put, unit, metres):
    read = sl.read_ovf(put(built(meshunit=unit, cell=(2, 3, 0.5))))
    assert read.cell == pytest.approx((2 * metres, 3 * metres, 0.5 * metres), rel=1e-12)
    assert read.steps == (2, 3, 0.5)


def spelled(spell):
    """A change of every line's label (what stands before the colon)."""

    def change(header):
        return [header[0], *(f"#{spell(line[1:].partition(':')[0])}:{line.partition(':')[2]}" for line in header[1:])]

    return change


@pytest.mark.parametrize("spell", [str.upper, str.lower, str.title, lambda label: label.replace("e", " e\t")])
def test_case_and_blanks_in_labels_do_not_count(put, spell):
    assert np.array_equal(sl.read_ovf(put(built(change=spelled(spell)))).vectors.numpy(), field())


@pytest.mark.parametrize("representation", ["binary 4", "BINARY 8", "text"])
def test_the_representation_may_be_in_any_case(put, representation):
    assert np.array_equal(sl.read_ovf(put(built(representation=representation))).vectors.numpy(), field())


def test_blank_lines_and_comments_between_the_records(put):
    def change(header):
        return [line for record in header for line in (record, "#", "", "# # ", "##  a comment", "#\t")][:-5]

    assert sl.read_ovf(put(built(change=change))).cell == CELL
    commented = built(change=lambda header: [f"{line}  ## why" if "nodes" in line else line for line in header])
    assert np.array_equal(sl.read_ovf(put(commented)).vectors.numpy(), field())


@pytest.mark.parametrize("representation", ["Text", "Binary 4", "Binary 8"])
def test_files_from_windows(put, representation):
    read = sl.read_ovf(put(built(representation=representation, newline=b"\r\n", before_end=b"\r\n")))
    assert np.array_equal(read.vectors.numpy(), field())


@pytest.mark.parametrize("representation", ["Text", "Binary 4", "Binary 8"])
def test_no_newline_before_the_end_line_as_mumax_writes_it(put, representation):
    before = b" " if representation == "Text" else b""
    assert np.array_equal(
        sl.read_ovf(put(built(representation=representation, before_end=before))).vectors.numpy(), field()
    )


def test_text_in_any_layout_with_comments(put):
    lines = built(2, "Text").decode().splitlines()
    begin, end = lines.index("# Begin: Data Text") + 1, lines.index("# End: Data Text")
    numbers = " ".join(lines[begin:end]).split()
    one = [*lines[:begin], " ".join(numbers), *lines[end:]]
    each = [*lines[:begin], "## a comment", *(f"\t{number}  # and another" for number in numbers), *lines[end:]]
    for layout in (one, each):
        assert np.array_equal(sl.read_ovf(put("\n".join(layout).encode())).vectors.numpy(), field())


def test_a_text_of_several_blocks(put):
    nodes = (40, 30, 20)
    content = built(2, "Text", nodes)
    assert len(content) > 2**20
    assert np.array_equal(sl.read_ovf(put(content)).vectors.numpy(), field(nodes))


def test_first_lines_that_mean_the_same(put):
    for first in (
        "# OOMMF: rectangular mesh v0.99",
        "# OOMMF: rectangular mesh v0.0a0",
        "#OOMMF:Rectangular Mesh v1.0",
    ):
        content = built(1, change=lambda header, first=first: [first, *header[1:]])
        assert np.array_equal(sl.read_ovf(put(content)).vectors.numpy(), field())


# ---------------------------------------------------------------- several segments, meshes that do not say


def spirit(*fields: np.ndarray) -> bytes:
    """As Spirit writes a chain of images: a padded count, bounds of zero, no step sizes, lattice vectors."""
    lines = ["# OOMMF OVF 2.0", "#", f"# Segment count: {len(fields):06d}", "#"]
    for vectors in fields:
        lines += ["# Begin: Segment", "# Begin: Header", "#", "# Title: ", "#", "# Desc: ", "#"]
        lines += ["# valuedim: 3   ## field dimensionality", "# valueunits: None None None"]
        lines += ["# valuelabels: spin_x_component spin_y_component spin_z_component ", "#"]
        lines += ["# meshunit: unspecified", *(f"# {axis}min: 0\n# {axis}max: 0" for axis in "xyz")]
        lines += ["# meshtype: rectangular", "# xbase: 1 0 0", "# ybase: 0 1 0", "# zbase: 0 0 1"]
        lines += ["# xnodes: 4", "# ynodes: 3", "# znodes: 2", "#", "# End: Header", "#", "# Begin: Data Text"]
        lines += [f"{x:22.12f} {y:22.12f} {z:22.12f}" for x, y, z in np.moveaxis(vectors, 1, -1).reshape(-1, 3)]
        lines += ["# End: Data Text", "# End: Segment", "#"]
    return "\n".join(lines).encode()


def test_segments_are_chosen(put):
    fields = [field(seed=seed) for seed in range(3)]
    path = put(spirit(*fields))
    for number, vectors in enumerate(fields):
        assert np.allclose(sl.read_ovf(path, segment=number).vectors.numpy(), vectors, atol=1e-11)
    assert "segment=0" in refusal(path)
    assert "it holds 3" in refusal(path, segment=3)
    assert "segment=-1" in refusal(path, segment=-1)
    with pytest.raises(BadInput, match="no step sizes"):
        _ = sl.read_ovf(path, segment=0).cell


def test_segments_after_binary_data(put):
    one, two = built(2, "Binary 4"), built(2, "Binary 8", vectors=field(seed=1))
    both = one.replace(b"count: 1", b"count: 2") + two.partition(b"count: 1\n")[2]
    assert np.array_equal(sl.read_ovf(put(both), segment=1).vectors.numpy(), field(seed=1))


def test_sides_from_the_bounds(put):
    path = put(built(change=lambda header: [line for line in header if "stepsize" not in line]))
    assert sl.read_ovf(path).cell == pytest.approx(CELL, rel=1e-12)


def test_an_unknown_unit_of_length_is_told_when_asked_for(put):
    read = sl.read_ovf(put(built(meshunit="parsec")))
    assert read.steps == CELL
    with pytest.raises(BadInput, match="parsec"):
        _ = read.cell


# ---------------------------------------------------------------- magnetisation


def disk(size: int = 20, radius: float = 8.2) -> np.ndarray:
    """8e5 A/m within a disk, 0 outside, (1, 3, size, size)."""
    y, x = np.indices((size, size)) - (size - 1) / 2
    vectors = field((size, size, 1)) * np.float32(8e5)
    return np.where(x**2 + y**2 < radius**2, vectors, 0).astype(np.float32)


def test_cells_outside_the_sample_are_reported_and_refused_where_a_lattice_is_needed(put):
    vectors = disk()
    read = sl.read_ovf(put(built(nodes=(20, 20, 1), vectors=vectors)))
    empty = int((vectors == 0).all(1).sum())
    assert 0 < empty < 400
    assert int(read.outside.sum()) == empty
    assert f"{empty} cells outside" in repr(read)
    assert not read.spins[:, :, read.outside[0]].any()
    assert torch.allclose(read.spins.norm(dim=1)[~read.outside], torch.ones(400 - empty), atol=1e-6)
    with pytest.raises(BadInput, match=f"{empty} of 400 cells") as caught:
        read.texture()
    part = [int(word) for word in str(caught.value).split("= ")[1].split(",")[0].split()]
    x0, x1, y0, y1 = part
    assert (read.magnitude[0, y0:y1, x0:x1] > 0).all()
    assert torch.equal(read.texture(crop=part), read.spins[0, :, y0:y1, x0:x1])
    with pytest.raises(BadInput, match=f"{empty} of 400 cells.*crop"):
        sl.anneal(sl.Hamiltonian(), start=read.spins)


def test_the_largest_full_part_is_the_largest():
    from spinloom.magnetisation import largest_full_part

    generator = np.random.default_rng(0)
    for _ in range(60):
        rows, columns = generator.integers(1, 7, 2)
        full = torch.from_numpy(generator.random((rows, columns)) < 0.7)
        areas = [
            (x1 - x0) * (y1 - y0)
            for y0 in range(rows)
            for y1 in range(y0 + 1, rows + 1)
            for x0 in range(columns)
            for x1 in range(x0 + 1, columns + 1)
            if full[y0:y1, x0:x1].all()
        ]
        x0, x1, y0, y1 = largest_full_part(full)
        assert full[y0:y1, x0:x1].all()
        assert (x1 - x0) * (y1 - y0) == max(areas, default=0)


def test_layers_are_chosen(put):
    read = sl.read_ovf(put(built()))
    assert torch.equal(read.texture(layer=1), read.spins[1])
    for layer, why in ((None, "holds 2 layers"), (2, "layer=2"), (-1, "layer=-1")):
        with pytest.raises(BadInput, match=why):
            read.texture(layer=layer)
    with pytest.raises(BadInput, match="crop=0 5 0 3"):
        read.texture(layer=0, crop=(0, 5, 0, 3))


@pytest.mark.parametrize("scale", [5e-324, 1e-300, 1e-40, 1.0, 8e5, 1e150, 1e300])
def test_directions_at_any_magnitude(put, scale):
    vectors = np.zeros((1, 3, 1, 2))
    vectors[0, :, 0, 0] = (3 * scale, 4 * scale, 0)
    vectors[0, :, 0, 1] = (0, 0, -scale)
    read = sl.read_ovf(put(built(2, "Binary 8", (2, 1, 1), vectors)))
    assert torch.allclose(read.spins[0, :, 0].T, torch.tensor([[0.6, 0.8, 0], [0, 0, -1.0]]), atol=1e-7)
    assert not read.outside.any()


# ---------------------------------------------------------------- what we write


@pytest.mark.parametrize("mode", ["text", "bin4", "bin8"])
@pytest.mark.parametrize("layers", [1, 3])
def test_what_we_write_is_read_back_bit_for_bit(tmp_path, mode, layers):
    spins = torch.from_numpy(field((6, 5, layers)))
    spins[0, :, 0, 0] = torch.tensor([0.0, -0.0, 1.0])
    sl.write_ovf(tmp_path / "m.ovf", spins, CELL, mode)
    read = sl.read_ovf(tmp_path / "m.ovf")
    assert read.spins.numpy().tobytes() == spins.numpy().tobytes()
    assert read.vectors.float().numpy().tobytes() == spins.numpy().tobytes()
    assert read.cell == CELL
    if mode != "bin4":
        exact = torch.randn(layers, 3, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 8e5
        sl.write_ovf(tmp_path / "m.ovf", exact, CELL, mode)
        assert sl.read_ovf(tmp_path / "m.ovf").vectors.numpy().tobytes() == exact.numpy().tobytes()


def test_one_texture_and_annealing_on_from_a_file(tmp_path):
    H = sl.Hamiltonian(D=0.6)
    schedule = sl.Schedule.geometric(1.0, 0.3, steps=2)
    spins = sl.anneal(H, size=8, seed=1, schedule=schedule)
    sl.write_ovf(tmp_path / "m.ovf", spins[0])
    read = sl.read_ovf(tmp_path / "m.ovf")
    assert torch.equal(read.spins, spins)
    again = sl.anneal(H, start=read.spins, seed=2, schedule=schedule)
    assert torch.equal(again, sl.anneal(H, start=spins, seed=2, schedule=schedule))


def test_magnitude_gives_vectors_in_amperes_a_metre(tmp_path):
    sl.write_ovf(tmp_path / "m.omf", field()[0], CELL, "bin8", magnitude=8e5)
    read = sl.read_ovf(tmp_path / "m.omf")
    assert read.valueunit == "A/m"
    assert np.array_equal(read.vectors[0].numpy(), 8e5 * field()[0].astype(np.float64))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"mode": "bin16"}, "mode=.bin16"),
        ({"cell": (1e-9, 1e-9)}, "cell="),
        ({"cell": (1e-9, 0, 1e-9)}, "cell="),
        ({"cell": (1e-9, float("nan"), 1e-9)}, "cell="),
        ({"magnitude": -1}, "magnitude=-1"),
        ({"title": "two\nlines"}, "title="),
        ({"spins": np.zeros((2, 2, 3, 4, 4))}, "shape"),
        ({"spins": np.zeros((4, 4))}, "shape"),
        ({"spins": np.full((3, 4, 4), np.nan)}, "not finite"),
        ({"spins": np.full((3, 4, 4), 1e39)}, "4 bytes"),
    ],
)
def test_what_cannot_be_written_is_refused_and_leaves_nothing(tmp_path, change, why):
    options = {"spins": field()[0], **change}
    with pytest.raises(BadInput, match=why):
        sl.write_ovf(tmp_path / "m.ovf", **options)
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- files of OOMMF and mumax³


@pytest.mark.skipif(not REAL.is_dir(), reason="no folder of files from other programs")
def test_files_of_other_programs():
    found = {path.name: sl.read_ovf(path) for path in sorted(REAL.iterdir())}
    assert found
    for name, read in found.items():
        assert float(read.magnitude.std()) < 1e-6 * float(read.magnitude.mean()), name
        assert torch.allclose(read.spins.norm(dim=1), torch.ones(()), atol=1e-6)
    # text and binary of one state of OOMMF's
    one, other = found["oommf-ovf2-txt.omf"], found["oommf-ovf2-bin8.omf"]
    assert torch.allclose(one.vectors, other.vectors, rtol=1e-12, atol=1e-6)
    assert other.cell == pytest.approx((1e-9, 1e-9, 1e-9))
    assert tuple(found["mumax-txt-linux.ovf"].vectors.shape) == (4, 3, 12, 24)
    # a skyrmion: its core points the other way than its surroundings, and it winds once
    skyrmion = found["skyrmion.omf"].texture()
    assert float(skyrmion[2, 9:11, 9:11].mean()) > 0.8 > -0.8 > float(skyrmion[2, 0].mean())
    assert abs(float(sl.charge(skyrmion))) == pytest.approx(1, abs=1e-4)


# ---------------------------------------------------------------- files that lie


REFUSED = {
    "absurd-nodes.ovf": "cut off, or wrong counts",
    "absurd-nodes-text.ovf": "cut off, or wrong counts",
    "bad-number.ovf": "is no number",
    "big-endian-as-2.0.ovf": "other way round",
    "control-characters.ovf": "rectangular",
    "empty.ovf": "not as OVF",
    "end-inside-data.ovf": "cut off",
    "escape-in-first-line.ovf": "not as OVF",
    "fewer-numbers.ovf": "cut off, or wrong node counts",
    "four-components.ovf": "components",
    "fractional-nodes.ovf": "xnodes",
    "header-only.ovf": "ends within its header",
    "huge-multiplier.ovf": "infinite",
    "infinite-step.ovf": "xstepsize",
    "infinity-binary-4.ovf": "infinite",
    "irregular-1.0.ovf": "irregular",
    "irregular-2.0.ovf": "irregular",
    "little-endian-as-1.0.ovf": "other way round",
    "long-number.ovf": "is no number",
    "long-title.ovf": "a line of over",
    "more-numbers.ovf": "wrong node counts",
    "multiplier-zero.ovf": "valuemultiplier",
    "multiplier-in-2.0.ovf": "valuemultiplier",
    "nan-binary-8.ovf": "NaN",
    "nan-text.ovf": "NaN",
    "negative-nodes.ovf": "xnodes='-4'",
    "no-begin-data.ovf": "ends within its header",
    "no-end-line.ovf": "no End line",
    "no-nodes.ovf": "no xnodes",
    "no-valuedim.ovf": "no valuedim",
    "nodes-of-400-digits.ovf": "xnodes",
    "nodes-twice.ovf": "stands twice",
    "one-layer-too-few.ovf": "should",
    "scalar.ovf": "components",
    "segment-count-negative.ovf": "segment count",
    "segments-two.ovf": "segment=0",
    "text-mangled-newlines.ovf": "check value",
    "truncated-binary-4.ovf": "cut off",
    "truncated-binary-8.ovf": "cut off",
    "truncated-text.ovf": "numbers",
    "underscore.ovf": "is no number",
    "unknown-representation.ovf": "Binary 16",
    "utf-16.ovf": "not as OVF",
    "wrong-check-value.ovf": "check value",
    "zero-bytes.ovf": "not as OVF",
    "zero-nodes.ovf": "znodes='0'",
    "zip.ovf": "not as OVF",
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refused_with_one_line(name):
    assert REFUSED[name] in refusal(CORPUS / name)


def test_the_corpus_is_whole():
    assert {path.name for path in CORPUS.iterdir() if path.suffix == ".ovf"} == set(REFUSED)


# a text that shall hold 3 × 50,000 × 3 × 2 numbers
MANY = built(2, "Text").replace(b"xnodes: 4", b"xnodes: 50000").partition(b"Data Text\n")[0] + b"Data Text\n"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"# " + b"x" * 10_000_000, "a line of over"),
        (b"x" * 10_000_000, "a line of over"),
        (b"# OOMMF OVF 2.0\n# Title: " + b"x" * 10_000_000, "a line of over"),
        (b"# OOMMF OVF 2.0\n# Begin: Segment\n# Begin: Header\n" + b"# Desc: on and on\n" * 600_000, "header of over"),
        (b"# OOMMF OVF 2.0\n" + b"\n" * 10_000_000, "header of over"),
        (MANY + b"1" * 10_000_000, "a line of over"),
        (MANY + b"1 " * 5_000_000, "a line of over"),
        (MANY + b"1\n" * 5_000_000, "more than 900000 numbers"),
        (MANY + b" " * 10_000_000, "a line of over"),
        (MANY + b"# \n" * 3_000_000, "ends within its data, after 0"),
        (MANY + b"#" * 10_000_000, "a line of over"),
    ],
    ids=["comment", "line", "title", "header", "newlines", "digits", "numbers", "lines", "blanks", "comments", "marks"],
)
def test_ten_megabytes_of_nonsense_take_no_time(put, content, why):
    path = put(content)
    began = time.thread_time()
    assert why in refusal(path)
    assert time.thread_time() - began < 10  # a second at the most where nothing else runs


@pytest.mark.parametrize("piece", [b"1 2\n", b"1e-8 ", b"#\n", b"\n", b"x", b"# Title: x\n", b"0.123456789012345678\n"])
@pytest.mark.parametrize("start", [b"", b"# OOMMF OVF 2.0\n", MANY], ids=["no header", "header", "data"])
def test_nonsense_takes_no_more_memory_than_its_length_allows(put, start, piece):
    path = put(start + piece * (2_000_000 // len(piece)))
    tracemalloc.start()
    try:
        refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 40e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("nodes", [b"1000000000", b"99999999999999999", b"2147483648", b"18446744073709551616"])
@pytest.mark.parametrize("representation", ["Text", "Binary 4", "Binary 8"])
def test_absurd_node_counts_allocate_nothing(put, nodes, representation):
    path = put(built(2, representation).replace(b"xnodes: 4", b"xnodes: " + nodes))
    tracemalloc.start()
    try:
        refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


def test_what_is_no_file(tmp_path):
    assert "cannot be read" in refusal(tmp_path / "none.ovf")
    assert "not a file" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe.ovf")
    assert "not a file" in refusal(tmp_path / "pipe.ovf")  # and nobody waits for a writer


def test_the_command_line_says_one_line(tmp_path):
    command = [sys.executable, "-m", "spinloom", "import", str(CORPUS / "absurd-nodes.ovf"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and "absurd-nodes.ovf" in done.stderr
    assert not list(tmp_path.iterdir())


SEEDS = [
    *(built(version, kind) for version in (1, 2) for kind in ("Text", "Binary 4", "Binary 8")),
    spirit(field(), field(seed=1)),
    built(1, multiplier=8e5, newline=b"\r\n"),
]
LABELS = [
    "xnodes",
    "ynodes",
    "znodes",
    "xstepsize",
    "valuedim",
    "meshtype",
    "valuemultiplier",
    "Begin",
    "End",
    "meshunit",
]
VALUES = ["4", "-1", "0", "1e9", "99999999999", "nan", "inf", "1e308", "rectangular", "irregular", "Data Text"]
VALUES += ["Data Binary 4", "Data Binary 8", "Segment", "Header", "", "##", ":", "\x00", "１", "é" * 30]
WORDS = [b"\n", b"#", b" ", b"\x00", b"\xff" * 8, b"nan", b"inf", b"1_0", b"# End: Data Text\n", b"# Begin: Segment\n"]


@st.composite
def damaged(draw) -> bytes:
    """A good file after a few cuts, copies, overwritten bytes and strange words."""
    content = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(content)))
        until = min(len(content), at + draw(st.sampled_from([0, 1, 2, 8, 60, 10**6])))
        match draw(st.sampled_from(["cut", "copy", "byte", "word", "line"])):
            case "cut":
                del content[at:until]
            case "copy":
                content[at:at] = content[at:until]
            case "byte" if content:
                content[at % len(content)] = draw(st.integers(0, 255))
            case "word":
                content[at:until] = draw(st.sampled_from(WORDS) | st.binary(max_size=12))
            case "line":
                label, value = draw(st.sampled_from(LABELS)), draw(st.sampled_from(VALUES))
                start = bytes(content).rfind(b"\n", 0, at) + 1
                content[start:start] = f"# {label}: {value}\n".encode()
    return bytes(content)


FIRST = ["# OOMMF OVF 2.0", "# OOMMF: rectangular mesh v1.0", "# OOMMF: irregular mesh v1.0"]
USUAL = {"xnodes": "2", "ynodes": "2", "znodes": "1", "valuedim": "3", "meshtype": "rectangular", "xstepsize": "1"}


@st.composite
def headed(draw) -> bytes:
    """A header in which a few records say something else, some twice, before any data."""
    other = st.sampled_from(VALUES) | st.text(max_size=9)
    records = USUAL | draw(st.dictionaries(st.sampled_from(LABELS), other, max_size=3))
    again = draw(st.lists(st.tuples(st.sampled_from(LABELS), other), max_size=1))
    order = draw(st.permutations([*records.items(), *again]))
    lines = [draw(st.sampled_from(FIRST)), "# Begin: Segment", *(f"# {label}: {value}" for label, value in order)]
    kind = draw(st.sampled_from(["Text", "Binary 4", "Binary 8", "text", "Binary", None]))
    lines += [f"# Begin: Data {kind}"] * (kind is not None)
    data = draw(st.binary(max_size=150) | st.sampled_from([b"1 0 0\n" * 4, struct.pack("<13f", 1234567.0, *[1] * 12)]))
    return "\n".join(lines).encode("utf-8", "surrogatepass") + b"\n" + data + b"\n# End: Data Text\n"


def read_or_refused(path: Path, content: bytes, segment: int | None) -> None:
    path.write_bytes(content)
    try:
        read = sl.read_ovf(path, segment)
    except BadInput as error:
        assert "\n" not in str(error) and len(str(error)) < 500
        return
    assert read.vectors.isfinite().all() and read.vectors.shape[1] == 3
    assert read.vectors.numel() <= len(content)
    assert read.spins.isfinite().all()
    assert repr(read).isprintable()


FUZZ = settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@FUZZ
@given(damaged(), st.sampled_from([None, 0, 1]))
def test_damaged_files_are_read_or_refused(tmp_path_factory, content, segment):
    read_or_refused(tmp_path_factory.getbasetemp() / "damaged.ovf", content, segment)


@FUZZ
@given(headed(), st.sampled_from([None, 0, 1]))
def test_strange_headers_are_read_or_refused(tmp_path_factory, content, segment):
    read_or_refused(tmp_path_factory.getbasetemp() / "headed.ovf", content, segment)


@FUZZ
@given(st.binary(max_size=2000))
def test_any_bytes_are_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "bytes.ovf"
    path.write_bytes(content)
    refusal(path)
