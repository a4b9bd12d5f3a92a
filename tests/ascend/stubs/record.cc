#include "record.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <map>

// With several ranks only the first one records, and not the scheduler of msrun.
static int open_record() {
  const char* path = getenv("ASCEND_STUB_RECORD");
  const char* rank = getenv("RANK_ID");
  const char* role = getenv("MS_ROLE");
  if (!path || (rank && std::string(rank) != "0") || (role && std::string(role) == "MS_SCHED")) return -1;
  return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

void record(const char* kind, const std::string& name, const std::string& arguments, const std::string& attributes) {
  static const int file = open_record();
  if (file < 0) return;
  std::string line = std::string(kind) + '\t' + name + '\t' + arguments + '\t' + attributes;
  std::replace(line.begin(), line.end(), '\n', ' ');
  line += '\n';
  // One write per line: lines of several threads do not mix, and a crash loses none.
  if (write(file, line.data(), line.size()) != ssize_t(line.size())) abort();
}

// Called from Python to mark the beginning of a step.
extern "C" void ascend_stub_mark(const char* name) { record("mark", name); }

const DataType& data_type(int number) {
  static const std::map<int, DataType> known = {
      {0, {"f32", 4}},  {1, {"f16", 2}},  {2, {"i8", 1}},   {3, {"i32", 4}},   {4, {"u8", 1}},    {6, {"i16", 2}},
      {7, {"u16", 2}},  {8, {"u32", 4}},  {9, {"i64", 8}},  {10, {"u64", 8}},  {11, {"f64", 8}},  {12, {"bool", 1}},
      {13, {"str", 8}}, {16, {"c64", 8}}, {17, {"c128", 16}}, {27, {"bf16", 2}}};
  static const DataType unknown = {"unknown", 8};
  auto found = known.find(number);
  return found == known.end() ? unknown : found->second;
}

std::string show_tensor(int type, const std::vector<int64_t>& shape) {
  std::string text = show(shape);
  text.front() = '[', text.back() = ']';
  return data_type(type).name + text;
}
