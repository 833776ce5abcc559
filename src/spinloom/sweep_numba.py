"""The sweep of :mod:`spinloom.sweep` on a CPU: a row of one colour at a time, in SIMD registers.

The inner loops are written lane by lane. While Numba compiles, the functions under "rows" run once, on
:class:`Lanes` values whose arithmetic appends LLVM vector instructions. So vectorisation is not left to chance,
and as every operation is elementwise and IEEE-exact (fused where ``fma`` says so; no fast-math, no approximate
reciprocals), the bits do not depend on the width of the registers, the number of threads or the batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from spinloom.hamiltonian import Hamiltonian
from spinloom.random import EXTRA, PARITY, ROTATIONS, ROUNDS, texture_key
from spinloom.schedule import Schedule
from spinloom.sweep import HOT, TINY

LANES = 16
"""Sites at a time: two AVX2 registers side by side, or one of AVX-512, or four of NEON."""

PAD = 16
"""Floats between rows, where the periodic neighbours on either side are kept."""

TOGETHER = 5
"""Sweeps that cross the lattice as one wave, so that the rows in work stay in the nearest cache: as many as the
default schedule has at a temperature."""

AT_ONCE = 50_000_000
"""Site updates in one call, a fraction of a second: an interrupt waits no longer."""


# lanes -------------------------------------------------------------------------------------------------------

_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_INTS = ir.VectorType(ir.IntType(32), LANES)


class Lanes:
    """LANES float32 or 32-bit whole numbers in the making: arithmetic on them emits one vector instruction."""

    def __init__(self, builder: ir.IRBuilder, value: Any) -> None:
        self.builder, self.value = builder, value

    def like(self, other: Any) -> Lanes:
        """``other`` as lanes of this kind: a constant in all of them, or lanes already."""
        if isinstance(other, Lanes):
            return other
        number = float(np.float32(other)) if self.value.type == _FLOATS else int(other) & 0xFFFFFFFF
        return self.of(ir.Constant(self.value.type, [number] * LANES))

    def of(self, value: Any) -> Lanes:
        return Lanes(self.builder, value)

    def emit(self, operation: str, other: Any) -> Lanes:
        """``operation`` as the IR builder names it for whole numbers, with an f before it for floats."""
        name = ("f" if self.value.type == _FLOATS else "") + operation
        return self.of(getattr(self.builder, name)(self.value, self.like(other).value))

    def __add__(self, other: Any) -> Lanes:
        return self.emit("add", other)

    def __sub__(self, other: Any) -> Lanes:
        return self.emit("sub", other)

    def __rsub__(self, other: Any) -> Lanes:
        return self.like(other) - self

    def __mul__(self, other: Any) -> Lanes:
        return self.emit("mul", other)

    def __truediv__(self, other: Any) -> Lanes:
        return self.emit("div", other)

    def __rtruediv__(self, other: Any) -> Lanes:
        return self.like(other) / self

    def __neg__(self) -> Lanes:
        return self.of(self.builder.fneg(self.value))

    def __and__(self, other: Any) -> Lanes:
        return self.emit("and_", other)

    def __or__(self, other: Any) -> Lanes:
        return self.emit("or_", other)

    def __xor__(self, other: Any) -> Lanes:
        return self.emit("xor", other)

    def __lshift__(self, other: int) -> Lanes:
        return self.emit("shl", other)

    def __rshift__(self, other: int) -> Lanes:
        return self.emit("lshr", other)

    def __lt__(self, other: Any) -> Lanes:
        return self.of(self.builder.fcmp_ordered("<", self.value, self.like(other).value))

    def call(self, name: str, *others: Any) -> Lanes:
        """The LLVM intrinsic ``name`` of lanes all of one kind."""
        values = [self.value, *(self.like(other).value for other in others)]
        function = ir.FunctionType(self.value.type, [self.value.type] * len(values))
        full = f"llvm.{name}.v{LANES}{'f32' if self.value.type == _FLOATS else 'i32'}"
        callee = cgutils.get_or_insert_function(self.builder.module, function, full)
        return self.of(self.builder.call(callee, values))

    def bits(self) -> Lanes:
        return self.of(self.builder.bitcast(self.value, _INTS))

    def with_bits(self) -> Lanes:
        """The float with these bits."""
        return self.of(self.builder.bitcast(self.value, _FLOATS))

    def to_float(self) -> Lanes:
        """The float nearest to this signed whole number."""
        return self.of(self.builder.sitofp(self.value, _FLOATS))


def fma(a: Lanes, b: Any, c: Any) -> Lanes:
    """a·b + c, rounded once."""
    return a.call("fma", b, c)


def sqrt(a: Lanes) -> Lanes:
    return a.call("sqrt")


def choose(condition: Lanes, yes: Lanes, no: Lanes) -> Lanes:
    return yes.of(yes.builder.select(condition.value, yes.value, no.value))


def minimum(a: Lanes, b: Any) -> Lanes:
    return choose(a < b, a, a.like(b))


def maximum(a: Lanes, b: Any) -> Lanes:
    return choose(a.like(b) < a, a, a.like(b))


def polynomial(x: Lanes, coefficients: tuple[float, ...]) -> Lanes:
    """c₀ + c₁ x + c₂ x² + …, neighbours paired and pairs paired again: shorter chains than Horner's."""
    terms = [x.like(c) for c in coefficients]
    while len(terms) > 1:
        pairs = [fma(x, high, low) for low, high in zip(terms[::2], terms[1::2], strict=False)]
        terms = pairs + ([terms[-1]] if len(terms) % 2 else [])
        x = x * x
    return terms[0]


