// Operators launched one by one by the two interfaces of CANN: aclop takes a name, descriptors and attributes, aclnn has
// functions for each operator. A launch is recorded and computes nothing: outputs keep the content of their memory,
// initially zeros. Only bool outputs are filled, with true, since a training stops if no gradient "is finite".
//
// Nothing is freed, since a probe takes only seconds; aclDestroy... are generated.
#include "operators.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>

#include "record.h"

namespace {

constexpr int kSuccess = 0, kFailure = 1;
constexpr int kFloat = 0, kInt32 = 3, kInt64 = 9, kDouble = 11, kBool = 12;

struct Tensor {
  int type;
  std::vector<int64_t> shape;
  void* data;

  size_t bytes() const {
    size_t size = data_type(type).bytes;
    for (int64_t side : shape) size *= side;
    return size;
  }
  std::string text() const { return show_tensor(type, shape); }
};

void fill_with_true(int type, void* data, size_t bytes) {
  if (type == kBool && data) memset(data, 1, bytes);
}

// aclop ---------------------------------------------------------------------------------------------------------------

struct Buffer {
  void* data;
  size_t bytes;
};
using Attributes = std::map<std::string, std::string>;

std::string show_all(const Tensor* const* tensors, int count) {
  std::string text;
  for (int i = 0; i < count; i++) text += (i ? " " : "") + (tensors[i] ? tensors[i]->text() : "none");
  return text;
}

int launch_aclop(const char* name, int inputs, Tensor** in, int outputs, Tensor** out, Buffer** to, const Attributes* with) {
  std::string attributes;
  if (with) {
    for (auto& [key, value] : *with) attributes += (attributes.empty() ? "" : " ") + key + "=" + value;
  }
  record("aclop", name, show_all(in, inputs) + " -> " + show_all(out, outputs), attributes);
  for (int i = 0; i < outputs; i++) {
    if (out[i] && to[i]) fill_with_true(out[i]->type, to[i]->data, to[i]->bytes);
  }
  return kSuccess;
}

// aclnn ---------------------------------------------------------------------------------------------------------------

// Arguments of aclnn operators other than numbers. All are in one array that never moves, so that the address of an
// argument shows whether it is one of them.
struct Object {
  std::string text;
  Tensor tensor;
  bool is_tensor;
};
constexpr size_t kMostObjects = 8'000'000;
std::mutex objects_mutex;

std::vector<Object>& objects() {
  static auto* all = [] {
    auto* made = new std::vector<Object>;
    made->reserve(kMostObjects);
    return made;
  }();
  return *all;
}

Object* add_object(const std::string& text, const Tensor& tensor = {}, bool is_tensor = false) {
  std::lock_guard<std::mutex> guard(objects_mutex);
  if (objects().size() == kMostObjects) return nullptr;
  objects().push_back({text, tensor, is_tensor});
  return &objects().back();
}

Object* find_object(Word word) {
  std::lock_guard<std::mutex> guard(objects_mutex);
  Word offset = word - reinterpret_cast<Word>(objects().data());
  bool is_one = offset < objects().size() * sizeof(Object) && offset % sizeof(Object) == 0;
  return is_one ? reinterpret_cast<Object*>(word) : nullptr;
}

Object* add_list(const Object* const* items, uint64_t count) {
  std::string text;
  for (uint64_t i = 0; i < count; i++) text += (i ? " " : "") + items[i]->text;
  return add_object("{" + text + "}");
}

std::string show_scalar(const void* value, int type) {
  switch (type) {
    case kFloat: return show(*static_cast<const float*>(value));
    case kInt32: return show(*static_cast<const int32_t*>(value));
    case kInt64: return show(*static_cast<const int64_t*>(value));
    case kDouble: return show(*static_cast<const double*>(value));
    case kBool: return show(*static_cast<const bool*>(value));
    default: return "?";
  }
}

// The last two arguments point to local variables of the caller, which are still 0.
bool is_result(Word word, const Stack& stack) {
  Word here = reinterpret_cast<Word>(&stack);
  return word > here && word - here < (1u << 20) && word % 8 == 0 && *reinterpret_cast<const Word*>(word) == 0;
}

}  // namespace

struct Executor {
  const char* name;
  std::string arguments;
  const Object* output = nullptr;  // The last tensor; operators with bool outputs have only one output.
};

int plan_operator(const char* name, const Word (&registers)[6], const Stack& stack) {
  std::vector<Word> words(registers, registers + 6);
  words.insert(words.end(), std::begin(stack.words), std::end(stack.words));
  Executor plan{name, "", nullptr};
  for (size_t i = 0; i + 1 < words.size(); i++) {
    Word word = words[i], next = words[i + 1];
    if (word != next && is_result(word, stack) && is_result(next, stack)) {
      *reinterpret_cast<Executor**>(next) = new Executor(plan);
      return kSuccess;
    }
    const Object* object = find_object(word);
    if (object && object->is_tensor) plan.output = object;
    bool is_number = int64_t(word) == int32_t(word);
    plan.arguments += (i ? " " : "") + (object ? object->text : is_number ? show(int32_t(word)) : "?");
  }
  record("error", std::string(name) + ": the arguments have no end", plan.arguments);
  return kFailure;
}

