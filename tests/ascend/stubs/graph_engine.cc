// The graph engine (GE), which runs whole graphs on Ascend910A. Operators receive attributes, types and inputs, a graph
// receives inputs and outputs, and a session receives graphs to run. An added graph is recorded operator by operator; a
// run is recorded and does not change its outputs, except bool ones, as in operators.cc.
//
// Each class is one shared pointer, as in CANN, since MindSpore's code copies and destroys it. Operator has a vtable
// pointer before it. A Session stores nothing: MindSpore allocates 8 bytes for it.
#include <any>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>

#include "record.h"

// Inline in its class; must be emitted for MindSpore although nothing here calls it.
#define CANN __attribute__((used))

using Options = std::map<std::string, std::string>;

static void record_options(const Options& options) {
  for (auto& [name, value] : options) record("option", name, "", value);
}

namespace ge {

using Status = uint32_t;
constexpr Status kSuccess = 0, kFailure = 1;
enum DataType : int {};
enum Format : int {};
enum Placement : int {};
constexpr DataType kBool{12};

struct AscendString {
  std::shared_ptr<std::string> text;

  CANN AscendString(const char* characters) : text(std::make_shared<std::string>(characters ? characters : "")) {}
  CANN const char* GetString() const { return text ? text->c_str() : ""; }
  CANN bool operator<(const AscendString& other) const { return strcmp(GetString(), other.GetString()) < 0; }
};

// The plug-in fills the table of messages at this address.
struct StatusFactory {
  Options messages;
  char rest[256];

  CANN static StatusFactory* Instance() {
    static auto* only = new StatusFactory();
    return only;
  }
};

// Tensors -------------------------------------------------------------------------------------------------------------

struct Shape {
  std::shared_ptr<std::vector<int64_t>> sides;

  CANN Shape() : sides(std::make_shared<std::vector<int64_t>>()) {}
  CANN Shape(const std::vector<int64_t>& given) : sides(std::make_shared<std::vector<int64_t>>(given)) {}
  CANN std::vector<int64_t> GetDims() const { return *sides; }
  CANN size_t GetDimNum() const { return sides->size(); }
  CANN int64_t GetDim(size_t axis) const { return axis < sides->size() ? (*sides)[axis] : 0; }
  CANN Status SetDim(size_t axis, int64_t side) {
    if (axis >= sides->size()) return kFailure;
    (*sides)[axis] = side;
    return kSuccess;
  }
};

struct TensorDesc {
  struct Content {
    Shape shape, origin_shape;
    Format format;
    DataType type;
    Placement placement;
  };
  std::shared_ptr<Content> content;

  CANN TensorDesc() : content(std::make_shared<Content>()) {}
  CANN TensorDesc(Shape shape, Format format, DataType type)
      : content(std::make_shared<Content>(Content{shape, shape, format, type, Placement{}})) {}
  CANN TensorDesc(const TensorDesc& other) : content(std::make_shared<Content>(*other.content)) {}
  CANN TensorDesc(TensorDesc&& other) : content(std::make_shared<Content>(*other.content)) {}
  TensorDesc& operator=(const TensorDesc&) = default;

  CANN void SetShape(const Shape& shape) { content->shape = shape; }
  CANN Status SetOriginShape(const Shape& shape) { return content->origin_shape = shape, kSuccess; }
  CANN void SetFormat(Format format) { content->format = format; }
  CANN void SetDataType(DataType type) { content->type = type; }
  CANN void SetPlacement(Placement placement) { content->placement = placement; }
  CANN Shape GetShape() const { return content->shape; }
  CANN Shape GetOriginShape() const { return content->origin_shape; }
  CANN Format GetFormat() const { return content->format; }
  CANN DataType GetDataType() const { return content->type; }
  CANN Placement GetPlacement() const { return content->placement; }

