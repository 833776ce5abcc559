// sweep.cu as plain C++: the words of CUDA it uses, and one function that runs a kernel block by block.
//
//   g++ -std=c++17 -O1 -shared -fPIC -ffp-contract=off -DSOURCE='"…/sweep.cu"' -DHEIGHT=… cuda_shim.cpp
//
// Between two barriers threads run one after another, in an order that set_order() chooses: an answer that depends on
// it would be a race; so would a stretch of threads without a barrier before it, which run() refuses. Shared memory is filled with NaN before each block, so that nothing unwritten can be read
// unnoticed. ULPS > 0 makes every approximate root and reciprocal that many units in the last place too large.

#include <cmath>
#include <cstring>
#include <type_traits>
#include <utility>

#ifndef ULPS
#define ULPS 0
#endif

#define __global__
#define __device__
#define __shared__
#define __forceinline__ inline
#define __launch_bounds__(threads)

struct Three {
    unsigned x, y, z;
};
static Three blockIdx;

static unsigned order = 0;

static unsigned thread_at(unsigned turn)
{
    if (order == 0)
        return turn;
    if (order == 1)
        return THREADS - 1 - turn;
    return (turn * 1031 + 5) % THREADS;  // a prime above all THREADS: every thread once
}

static bool at_barrier, barrier_missing;

static unsigned after_barrier()
{
    barrier_missing |= !at_barrier;
    at_barrier = false;
    return barrier_missing;
}

#define EACH_THREAD(thread)                                                                                            \
    for (unsigned turn = after_barrier(), thread; turn < THREADS && (thread = thread_at(turn), true); ++turn)

static void __syncthreads() { at_barrier = true; }

static float __uint_as_float(unsigned bits)
{
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

static unsigned __float_as_uint(float value)
{
    unsigned bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}

static unsigned __funnelshift_l(unsigned low, unsigned high, unsigned turn)
{
    return high << turn | low >> (32 - turn);
}

static float approximately(double value)
{
    float rounded = (float)value;
    for (int n = 0; n < ULPS; ++n)
        rounded = std::nextafterf(rounded, INFINITY);
    return rounded;
}

static float rsqrtf(float a) { return approximately(1 / std::sqrt((double)a)); }
static float __fdividef(float a, float b) { return approximately((double)a / b); }

#define MOST_SHARED (256 * 1024 / 4)
float lattice[MOST_SHARED];

#include SOURCE

template <class... Arguments, size_t... Places>
static void call(void (*kernel)(Arguments...), void **arguments, std::index_sequence<Places...>)
{
    kernel(*(std::remove_reference_t<Arguments> *)arguments[Places]...);
}

template <class... Arguments> static void call(void (*kernel)(Arguments...), void **arguments)
{
    call(kernel, arguments, std::index_sequence_for<Arguments...>());
}

extern "C" void set_order(unsigned wanted) { order = wanted; }

// 0, or 1: a launch that a GPU refuses, a barrier missing, or shared memory written that is not the block's
extern "C" int run(const char *name, unsigned x, unsigned y, unsigned threads, unsigned shared, void **arguments)
{
    if (threads != THREADS || threads > 1024 || y > 65535 || shared > sizeof lattice - 64)
        return 1;
    for (blockIdx.y = 0; blockIdx.y < y; ++blockIdx.y)
        for (blockIdx.x = 0; blockIdx.x < x; ++blockIdx.x) {
            at_barrier = true;
            for (unsigned n = 0; n < shared / 4 + 16; ++n)
                lattice[n] = NAN;
#if RESIDENT
            if (std::strcmp(name, "resident"))
                return 1;
            call(resident, arguments);
#else
            if (!std::strcmp(name, "pack_all"))
                call(pack_all, arguments);
            else if (!std::strcmp(name, "half_sweep"))
                call(half_sweep, arguments);
            else if (!std::strcmp(name, "unpack_all"))
                call(unpack_all, arguments);
            else
                return 1;
#endif
            for (unsigned n = shared / 4; n < shared / 4 + 16; ++n)
                if (!std::isnan(lattice[n]))
                    return 1;
        }
    return barrier_missing;
}
