// A library with the functions of the CUDA driver that package driver calls, which runs the kernels of ../src on the
// processor. It exists to hold their arithmetic to kernels/ref where there is no GPU: it knows nothing of speed, of
// memory that is not coherent, or of copies that are still under way. Streams run at once; a captured stream is a list
// that a launch of its graph walks.
//
//	c++ -std=c++17 -O2 -mfma -ffp-contract=off -shared -fPIC -DTRITTER_EMULATOR -o libcuda.so libcuda.cc
#include "../src/attention.cu"
#include "../src/attention_formats.cu"
#include "../src/decode.cu"
#include "../src/dense.cu"
#include "../src/dense_bf16.cu"
#include "../src/dense_f16.cu"
#include "../src/dense_f32.cu"
#include "../src/dense_i8.cu"
#include "../src/fast.cu"
#include "../src/fast_hopper.cu"
#include "../src/hopper.cu"
#include "../src/pages.cu"
#include "../src/prefill.cu"
#include "../src/sample.cu"
#include "../src/step_large.cu"
#include "../src/step_medium.cu"
#include "../src/step_small.cu"
#include "../src/ternary.cu"
#include "../src/ternary_f32.cu"
#include "../src/ternary_many.cu"
#include "../src/vectors.cu"

#include <stdio.h>
#include <stdlib.h>
#include <xmmintrin.h>
#include <chrono>
#include <functional>
#include <map>
#include <vector>

