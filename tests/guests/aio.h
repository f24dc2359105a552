/* Linux AIO without libaio. */
#ifndef AIO_H
#define AIO_H

#include "guest.h"
#include <linux/aio_abi.h>

static inline int io_setup(unsigned count, aio_context_t *context) {
    return (int)syscall(SYS_io_setup, count, context);
}

static inline int io_destroy(aio_context_t context) {
    return (int)syscall(SYS_io_destroy, context);
}

static inline long io_submit(aio_context_t context, long count, struct iocb **requests) {
    return syscall(SYS_io_submit, context, count, requests);
}

static inline long io_getevents(aio_context_t context, long least, long most, struct io_event *events,
                                struct timespec *timeout) {
    return syscall(SYS_io_getevents, context, least, most, events, timeout);
}

static inline int io_cancel(aio_context_t context, struct iocb *request, struct io_event *event) {
    return (int)syscall(SYS_io_cancel, context, request, event);
}

static inline struct iocb request(int opcode, int fd, const void *buffer, size_t length, long offset) {
    struct iocb made = {0};
    made.aio_lio_opcode = (uint16_t)opcode;
    made.aio_fildes = (uint32_t)fd;
    made.aio_buf = (uintptr_t)buffer;
    made.aio_nbytes = length;
    made.aio_offset = offset;
    return made;
}

static inline void submit_one(aio_context_t context, struct iocb *one) {
    CHECK(io_submit(context, 1, &one) == 1);
}

/* Submits a request, waits for its end and returns its result. */
static inline long finish_one(aio_context_t context, struct iocb *one) {
    struct io_event done = {0};
    submit_one(context, one);
    CHECK(io_getevents(context, 1, 1, &done, NULL) == 1);
    CHECK(done.obj == (uintptr_t)one);
    return (long)done.res;
}

#endif
