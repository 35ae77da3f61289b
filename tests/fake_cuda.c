/* A library with the functions of NVIDIA's driver that redcomp calls.  Device memory is the host's;
   each call is written to standard output.  FAKE_CUDA sets how many devices there are, or what
   fails: "none", "assembler", "memory", "launch". */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define SAY(...) (printf(__VA_ARGS__), putchar('\n'), fflush(stdout))

enum { INVALID = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_PTX = 218, NOT_FOUND = 500 };

static const char *mode(void) {
  const char *given = getenv("FAKE_CUDA");
  return given ? given : "2";
}

static int is(const char *name) { return !strcmp(mode(), name); }

EXPORT int cuGetProcAddress_v2(const char *name, void **found, int version,
                               unsigned long long flags, int *status) {
  *found = dlsym(RTLD_DEFAULT, name);
  if (!*found) {
    static void *self;
    if (!self) self = dlopen(getenv("FAKE_CUDA_PATH"), RTLD_NOW | RTLD_NOLOAD);
    *found = dlsym(self, name);
  }
  if (status) *status = *found ? 0 : 1;
  return *found ? 0 : NOT_FOUND;
}
EXPORT int cuGetProcAddress(const char *name, void **found, int version, unsigned long long flags,
                            int *status) {
  return cuGetProcAddress_v2(name, found, version, flags, status);
}

EXPORT int cuInit(unsigned flags) { return is("none") ? NO_DEVICE : 0; }
EXPORT int cuDriverGetVersion(int *version) { return *version = 12040, 0; }
EXPORT int cuDeviceGetCount(int *count) { return *count = atoi(mode()) ? atoi(mode()) : 1, 0; }
EXPORT int cuDeviceGet(int *device, int number) { return *device = number, 0; }
EXPORT int cuDeviceGetName(char *name, int size, int device) {
  return snprintf(name, size, "Fake %d", device), 0;
}
EXPORT int cuDeviceGetAttribute(int *value, int attribute, int device) {
  /* the multiprocessors, and the compute capability */
  *value = attribute == 16 ? 10 + device : attribute == 75 ? 9 : attribute == 76 ? device : -1;
  return 0;
}
EXPORT int cuGetErrorString(int error, const char **text) {
  *text = error == INVALID_PTX ? "the code is not valid" : "something is wrong";
  return 0;
}

/* -- contexts: device 0 has 0x1000, device 1 has 0x1001 -- */

static __thread void *stack[16];
static __thread int depth;

EXPORT int cuDevicePrimaryCtxRetain(void **context, int device) {
  SAY("retain %d", device);
  return *context = (void *)(0x1000L + device), 0;
}
EXPORT int cuCtxGetCurrent(void **context) { return *context = stack[depth], 0; }
EXPORT int cuCtxPushCurrent(void *context) { return stack[++depth] = context, 0; }
EXPORT int cuCtxPushCurrent_v2(void *context) { return cuCtxPushCurrent(context); }
EXPORT int cuCtxPopCurrent(void **context) { return *context = stack[depth--], 0; }
EXPORT int cuCtxPopCurrent_v2(void **context) { return cuCtxPopCurrent(context); }
EXPORT int cuCtxSynchronize(void) { return SAY("synchronize in %p", stack[depth]), 0; }

/* -- code -- */

static char *log_, *errors_;
static unsigned log_size, errors_size;