int launch_operator(const Executor* executor) {
  record("aclnn", executor->name, executor->arguments);
  if (executor->output) {
    const Tensor& output = executor->output->tensor;
    fill_with_true(output.type, output.data, output.bytes());
  }
  return kSuccess;
}

extern "C" {

Tensor* aclCreateTensorDesc(int type, int rank, const int64_t* shape) {
  return new Tensor{type, std::vector<int64_t>(shape, shape + std::max(rank, 0)), nullptr};
}
size_t aclGetTensorDescNumDims(const Tensor* tensor) { return tensor->shape.size(); }
int64_t aclGetTensorDescDim(const Tensor* tensor, size_t axis) { return tensor->shape.at(axis); }
int aclGetTensorDescDimV2(const Tensor* tensor, size_t axis, int64_t* side) {
  *side = tensor->shape.at(axis);
  return kSuccess;
}
size_t aclGetTensorDescSize(const Tensor* tensor) { return tensor->bytes(); }
Buffer* aclCreateDataBuffer(void* data, size_t bytes) { return new Buffer{data, bytes}; }
int aclUpdateDataBuffer(Buffer* buffer, void* data, size_t bytes) {
  *buffer = {data, bytes};
  return kSuccess;
}
void* aclGetDataBufferAddr(const Buffer* buffer) { return buffer->data; }

// MindSpore sets some attributes twice; the first value is ignored.
Attributes* aclopCreateAttr() { return new Attributes; }
#define ATTRIBUTE(KIND, VALUE, ...)                                                     \
  int aclopSetAttr##KIND(Attributes* attributes, const char* name, __VA_ARGS__) {       \
    return (*attributes)[name] = VALUE, kSuccess;                                       \
  }
ATTRIBUTE(Bool, show(value != 0), uint8_t value)
ATTRIBUTE(Int, show(value), int64_t value)
ATTRIBUTE(Float, show(value), float value)
ATTRIBUTE(String, show(value), const char* value)
ATTRIBUTE(DataType, data_type(value).name, int value)
ATTRIBUTE(ListInt, show(values, count), int count, const int64_t* values)
ATTRIBUTE(ListFloat, show(values, count), int count, const float* values)
ATTRIBUTE(ListString, show(values, count), int count, const char** values)

int aclopCompileAndExecute(const char* name, int inputs, Tensor** in, Buffer**, int outputs, Tensor** out, Buffer** to,
                           const Attributes* attributes) {
  return launch_aclop(name, inputs, in, outputs, out, to, attributes);
}
int aclopCompileAndExecuteV2(const char* name, int inputs, Tensor** in, Buffer**, int outputs, Tensor** out, Buffer** to,
                             const Attributes* attributes) {
  return launch_aclop(name, inputs, in, outputs, out, to, attributes);
}

Object* aclCreateTensor(const int64_t* shape, uint64_t rank, int type, const int64_t* /* strides */, int64_t offset,
                        int /* format */, const int64_t* /* storage shape */, uint64_t /* its rank */, void* data) {
  char* begin = data ? static_cast<char*>(data) + offset * data_type(type).bytes : nullptr;
  Tensor tensor{type, std::vector<int64_t>(shape, shape + rank), begin};
  return add_object(tensor.text(), tensor, true);
}
Object* aclCreateScalar(const void* value, int type) {
  return add_object(std::string(data_type(type).name) + ":" + show_scalar(value, type));
}
Object* aclCreateIntArray(const int64_t* values, uint64_t count) { return add_object(show(values, count)); }
Object* aclCreateFloatArray(const float* values, uint64_t count) { return add_object(show(values, count)); }
Object* aclCreateBoolArray(const bool* values, uint64_t count) { return add_object(show(values, count)); }
Object* aclCreateTensorList(const Object* const* items, uint64_t count) { return add_list(items, count); }
Object* aclCreateScalarList(const Object* const* items, uint64_t count) { return add_list(items, count); }
int aclGetViewShape(const Object* object, int64_t** shape, uint64_t* rank) {
  const std::vector<int64_t>& own = object->tensor.shape;
  *rank = own.size();
  *shape = new int64_t[own.size() + 1];  // The caller deletes it.
  std::copy(own.begin(), own.end(), *shape);
  return kSuccess;
}
// A reused executor gets new addresses, by argument index or by tensor.
int aclSetTensorAddr(Executor*, size_t, Object* object, void* data) {
  object->tensor.data = data;
  return kSuccess;
}

int aclnnInit() { return kSuccess; }
int aclnnFinalize() { return kSuccess; }

}  // extern "C"
