/*
 * Preloaded by `npm run bench -- --sync-us N`: each fsync and fdatasync of the process takes N microseconds at least, so that a machine whose disk
 * promises durability too quickly can be measured as one whose disk does not. The sync itself is done as ever.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

typedef int (*sync_call)(int);

static long long now_ns(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static int drawn_out(const char *name, int file) {
  long long end_ns = now_ns() + atoll(getenv("SLOW_SYNC_US")) * 1000LL;
  int result = ((sync_call)dlsym(RTLD_NEXT, name))(file);
  int error = errno;
  struct timespec end = {end_ns / 1000000000LL, end_ns % 1000000000LL};
  /* The kernel rounds the sleep of a thread up by 50 us otherwise. */
  prctl(PR_SET_TIMERSLACK, 1);
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) == EINTR) {
  }
  errno = error;
  return result;
}

int fsync(int file) { return drawn_out("fsync", file); }

int fdatasync(int file) { return drawn_out("fdatasync", file); }