# functions ---------------------------------------------------------------------------------------------------

# Minimax fits of the relative (COSINE: absolute) error, largest before rounding 1e-8, 2e-7, 5e-9, 5e-8:
EXP2M1 = (0.69314718, 0.24022649, 0.055503573, 0.0096182376, 0.0013390735, 0.00015403512)
"""(2ˣ − 1)/x, |x| ≤ 1/2."""
LOG1P = (0.99999994, -0.50000364, 0.3333506, -0.24969909, 0.19900166, -0.17250831, 0.16222575, -0.10106884)
"""ln(1 + x)/x, √½ − 1 ≤ x < √2 − 1."""
SINE = (3.1415927, -5.1677098, 2.5500698, -0.5982421, 0.077560388)
"""sin(πx)/x as a function of x², |x| ≤ 1/2."""
COSINE = (0.99999994, -4.934793, 4.058412, -1.3318802, 0.2196968)
"""cos(πx) as a function of x², |x| ≤ 1/2."""


def exp2_parts(x: Lanes) -> tuple[Lanes, Lanes]:
    """(e, s) with 2ˣ = s + s·e, x ≤ 0: s = 2ⁿ, n whole; for small x, s = 1 and 2ˣ − 1 = e to all its digits."""
    x = maximum(x, -126.0)
    shifted = x + 12582912.0  # 1.5·2²³: the sum rounds x to n, which then sits in the lowest bits
    fraction = x - (shifted - 12582912.0)
    s = ((shifted.bits() << 23) + 0x3F800000).with_bits()
    return fraction * polynomial(fraction, EXP2M1), s


def minus_log1p_minus(m: Lanes) -> Lanes:
    """−ln(1 − m), 0 ≤ m < 1. With 1 − m = 2ᵏ(1 + f), f comes from m in one rounding: exact where k = 0."""
    k = ((1.0 - m).bits() - 0x3F3504F3) & 0xFF800000  # k·2²³; the constant is √½
    scale = (m.like(1.0).bits() - k).with_bits()  # 2⁻ᵏ
    minus_f = fma(m, scale, 1.0 - scale)
    f = -minus_f
    return fma(minus_f, polynomial(f, LOG1P), k.to_float() * (-0.6931471805599453 / 2**23))