namespace emulator {

u32 thread_index, thread_count, block_index[2], block_count;
unsigned char* shared_memory;
Kernel* Kernel::all;

// A fiber is a stack with the callee's registers of the System V ABI on top. One that is Idle waits for another to write.
struct Fiber {
  void* stack_pointer;
  char* stack;
  enum { Ready, Idle, AtWarp, AtBlock, Done } state;
  u32 operations;       // of the warp so far
  u32 barrier, parties;  // where it is AtBlock
};
static const size_t kStack = 64 << 10;
// Block is a block that runs. Those of a cooperative launch run by turns, all others one after the other.
struct Block {
  std::vector<Fiber> fibers;
  Bank banks[32][2];  // of each warp
  std::vector<unsigned char> shared;
  u32 index[2];
  u32 ahead[16], expected[16];  // threads that have arrived at a barrier and gone on, and of how many
};
static std::vector<Block> blocks;
static Block* running_block;
static Fiber* fibers;  // of the block that runs
static Bank (*banks)[2];
static void* scheduler;
static const Kernel* kernel;
static const char* packed;

extern "C" void emulator_switch(void** save, void* load);
asm(R"(
.text
.globl emulator_switch
.hidden emulator_switch
emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");

// yield goes on with the next lane of the warp that can, or back to the scheduler.
static u32 direction;  // 1, or the 32-bit -1
static void yield(u32 self) {
  void* next = scheduler;
  for (u32 t = self + direction; t / 32 == self / 32; t += direction)
    if (fibers[t].state == Fiber::Ready) {
      thread_index = t;
      next = fibers[t].stack_pointer;
      break;
    }
  emulator_switch(&fibers[self].stack_pointer, next);
  thread_index = self;
}
Bank& next_bank() {
  return banks[thread_index / 32][fibers[thread_index].operations++ % 2];
}
void warp_barrier() {
  u32 self = thread_index;
  fibers[self].state = Fiber::AtWarp;
  yield(self);
}
void block_barrier(u32 name, u32 threads) {
  Fiber& self = fibers[thread_index];
  self.state = Fiber::AtBlock, self.barrier = name, self.parties = threads;
  yield(thread_index);
}
void block_arrive(u32 name, u32 threads) {
  running_block->ahead[name]++;
  running_block->expected[name] = threads;
}
void idle() {
  fibers[thread_index].state = Fiber::Idle;
  yield(thread_index);
}
static void enter() {
  kernel->run(packed);
  u32 self = thread_index;
  fibers[self].state = Fiber::Done;
  yield(self);
  abort();
}

void fail(const char* what) {
  fprintf(stderr, "emulator: kernel %s, block %u %u: %s\n", kernel->name, block_index[0], block_index[1], what);
  abort();
}

// run_warp runs the lanes of a warp until none can go on, and reports whether any did. Lanes that have left the kernel do not take
// part in the operations of the warp; all others must.
static bool run_warp(u32 warp, bool backwards) {
  direction = backwards ? -1 : 1;
  bool ran = false;
  for (u32 i = 0; i < 32; i++)
    if (fibers[warp * 32 + i].state == Fiber::Idle) fibers[warp * 32 + i].state = Fiber::Ready;
  for (;;) {
    u32 at_warp = 0, at_block = 0, idle = 0;
    for (u32 i = 0; i < 32; i++) {
      u32 t = warp * 32 + (backwards ? 31 - i : i);
      Fiber& f = fibers[t];
      if (f.state == Fiber::Ready) {
        ran = true;
        thread_index = t;
        emulator_switch(&scheduler, f.stack_pointer);
      }
      at_warp += f.state == Fiber::AtWarp;
      at_block += f.state == Fiber::AtBlock;
      idle += f.state == Fiber::Idle;
    }
    if (at_warp == 0 || idle > 0) return ran;
    if (at_block > 0) fail("some lanes of a warp wait at an operation of the warp and others at a barrier of the block");
    for (u32 i = 0; i < 32; i++)
      if (fibers[warp * 32 + i].state == Fiber::AtWarp) fibers[warp * 32 + i].state = Fiber::Ready;
  }
}

static void start_block(Block& b, u32 x, u32 y, size_t shared) {
  b.index[0] = x, b.index[1] = y;
  for (u32 i = 0; i < 16; i++) b.ahead[i] = 0;
  b.shared.assign(shared + 1024, 0xff);
  while (b.fibers.size() < thread_count) b.fibers.push_back({nullptr, (char*)aligned_alloc(64, kStack)});
  for (u32 t = 0; t < thread_count; t++) {
    Fiber& f = b.fibers[t];
    void** top = (void**)(f.stack + kStack);
    *--top = nullptr;  // keeps the stack aligned as after a call
    *--top = (void*)enter;
    for (int r = 0; r < 6; r++) *--top = nullptr;
    f.stack_pointer = top;
    f.state = Fiber::Ready;
    f.operations = 0;
  }
}

// run_block runs a block until none of its threads can go on, and reports whether all have left.
static bool run_block(Block& b, bool backwards) {
  running_block = &b;
  fibers = b.fibers.data();
  banks = b.banks;
  block_index[0] = b.index[0], block_index[1] = b.index[1];
  shared_memory = (unsigned char*)align((u64)b.shared.data(), 1024);
  for (bool ran = true; ran;) {
    ran = false;
    for (u32 w = 0; w < thread_count / 32; w++) ran |= run_warp(backwards ? thread_count / 32 - 1 - w : w, backwards);
    u32 arrived[16] = {}, parties[16] = {}, done = 0, idle = 0;
    for (u32 i = 0; i < 16; i++)
      if (b.ahead[i] > 0) arrived[i] = b.ahead[i], parties[i] = b.expected[i];
    for (u32 t = 0; t < thread_count; t++) {
      const Fiber& f = fibers[t];
      if (f.state == Fiber::AtBlock) {
        if (parties[f.barrier] != 0 && parties[f.barrier] != f.parties) fail("threads wait at a barrier for different numbers of threads");
        parties[f.barrier] = f.parties;
        arrived[f.barrier]++;
      }
      done += f.state == Fiber::Done;
      idle += f.state == Fiber::Idle;
    }
    if (done == thread_count) return true;
    bool open = false;
    for (u32 t = 0; t < thread_count; t++) {
      Fiber& f = fibers[t];
      if (f.state == Fiber::AtBlock && arrived[f.barrier] == parties[f.barrier]) f.state = Fiber::Ready, b.ahead[f.barrier] = 0, open = true;
    }
    if (open) {
      ran = true;
      continue;
    }
    if (idle == 0) fail("threads wait at a barrier for others that do not come");
    ran = false;  // what the idle wait for, another block may write
  }
  return false;
}

struct Launch {
  const Kernel* function;
  u32 grid[2], threads;
  bool cooperative;
  size_t shared;
  std::vector<char> parameters;
  void run() const {
    // A device that rounds wrongly, for the test that it is refused.
    const unsigned mode = _mm_getcsr();
    if (getenv("TRITTER_EMULATOR_TRUNCATES")) _MM_SET_ROUNDING_MODE(_MM_ROUND_TOWARD_ZERO);
    kernel = function;
    packed = parameters.data();
    thread_count = threads;
    block_count = grid[0];
    const u32 all = grid[0] * grid[1], together = cooperative ? all : 1;
    while (blocks.size() < together) blocks.emplace_back();
    static u32 turn;  // both orders, so that a missing barrier shows
    for (u32 first = 0; first < all; first += together) {
      std::vector<u32> running;
      for (u32 i = 0; i < together; i++) {
        start_block(blocks[i], (first + i) % grid[0], (first + i) / grid[0], shared);
        running.push_back(i);
      }
      while (!running.empty()) {
        turn++;
        std::vector<u32> left;
        for (u32 i : running)
          if (!run_block(blocks[i], turn % 2)) left.push_back(i);
        running = left;
      }
    }
    _mm_setcsr(mode);
  }
};

struct Graph {
  std::vector<std::function<void()>> steps;
};
struct Stream {
  Graph* capture = nullptr;
  void submit(std::function<void()> step) {
    if (capture)
      capture->steps.push_back(std::move(step));
    else
      step();
  }
};
struct Event {
  std::chrono::steady_clock::time_point at;
};

static std::map<char*, size_t> allocations;
static size_t used;
static size_t capacity() {
  const char* s = getenv("TRITTER_EMULATOR_MEMORY");
  return s ? strtoull(s, nullptr, 10) : 8ull << 30;
}
}  // namespace emulator

using namespace emulator;

enum { kSuccess = 0, kInvalid = 1, kNoMemory = 2, kNotFound = 500, kTooLarge = 720, kUnsupported = 801 };
enum : u32 { kMultiprocessors = 4, kParameters = 4096 };
#define API extern "C" __attribute__((visibility("default"))) int

API cuInit(u32) { return kSuccess; }
API cuDriverGetVersion(int* v) { return *v = 13000, kSuccess; }
API cuGetErrorName(int code, const char** s) { return *s = code == kNoMemory ? "CUDA_ERROR_OUT_OF_MEMORY" : code == kNotFound ? "CUDA_ERROR_NOT_FOUND" : "CUDA_ERROR_INVALID_VALUE", kSuccess; }
API cuGetErrorString(int code, const char** s) { return *s = code == kNoMemory ? "out of memory" : code == kNotFound ? "named symbol not found" : "invalid argument", kSuccess; }
API cuDeviceGetCount(int* n) { return *n = 1, kSuccess; }
API cuDeviceGet(int* d, int) { return *d = 0, kSuccess; }
API cuDeviceGetName(char* s, int n, int) { return snprintf(s, n, "emulator"), kSuccess; }
API cuDeviceGetUuid_v2(char* s, int) { return memset(s, 0, 16), kSuccess; }
API cuDeviceGetPCIBusId(char* s, int n, int) { return snprintf(s, n, "0000:00:00.0"), kSuccess; }
API cuDeviceGetAttribute(int* v, int attribute, int) {
  switch (attribute) {
    case 16: *v = kMultiprocessors; break;
    case 38: *v = 1 << 20; break;   // L2
    case 39: *v = 2048; break;      // threads of a multiprocessor
    case 75: *v = 9; break;         // compute capability
    case 76: *v = 0; break;
    case 81: *v = 233472; break;    // shared memory of a multiprocessor
    case 82: *v = 65536; break;     // registers of a multiprocessor
    case 97: *v = 232448; break;    // shared memory of a block
    default: *v = 0;
  }
  return kSuccess;
}
API cuDeviceTotalMem_v2(size_t* n, int) { return *n = capacity(), kSuccess; }
API cuDevicePrimaryCtxRetain(void** c, int) { return *c = &blocks, kSuccess; }
API cuDevicePrimaryCtxRelease_v2(int) { return kSuccess; }
API cuCtxSetCurrent(void*) { return kSuccess; }
API cuCtxSynchronize() { return kSuccess; }

API cuMemGetInfo_v2(size_t* free, size_t* total) {
  *total = capacity();
  *free = *total > used ? *total - used : 0;
  return kSuccess;
}
// allocate fills memory of the device with NaNs. That of the host is large and mostly unused.
static int allocate(char** p, size_t n, bool device) {
  if (n == 0) return kInvalid;
  if (used + n > capacity()) return kNoMemory;
  *p = (char*)aligned_alloc(256, (n + 255) / 256 * 256);
  if (device) memset(*p, 0xff, n);
  allocations[*p] = n;
  used += n;
  return kSuccess;
}
static int release(char* p) {
  auto a = allocations.find(p);
  if (a == allocations.end()) return kInvalid;
  used -= a->second;
  allocations.erase(a);
  free(p);
  return kSuccess;
}
// inside reports whether n bytes at p belong to one allocation.
static bool inside(const char* p, size_t n) {
  auto a = allocations.upper_bound((char*)p);
  if (a == allocations.begin()) return false;
  --a;
  return p + n <= a->first + a->second;
}
API cuMemAlloc_v2(char** p, size_t n) { return allocate(p, n, true); }
API cuMemFree_v2(char* p) { return release(p); }
API cuMemHostAlloc(char** p, size_t n, u32) { return allocate(p, n, false); }
API cuMemFreeHost(char* p) { return release(p); }
API cuMemHostGetDevicePointer_v2(char** d, char* p, u32) { return *d = p, kSuccess; }

static int copy(char* to, const char* from, size_t n, Stream* s) {
  if (n > 0 && (!inside(to, n) || !inside(from, n))) return kInvalid;
  s->submit([=] { memcpy(to, from, n); });
  return kSuccess;
}
API cuMemcpyHtoDAsync_v2(char* to, const char* from, size_t n, Stream* s) { return copy(to, from, n, s); }
API cuMemcpyDtoHAsync_v2(char* to, const char* from, size_t n, Stream* s) { return copy(to, from, n, s); }
API cuMemcpyDtoDAsync_v2(char* to, const char* from, size_t n, Stream* s) { return copy(to, from, n, s); }
API cuMemsetD8Async(char* to, unsigned char v, size_t n, Stream* s) {
  if (!inside(to, n)) return kInvalid;
  return s->submit([=] { memset(to, v, n); }), kSuccess;
}
API cuMemsetD32Async(u32* to, u32 v, size_t n, Stream* s) {
  if (!inside((char*)to, 4 * n)) return kInvalid;
  s->submit([=] {
    for (size_t i = 0; i < n; i++) to[i] = v;
  });
  return kSuccess;
}

API cuStreamCreate(Stream** s, u32) { return *s = new Stream, kSuccess; }
API cuStreamDestroy_v2(Stream* s) { return delete s, kSuccess; }
API cuStreamSynchronize(Stream*) { return kSuccess; }
API cuStreamWaitEvent(Stream*, Event*, u32) { return kSuccess; }
static int captures;  // that are under way: then no module can be loaded
API cuStreamBeginCapture_v2(Stream* s, int) { return captures++, s->capture = new Graph, kSuccess; }
API cuStreamEndCapture(Stream* s, Graph** g) {
  captures--;
  *g = s->capture;
  s->capture = nullptr;
  return kSuccess;
}
API cuEventCreate(Event** e, u32) { return *e = new Event, kSuccess; }
API cuEventDestroy_v2(Event* e) { return delete e, kSuccess; }
API cuEventRecord(Event* e, Stream* s) { return s->submit([=] { e->at = std::chrono::steady_clock::now(); }), kSuccess; }
API cuEventQuery(Event*) { return kSuccess; }
API cuEventSynchronize(Event*) { return kSuccess; }
API cuEventElapsedTime(float* ms, Event* a, Event* b) { return *ms = std::chrono::duration<float, std::milli>(b->at - a->at).count(), kSuccess; }

API cuModuleLoadDataEx(void** m, const char*, u32, int*, void**) {
  if (captures > 0) return kInvalid;
  return *m = &allocations, kSuccess;
}
API cuModuleUnload(void*) { return kSuccess; }
API cuModuleGetFunction(const Kernel** f, void*, const char* name) {
  for (const Kernel* k = Kernel::all; k; k = k->next)
    if (!strcmp(k->name, name)) return *f = k, kSuccess;
  return kNotFound;
}
API cuFuncGetAttribute(int* v, int attribute, const Kernel*) { return *v = attribute == 0 ? 1024 : 0, kSuccess; }
API cuFuncSetAttribute(const Kernel*, int, int) { return kSuccess; }
API cuOccupancyMaxActiveBlocksPerMultiprocessor(int* n, const Kernel*, int, size_t) { return *n = 1, kSuccess; }

struct Attribute {
  u32 id, padding, value[16];
};
struct Config {
  u32 grid[3], block[3], shared;
  Stream* stream;
  const Attribute* attributes;
  u32 count;
};
API cuLaunchKernelEx(const Config* c, const Kernel* f, void** parameters, void** extra) {
  if (!parameters == !extra || c->grid[2] != 1 || c->block[1] != 1 || c->block[2] != 1 || c->block[0] == 0 || c->block[0] > 1024 || c->block[0] % 32 || c->grid[0] == 0 || c->grid[1] == 0 || c->shared > 232448) return kInvalid;
  Launch l = {f, {c->grid[0], c->grid[1]}, c->block[0], false, c->shared, {}};
  for (u32 i = 0; i < c->count; i++) l.cooperative |= c->attributes[i].id == 2 && c->attributes[i].value[0];
  if (l.cooperative && c->grid[0] * c->grid[1] > kMultiprocessors) return kTooLarge;
  const char* data = nullptr;
  size_t size = 0;
  for (; extra && *extra; extra += 2) {
    if (*extra == (void*)1) data = (const char*)extra[1];
    if (*extra == (void*)2) size = *(size_t*)extra[1];
  }
  // The arguments that the pointers name follow each other in memory.
  if (parameters) data = (const char*)parameters[0], size = kParameters;
  l.parameters.assign(data, data + size);
  l.parameters.resize(size + 64);
  c->stream->submit([l] { l.run(); });
  return kSuccess;
}

API cuGraphInstantiateWithFlags(Graph** e, const Graph* g, u64) { return *e = new Graph(*g), kSuccess; }
API cuGraphDestroy(Graph* g) { return delete g, kSuccess; }
API cuGraphLaunch(Graph* g, Stream*) {
  for (auto& step : g->steps) step();
  return kSuccess;
}
API cuGraphExecDestroy(Graph* g) { return delete g, kSuccess; }
