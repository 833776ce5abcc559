// The sweep of spinloom/sweep.py on a GPU, compiled at run time for one lattice by spinloom/sweep_cuda.py, which
// defines
//
//   HEIGHT, WIDTH   the sides, even
//   ROWS            rows that a thread walks up at a time: even, a divisor of HEIGHT
//   THREADS         threads a block
//   ANISOTROPIC     1 where K is not 0
//   RESIDENT        1: one block a texture, in shared memory for the whole schedule; 0: in global memory
//
// Within half a sweep the sites of one colour change and read only the other colour, so threads need no order, and
// between two barriers a thread leaves nothing in registers. EACH_THREAD marks those stretches: a C++ compiler that
// is given another EACH_THREAD (a loop over the threads) runs the same source on a CPU.
//
// Rounding: contraction is off and every fused operation is written out, so both kernels and every chunking give the
// same bits. Reciprocals and square roots are the GPU's approximate ones (2 units in the last place); where their
// error would add up from sweep to sweep, a Newton step follows.

#ifndef EACH_THREAD
#define EACH_THREAD(thread) if (const unsigned thread = threadIdx.x; true)
#endif

#if RESIDENT
typedef int Index;  // shared memory is small
#else
typedef long long Index;
#endif

constexpr Index HALF = WIDTH / 2;              // sites of one colour in a row
constexpr Index PLANE = HEIGHT * HALF;         // sites of one colour
constexpr Index ITEMS = HALF * (HEIGHT / ROWS);  // walks in half a sweep
constexpr Index LATTICE = 6 * PLANE;           // floats: for either colour x, y, z, each by rows

constexpr int HEAT_BATH = 0, OVER_RELAX = 1;            // else alignment; as in sweep_numba.py
constexpr int TURN = 1, TURN_BACK = 2, NORMALISE = 4;    // what pack() and unpack() do beside copying
constexpr float TINY = 1e-15f;                           // as in sweep.py

struct Spin {
    float x, y, z;
};

// a row of sweep_numba.Program.numbers
struct Numbers {
    float D, B, T, octaves, k_octaves, pull_xy, pull_z;
};

// Threefry-2x32's words but for the site: (seed, texture) and the number of the sweep
struct Stream {
    unsigned key0, key1, sweep;
};

struct Words {
    unsigned first, second;
};

// functions ---------------------------------------------------------------------------------------------------------
// Polynomials, and the forms that keep all digits for small arguments, are those of sweep_numba.py.

// a0 + a1 x + a2 x^2 + ..., neighbours paired and pairs paired again: shorter chains than Horner's
__device__ __forceinline__ float polynomial5(float x, float a0, float a1, float a2, float a3, float a4)
{
    const float square = x * x;
    return fmaf(square * square, a4, fmaf(square, fmaf(x, a3, a2), fmaf(x, a1, a0)));
}

// (2^x - 1)/x, |x| <= 1/2
__device__ __forceinline__ float exp2_slope(float x)
{
    const float square = x * x;
    const float low = fmaf(square, fmaf(x, 0.0096182376f, 0.055503573f), fmaf(x, 0.24022649f, 0.69314718f));
    return fmaf(square * square, fmaf(x, 0.00015403512f, 0.0013390735f), low);
}

// ln(1 + x)/x, sqrt(1/2) - 1 <= x < sqrt(2) - 1
__device__ __forceinline__ float log1p_slope(float x)
{
    const float square = x * x;
    const float low = fmaf(square, fmaf(x, -0.24969909f, 0.3333506f), fmaf(x, -0.50000364f, 0.99999994f));
    const float high = fmaf(square, fmaf(x, -0.10106884f, 0.16222575f), fmaf(x, -0.17250831f, 0.19900166f));
    return fmaf(square * square, high, low);
}

// 2^x = scale + scale*rest, x <= 0; for small x the scale is 1 and the rest is 2^x - 1 to all its digits
__device__ __forceinline__ void exp2_parts(float x, float &rest, float &scale)
{
    x = fmaxf(x, -126.0f);
    const float shifted = x + 12582912.0f;  // 1.5*2^23: the sum rounds x to n, which then sits in the lowest bits
    const float fraction = x - (shifted - 12582912.0f);
    scale = __uint_as_float((__float_as_uint(shifted) << 23) + 0x3F800000u);
    rest = fraction * exp2_slope(fraction);
}

