"""Stub libraries that replace CANN, so that the Ascend plug-in of MindSpore runs on a machine without an Ascend.

The wheel of MindSpore for x86-64 contains the whole plug-in, which does not load only because the libraries of CANN are
missing. `build.py` determines which of their functions it needs and builds libraries with these: those in the .cc files
are written by hand, all others return 0 for success. Front end, kernel selection, conversion for the graph engine and
launches are those of MindSpore; only the kernels do nothing.

This shows what MindSpore decides and rejects. It does not show what CANN would do: whether a kernel supports the types,
nor any value, time, memory use or precision.

The stubs read two environment variables: ASCEND_STUB_CHIP is the name of the chip, ASCEND_STUB_RECORD a file to which
the following requests are appended, as four fields separated by tabs:

    kind     name            arguments                                       attributes
    aclop    Conv2D          f32[2,3,64,64] f32[4,3,3,3] -> f32[2,4,64,64]   groups=1 pads=(1,1,1,1) ...   a launch
    aclnn    aclnnAdds       f32[16] f32:1 i64:1 f32[16]     a launch; its outputs are among the arguments
    ge       Conv2D          as aclop                        as aclop        an operator of an added graph
    ge_run   graph 1         the inputs -> the outputs       how             a run of that graph
    rt       rtKernelLaunch                                                  a launch of a kernel of MindSpore
    hccl     AllReduce       f32[1024]
    copy     D2H             bytes                           sync or async   H is host, D device
    wait     stream          (or device, event)                              the host waits for the device
    option   its name                                        its value       of the compiler, of overflow, of GE
    mark     any name                                                        `ascend_stub_mark`: a step begins
    error    what is wrong with the stubs
"""
