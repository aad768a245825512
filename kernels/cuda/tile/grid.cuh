/* grid.cuh - programmatic dependent launch, from inside a kernel. */
#ifndef KERNELS_CUDA_TILE_GRID_CUH
#define KERNELS_CUDA_TILE_GRID_CUH

/* Lets the next kernel's CTAs start where there is room. First thing in a kernel. */
__device__ __forceinline__ void grid_launch()
{
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

/* Waits until the kernel before has ended and its writes are seen. */
__device__ __forceinline__ void grid_wait()
{
    asm volatile("griddepcontrol.wait;" ::: "memory");
}

#endif
