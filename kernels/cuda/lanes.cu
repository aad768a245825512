/* lanes.cu - copies beside the computing: a stream for each direction.
 *
 * A lane's stream waits for an event on the stream of operations, one for all copies between which
 * nothing was queued there. How far a lane has come is asked of events, one for each mark behind new
 * copies; they are used again.
 */
#include "kernels/cuda/cuda.h"

struct lane_event {
    struct lane_event *next;
    cudaEvent_t event;
    uint64_t place;
};

bool cuda_lanes_open(struct cuda_dev *cuda)
{
    int least = 0, greatest = 0;
    if (!cuda_worked(cuda, cudaDeviceGetStreamPriorityRange(&least, &greatest), "making a lane") ||
        !cuda_worked(cuda, cudaEventCreateWithFlags(&cuda->fence, cudaEventDisableTiming),
                     "making a lane"))
        return false;
    for (int i = 0; i < DEV_LANES; i++)
        if (!cuda_worked(
                cuda,
                cudaStreamCreateWithPriority(&cuda->lane[i].stream, cudaStreamNonBlocking, least),
                "making a lane"))
            return false;
    return true;
}

static void close_events(struct lane_event *event)
{
    while (event) {
        struct lane_event *next = event->next;
        (void)cudaEventDestroy(event->event);
        free(event);
        event = next;
    }
}

void cuda_lanes_close(struct cuda_dev *cuda)
{
    for (int i = 0; i < DEV_LANES; i++) {
        struct lane *lane = &cuda->lane[i];
        if (!lane->stream) continue;
        (void)cudaStreamSynchronize(lane->stream);
        (void)cudaStreamDestroy(lane->stream);
        close_events(lane->first);
        close_events(lane->idle);
    }
    if (cuda->fence) (void)cudaEventDestroy(cuda->fence);
}

static bool lane_worked(struct cuda_dev *cuda, struct lane *lane, cudaError_t error)
{
    if (cuda_worked(cuda, error, "a copy beside the computing")) return true;
    lane->broken = true;
    return false;
}

/* Everything queued so far comes before what the lane is given next. */
static bool lane_follow(struct cuda_dev *cuda, struct lane *lane)
{
    if (cuda->fenced != cuda->queued) {
        if (!lane_worked(cuda, lane, cudaEventRecord(cuda->fence, cuda->stream))) return false;
        cuda->fenced = cuda->queued;
    }
    if (lane->follows != cuda->fenced) {
        if (!lane_worked(cuda, lane, cudaStreamWaitEvent(lane->stream, cuda->fence, 0)))
            return false;
        lane->follows = cuda->fenced;
    }
    return true;
}

static void lane_copy(struct dev *dev, enum dev_lane which, void *to, const void *from,
                      size_t bytes)
{
    struct cuda_dev *cuda = cuda_of(dev);
    struct lane *lane = &cuda->lane[which];
    lane->copies++;
    if (!bytes || !lane_follow(cuda, lane)) return;
    lane_worked(cuda, lane,
                cudaMemcpyAsync(to, from, bytes,
                                which == LANE_OUT ? cudaMemcpyDeviceToHost : cudaMemcpyHostToDevice,
                                lane->stream));
}

void cuda_lane_out(struct dev *dev, void *to, const void *from, size_t bytes)
{
    lane_copy(dev, LANE_OUT, to, from, bytes);
}

void cuda_lane_in(struct dev *dev, void *to, const void *from, size_t bytes)
{
    lane_copy(dev, LANE_IN, to, from, bytes);
}

/* ---- how far a lane has come ---------------------------------------------------------------- */

static struct lane_event *take_event(struct cuda_dev *cuda, struct lane *lane)
{
    struct lane_event *event = lane->idle;
    if (event) {
        lane->idle = event->next;
        event->next = NULL;
        return event;
    }
    event = (struct lane_event *)calloc(1, sizeof *event);
    if (lane_worked(cuda, lane,
                    event ? cudaEventCreateWithFlags(&event->event, cudaEventDisableTiming)
                          : cudaErrorMemoryAllocation))
        return event;
    free(event);
    return NULL;
}

uint64_t cuda_lane_mark(struct dev *dev, enum dev_lane which)
{
    struct cuda_dev *cuda = cuda_of(dev);
    must(which < DEV_LANES);
    struct lane *lane = &cuda->lane[which];
    struct lane_event *event;
    if (lane->marked == lane->copies || !(event = take_event(cuda, lane))) return lane->copies;
    lane_worked(cuda, lane, cudaEventRecord(event->event, lane->stream));
    event->place = lane->marked = lane->copies;
    if (lane->first) lane->last->next = event;
    else lane->first = event;
    lane->last = event;
    return lane->marked;
}

bool cuda_lane_done(struct dev *dev, enum dev_lane which, uint64_t place)
{
    struct cuda_dev *cuda = cuda_of(dev);
    must(which < DEV_LANES);
    struct lane *lane = &cuda->lane[which];
    must(place <= lane->copies);
    while (lane->first && lane->done < place && !lane->broken) {
        struct lane_event *event = lane->first;
        cudaError_t error = cudaEventQuery(event->event);
        if (error == cudaErrorNotReady) {
            (void)cudaGetLastError();  // or finish would take it for a failure
            return false;
        }
        if (!lane_worked(cuda, lane, error)) return false;
        lane->done = event->place;
        lane->first = event->next;
        event->next = lane->idle;
        lane->idle = event;
    }
    return !lane->broken && cuda->failed == OK && lane->done >= place;
}
