// The runtime of a device that uses host memory and whose streams are always empty.
//
// Names of C functions do not include types, so each function is declared only with the arguments it uses.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "record.h"

namespace {

constexpr int kSuccess = 0, kOutOfMemory = 207001, kQueueIsEmpty = 207013;
constexpr size_t kPage = 4096;

// A block is preceded by a page with its size. Pages that are not written take no memory, however large the block.
int allocate(void** address, size_t size) {
  void* block = mmap(nullptr, kPage + size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (block == MAP_FAILED) return kOutOfMemory;
  *static_cast<size_t*>(block) = kPage + size;
  *address = static_cast<char*>(block) + kPage;
  return kSuccess;
}

int release(void* address) {
  if (!address) return kSuccess;
  char* block = static_cast<char*>(address) - kPage;
  munmap(block, *reinterpret_cast<size_t*>(block));
  return kSuccess;
}

int copy(void* to, const void* from, size_t size, int direction, const char* how) {
  static const char* const kDirections[] = {"H2H", "H2D", "D2H", "D2D"};
  record("copy", direction >= 0 && direction < 4 ? kDirections[direction] : "other", show(size), how);
  if (size) memmove(to, from, size);
  return kSuccess;
}

int wait_for(const char* what) {
  record("wait", what);
  return kSuccess;
}

// An object of which only the address is used.
void* create() { return new char; }

int create(void** object) {
  *object = create();
  return kSuccess;
}

template <class T>
int answer(T* place, T value) {
  *place = value;
  return kSuccess;
}

}  // namespace

extern "C" {

// The chip, and the options of the compiler of its operators.
const char* aclrtGetSocName() { return getenv("ASCEND_STUB_CHIP"); }
int aclrtGetDeviceCount(uint32_t* count) { return answer(count, 8u); }
int aclrtGetDevice(int32_t* device) { return answer(device, 0); }
int aclrtDeviceCanAccessPeer(int32_t* can) { return answer(can, 0); }
int aclrtGetRunMode(int* mode) { return answer(mode, 1); }  // This program runs on the host.
int aclrtDeviceGetStreamPriorityRange(int32_t* least, int32_t* greatest) { return answer(least, 7) + answer(greatest, 0); }
const char* aclGetRecentErrMsg() { return ""; }
size_t aclDataTypeSize(int type) { return data_type(type).bytes; }
int aclSetCompileopt(int option, const char* value) { return record("option", "compile " + show(option), "", value), kSuccess; }
int aclrtSetDeviceSatMode(int mode) { return record("option", "saturation mode", "", show(mode)), kSuccess; }
int aclrtCtxSetSysParamOpt(int option, int64_t value) {
  return record("option", "system " + show(option), "", show(value)), kSuccess;
}

// Memory. A reserved range can be used at once: mapping memory into it does nothing more.
int aclrtGetMemInfo(int, size_t* free, size_t* total) { return answer(free, 30ul << 30) + answer(total, 32ul << 30); }
int aclrtMalloc(void** address, size_t size) { return allocate(address, size); }
int aclrtMallocAlign32(void** address, size_t size) { return allocate(address, size); }
int aclrtMallocHost(void** address, size_t size) { return allocate(address, size); }
int aclrtReserveMemAddress(void** address, size_t size) { return allocate(address, size); }
int aclrtFree(void* address) { return release(address); }
int aclrtFreeHost(void* address) { return release(address); }
int aclrtReleaseMemAddress(void* address) { return release(address); }
int aclrtMallocPhysical(void** handle) { return create(handle); }
int aclrtMemset(void* to, size_t, int value, size_t size) { return memset(to, value, size), kSuccess; }
int aclrtMemsetAsync(void* to, size_t, int value, size_t size) { return memset(to, value, size), kSuccess; }
int aclrtMemcpy(void* to, size_t, const void* from, size_t size, int direction) {
  return copy(to, from, size, direction, "sync");
}
int aclrtMemcpyAsync(void* to, size_t, const void* from, size_t size, int direction) {
  return copy(to, from, size, direction, "async");
}

// Streams and events. Work is finished when it is launched: streams are complete (0) and events recorded (1).
int aclrtCreateContext(void** context) { return create(context); }
int aclrtGetCurrentContext(void** context) {
  static void* const only = create();
  return answer(context, only);
}
int aclrtCreateStream(void** stream) { return create(stream); }
int aclrtCreateStreamWithConfig(void** stream) { return create(stream); }
int aclrtCreateEventWithFlag(void** event) { return create(event); }
int aclrtCreateEventExWithFlag(void** event) { return create(event); }
int aclrtStreamQuery(void*, int* status) { return answer(status, 0); }
int aclrtQueryEventStatus(void*, int* status) { return answer(status, 1); }
int aclrtEventElapsedTime(float* milliseconds) { return answer(milliseconds, 0.0f); }
int aclrtSynchronizeStream() { return wait_for("stream"); }
int aclrtSynchronizeStreamWithTimeout() { return wait_for("stream"); }
int aclrtSynchronizeDevice() { return wait_for("device"); }
int aclrtSynchronizeDeviceWithTimeout() { return wait_for("device"); }
int aclrtSynchronizeEvent() { return wait_for("event"); }

// A thread of MindSpore polls for host functions of the stream; here they run when they are launched.
int aclrtLaunchCallback(void (*function)(void*), void* data) { return function(data), kSuccess; }
int aclrtProcessReport() { return usleep(50'000), kSuccess; }

// MindSpore's own kernels.
int rtDevBinaryRegister(const void*, void** binary) { return create(binary); }
int rtKernelLaunch() { return record("rt", "rtKernelLaunch"), kSuccess; }
int rtLaunch() { return record("rt", "rtLaunch"), kSuccess; }

// Channels for data from the device stay empty; a thread of MindSpore polls each of them.
void* acltdtCreateChannel() { return create(); }
void* acltdtCreateChannelWithCapacity() { return create(); }
void* acltdtCreateDataset() { return create(); }
void* acltdtCreateDataItem() { return create(); }
int acltdtReceiveTensor() { return usleep(100'000), kQueueIsEmpty; }

// Profiler, offline models, allocators: MindSpore checks that they were created.
void* aclprofCreateConfig() { return create(); }
void* aclprofCreateStepInfo() { return create(); }
void* aclmdlCreateDataset() { return create(); }
void* aclmdlCreateDesc() { return create(); }
void* aclmdlCreateExecConfigHandle() { return create(); }
void* aclrtAllocatorCreateDesc() { return create(); }

}  // extern "C"