  std::string text() const { return show_tensor(content->type, *content->shape.sides); }
  size_t bytes() const {
    size_t size = data_type(content->type).bytes;
    for (int64_t side : *content->shape.sides) size *= side;
    return size;
  }
};

struct Tensor {
  struct Content {
    TensorDesc desc;
    std::shared_ptr<uint8_t> data;
    size_t bytes = 0;
  };
  std::shared_ptr<Content> content;

  CANN Tensor() : content(std::make_shared<Content>()) {}
  CANN Tensor(const TensorDesc& desc) : Tensor() { content->desc = desc; }
  CANN Tensor(const TensorDesc& desc, const uint8_t* data, size_t bytes) : Tensor(desc) { SetData(data, bytes); }
  CANN TensorDesc GetTensorDesc() const { return content->desc; }
  CANN Status SetTensorDesc(const TensorDesc& desc) { return content->desc = desc, kSuccess; }
  CANN size_t GetSize() const { return content->bytes; }
  CANN uint8_t* GetData() { return content->data.get(); }
  CANN Status SetData(const uint8_t* data, size_t bytes) {
    auto* copy = static_cast<uint8_t*>(calloc(1, bytes + 1));
    if (data) memcpy(copy, data, bytes);
    return SetData(copy, bytes, free);
  }
  CANN Status SetData(uint8_t* data, size_t bytes, const std::function<void(uint8_t*)>& release) {
    content->data.reset(data, [release](uint8_t* address) { if (release) release(address); });
    content->bytes = bytes;
    return kSuccess;
  }
};

// Descriptions of operators, created by the plug-in when it is loaded; it destroys the shared pointer.
struct TensorType {
  std::shared_ptr<void> content;
  CANN TensorType(const std::initializer_list<DataType>&) {}
};
struct Promote {
  std::shared_ptr<void> content;
  CANN Promote(const std::initializer_list<const char*>&) {}
};

// Operators -----------------------------------------------------------------------------------------------------------

std::string as_text(DataType type) { return data_type(type).name; }
std::string as_text(const Tensor& tensor) { return tensor.content->desc.text(); }
template <class T>
std::string as_text(const T& value) { return show(value); }
template <class T>
std::string as_text(const std::vector<T>& values) {
  std::string text;
  for (auto&& value : values) text += (text.empty() ? "" : ",") + as_text(T(value));
  return "(" + text + ")";
}

struct Node;
using NodePointer = std::shared_ptr<Node>;
struct Source {
  NodePointer node;
  std::string output;  // Empty if there is only one.
};

struct Node {
  struct Attribute {
    std::any value;
    std::string text;
  };
  std::string name, type;
  std::map<std::string, Attribute> attributes;
  std::vector<Source> inputs;
  std::vector<std::pair<std::string, TensorDesc>> outputs;  // In the order of their description by MindSpore.
  std::map<std::string, int> dynamic_outputs;               // Name -> number of outputs.
  std::vector<NodePointer> neighbours;                      // By data or control edges, in both directions.

  const TensorDesc* find_output(const std::string& wanted) const {
    for (auto& [name, desc] : outputs) {
      if (wanted.empty() || name == wanted) return &desc;
    }
    return outputs.size() == 1 ? &outputs[0].second : nullptr;
  }
  void describe_output(const std::string& wanted, const TensorDesc& given) {
    for (auto& [name, desc] : outputs) {
      if (name == wanted) return void(desc = given);
    }
    outputs.emplace_back(wanted, given);
  }
  // MindSpore does not describe the outputs of Identity and IdentityN: output y3 is input x3.
  std::string text_of_output(const std::string& wanted) const {
    if (auto* desc = find_output(wanted)) return desc->text();
    size_t number = wanted.size() > 1 ? strtoul(wanted.c_str() + 1, nullptr, 10) : 0;
    bool is_passed_on = type.rfind("Identity", 0) == 0 && number < inputs.size();
    return is_passed_on ? inputs[number].node->text_of_output(inputs[number].output) : "unknown";
  }
};

class Operator {
 public:
  virtual ~Operator() = default;
  NodePointer node = std::make_shared<Node>();