// -ln(1 - m), 0 <= m < 1. With 1 - m = 2^k (1 + f), f comes from m in one rounding: exact where k = 0
__device__ __forceinline__ float minus_log1p_minus(float m)
{
    const int k = (int)((__float_as_uint(1.0f - m) - 0x3F3504F3u) & 0xFF800000u);  // k*2^23; the constant is sqrt(1/2)
    const float scale = __uint_as_float(0x3F800000u - (unsigned)k);                // 2^-k
    const float minus_f = fmaf(m, scale, 1.0f - scale);
    return fmaf(minus_f, log1p_slope(-minus_f), (float)k * (-0.6931471805599453f / 8388608.0f));
}

// sin and cos of 2 pi v, v the word's upper 24 bits / 2^24: of the half angle, then doubled
__device__ __forceinline__ void sine_cosine(unsigned word, float &sine, float &cosine)
{
    const float half = (float)((int)word >> 8) * 5.9604644775390625e-8f;  // v or v - 1: the same angle
    const float square = half * half;
    const float s = half * polynomial5(square, 3.1415927f, -5.1677098f, 2.5500698f, -0.5982421f, 0.077560388f);
    const float c = polynomial5(square, 0.99999994f, -4.934793f, 4.058412f, -1.3318802f, 0.2196968f);
    const float twice = s + s;
    sine = twice * c;
    cosine = fmaf(-twice, s, 1.0f);
}

__device__ __forceinline__ float uniform(unsigned word)
{
    return (float)(word >> 8) * 5.9604644775390625e-8f;
}

__device__ __forceinline__ float reciprocal(float a)
{
    return __fdividef(1.0f, a);
}

__device__ __forceinline__ float dot(const Spin &a, const Spin &b)
{
    return fmaf(a.z, b.z, fmaf(a.y, b.y, a.x * b.x));
}

__device__ __forceinline__ void mix(unsigned &x0, unsigned &x1, int turn)
{
    x0 += x1;
    x1 = __funnelshift_l(x1, x1, turn) ^ x0;
}

// random.site_words: Threefry-2x32 of 13 rounds, the key (seed, texture), the counter (sweep, site)
__device__ __forceinline__ Words random_words(const Stream &stream, unsigned site)
{
    const unsigned k0 = stream.key0, k1 = stream.key1, k2 = k0 ^ k1 ^ 0x1BD11BDAu;
    unsigned x0 = stream.sweep + k0, x1 = site + k1;
    mix(x0, x1, 13), mix(x0, x1, 15), mix(x0, x1, 26), mix(x0, x1, 6);
    x0 += k1, x1 += k2 + 1;
    mix(x0, x1, 17), mix(x0, x1, 29), mix(x0, x1, 16), mix(x0, x1, 24);
    x0 += k2, x1 += k0 + 2;
    mix(x0, x1, 13), mix(x0, x1, 15), mix(x0, x1, 26), mix(x0, x1, 6);
    x0 += k0, x1 += k1 + 3;
    mix(x0, x1, 17);
    return {x0, x1};
}

// one spin ----------------------------------------------------------------------------------------------------------

// sweep.accept: Metropolis' choice for the K term, from the site's second pair of words
__device__ __forceinline__ Spin accept(
    const Spin &old, const Spin &proposed, const Numbers &n, const Stream &stream, unsigned site)
{
    const float w = uniform(random_words(stream, site | 0x80000000u).first);
    const float gain = n.k_octaves * fmaf(proposed.z, proposed.z, -(old.z * old.z));
    float rest, scale;
    exp2_parts(fminf(gain, 0.0f), rest, scale);
    return w < fmaf(scale, rest, scale) ? proposed : old;
}

// sweep.heat_bath and sweep.around, for K = 0
__device__ __forceinline__ Spin heat_bath(const Spin &h, const Numbers &n, const Stream &stream, unsigned site)
{
    const Words words = random_words(stream, site);
    const float square = dot(h, h), per_length = rsqrtf(square), length = square * per_length;
    float rest, scale;
    exp2_parts(length * n.octaves, rest, scale);
    const float m = uniform(words.first) * fmaf(-scale, rest, 1.0f - scale);  // u (1 - e^(-2b))
    const float drop = fminf(minus_log1p_minus(m) * (n.T * per_length), 2.0f);  // 1 - cos theta
    float sine, cosine;
    sine_cosine(words.second, sine, cosine);
    const float across = sqrtf(drop * (2.0f - drop)), along = 1.0f - drop;
    const float across_x = across * cosine, across_y = across * sine;
    const float in_plane = fmaf(h.x, across_x, h.y * across_y);
    const float back = fmaf(in_plane, reciprocal(length + fabsf(h.z)), -along) * per_length;
    const float side = copysignf(1.0f, h.z) * in_plane;
    return {fmaf(-h.x, back, across_x), fmaf(-h.y, back, across_y), fmaf(along, h.z, -side) * per_length};
}

