// The few functions of NVIDIA's driver that sweep_cuda.py calls, on the CPU: a module's image is the path of a library
// made from cuda_shim.cpp, memory is the process's own, and launches are done when they return.
//
//   g++ -shared -fPIC -Wl,-soname,libcuda.so.1 cuda_driver.cpp -o libcuda.so.1
//
// Loaded first, it is the libcuda.so.1 that cuda.bindings find.

#include <cstring>
#include <dlfcn.h>
#include <string>

namespace {

enum Result { SUCCESS = 0, INVALID_VALUE = 1, INVALID_IMAGE = 200, NOT_FOUND = 500 };

typedef int Run(const char *, unsigned, unsigned, unsigned, unsigned, void **);

struct Function {
    std::string name;
    Run *run;
    unsigned most_shared;
};

constexpr int MAX_DYNAMIC_SHARED_SIZE_BYTES = 8;

}  // namespace

extern "C" {

Result cuInit(unsigned) { return SUCCESS; }

Result cuDriverGetVersion(int *version)
{
    *version = 13000;
    return SUCCESS;
}

Result cuGetProcAddress_v2(const char *name, void **address, int, unsigned long, int *found)
{
    *address = dlsym(RTLD_DEFAULT, name);
    if (!*address) {
        // our own table is not global where the loader keeps libraries apart
        Dl_info here;
        dladdr((void *)&cuInit, &here);
        void *self = dlopen(here.dli_fname, RTLD_NOW | RTLD_NOLOAD);
        *address = self ? dlsym(self, name) : nullptr;
    }
    if (found)
        *found = *address ? 0 : 1;
    return *address ? SUCCESS : NOT_FOUND;
}

Result cuModuleLoadData(void **module, const void *image)
{
    *module = dlopen((const char *)image, RTLD_NOW | RTLD_LOCAL);
    return *module ? SUCCESS : INVALID_IMAGE;
}

Result cuModuleGetFunction(void **function, void *module, const char *name)
{
    Run *run = (Run *)dlsym(module, "run");
    if (!run)
        return NOT_FOUND;
    *function = new Function{name, run, 48 * 1024};
    return SUCCESS;
}

Result cuFuncSetAttribute(void *function, int attribute, int value)
{
    if (attribute != MAX_DYNAMIC_SHARED_SIZE_BYTES)
        return INVALID_VALUE;
    ((Function *)function)->most_shared = value;
    return SUCCESS;
}

Result cuLaunchKernel(
    void *function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned threads_y, unsigned threads_z,
    unsigned shared, void *, void **arguments, void **)
{
    const Function *kernel = (Function *)function;
    if (z != 1 || threads_y != 1 || threads_z != 1 || shared > kernel->most_shared)
        return INVALID_VALUE;
    return kernel->run(kernel->name.c_str(), x, y, threads, shared, arguments) ? INVALID_VALUE : SUCCESS;
}

Result cuStreamSynchronize(void *) { return SUCCESS; }

}