  CANN Operator(const char* type) : Operator(std::string(), type) {}
  CANN Operator(const std::string& type) : Operator(std::string(), type) {}
  CANN Operator(const char* name, const char* type) : Operator(std::string(name), type) {}
  CANN Operator(const AscendString& name, const AscendString& type) : Operator(*name.text, *type.text) {}
  CANN Operator(const std::string& name, const std::string& type) {
    node->name = name;
    node->type = type;
  }
  CANN std::string GetName() const { return node->name; }
  CANN std::string GetOpType() const { return node->type; }
  CANN Status GetName(AscendString& name) const { return name = node->name.c_str(), kSuccess; }
  CANN Status GetOpType(AscendString& type) const { return type = node->type.c_str(), kSuccess; }

  CANN Operator& SetInput(const char*, const Operator& from) { return connect(from); }
  CANN Operator& SetInput(const std::string&, const Operator& from) { return connect(from); }
  CANN Operator& SetInput(const char*, uint32_t, const Operator& from) { return connect(from); }
  CANN Operator& SetInput(const char*, uint32_t, const Operator& from, const char* output) { return connect(from, output); }
  CANN Operator& SetInput(const std::string&, const Operator& from, const std::string& output) {
    return connect(from, output);
  }
  CANN Operator& AddControlInput(const Operator& from) {
    node->neighbours.push_back(from.node);
    from.node->neighbours.push_back(node);
    return *this;
  }

  CANN Status UpdateOutputDesc(const char* name, const TensorDesc& desc) { return describe(name, desc); }
  CANN Status UpdateOutputDesc(const std::string& name, const TensorDesc& desc) { return describe(name, desc); }
  CANN Status UpdateDynamicOutputDesc(const char* name, uint32_t number, const TensorDesc& desc) {
    return describe(name + show(number), desc);
  }
  CANN TensorDesc GetOutputDesc(const std::string& name) const {
    auto* desc = node->find_output(name);
    return desc ? *desc : TensorDesc();
  }
  CANN TensorDesc GetOutputDesc(uint32_t number) const {
    return number < node->outputs.size() ? node->outputs[number].second : TensorDesc();
  }
  CANN void DynamicOutputRegister(const char* name, uint32_t count, bool) { node->dynamic_outputs[name] = count; }
  CANN void DynamicOutputRegister(const char* name, uint32_t count, const char*, bool) {
    node->dynamic_outputs[name] = count;
  }
  // MindSpore rejects outputs of Split beyond this number.
  CANN int GetDynamicOutputNum(const std::string& name) const { return node->dynamic_outputs[name]; }

  // MindSpore sorts the inputs of a graph by an attribute, so attributes that were set must be returned.
#define ATTRIBUTE(TYPE, ARGUMENT)                                                                              \
  CANN Operator& SetAttr(const char* name, ARGUMENT value) { return set_attribute<TYPE>(name, value); }         \
  CANN Operator& SetAttr(const std::string& name, ARGUMENT value) { return set_attribute<TYPE>(name, value); }  \
  CANN Status GetAttr(const char* name, TYPE& value) const { return get_attribute(name, value); }               \
  CANN Status GetAttr(const std::string& name, TYPE& value) const { return get_attribute(name, value); }
#define ATTRIBUTES(TYPE) ATTRIBUTE(TYPE, const TYPE&) ATTRIBUTE(std::vector<TYPE>, const std::vector<TYPE>&)
  ATTRIBUTE(bool, bool)
  ATTRIBUTE(int32_t, int32_t)
  ATTRIBUTE(uint32_t, uint32_t)
  ATTRIBUTE(int64_t, int64_t)
  ATTRIBUTE(float, float)
  ATTRIBUTES(std::string)
  ATTRIBUTES(DataType)
  ATTRIBUTES(std::vector<int64_t>)
  ATTRIBUTE(Tensor, const Tensor&)
  ATTRIBUTE(std::vector<bool>, const std::vector<bool>&)
  ATTRIBUTE(std::vector<int32_t>, const std::vector<int32_t>&)
  ATTRIBUTE(std::vector<float>, const std::vector<float>&)
  CANN Operator& SetAttr(const char* name, const char* value) { return set_attribute<std::string>(name, value); }