// sweep.over_relax, for K = 0; the Newton step keeps lengths over many sweeps
__device__ __forceinline__ Spin over_relax(const Spin &h, const Spin &old)
{
    const float square = dot(h, h), product = dot(h, old);
    float inverse = reciprocal(square);
    inverse = fmaf(inverse, fmaf(-square, inverse, 1.0f), inverse);
    const float twice = (product + product) * inverse;
    return {fmaf(twice, h.x, -old.x), fmaf(twice, h.y, -old.y), fmaf(twice, h.z, -old.z)};
}

__device__ __forceinline__ Spin unit(const Spin &a)
{
    const float scale = rsqrtf(dot(a, a));
    return {a.x * scale, a.y * scale, a.z * scale};
}

// half a sweep ------------------------------------------------------------------------------------------------------

__device__ __forceinline__ Spin load(const float *spins, Index at)
{
    return {spins[at], spins[at + PLANE], spins[at + 2 * PLANE]};
}

__device__ __forceinline__ void store(float *spins, Index at, const Spin &value)
{
    spins[at] = value.x, spins[at + PLANE] = value.y, spins[at + 2 * PLANE] = value.z;
}

// Update ROWS sites of one colour, one above the other: spin = update(field, own, at, site). The other colour's spin
// in the same row is the neighbour below of the next site, so it is read once and handed on.
//
// Site (r, 2k + odd) is number r*HALF + k of its colour, odd = (r + colour) % 2. In that row number k of the other
// colour lies to its left if odd, else to its right; its other neighbour is number k + 1, else k - 1.
template <int UNROLL, class Update>
__device__ __forceinline__ void walk(float *lattice, Index item, int colour, const Numbers &n, Update update)
{
    const Index first = item / HALF * ROWS, k = item % HALF;
    float *own = lattice + colour * 3 * PLANE;
    const float *other = lattice + (1 - colour) * 3 * PLANE;
    const Index west = k > 0 ? k - 1 : HALF - 1, east = k < HALF - 1 ? k + 1 : 0;
    Index aside = first * HALF + (colour ? east : west), aside_next = first * HALF + (colour ? west : east);
    float sign = colour ? 1.0f : -1.0f;  // of left - right against here - aside
    Index at = first * HALF + k;
    unsigned site = (unsigned)(first * WIDTH + 2 * k + colour);
    const unsigned step = (unsigned)(WIDTH + 1 - 2 * colour), step_next = (unsigned)(WIDTH - 1 + 2 * colour);
    Spin below = load(other, first > 0 ? at - HALF : at + PLANE - HALF), here = load(other, at);
    auto row = [&](int j, Index beside, float sign) {
        const Spin above = load(other, j < ROWS - 1 || first + ROWS < HEIGHT ? at + HALF : k);
        const Spin next = load(other, beside);
        const float D = sign * n.D;
        Spin h;
        h.x = fmaf(D, here.z - next.z, (here.x + next.x) + (above.x + below.x));
        h.y = fmaf(n.D, below.z - above.z, (here.y + next.y) + (above.y + below.y));
        const float along = fmaf(-sign, here.x - next.x, above.y - below.y);
        h.z = fmaf(n.D, along, (here.z + next.z) + (above.z + below.z) + n.B) + TINY;
        store(own, at, update(h, own, at, site));
        below = here, here = above, at += HALF;
    };
#pragma unroll UNROLL
    for (int j = 0; j < ROWS; j += 2) {
        row(j, aside, sign), site += step;
        row(j + 1, aside_next + HALF, -sign), site += step_next;
        aside += 2 * HALF, aside_next += 2 * HALF;
    }
}

__device__ __forceinline__ void update_walk(
    float *lattice, Index item, int colour, int kind, const float *numbers, const Stream &stream)
{
    const Numbers n = {numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], numbers[6]};
    if (kind == HEAT_BATH) {
        walk<1>(lattice, item, colour, n, [&](const Spin &h, const float *own, Index at, unsigned site) {
            const Spin proposed = heat_bath(h, n, stream, site);
            return ANISOTROPIC ? accept(load(own, at), proposed, n, stream, site) : proposed;
        });
    } else if (kind == OVER_RELAX) {
        walk<ROWS>(lattice, item, colour, n, [&](const Spin &h, const float *own, Index at, unsigned site) {
            const Spin old = load(own, at), proposed = over_relax(h, old);
            return ANISOTROPIC ? accept(old, proposed, n, stream, site) : proposed;
        });
    } else {
        walk<ROWS>(lattice, item, colour, n, [&](const Spin &h, const float *own, Index at, unsigned) {
            if (!ANISOTROPIC)
                return unit(h);
            const Spin old = load(own, at);
            return unit({fmaf(n.pull_xy, old.x, h.x), fmaf(n.pull_xy, old.y, h.y), fmaf(n.pull_z, old.z, h.z)});
        });
    }
}