def sine_cosine(word: Lanes) -> tuple[Lanes, Lanes]:
    """sin 2πv and cos 2πv, v the word's upper 24 bits / 2²⁴: of the half angle, then doubled."""
    signed = word.of(word.builder.ashr(word.value, word.like(8).value))  # v or v − 1: the same angle
    half = signed.to_float() * 2.0**-24
    square = half * half
    s, c = half * polynomial(square, SINE), polynomial(square, COSINE)
    twice = s + s
    return twice * c, fma(-twice, s, 1.0)


def uniform(word: Lanes) -> Lanes:
    """The word's upper 24 bits / 2²⁴, in [0, 1)."""
    return (word >> 8).to_float() * 2.0**-24


def random_words(key: list[Lanes], sweep: Lanes, sites: Lanes) -> tuple[Lanes, Lanes]:
    """:func:`spinloom.random.site_words`."""
    keys = [*key, key[0] ^ key[1] ^ PARITY]
    x0, x1 = sweep + keys[0], sites + keys[1]
    for number in range(ROUNDS):
        x0 = x0 + x1
        x1 = x1.call("fshl", x1, ROTATIONS[number % 8]) ^ x0
        if number % 4 == 3:
            again = number // 4 + 1
            x0 = x0 + keys[again % 3]
            x1 = x1 + (keys[(again + 1) % 3] + again)
    return x0, x1


# rows --------------------------------------------------------------------------------------------------------

SCRATCH = ("u", "v", "h_x", "h_y", "h_z", "length", "drop", "across_x", "across_y")
"""Rows at the head of the buffer through which the short loops of a heat bath hand on what they found."""


class Row:
    """LANES sites of a row: their spins, their neighbours', the parameters, their random words."""

    def __init__(self, builder: Any, buffer: Any, place: list[Any], pitch: Any, numbers: Any, words: Any) -> None:
        self.builder, self.buffer, self.pitch = builder, buffer, pitch
        self.own, self.beside, self.above, self.below, _ = place
        self.D, self.B, self.T, self.octaves, self.k_octaves, self.pull_xy, self.pull_z = numbers
        self.key, self.sweep, self.site = words[:2], words[2], words[3]
        self.k: Any = None

    def _pointer(self, offset: Any, row: int) -> Any:
        """The place of k in the row-th row after ``offset``."""
        start = self.builder.add(offset, self.builder.mul(self.pitch, ir.Constant(self.pitch.type, row)))
        pointer = self.builder.gep(self.buffer, [self.builder.add(start, self.k)])
        return self.builder.bitcast(pointer, _FLOATS.as_pointer())

    def _load(self, offset: Any, row: int) -> Lanes:
        return Lanes(self.builder, self.builder.load(self._pointer(offset, row), align=4))

    def spins(self, offset: Any) -> list[Lanes]:
        return [self._load(offset, component) for component in range(3)]

    def old(self) -> list[Lanes]:
        return self.spins(self.own)

    def store(self, spins: list[Lanes]) -> None:
        for component, value in enumerate(spins):
            self.builder.store(value.value, self._pointer(self.own, component), align=4)

    def get(self, *names: str) -> list[Lanes]:
        return [self._load(ir.Constant(self.pitch.type, 0), SCRATCH.index(name)) for name in names]

    def put(self, **values: Lanes) -> None:
        for name, value in values.items():
            pointer = self._pointer(ir.Constant(self.pitch.type, 0), SCRATCH.index(name))
            self.builder.store(value.value, pointer, align=4)

    def field(self) -> list[Lanes]:
        """h of :func:`spinloom.sweep.linear_field`, in units of J."""
        next_one = self.builder.add(self.beside, ir.Constant(self.pitch.type, 1))
        left, right, up, down = map(self.spins, (self.beside, next_one, self.above, self.below))
        x, y, z = ((left[c] + right[c]) + (up[c] + down[c]) for c in range(3))
        return [
            fma(self.D, left[2] - right[2], x),
            fma(self.D, down[2] - up[2], y),
            fma(self.D, (right[0] - left[0]) + (up[1] - down[1]), z + self.B) + TINY,
        ]

    def words(self, extra: bool = False) -> tuple[Lanes, Lanes]:
        k = self.builder.trunc(self.k, ir.IntType(32))
        sites = self.site + _in_all_lanes(self.builder, self.builder.add(k, k))
        return random_words(self.key, self.sweep, sites | EXTRA if extra else sites)


