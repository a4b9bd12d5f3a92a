// Argument passing of the generated stubs of aclnn operators.
//
// An operator is two functions:
//
//     aclnnXGetWorkspaceSize(arguments of the operator ..., uint64_t* workspace_size, Executor** executor)
//     aclnnX(void* workspace, uint64_t workspace_size, Executor* executor, void* stream)
//
// The argument types of the first differ between operators and are not known here. On x86-64 Linux this does not matter:
// integers and pointers are passed in six registers and then on the stack, which is where a structure of this size passed
// by value is. Floating-point arguments are passed in other registers and are not visible.
#pragma once
#include <cstdint>

using Word = uint64_t;
struct Stack {
  Word words[48];
};
struct Executor;

int plan_operator(const char* name, const Word (&registers)[6], const Stack& stack);
int launch_operator(const Executor* executor);

// Weak: functions written by hand, such as aclnnInit, replace them.
#define ACLNN_OPERATOR(NAME)                                                                                    \
  extern "C" __attribute__((weak)) int NAME##GetWorkspaceSize(Word a, Word b, Word c, Word d, Word e, Word f,    \
                                                              Stack stack) {                                     \
    return plan_operator(#NAME, {a, b, c, d, e, f}, stack);                                                      \
  }                                                                                                              \
  extern "C" __attribute__((weak)) int NAME(void*, Word, const Executor* executor) {                             \
    return launch_operator(executor);                                                                            \
  }
