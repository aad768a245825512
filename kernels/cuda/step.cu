/* step.cu - what a step needs besides operations: marks to wait for, two streams, captured graphs.
 *
 * A graph keeps the programmatic edges between its kernels. It holds addresses: of the caller's
 * matrices, of the workspace, whose chunks live as long as the device, and of weights.
 */
#include "kernels/cuda/cuda.h"

void cuda_enter(struct dev *dev)
{
    struct cuda_dev *cuda = cuda_of(dev);
    cuda_worked(cuda, cudaSetDevice(cuda->index), "choosing it");
}

void cuda_memory(struct dev *dev, struct dev_memory *memory)
{
    size_t free = 0, total = 0;
    cuda_worked(cuda_of(dev), cudaMemGetInfo(&free, &total), "asking for its memory");
    memory->free = free;
    memory->total = total;
}

/* ---- two streams --------------------------------------------------------------------------- */

static void swap_streams(struct cuda_dev *cuda)
{
    cudaStream_t other = cuda->aside;
    cuda->aside = cuda->stream;
    cuda->stream = other;
}

void cuda_aside_begin(struct dev *dev)
{
    struct cuda_dev *cuda = cuda_of(dev);
    cuda_worked(cuda, cudaEventRecord(cuda->fork, cuda->stream), "parting streams");
    cuda_worked(cuda, cudaStreamWaitEvent(cuda->aside, cuda->fork, 0), "parting streams");
    swap_streams(cuda);
}

void cuda_aside_end(struct dev *dev)
{
    struct cuda_dev *cuda = cuda_of(dev);
    cuda_worked(cuda, cudaEventRecord(cuda->join, cuda->stream), "joining streams");
    swap_streams(cuda);
}

void cuda_aside_join(struct dev *dev)
{
    struct cuda_dev *cuda = cuda_of(dev);
    cuda_worked(cuda, cudaStreamWaitEvent(cuda->stream, cuda->join, 0), "joining streams");
}

/* ---- marks --------------------------------------------------------------------------------- */

void cuda_mark(struct dev *dev, uint32_t mark)
{
    struct cuda_dev *cuda = cuda_of(dev);
    must(mark < DEV_MARKS);
    if (!cuda->mark[mark] &&
        !cuda_worked(cuda, cudaEventCreateWithFlags(&cuda->mark[mark], cudaEventDisableTiming),
                     "making a mark"))
        return;
    cuda_worked(cuda, cudaEventRecord(cuda->mark[mark], cuda->stream), "setting a mark");
}

enum status cuda_wait(struct dev *dev, uint32_t mark, struct err *err)
{
    struct cuda_dev *cuda = cuda_of(dev);
    must(mark < DEV_MARKS);
    if (cuda->mark[mark]) cuda_worked(cuda, cudaEventSynchronize(cuda->mark[mark]), "a step");
    if (cuda->failed != OK && err) *err = cuda->failure;
    return cuda->failed;
}

void cuda_marks_close(struct cuda_dev *cuda)
{
    for (int i = 0; i < DEV_MARKS; i++)
        if (cuda->mark[i]) (void)cudaEventDestroy(cuda->mark[i]);
}

/* ---- graphs -------------------------------------------------------------------------------- */

static cudaGraphExec_t exec_of(struct graph *graph)
{
    return (cudaGraphExec_t)(void *)graph;
}

void cuda_capture_begin(struct dev *dev)
{
    struct cuda_dev *cuda = cuda_of(dev);
    cuda_worked(cuda, cudaStreamBeginCapture(cuda->stream, cudaStreamCaptureModeThreadLocal),
                "capturing a step");
}

struct graph *cuda_capture_end(struct dev *dev)
{
    struct cuda_dev *cuda = cuda_of(dev);
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;

    /* Also after a failure: the stream must leave the capture. */
    cudaError_t error = cudaStreamEndCapture(cuda->stream, &graph);
    if (cuda_worked(cuda, error, "capturing a step") && cuda->failed == OK &&
        cuda_worked(cuda, cudaGraphInstantiate(&exec, graph, 0), "making a graph of a step"))
        cuda_worked(cuda, cudaGraphUpload(exec, cuda->stream), "loading the graph of a step");
    if (graph) (void)cudaGraphDestroy(graph);
    return (struct graph *)(void *)exec;
}

void cuda_graph_run(struct dev *dev, struct graph *graph)
{
    struct cuda_dev *cuda = cuda_of(dev);
    cuda->queued++;
    cuda_worked(cuda, cudaGraphLaunch(exec_of(graph), cuda->stream), "running a step");
}

void cuda_graph_free(struct dev *dev, struct graph *graph)
{
    if (graph) cuda_worked(cuda_of(dev), cudaGraphExecDestroy(exec_of(graph)), "freeing a graph");
}