def dot(a: list[Lanes], b: list[Lanes]) -> Lanes:
    return fma(a[2], b[2], fma(a[1], b[1], a[0] * b[0]))


# A heat bath is six short loops over the row rather than a long one: a core looks some hundred instructions ahead,
# and has to see the next sites there to work on them while the chain of operations of the present ones completes.


def draw(row: Row) -> None:
    first, second = row.words()
    row.put(u=uniform(first), v=second.with_bits())


def weigh(row: Row) -> None:
    h = row.field()
    row.put(h_x=h[0], h_y=h[1], h_z=h[2], length=sqrt(dot(h, h)))


def cap(row: Row) -> None:
    """m = u·(1 − e^(−2b)), in the place of u."""
    u, length = row.get("u", "length")
    e, s = exp2_parts(length * row.octaves)
    row.put(u=u * fma(-s, e, 1.0 - s))


def tilt(row: Row) -> None:
    """1 − cos θ."""
    m, length = row.get("u", "length")
    row.put(drop=minimum(minus_log1p_minus(m) * (row.T / length), 2.0))


def spin_around(row: Row) -> None:
    """sin θ cos φ and sin θ sin φ."""
    drop, v = row.get("drop", "v")
    sine, cosine = sine_cosine(v.bits())
    across = sqrt(drop * (2.0 - drop))
    row.put(across_x=across * cosine, across_y=across * sine)


def point(row: Row) -> list[Lanes]:
    """:func:`spinloom.sweep.around`."""
    h_x, h_y, h_z, length, drop, across_x, across_y = row.get(*SCRATCH[2:])
    beyond = length + (h_z.bits() & 0x7FFFFFFF).with_bits()
    inverse = 1.0 / (length * beyond)  # one division for 1/|h| and 1/(|h| + |h_z|)
    per_length, per_beyond = inverse * beyond, inverse * length
    along = 1.0 - drop
    in_plane = fma(h_x, across_x, h_y * across_y)
    back = fma(in_plane, per_beyond, -along) * per_length
    side = (in_plane.bits() ^ (h_z.bits() & 0x80000000)).with_bits()
    return [fma(-h_x, back, across_x), fma(-h_y, back, across_y), fma(along, h_z, -side) * per_length]


def finish_heat_bath(row: Row) -> None:
    row.store(point(row))


def finish_heat_bath_k(row: Row) -> None:
    row.store(accept(row, row.old(), point(row)))


def over_relax(row: Row) -> None:
    old = row.old()
    row.store(mirrored(row, old))


def over_relax_k(row: Row) -> None:
    old = row.old()
    row.store(accept(row, old, mirrored(row, old)))


def mirrored(row: Row, old: list[Lanes]) -> list[Lanes]:
    """:func:`spinloom.sweep.over_relax`."""
    field = row.field()
    product = dot(field, old)
    twice = (product + product) / dot(field, field)
    return [fma(twice, h, -s) for h, s in zip(field, old, strict=True)]


def align(row: Row) -> None:
    """:func:`spinloom.sweep.align`."""
    row.store(unit(row.field()))


def align_k(row: Row) -> None:
    pulls = (row.pull_xy, row.pull_xy, row.pull_z)
    row.store(unit([fma(pull, s, h) for pull, s, h in zip(pulls, row.old(), row.field(), strict=True)]))


