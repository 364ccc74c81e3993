// A stand-in for libcuda.so.1, so that the binding is tested where there is no GPU.
// Device memory is memory of the host, work is done at once, kernels do nothing,
// and every call is written to a log. What it is, and which calls fail, is said by
// a text of NAME=VALUE words, in the environment variable STUB_CUDA or given to
// stub_configure:
//
//	devices=N     devices (1)
//	version=V     CUDA version (13000)
//	memory=BYTES  memory of each device (1 GiB)
//	major=N       compute capability N.0 (9.0 for device 0, 8.0 for the others)
//	fail=CALL:CODE[:N]  the N-th call (the first) of CALL returns CODE; repeatable
//
// cuInit starts a thread, as the driver does; stub_thread returns its id.
//
// Codes from 700 to 719 are sticky, as those of the driver are.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef int CUresult;
typedef int CUdevice;
typedef uint64_t CUdeviceptr;
typedef struct { unsigned char bytes[16]; } CUuuid;

enum { MAX_DEVICES = 8, MAX_FAILS = 16, MAX_BLOCKS = 4096 };

typedef struct {
	int ordinal, refs;
} Context;

typedef struct {
	char kind; // 's'tream, 'e'vent, 'm'odule, 'f'unction, 'g'raph, e'x'ecutable; 0 once destroyed
	int number, capturing, broken, recorded;
	char *text;
} Object;

typedef struct {
	char call[64];
	int code, countdown;
} Fail;

static struct {
	pthread_mutex_t mu;
	int initialized, devices, version, major, sticky, objects, fails;
	size_t memory, used;
	Fail fail[MAX_FAILS];
	struct { void *at; size_t size; } block[MAX_BLOCKS];
	char *log;
	size_t length, room;
} stub = {.mu = PTHREAD_MUTEX_INITIALIZER, .devices = 1, .version = 13000, .memory = 1 << 30};

static Context contexts[MAX_DEVICES];
static __thread Context *current;

static void note(const char *format, ...) {
	char line[4096];
	va_list args;
	va_start(args, format);
	vsnprintf(line, sizeof line, format, args);
	va_end(args);
	pthread_mutex_lock(&stub.mu);
	size_t n = strlen(line);
	if (stub.length + n + 2 > stub.room) {
		stub.room = 2 * (stub.length + n + 2);
		stub.log = realloc(stub.log, stub.room);
	}
	memcpy(stub.log + stub.length, line, n);
	memcpy(stub.log + stub.length + n, "\n", 2);
	stub.length += n + 1;
	pthread_mutex_unlock(&stub.mu);
}

// configure sets everything back and reads the words of text.
int stub_configure(const char *text) {
	stub.major = stub.initialized = stub.sticky = stub.fails = stub.objects = 0;
	stub.devices = 1;
	stub.version = 13000;
	stub.memory = 1 << 30;
	for (int i = 0; i < MAX_BLOCKS; i++) {
		free(stub.block[i].at);
		stub.block[i].at = NULL;
	}
	stub.used = stub.length = 0;
	memset(contexts, 0, sizeof contexts);
	char *copy = strdup(text), *rest = copy, *word;
	while ((word = strsep(&rest, " ")) != NULL) {
		char *value = strchr(word, '=');
		if (value == NULL)
			continue;
		*value++ = 0;
		if (!strcmp(word, "devices"))
			stub.devices = atoi(value);
		else if (!strcmp(word, "version"))
			stub.version = atoi(value);
		else if (!strcmp(word, "major"))
			stub.major = atoi(value);
		else if (!strcmp(word, "memory"))
			stub.memory = strtoull(value, NULL, 10);
		else if (!strcmp(word, "fail") && stub.fails < MAX_FAILS) {
			Fail *f = &stub.fail[stub.fails++];
			f->countdown = 1;
			sscanf(value, "%63[^:]:%d:%d", f->call, &f->code, &f->countdown);
		}
	}
	free(copy);
	return 0;
}

// stub_log copies the log, in order of calls, and forgets it.
int stub_log(char *to, size_t size) {
	pthread_mutex_lock(&stub.mu);
	int n = snprintf(to, size, "%s", stub.length ? stub.log : "");
	stub.length = 0;
	pthread_mutex_unlock(&stub.mu);
	return n;
}