EXPORT int cuLinkCreate(unsigned count, int *options, void **values, void **linker) {
  for (unsigned n = 0; n < count; n++) {
    if (options[n] == 3) log_ = values[n];
    if (options[n] == 4) log_size = (unsigned)(size_t)values[n];
    if (options[n] == 5) errors_ = values[n];
    if (options[n] == 6) errors_size = (unsigned)(size_t)values[n];
  }
  SAY("linker in %p, logs of %u and %u", stack[depth], log_size, errors_size);
  return *linker = (void *)0x77, 0;
}
EXPORT int cuLinkCreate_v2(unsigned count, int *options, void **values, void **linker) {
  return cuLinkCreate(count, options, values, linker);
}
static char linked[256];
EXPORT int cuLinkAddData(void *linker, int type, void *data, size_t size, const char *name,
                         unsigned count, int *options, void **values) {
  SAY("link %p type %d: %.*s (%s)", linker, type, (int)size, (char *)data, name);
  if (is("assembler")) {
    snprintf(errors_, errors_size, "line 3: unexpected %s", "x");
    snprintf(log_, log_size, "a remark");
    return INVALID_PTX;
  }
  return snprintf(linked, sizeof linked, "cubin of %.*s", (int)size, (char *)data), 0;
}
EXPORT int cuLinkAddData_v2(void *linker, int type, void *data, size_t size, const char *name,
                            unsigned count, int *options, void **values) {
  return cuLinkAddData(linker, type, data, size, name, count, options, values);
}
EXPORT int cuLinkComplete(void *linker, void **code, size_t *size) {
  return *code = linked, *size = strlen(linked), 0;
}
EXPORT int cuLinkDestroy(void *linker) { return SAY("destroy %p", linker), 0; }
EXPORT int cuModuleLoadData(void **module, const void *code) {
  if (is("memory")) return SAY("no memory"), OUT_OF_MEMORY;
  SAY("load in %p: %s", stack[depth], (const char *)code);
  return *module = (void *)0x5000000005, 0;
}
EXPORT int cuModuleUnload(void *module) { return SAY("unload %p", module), 0; }
EXPORT int cuModuleGetFunction(void **function, void *module, const char *name) {
  if (is("memory")) return SAY("no memory"), OUT_OF_MEMORY;
  SAY("function %s of %p", name, module);
  if (!strcmp(name, "missing")) return NOT_FOUND;
  return *function = (void *)0x6000000006, 0;
}
EXPORT int cuOccupancyMaxActiveBlocksPerMultiprocessor(int *count, void *function, int threads,
                                                       size_t shared) {
  SAY("occupancy of %p with %d threads, %zu bytes", function, threads, shared);
  return *count = 5, 0;
}

/* -- memory -- */

EXPORT int cuMemAlloc(unsigned long long *address, size_t size) {
  if (is("memory")) return SAY("no memory"), OUT_OF_MEMORY;
  SAY("allocate %zu in %p", size, stack[depth]);
  return *address = (unsigned long long)malloc(size), 0;
}
EXPORT int cuMemAlloc_v2(unsigned long long *address, size_t size) {
  return cuMemAlloc(address, size);
}
EXPORT int cuMemFree(unsigned long long address) {
  SAY("free in %p", stack[depth]);
  return free((void *)address), 0;
}
EXPORT int cuMemFree_v2(unsigned long long address) { return cuMemFree(address); }
EXPORT int cuMemcpyHtoDAsync(unsigned long long target, const void *source, size_t size,
                             void *stream) {
  SAY("copy %zu in on %p", size, stream);
  return memcpy((void *)target, source, size), 0;
}
EXPORT int cuMemcpyHtoDAsync_v2(unsigned long long target, const void *source, size_t size,
                                void *stream) {
  return cuMemcpyHtoDAsync(target, source, size, stream);
}
EXPORT int cuMemcpyDtoHAsync(void *target, unsigned long long source, size_t size, void *stream) {
  SAY("copy %zu out on %p", size, stream);
  return memcpy(target, (void *)source, size), 0;
}
EXPORT int cuMemcpyDtoHAsync_v2(void *target, unsigned long long source, size_t size,
                                void *stream) {
  return cuMemcpyDtoHAsync(target, source, size, stream);
}
EXPORT int cuStreamSynchronize(void *stream) { return SAY("wait for %p", stream), 0; }

/* -- a kernel of three parameters -- */

EXPORT int cuLaunchKernel(void *function, unsigned x, unsigned y, unsigned z, unsigned threads,
                          unsigned threads_y, unsigned threads_z, unsigned shared, void *stream,
                          void **parameters, void **extra) {
  if (is("launch")) return INVALID;
  SAY("launch %p: %u %u %u blocks of %u %u %u, %u bytes, on %p in %p, extra %p: %lld %lld %lld",
      function, x, y, z, threads, threads_y, threads_z, shared, stream, stack[depth],
      (void *)extra, *(long long *)parameters[0], *(long long *)parameters[1],
      *(long long *)parameters[2]);
  return 0;
}