// textures ----------------------------------------------------------------------------------------------------------

__device__ __forceinline__ Index place(Index row, Index column)
{
    return ((row + column) % 2) * 3 * PLANE + row * HALF + column / 2;
}

// One site of a texture (3, H, W) into the lattice; TURN: by +90 degrees about z, bulk DMI to interfacial
__device__ __forceinline__ void pack(const float *texture, float *lattice, Index site, int flags)
{
    const float x = texture[site], y = texture[site + 2 * PLANE], z = texture[site + 4 * PLANE];
    const bool turn = flags & TURN;
    store(lattice, place(site / WIDTH, site % WIDTH), {turn ? -y : x, turn ? x : y, z});
}

// The inverse of pack(); NORMALISE: lengths, which wander by a rounding error a sweep, become 1
__device__ __forceinline__ void unpack(float *texture, const float *lattice, Index site, int flags)
{
    Spin spin = load(lattice, place(site / WIDTH, site % WIDTH));
    if (flags & NORMALISE)
        spin = unit(spin);
    const bool back = flags & TURN_BACK;
    texture[site] = back ? spin.y : spin.x;
    texture[site + 2 * PLANE] = back ? -spin.x : spin.y;
    texture[site + 4 * PLANE] = spin.z;
}

#if RESIDENT

// Sweeps first ... last - 1 of a schedule on one texture a block, in place. Stage i of the schedule, its sweeps all
// of one kind, ends before sweep stages[2 i], is of kind stages[2 i + 1] and reads 7 numbers from numbers + 7 i.
// Sweep s draws the random numbers of sweep s + 1: -1 is the heat bath that makes a random start.
extern "C" __global__ void __launch_bounds__(THREADS) resident(
    float *textures, const unsigned *keys, const float *numbers, const int *stages, int first, int last, int flags)
{
    extern __shared__ float lattice[];
    float *texture = textures + (long long)blockIdx.x * LATTICE;
    Stream stream = {keys[2 * blockIdx.x], keys[2 * blockIdx.x + 1], 0};
    EACH_THREAD(thread)
    {
        for (Index site = thread; site < 2 * PLANE; site += THREADS)
            pack(texture, lattice, site, flags);
    }
    __syncthreads();
    int stage = 0;
    for (int sweep = first; sweep < last; ++sweep) {
        while (sweep >= stages[2 * stage])
            ++stage;
        stream.sweep = (unsigned)(sweep + 1);
#pragma unroll 1
        for (int colour = 0; colour < 2; ++colour) {
            EACH_THREAD(thread)
            {
                for (Index item = thread; item < ITEMS; item += THREADS)
                    update_walk(lattice, item, colour, stages[2 * stage + 1], numbers + 7 * stage, stream);
            }
            __syncthreads();
        }
    }
    EACH_THREAD(thread)
    {
        for (Index site = thread; site < 2 * PLANE; site += THREADS)
            unpack(texture, lattice, site, flags);
    }
}

#else

// The same for any lattice: the launches are the barriers. Block (i, k) works on part i of texture k.

extern "C" __global__ void __launch_bounds__(THREADS) pack_all(const float *textures, float *lattices, int flags)
{
    const long long offset = blockIdx.y * LATTICE;
    EACH_THREAD(thread)
    {
        const Index site = (Index)blockIdx.x * THREADS + thread;
        if (site < 2 * PLANE)
            pack(textures + offset, lattices + offset, site, flags);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) half_sweep(
    float *lattices, const unsigned *keys, const float *numbers, int kind, int number, int colour)
{
    const Stream stream = {keys[2 * blockIdx.y], keys[2 * blockIdx.y + 1], (unsigned)number};
    EACH_THREAD(thread)
    {
        const Index item = (Index)blockIdx.x * THREADS + thread;
        if (item < ITEMS)
            update_walk(lattices + blockIdx.y * LATTICE, item, colour, kind, numbers, stream);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) unpack_all(float *textures, const float *lattices, int flags)
{
    const long long offset = blockIdx.y * LATTICE;
    EACH_THREAD(thread)
    {
        const Index site = (Index)blockIdx.x * THREADS + thread;
        if (site < 2 * PLANE)
            unpack(textures + offset, lattices + offset, site, flags);
    }
}

#endif
