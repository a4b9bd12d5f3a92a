// Shared by all stubs: the record, and the data types of CANN.
//
// The stubs are compiled with the std::string from before C++11 (_GLIBCXX_USE_CXX11_ABI=0), which is part of the names of
// CANN's C++ functions and of the layout of their arguments.
#pragma once
#include <cstddef>
#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

// Appends a line of four fields, separated by tabs, to the file ASCEND_STUB_RECORD. See __init__.py.
void record(const char* kind, const std::string& name, const std::string& arguments = "",
            const std::string& attributes = "");

struct DataType {
  const char* name;
  size_t bytes;
};

// By the value in aclDataType and ge::DataType.
const DataType& data_type(int number);

std::string show_tensor(int data_type, const std::vector<int64_t>& shape);  // f32[2,3]

template <class T>
std::string show(const T& value) {
  std::ostringstream text;
  text << std::boolalpha << value;
  return text.str();
}

template <class T>
std::string show(const std::vector<T>& values) {
  std::string text;
  for (const T& value : values) text += (text.empty() ? "" : ",") + show(value);
  return "(" + text + ")";
}

template <class T>
std::string show(const T* values, size_t count) {
  return show(std::vector<T>(values, values + count));
}
