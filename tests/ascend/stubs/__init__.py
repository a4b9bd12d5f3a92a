"""Stub libraries in place of CANN, with which MindSpore's own Ascend plug-in runs on a machine without an Ascend.

MindSpore's wheel for x86-64 holds the whole plug-in; it does not load because CANN's libraries are missing. `build.py`
finds out which of their functions it needs and builds libraries that have them: those in the .cc files are written by
hand, all others return 0, which is success. The front end, the choice of kernels, the conversion for the graph engine
and the launching are then MindSpore's; only the kernels do nothing.

What MindSpore decides can be seen so, and what it refuses. What CANN would do cannot: whether a kernel takes these
types, any number, time, memory or precision.

The stubs read two environment variables: ASCEND_STUB_CHIP is the name of the chip; ASCEND_STUB_RECORD a file to which
each of these requests is appended, as four fields parted by tabs:

    kind     name            arguments                                       attributes
    aclop    Conv2D          f32[2,3,64,64] f32[4,3,3,3] -> f32[2,4,64,64]   groups=1 pads=(1,1,1,1) ...   a launch
    aclnn    aclnnAdds       f32[16] f32:1 i64:1 f32[16]     a launch; its outputs are among the arguments
    ge       Conv2D          as aclop                        as aclop        an operator of an added graph
    ge_run   graph 1         the inputs -> the outputs       how             a run of that graph
    rt       rtKernelLaunch                                                  a launch of a kernel that MindSpore brings
    hccl     AllReduce       f32[1024]
    copy     D2H             bytes                           sync or async   H is host, D device
    wait     stream          (or device, event)                              the host waits for the device
    option   its name                                        its value       of the compiler, of overflow, of GE
    mark     any name                                                        `ascend_stub_mark`: a step begins
    error    what is wrong with the stubs
"""