// fails returns the code that a call has been told to fail with.
static CUresult fails(const char *call) {
	for (int i = 0; i < stub.fails; i++)
		if (!strcmp(stub.fail[i].call, call) && --stub.fail[i].countdown == 0) {
			int code = stub.fail[i].code;
			if (code >= 700 && code <= 719)
				stub.sticky = code;
			return code;
		}
	return 0;
}

// BEGIN opens a call that needs no context, INSIDE one that needs one.
#define BEGIN(...) \
	do { \
		note(__VA_ARGS__); \
		CUresult code = fails(__func__); \
		if (code) \
			return code; \
		if (!stub.initialized) \
			return 3; \
	} while (0)
#define INSIDE(...) \
	do { \
		note(__VA_ARGS__); \
		if (current == NULL) \
			return 201; \
		CUresult code = fails(__func__); \
		if (code) \
			return code; \
		if (stub.sticky) \
			return stub.sticky; \
	} while (0)

// A thread that Go knows nothing of and that blocks no signal.
static volatile int thread_id;

static void *idle(void *unused) {
	(void)unused;
	thread_id = syscall(SYS_gettid);
	for (;;)
		pause();
}

int stub_thread(void) {
	while (thread_id == 0)
		usleep(100);
	return thread_id;
}

__attribute__((constructor)) static void loaded(void) {
	if (getenv("STUB_CUDA"))
		stub_configure(getenv("STUB_CUDA"));
}

CUresult cuInit(unsigned flags) {
	note("cuInit(%u)", flags);
	CUresult code = fails(__func__);
	if (code)
		return code;
	if (stub.devices == 0)
		return 100;
	stub.initialized = 1;
	static int started;
	pthread_t thread;
	if (!started++)
		pthread_create(&thread, NULL, idle, NULL);
	return 0;
}

CUresult cuDriverGetVersion(int *version) {
	note("cuDriverGetVersion");
	*version = stub.version;
	return fails(__func__);
}

