// How the generated stubs of aclnn operators hand over their arguments.
//
// An operator is two functions:
//
//     aclnnXGetWorkspaceSize(what the operator takes ..., uint64_t* workspace_size, Executor** executor)
//     aclnnX(void* workspace, uint64_t workspace_size, Executor* executor, void* stream)
//
// The first takes other types for each operator, which are not known here. On x86-64 Linux it does not matter: whole
// numbers and pointers arrive in six registers and then on the stack, and a structure of this size that is taken by
// value lies just there. Floating-point arguments arrive in other registers and are not seen.
#pragma once
#include <cstdint>

using Word = uint64_t;
struct Stack {
  Word words[48];
};
struct Executor;

int plan_operator(const char* name, const Word (&registers)[6], const Stack& stack);
int launch_operator(const Executor* executor);

// Weak: functions of these names that are written by hand, as aclnnInit, take their places.
#define ACLNN_OPERATOR(NAME)                                                                                    \
  extern "C" __attribute__((weak)) int NAME##GetWorkspaceSize(Word a, Word b, Word c, Word d, Word e, Word f,    \
                                                              Stack stack) {                                     \
    return plan_operator(#NAME, {a, b, c, d, e, f}, stack);                                                      \
  }                                                                                                              \
  extern "C" __attribute__((weak)) int NAME(void*, Word, const Executor* executor) {                             \
    return launch_operator(executor);                                                                            \
  }
