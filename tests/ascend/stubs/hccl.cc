// Collective communication between the ranks of one machine. AllGather works, over shared memory, since ranks use it to
// coordinate. All others return the rank's own data, since no kernel has computed any.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>

#include "record.h"

namespace {

constexpr int kSuccess = 0, kFailure = 1;
constexpr size_t kSlotBytes = 1 << 20;  // Per rank; larger data is sent in parts. /dev/shm may have only 64 MB.
constexpr size_t kMostRanks = 16;

// A new file is all zeros, and so are the atomic numbers in it.
struct SharedMemory {
  std::atomic<uint64_t> arrivals;
  char slots[kMostRanks][kSlotBytes];
};

struct Comm {
  uint32_t size, rank;
  SharedMemory* memory;  // Null: a group without shared memory, see HcclCreateSubCommConfig.
};

// Barrier: waits until all ranks have called it equally often. A missing rank is left to the time limit of the test.
void barrier(const Comm& comm) {
  uint64_t mine = comm.memory->arrivals++;
  uint64_t all = (mine / comm.size + 1) * comm.size;
  while (comm.memory->arrivals < all) usleep(100);
}

// HCCL has its own numbering of data types.
int acl_type(int type) {
  static const int types[] = {2, 6, 3, 1, 0, 9, 10, 4, 7, 8, 11, 27};
  return type >= 0 && type < 12 ? types[type] : -1;
}

size_t record_collective(const char* name, uint64_t count, int type) {
  record("hccl", name, show_tensor(acl_type(type), {int64_t(count)}));
  return count * data_type(acl_type(type)).bytes;
}

}  // namespace

extern "C" {

// MindSpore sends the root information of rank 0 to the other ranks; it has a size of 4 kB.
int HcclGetRootInfo(char* info) {
  static std::atomic<int> number;
  snprintf(info, 64, "/ascend_stub_%d_%d", int(getpid()), number++);
  return kSuccess;
}
// Initialisation waits for all ranks: rank 0 deletes the information as soon as it is initialised itself.
int HcclCommInitRootInfo(uint32_t size, const char* info, uint32_t rank, Comm** comm) {
  int file = shm_open(info, O_RDWR | O_CREAT, 0600);
  if (size > kMostRanks || file < 0 || ftruncate(file, sizeof(SharedMemory))) return kFailure;
  void* memory = mmap(nullptr, sizeof(SharedMemory), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (memory == MAP_FAILED) return kFailure;
  *comm = new Comm{size, rank, static_cast<SharedMemory*>(memory)};
  barrier(**comm);
  shm_unlink(info);
  record("hccl", "join", show(size) + " ranks");
  return kSuccess;
}
int HcclCommInitRootInfoConfig(uint32_t size, const char* info, uint32_t rank, const void*, Comm** comm) {
  return HcclCommInitRootInfo(size, info, rank, comm);
}
int HcclCreateSubCommConfig(Comm**, uint32_t size, const uint32_t*, uint64_t, uint32_t rank, const void*, Comm** comm) {
  *comm = new Comm{size, rank, nullptr};
  return kSuccess;
}
int HcclGetRankId(const Comm* comm, uint32_t* rank) { return *rank = comm->rank, kSuccess; }
int HcclGetRankSize(const Comm* comm, uint32_t* size) { return *size = comm->size, kSuccess; }
int HcclGetCommName(const Comm*, char* name) { return strcpy(name, "stub"), kSuccess; }

int HcclAllGather(const char* from, char* to, uint64_t count, int type, const Comm* comm) {
  size_t bytes = record_collective("AllGather", count, type);
  for (size_t done = 0; done < bytes; done += kSlotBytes) {
    size_t part = std::min(kSlotBytes, bytes - done);
    if (comm->memory) {
      memcpy(comm->memory->slots[comm->rank], from + done, part);
      barrier(*comm);
    }
    for (uint32_t rank = 0; rank < comm->size; rank++) {
      memcpy(to + rank * bytes + done, comm->memory ? comm->memory->slots[rank] : from + done, part);
    }
    if (comm->memory) barrier(*comm);  // Before the next part overwrites the slots.
  }
  return kSuccess;
}
int HcclAllReduce(const void* from, void* to, uint64_t count, int type) {
  return memmove(to, from, record_collective("AllReduce", count, type)), kSuccess;
}
int HcclReduceScatter(const void* from, void* to, uint64_t count, int type) {
  return memmove(to, from, record_collective("ReduceScatter", count, type)), kSuccess;
}
int HcclBroadcast(void*, uint64_t count, int type) { return record_collective("Broadcast", count, type), kSuccess; }
int HcclBarrier(const Comm* comm) {
  if (comm->memory) barrier(*comm);
  return record("hccl", "Barrier"), kSuccess;
}

}  // extern "C"