 private:
  Operator& connect(const Operator& from, const std::string& output = "") {
    node->inputs.push_back({from.node, output});
    return AddControlInput(from);
  }
  Status describe(const std::string& name, const TensorDesc& desc) {
    return node->describe_output(name, desc), kSuccess;
  }
  template <class T>
  Operator& set_attribute(const std::string& name, const T& value) {
    node->attributes[name] = {value, as_text(value)};
    return *this;
  }
  template <class T>
  Status get_attribute(const std::string& name, T& value) const {
    auto found = node->attributes.find(name);
    auto* stored = found == node->attributes.end() ? nullptr : std::any_cast<T>(&found->second.value);
    if (!stored) return kFailure;
    value = *stored;
    return kSuccess;
  }
};

struct OperatorFactory {
  CANN static Operator CreateOperator(const char* name, const char* type) { return Operator(name, type); }
  CANN static Operator CreateOperator(const std::string& name, const std::string& type) { return Operator(name, type); }
  CANN static bool IsExistOp(const char*) { return true; }
  CANN static bool IsExistOp(const std::string&) { return true; }
};

// Graphs --------------------------------------------------------------------------------------------------------------

struct GNode {
  std::shared_ptr<void> content;
};

struct Graph {
  struct Content {
    std::string name;
    std::vector<Source> inputs, outputs;
  };
  std::shared_ptr<Content> content = std::make_shared<Content>();

  CANN Graph(const char* name) { content->name = name; }
  CANN Graph(const std::string& name) { content->name = name; }
  CANN std::string GetName() const { return content->name; }
  CANN std::vector<GNode> GetDirectNode() const { return {}; }
  CANN Graph& SetInputs(const std::vector<Operator>& operators) {
    for (auto& one : operators) content->inputs.push_back({one.node, ""});
    return *this;
  }
  CANN Graph& SetOutputs(const std::vector<Operator>& operators) {
    for (auto& one : operators) content->outputs.push_back({one.node, ""});
    return *this;
  }
  CANN Graph& SetOutputs(const std::vector<std::pair<Operator, std::string>>& operators) {
    for (auto& [one, output] : operators) content->outputs.push_back({one.node, output});
    return *this;
  }

  std::vector<TensorDesc> output_descs() const {
    std::vector<TensorDesc> descs;
    for (auto& output : content->outputs) {
      auto* desc = output.node->find_output(output.output);
      descs.push_back(desc ? *desc : TensorDesc());
    }
    return descs;
  }
  // Side effects such as assignments may not be connected to an output: edges are followed in both directions.
  void record_operators() const {
    std::set<NodePointer> seen;
    std::vector<NodePointer> waiting;
    for (auto* ends : {&content->inputs, &content->outputs}) {
      for (auto& end : *ends) waiting.push_back(end.node);
    }
    while (!waiting.empty()) {
      NodePointer node = waiting.back();
      waiting.pop_back();
      if (!seen.insert(node).second) continue;
      record_operator(*node);
      waiting.insert(waiting.end(), node->neighbours.begin(), node->neighbours.end());
    }
  }