def unit(field: list[Lanes]) -> list[Lanes]:
    inverse = 1.0 / sqrt(dot(field, field))
    return [h * inverse for h in field]


def accept(row: Row, old: list[Lanes], new: list[Lanes]) -> list[Lanes]:
    """:func:`spinloom.sweep.accept`."""
    w = uniform(row.words(extra=True)[0])
    gain = row.k_octaves * fma(new[2], new[2], -(old[2] * old[2]))
    e, s = exp2_parts(minimum(gain, 0.0))
    taken = w < fma(s, e, s)
    return [choose(taken, after, before) for after, before in zip(new, old, strict=True)]


def _in_all_lanes(builder: Any, scalar: Any) -> Lanes:
    kind = ir.VectorType(scalar.type, LANES)
    none = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(none, scalar, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(_INTS, [0] * LANES)
    return Lanes(builder, builder.shuffle_vector(first, none, zeros))


def _loop(update: Callable[[Row], None]) -> Any:
    """``loop(buffer, place, pitch, count, numbers, key, sweep)``: ``update`` for count·LANES sites of a row."""

    @intrinsic
    def loop(typing: Any, buffer: Any, place: Any, pitch: Any, count: Any, numbers: Any, key: Any, sweep: Any) -> Any:
        places = types.UniTuple(types.intp, 5)
        signature = types.none(buffer, places, types.intp, types.intp, numbers, key, types.intp)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            buffer, place, pitch, count, numbers, key, sweep = arguments
            i32 = ir.IntType(32)

            def data(which: int, array: Any) -> Any:
                return context.make_array(signature.args[which])(context, builder, array).data

            def entries(pointer: Any, many: int) -> list[Lanes]:
                places = (builder.gep(pointer, [ir.Constant(i32, n)]) for n in range(many))
                return [_in_all_lanes(builder, builder.load(place)) for place in places]

            place = cgutils.unpack_tuple(builder, place)
            every_other = Lanes(builder, ir.Constant(_INTS, [2 * lane for lane in range(LANES)]))
            words = [
                *entries(data(5, key), 2),
                _in_all_lanes(builder, builder.trunc(sweep, i32)),
                _in_all_lanes(builder, builder.trunc(place[4], i32)) + every_other,
            ]
            row = Row(builder, data(0, buffer), place, pitch, entries(data(4, numbers), 7), words)
            with cgutils.for_range(builder, count) as turn:
                row.k = builder.mul(turn.index, ir.Constant(count.type, LANES))
                update(row)
            return context.get_dummy_value()

        return signature, generate

    return loop


def _align_frame(typing: Any) -> Any:
    """Begin the caller's frame on a cache line; registers kept there may else straddle two, at half the speed."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        room = cgutils.alloca_once(builder, _FLOATS)
        room.align = 64
        kept = ir.FunctionType(ir.VoidType(), [room.type])
        builder.asm(kept, "", "r", [room], side_effect=True)  # without a use the room would be optimised away
        return context.get_dummy_value()

    return types.none(), generate


_on_a_cache_line: Any = intrinsic(_align_frame)
_draw, _weigh, _cap, _tilt, _spin_around = map(_loop, (draw, weigh, cap, tilt, spin_around))
_finish_heat_bath, _over_relax, _align = map(_loop, (finish_heat_bath, over_relax, align))
_finish_heat_bath_k, _over_relax_k, _align_k = map(_loop, (finish_heat_bath_k, over_relax_k, align_k))


# a texture ---------------------------------------------------------------------------------------------------

HEAT_BATH, OVER_RELAX, ALIGN, ANISOTROPIC = 0, 1, 2, 3
"""Kinds of sweep; the last is not one, but added to them where K ≠ 0."""


def _compiled(function: Callable[..., Any]) -> Any:
    """Numba's compilation, kept on disk where there is a place for it; other threads run meanwhile."""
    function = inspect.unwrap(function)  # without the checks of shapes and types that a test run puts around it
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's can be written
        return njit(**options)(function)


@_compiled
def _begin(r, colour, pitch):
    """The x row of one colour's sites in row r: SCRATCH rows, then for every r and colour x, y, z rows."""
    return PAD + (len(SCRATCH) + 3 * (2 * r + colour)) * pitch


@_compiled
def _wrap(buffer, own, half, pitch):
    """The periodic neighbours left and right of a row."""
    for component in range(3):
        start = own + component * pitch
        buffer[start - 1] = buffer[start + half - 1]
        buffer[start + half] = buffer[start]


@_compiled
def _run(buffer, height, half, pitch, kinds, numbers, key, first):
    """Sweeps number first, first + 1, … of the given kinds, numbers[i] the parameters of the i-th.

    Stage 2i + c of a wave is colour c of its sweep i. It starts one row after the stage before it and goes round
    once, two steps behind it: always after that stage has done the same row and those on either side of it, and
    never before that stage has used what this one changes.
    """
    _on_a_cache_line()
    lanes = (half + LANES - 1) // LANES
    for begin in range(0, kinds.size, TOGETHER):
        stages = 2 * min(TOGETHER, kinds.size - begin)
        for tick in range(height + 2 * (stages - 1)):
            turned = tick % height
            for stage in range(max(0, (tick - height) // 2 + 1), min(stages, tick // 2 + 1)):
                r = turned - stage
                while r < 0:
                    r += height
                sweep, colour = begin + stage // 2, stage % 2
                odd = (r & 1) ^ colour
                own = _begin(r, colour, pitch)
                beside = _begin(r, 1 - colour, pitch) + odd - 1
                above = _begin(r + 1 if r + 1 < height else 0, 1 - colour, pitch)
                below = _begin(r - 1 if r > 0 else height - 1, 1 - colour, pitch)
                place = (own, beside, above, below, 2 * half * r + odd)
                row, number, kind = numbers[sweep], first + sweep, kinds[sweep]
                if kind % ANISOTROPIC == HEAT_BATH:
                    _draw(buffer, place, pitch, lanes, row, key, number)
                    _weigh(buffer, place, pitch, lanes, row, key, number)
                    _cap(buffer, place, pitch, lanes, row, key, number)
                    _tilt(buffer, place, pitch, lanes, row, key, number)
                    _spin_around(buffer, place, pitch, lanes, row, key, number)
                    if kind == HEAT_BATH:
                        _finish_heat_bath(buffer, place, pitch, lanes, row, key, number)
                    else:
                        _finish_heat_bath_k(buffer, place, pitch, lanes, row, key, number)
                elif kind == OVER_RELAX:
                    _over_relax(buffer, place, pitch, lanes, row, key, number)
                elif kind == OVER_RELAX + ANISOTROPIC:
                    _over_relax_k(buffer, place, pitch, lanes, row, key, number)
                elif kind == ALIGN:
                    _align(buffer, place, pitch, lanes, row, key, number)
                else:
                    _align_k(buffer, place, pitch, lanes, row, key, number)
                _wrap(buffer, own, half, pitch)


@_compiled
def _pack(spins, buffer, pitch, bulk):
    """A texture (3, H, W) into rows of one colour; of bulk DMI turned by +90° about z."""
    _, height, width = spins.shape
    half = width // 2
    for r in range(height):
        for colour in range(2):
            own, odd = _begin(r, colour, pitch), (r & 1) ^ colour
            for k in range(half):
                x, y = spins[0, r, 2 * k + odd], spins[1, r, 2 * k + odd]
                buffer[own + k] = -y if bulk else x
                buffer[own + pitch + k] = x if bulk else y
                buffer[own + 2 * pitch + k] = spins[2, r, 2 * k + odd]
            _wrap(buffer, own, half, pitch)


@_compiled
def _unpack(buffer, spins, pitch, bulk):
    """The inverse of :func:`_pack`; lengths, which wander by a rounding error a sweep, are set to 1."""
    _, height, width = spins.shape
    half = width // 2
    for r in range(height):
        for colour in range(2):
            own, odd = _begin(r, colour, pitch), (r & 1) ^ colour
            for k in range(half):
                x, y, z = buffer[own + k], buffer[own + pitch + k], buffer[own + 2 * pitch + k]
                scale = np.float32(1.0) / np.sqrt(x * x + y * y + z * z)
                spins[0, r, 2 * k + odd] = (y if bulk else x) * scale
                spins[1, r, 2 * k + odd] = (-x if bulk else y) * scale
                spins[2, r, 2 * k + odd] = z * scale


class Program:
    """A Hamiltonian and a schedule as the kernel reads them, the same for every texture."""

    def __init__(self, hamiltonian: Hamiltonian, schedule: Schedule) -> None:
        J, K = hamiltonian.J, hamiltonian.K / hamiltonian.J
        kinds, counts, numbers = [], [], []
        for step in schedule.steps:
            T = HOT if step.temperature is None else float(step.temperature) / J
            B = float(hamiltonian.B if step.field is None else step.field) / J
            kinds += [HEAT_BATH, OVER_RELAX, ALIGN]
            counts += [step.heat_bath, step.over_relax, step.relax]
            numbers += [_parameters(T, hamiltonian.D / J, B, K)] * 3
        self.bulk = hamiltonian.dmi == "bulk"
        self.kinds = np.asarray(kinds, np.int64) + (ANISOTROPIC if K else 0)
        self.ends = np.cumsum(counts)
        self.numbers = np.asarray(numbers, np.float32)

    def run(self, start: np.ndarray | None, out: np.ndarray, seed: int, index: int, go_on: Callable[[], bool]) -> bool:
        """One texture from ``start``, or from a random state, into ``out`` (3, H, W); False if told to stop."""
        _, height, width = out.shape
        half = width // 2
        pitch = -(-half // LANES) * LANES + PAD
        buffer = _aligned((6 * height + len(SCRATCH)) * pitch + 2 * PAD)
        key = np.array(texture_key(seed, index), np.uint32)
        if start is None:
            out[:2], out[2] = 0, 1
        _pack(out if start is None else np.ascontiguousarray(start), buffer, pitch, self.bulk and start is not None)
        if start is None:
            hot = np.array([_parameters(HOT)], np.float32)
            _run(buffer, height, half, pitch, np.array([HEAT_BATH]), hot, key, 0)
        many = TOGETHER * min(max(AT_ONCE // (height * width * TOGETHER), 1), 2000)
        total = int(self.ends[-1])
        for begin in range(0, total, many):
            if not go_on():
                return False
            sweeps = np.arange(begin, min(begin + many, total))
            which = np.searchsorted(self.ends, sweeps, side="right")
            _run(buffer, height, half, pitch, self.kinds[which], self.numbers[which], key, 1 + begin)
        _unpack(buffer, out, pitch, self.bulk)
        return True


def _parameters(T: float, D: float = 0.0, B: float = 0.0, K: float = 0.0) -> tuple[float, ...]:
    """What a row reads: D, B, T, −2 log₂e/T, K log₂e/T and the pulls of :func:`spinloom.sweep.align`; J = 1."""
    log2e = 1.4426950408889634
    return D, B, T, -2 * log2e / T, K * log2e / T, 2 * max(-K, 0.0), 2 * max(K, 0.0)


def _aligned(size: int) -> np.ndarray:
    """``size`` zeros in float32 that begin a cache line."""
    room = np.zeros(size + 16, np.float32)
    skip = -(room.ctypes.data // 4) % 16
    return room[skip : skip + size]