static const struct { int code; const char *name, *text; } codes[] = {
	{2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
	{3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
	{34, "CUDA_ERROR_STUB_LIBRARY", "CUDA driver is a stub library"},
	{46, "CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable"},
	{100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
	{101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
	{201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
	{218, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
	{222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "the provided PTX was compiled with an unsupported toolchain."},
	{400, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
	{500, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
	{600, "CUDA_ERROR_NOT_READY", "device not ready"},
	{700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
	{719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
	{900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
};

CUresult cuGetErrorName(CUresult code, const char **name) {
	*name = NULL;
	for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
		if (codes[i].code == code)
			*name = codes[i].name;
	return *name ? 0 : 1;
}

CUresult cuGetErrorString(CUresult code, const char **text) {
	*text = NULL;
	for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
		if (codes[i].code == code)
			*text = codes[i].text;
	return *text ? 0 : 1;
}

CUresult cuDeviceGetCount(int *n) {
	BEGIN("cuDeviceGetCount");
	*n = stub.devices;
	return 0;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
	BEGIN("cuDeviceGet(%d)", ordinal);
	if (ordinal < 0 || ordinal >= stub.devices)
		return 101;
	*device = ordinal;
	return 0;
}

CUresult cuDeviceGetName(char *name, int size, CUdevice device) {
	BEGIN("cuDeviceGetName(%d)", device);
	snprintf(name, size, "Stub %d", device);
	return 0;
}

CUresult cuDeviceGetPCIBusId(char *id, int size, CUdevice device) {
	BEGIN("cuDeviceGetPCIBusId(%d)", device);
	snprintf(id, size, "0000:%02x:00.0", 0x18 + device);
	return 0;
}

CUresult cuDeviceGetUuid_v2(CUuuid *id, CUdevice device) {
	BEGIN("cuDeviceGetUuid_v2(%d)", device);
	for (int i = 0; i < 16; i++)
		id->bytes[i] = 16 * device + i;
	return 0;
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) {
	BEGIN("cuDeviceTotalMem_v2(%d)", device);
	*bytes = stub.memory;
	return 0;
}

CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice device) {
	BEGIN("cuDeviceGetAttribute(%d, %d)", attribute, device);
	switch (attribute) {
	case 16: *value = 132; break;             // SMs
	case 38: *value = 50 << 20; break;        // L2
	case 39: *value = 2048; break;            // threads an SM
	case 75: *value = stub.major ? stub.major : device == 0 ? 9 : 8; break;
	case 76: *value = 0; break;
	case 81: *value = 233472; break;          // shared memory an SM
	case 82: *value = 65536; break;           // registers an SM
	case 97: *value = 232448; break;          // shared memory a block, opted in
	default: return 1;
	}
	return 0;
}

CUresult cuDevicePrimaryCtxRetain(Context **context, CUdevice device) {
	BEGIN("cuDevicePrimaryCtxRetain(%d)", device);
	*context = &contexts[device];
	contexts[device].ordinal = device;
	contexts[device].refs++;
	return 0;
}

#ifndef WITHOUT_PRIMARY_RELEASE
CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
	BEGIN("cuDevicePrimaryCtxRelease_v2(%d)", device);
	if (contexts[device].refs == 0)
		return 201;
	contexts[device].refs--;
	return 0;
}
#endif

CUresult cuCtxSetCurrent(Context *context) {
	BEGIN("cuCtxSetCurrent(%s%.*d)", context ? "device " : "none", context ? 1 : 0, context ? context->ordinal : 0);
	current = context;
	return 0;
}

CUresult cuCtxSynchronize(void) {
	INSIDE("cuCtxSynchronize");
	return 0;
}

CUresult cuMemGetInfo_v2(size_t *free_, size_t *total) {
	INSIDE("cuMemGetInfo_v2");
	*free_ = stub.memory - stub.used;
	*total = stub.memory;
	return 0;
}

static CUresult reserve(void **at, size_t size) {
	for (int i = 0; i < MAX_BLOCKS; i++)
		if (stub.block[i].at == NULL) {
			if (posix_memalign(at, 512, size))
				return 2;
			stub.block[i].at = *at;
			stub.block[i].size = size;
			return 0;
		}
	return 2;
}

static CUresult give_back(void *at, size_t *size) {
	for (int i = 0; i < MAX_BLOCKS; i++)
		if (stub.block[i].at == at) {
			*size = stub.block[i].size;
			free(at);
			stub.block[i].at = NULL;
			return 0;
		}
	return 1;
}

CUresult cuMemAlloc_v2(CUdeviceptr *p, size_t size) {
	INSIDE("cuMemAlloc_v2(%zu)", size);
	if (size > stub.memory - stub.used)
		return 2;
	void *at;
	CUresult code = reserve(&at, size);
	if (code)
		return code;
	stub.used += size;
	*p = (CUdeviceptr)at;
	return 0;
}

CUresult cuMemFree_v2(CUdeviceptr p) {
	size_t size = 0;
	INSIDE("cuMemFree_v2");
	CUresult code = give_back((void *)p, &size);
	stub.used -= size;
	return code;
}

CUresult cuMemHostAlloc(void **p, size_t size, unsigned flags) {
	INSIDE("cuMemHostAlloc(%zu, %u)", size, flags);
	return reserve(p, size);
}

CUresult cuMemFreeHost(void *p) {
	size_t size;
	INSIDE("cuMemFreeHost");
	return give_back(p, &size);
}

CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *at, void *p, unsigned flags) {
	INSIDE("cuMemHostGetDevicePointer_v2(%u)", flags);
	*at = (CUdeviceptr)p;
	return 0;
}

static Object *object(char kind) {
	Object *o = calloc(1, sizeof *o);
	o->kind = kind;
	o->number = __atomic_add_fetch(&stub.objects, 1, __ATOMIC_RELAXED);
	return o;
}

#define WANT(o, k) \
	do { \
		if ((o) == NULL || (o)->kind != (k)) \
			return 400; \
	} while (0)

// Destroyed objects are leaked, so that their use is seen and not undefined.
static CUresult destroy(Object *o, char kind) {
	WANT(o, kind);
	o->kind = 0;
	return 0;
}

CUresult cuStreamCreate(Object **s, unsigned flags) {
	INSIDE("cuStreamCreate(%u)", flags);
	*s = object('s');
	return 0;
}

CUresult cuStreamDestroy_v2(Object *s) {
	INSIDE("cuStreamDestroy_v2(s%d)", s ? s->number : 0);
	return destroy(s, 's');
}

CUresult cuStreamSynchronize(Object *s) {
	INSIDE("cuStreamSynchronize(s%d)", s ? s->number : 0);
	WANT(s, 's');
	if (s->capturing) {
		s->broken = 1;
		return 900;
	}
	return 0;
}

CUresult cuStreamWaitEvent(Object *s, Object *e, unsigned flags) {
	INSIDE("cuStreamWaitEvent(s%d, e%d, %u)", s ? s->number : 0, e ? e->number : 0, flags);
	WANT(s, 's');
	WANT(e, 'e');
	return 0;
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t n, Object *s) {
	INSIDE("cuMemcpyHtoDAsync_v2(%zu, s%d)", n, s ? s->number : 0);
	WANT(s, 's');
	memcpy((void *)to, from, n);
	return 0;
}

CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t n, Object *s) {
	INSIDE("cuMemcpyDtoHAsync_v2(%zu, s%d)", n, s ? s->number : 0);
	WANT(s, 's');
	memcpy(to, (void *)from, n);
	return 0;
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t n, Object *s) {
	INSIDE("cuMemcpyDtoDAsync_v2(%zu, s%d)", n, s ? s->number : 0);
	WANT(s, 's');
	memcpy((void *)to, (void *)from, n);
	return 0;
}

CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char v, size_t n, Object *s) {
	INSIDE("cuMemsetD8Async(%u, %zu, s%d)", v, n, s ? s->number : 0);
	WANT(s, 's');
	memset((void *)to, v, n);
	return 0;
}

CUresult cuMemsetD32Async(CUdeviceptr to, unsigned v, size_t n, Object *s) {
	INSIDE("cuMemsetD32Async(%u, %zu, s%d)", v, n, s ? s->number : 0);
	WANT(s, 's');
	for (size_t i = 0; i < n; i++)
		((unsigned *)to)[i] = v;
	return 0;
}

CUresult cuEventCreate(Object **e, unsigned flags) {
	INSIDE("cuEventCreate(%u)", flags);
	*e = object('e');
	return 0;
}

CUresult cuEventDestroy_v2(Object *e) {
	INSIDE("cuEventDestroy_v2(e%d)", e ? e->number : 0);
	return destroy(e, 'e');
}

CUresult cuEventRecord(Object *e, Object *s) {
	INSIDE("cuEventRecord(e%d, s%d)", e ? e->number : 0, s ? s->number : 0);
	WANT(e, 'e');
	WANT(s, 's');
	e->recorded = ++stub.objects;
	return 0;
}

CUresult cuEventQuery(Object *e) {
	INSIDE("cuEventQuery(e%d)", e ? e->number : 0);
	WANT(e, 'e');
	return e->recorded ? 0 : 600;
}

CUresult cuEventSynchronize(Object *e) {
	INSIDE("cuEventSynchronize(e%d)", e ? e->number : 0);
	WANT(e, 'e');
	return 0;
}

CUresult cuEventElapsedTime(float *ms, Object *start, Object *end) {
	INSIDE("cuEventElapsedTime(e%d, e%d)", start ? start->number : 0, end ? end->number : 0);
	WANT(start, 'e');
	WANT(end, 'e');
	*ms = 0.5f * (end->recorded - start->recorded);
	return 0;
}

CUresult cuModuleLoadDataEx(Object **m, const void *image, unsigned n, int *options, void **values) {
	INSIDE("cuModuleLoadDataEx(%zu bytes, %u options)", strlen(image), n);
	char *info = NULL, *error = NULL;
	size_t info_size = 0, error_size = 0;
	for (unsigned i = 0; i < n; i++)
		switch (options[i]) {
		case 3: info = values[i]; break;
		case 4: info_size = (size_t)values[i]; break;
		case 5: error = values[i]; break;
		case 6: error_size = (size_t)values[i]; break;
		default: return 1;
		}
	const char *wrong = strstr(image, "nonsense");
	if (wrong) {
		int line = 1;
		for (const char *c = image; c < wrong; c++)
			line += *c == '\n';
		snprintf(error, error_size, "ptxas application ptx input, line %d; fatal   : Parsing error near 'nonsense': syntax error\n", line);
		return 218;
	}
	snprintf(info, info_size, "info    : 0 bytes gmem\n");
	*m = object('m');
	(*m)->text = strdup(image);
	return 0;
}

CUresult cuModuleUnload(Object *m) {
	INSIDE("cuModuleUnload(m%d)", m ? m->number : 0);
	return destroy(m, 'm');
}

CUresult cuModuleGetFunction(Object **f, Object *m, const char *name) {
	INSIDE("cuModuleGetFunction(m%d, %s)", m ? m->number : 0, name);
	WANT(m, 'm');
	char entry[256];
	snprintf(entry, sizeof entry, ".entry %s(", name);
	if (!strstr(m->text, entry))
		return 500;
	*f = object('f');
	(*f)->text = strdup(name);
	return 0;
}

CUresult cuFuncGetAttribute(int *value, int attribute, Object *f) {
	INSIDE("cuFuncGetAttribute(%d, %s)", attribute, f->text);
	WANT(f, 'f');
	static const int values[] = {1024, 16, 0, 8, 40};
	if (attribute < 0 || attribute > 4)
		return 1;
	*value = values[attribute];
	return 0;
}

CUresult cuFuncSetAttribute(Object *f, int attribute, int value) {
	INSIDE("cuFuncSetAttribute(%s, %d, %d)", f->text, attribute, value);
	WANT(f, 'f');
	return 0;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *n, Object *f, int threads, size_t shared) {
	INSIDE("cuOccupancyMaxActiveBlocksPerMultiprocessor(%s, %d, %zu)", f->text, threads, shared);
	WANT(f, 'f');
	*n = 2048 / threads;
	return 0;
}

typedef struct {
	unsigned id;
	char pad[4];
	union { char pad[64]; int on; } value;
} Attribute;

typedef struct {
	unsigned grid[3], block[3], shared;
	Object *stream;
	Attribute *attributes;
	unsigned n;
} Config;

#ifndef WITHOUT_LAUNCH_EX
CUresult cuLaunchKernelEx(const Config *c, Object *f, void **parameters, void **extra) {
	static const char hex[] = "0123456789abcdef";
	char text[3 * 64 + 1] = "", attributes[64] = "";
	size_t n = 0;
	for (unsigned i = 0; i < c->n && i < 4; i++)
		sprintf(attributes + strlen(attributes), " %u=%d", c->attributes[i].id, c->attributes[i].value.on);
	if (extra) {
		if (extra[0] != (void *)1 || extra[2] != (void *)2 || extra[4] != NULL)
			return 1;
		n = *(size_t *)extra[3];
		for (size_t i = 0; i < n && i < 64; i++) {
			unsigned char b = ((unsigned char *)extra[1])[i];
			text[2 * i] = hex[b >> 4];
			text[2 * i + 1] = hex[b & 15];
			text[2 * i + 2] = 0;
		}
	}
	INSIDE("cuLaunchKernelEx(%s, grid %u %u %u, block %u %u %u, shared %u, s%d,%s parameters %zu:%s)", f ? f->text : "none",
		c->grid[0], c->grid[1], c->grid[2], c->block[0], c->block[1], c->block[2], c->shared, c->stream ? c->stream->number : 0, attributes, n, text);
	WANT(f, 'f');
	WANT(c->stream, 's');
	return parameters && extra ? 1 : 0;
}
#endif

CUresult cuStreamBeginCapture_v2(Object *s, int mode) {
	INSIDE("cuStreamBeginCapture_v2(s%d, %d)", s ? s->number : 0, mode);
	WANT(s, 's');
	s->capturing = 1;
	s->broken = 0;
	return 0;
}

CUresult cuStreamEndCapture(Object *s, Object **g) {
	INSIDE("cuStreamEndCapture(s%d)", s ? s->number : 0);
	WANT(s, 's');
	s->capturing = 0;
	*g = s->broken ? NULL : object('g');
	return 0;
}

CUresult cuGraphInstantiateWithFlags(Object **x, Object *g, unsigned long long flags) {
	INSIDE("cuGraphInstantiateWithFlags(g%d, %llu)", g ? g->number : 0, flags);
	WANT(g, 'g');
	*x = object('x');
	return 0;
}

CUresult cuGraphDestroy(Object *g) {
	INSIDE("cuGraphDestroy(g%d)", g ? g->number : 0);
	return destroy(g, 'g');
}

CUresult cuGraphLaunch(Object *x, Object *s) {
	INSIDE("cuGraphLaunch(x%d, s%d)", x ? x->number : 0, s ? s->number : 0);
	WANT(x, 'x');
	WANT(s, 's');
	return 0;
}

CUresult cuGraphExecDestroy(Object *x) {
	INSIDE("cuGraphExecDestroy(x%d)", x ? x->number : 0);
	return destroy(x, 'x');
}