 private:
  static void record_operator(const Node& node) {
    std::string arguments, attributes;
    for (auto& input : node.inputs) arguments += input.node->text_of_output(input.output) + " ";
    arguments += "->";
    for (auto& [name, desc] : node.outputs) arguments += " " + desc.text();
    for (auto& [name, attribute] : node.attributes) {
      // Attributes with this prefix are internal to MindSpore.
      if (name[0] != '_') attributes += (attributes.empty() ? "" : " ") + name + "=" + attribute.text;
    }
    record("ge", node.type, arguments, attributes);
  }
};

// Sessions ------------------------------------------------------------------------------------------------------------

static std::mutex graphs_mutex;

static std::map<uint32_t, Graph>& graphs() {
  static auto* all = new std::map<uint32_t, Graph>;
  return *all;
}

static std::vector<TensorDesc> outputs_of_graph(uint32_t number) {
  std::lock_guard<std::mutex> guard(graphs_mutex);
  auto found = graphs().find(number);
  return found == graphs().end() ? std::vector<TensorDesc>() : found->second.output_descs();
}

struct CompiledGraphSummary {
  std::vector<TensorDesc> outputs;

#define ANSWER(NAME, TYPE, VALUE) \
  CANN Status NAME(TYPE& value) const { return value = VALUE, kSuccess; }
  ANSWER(GetConstMemorySize, size_t, 0)
  ANSWER(GetFeatureMemorySize, size_t, 0)
  ANSWER(GetFixedFeatureMemorySize, size_t, 0)
  ANSWER(GetRefreshableFeatureMemorySize, size_t, 0)
  ANSWER(GetFeatureMemoryBaseRefreshable, bool, false)
  ANSWER(GetStreamNum, size_t, 1)
  ANSWER(GetEventNum, size_t, 0)
  CANN bool IsStatic() const { return true; }
  CANN Status GetOutputShapes(std::vector<Shape>& shapes) const {
    for (auto& desc : outputs) shapes.push_back(desc.GetShape());
    return kSuccess;
  }
  CANN Status GetOutputDtypes(std::vector<DataType>& types) const {
    for (auto& desc : outputs) types.push_back(desc.GetDataType());
    return kSuccess;
  }
};

class Session {
 public:
  CANN Session(const Options& options) { record_options(options); }
  CANN Status AddGraph(uint32_t number, const Graph& graph, const Options& options) {
    record_options(options);
    graph.record_operators();
    std::lock_guard<std::mutex> guard(graphs_mutex);
    graphs().insert_or_assign(number, graph);
    return kSuccess;
  }
  CANN std::shared_ptr<CompiledGraphSummary> GetCompiledGraphSummary(uint32_t number) {
    return std::make_shared<CompiledGraphSummary>(CompiledGraphSummary{outputs_of_graph(number)});
  }
  CANN Status RunGraph(uint32_t number, const std::vector<Tensor>& inputs, std::vector<Tensor>& outputs) {
    return run(number, inputs, outputs, "sync");
  }
  CANN Status RunGraphWithStreamAsync(uint32_t number, void*, const std::vector<Tensor>& inputs, std::vector<Tensor>& outputs) {
    return run(number, inputs, outputs, "stream");
  }
  CANN Status RunGraphAsync(uint32_t number, const std::vector<Tensor>& inputs,
                            std::function<void(Status, std::vector<Tensor>&)> done) {
    std::vector<Tensor> outputs;
    run(number, inputs, outputs, "async");
    done(kSuccess, outputs);
    return kSuccess;
  }

 private:
  static Status run(uint32_t number, const std::vector<Tensor>& inputs, std::vector<Tensor>& outputs, const char* how) {
    if (outputs.empty()) {
      for (auto& desc : outputs_of_graph(number)) outputs.emplace_back(desc, nullptr, desc.bytes());
    }
    std::string arguments;
    for (auto& input : inputs) arguments += as_text(input) + " ";
    arguments += "->";
    for (auto& output : outputs) {
      arguments += " " + as_text(output);
      if (output.content->desc.GetDataType() == kBool && output.GetData()) memset(output.GetData(), 1, output.GetSize());
    }
    record("ge_run", "graph " + show(number), arguments, how);
    return kSuccess;
  }
};

CANN Status GEInitialize(const Options& options) { return record_options(options), kSuccess; }

}  // namespace ge
