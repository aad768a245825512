/* tensor.cu - maps for tensor copies. The driver's function comes through the runtime, so nothing
 * links with the driver's library. */
#include "kernels/cuda/tile/bulk.cuh"

static decltype(&cuTensorMapEncodeTiled) find_encode(struct cuda_dev *cuda)
{
    void *found = NULL;
    cudaDriverEntryPointQueryResult result;
    cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000,
                                                         cudaEnableDefault, &result);
    if (error == cudaSuccess && result != cudaDriverEntryPointSuccess)
        error = cudaErrorSymbolNotFound;
    return cuda_worked(cuda, error, "tensor maps") ? (decltype(&cuTensorMapEncodeTiled))found
                                                   : NULL;
}

bool tensor_map(struct cuda_dev *cuda, const struct tensor *tensor, CUtensorMap *map)
{
    static decltype(&cuTensorMapEncodeTiled) encode;
    if (!encode) encode = find_encode(cuda);
    if (!encode) return false;

    must(tensor->unit == 1 || tensor->unit == 2);
    cuuint64_t size[] = { tensor->cols, tensor->rows };
    cuuint64_t pitch[] = { tensor->stride * tensor->unit };  // bytes
    cuuint32_t box[] = { 128 / tensor->unit, tensor->box_rows }, step[] = { 1, 1 };
    CUresult result = encode(
        map, tensor->unit == 1 ? CU_TENSOR_MAP_DATA_TYPE_UINT8 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
        2, (void *)(uintptr_t)tensor->data, size, pitch, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE,
        CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
        CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    return cuda_worked(cuda, result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue,
                       "a tensor map");
}
