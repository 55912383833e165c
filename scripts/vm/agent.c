/*
 * The part of a virtual machine that a container's caller talks to. Usage: agent STREAM-PORT STDIN-PORT COMMAND…
 * Starts COMMAND with pipes and carries its bytes over virtio-serial ports in frames: one byte kind, four bytes
 * length (big endian), payload. Out on STREAM-PORT: 1 standard output, 2 standard error, 3 exit code (one byte).
 * In on STREAM-PORT: 4 a signal (one byte). In on STDIN-PORT: 0 standard input; an empty one is its end. The two
 * are apart, so that a command that does not read cannot hold back a signal.
 * Frames, because a port does not tell its end after the last byte reliably.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { INPUT = 0, EXIT = 3, SIGNAL = 4, HEAD = 5, CHUNK = 32768 };

static void fail(const char *what) {
  perror(what);
  exit(125);
}

static void write_all(int fd, const unsigned char *bytes, size_t length) {
  while (length > 0) {
    ssize_t n = write(fd, bytes, length);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) fail("agent: write");
    bytes += n;
    length -= (size_t)n;
  }
}

/* Whether all bytes came; false when the other end is gone. */
static int read_all(int fd, unsigned char *bytes, size_t length) {
  while (length > 0) {
    ssize_t n = read(fd, bytes, length);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return 0;
    bytes += n;
    length -= (size_t)n;
  }
  return 1;
}

static void send_frame(int port, unsigned char kind, unsigned char *frame, size_t length) {
  frame[0] = kind;
  for (int i = 0; i < 4; i++) frame[1 + i] = (unsigned char)(length >> (24 - 8 * i));
  write_all(port, frame, HEAD + length);
}

static size_t length_of(const unsigned char *head) {
  return (size_t)head[1] << 24 | (size_t)head[2] << 16 | (size_t)head[3] << 8 | head[4];
}

/* Feeds standard input from its port, in a process of its own: it may block for as long as it likes. */
static void feed(int port, int to) {
  static unsigned char frame[HEAD + CHUNK];
  signal(SIGPIPE, SIG_DFL);
  for (;;) {
    if (!read_all(port, frame, HEAD)) exit(0);
    size_t length = length_of(frame);
    if (frame[0] != INPUT || length > CHUNK) exit(1);
    if (length == 0 || !read_all(port, frame + HEAD, length)) exit(0);
    write_all(to, frame + HEAD, length);
  }
}

int main(int argc, char **argv) {
  static unsigned char frame[HEAD + CHUNK];
  int in[2], out[2][2];
  if (argc < 4) return 64;
  int port = open(argv[1], O_RDWR | O_CLOEXEC);
  int input = open(argv[2], O_RDWR | O_CLOEXEC);
  if (port < 0 || input < 0) fail("agent: port");
  if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out[0], O_CLOEXEC) < 0 || pipe2(out[1], O_CLOEXEC) < 0) fail("agent: pipe");
  pid_t child = fork();
  if (child < 0) fail("agent: fork");
  if (child == 0) {
    if (dup2(in[0], 0) < 0 || dup2(out[0][1], 1) < 0 || dup2(out[1][1], 2) < 0) fail("agent: dup2");
    execv(argv[3], argv + 3);
    fail(argv[3]);
  }
  pid_t feeder = fork();
  if (feeder < 0) fail("agent: fork");
  if (feeder == 0) {
    /* Every copy of the pipes' other ends must go, or neither end of file nor a broken pipe would come. */
    close(in[0]), close(port);
    for (int i = 0; i < 2; i++) close(out[i][0]), close(out[i][1]);
    feed(input, in[1]);
  }
  close(in[0]), close(in[1]), close(out[0][1]), close(out[1][1]);

  struct pollfd watched[3] = {{out[0][0], POLLIN, 0}, {out[1][0], POLLIN, 0}, {port, POLLIN, 0}};
  while (watched[0].fd >= 0 || watched[1].fd >= 0) {
    if (poll(watched, 3, -1) < 0) {
      if (errno == EINTR) continue;
      fail("agent: poll");
    }
    for (int i = 0; i < 2; i++) {
      if (watched[i].fd < 0 || watched[i].revents == 0) continue;
      ssize_t n = read(watched[i].fd, frame + HEAD, CHUNK);
      if (n > 0) send_frame(port, (unsigned char)(1 + i), frame, (size_t)n);
      else if (n == 0 || errno != EINTR) watched[i].fd = -1;
    }
    if (watched[2].fd >= 0 && watched[2].revents != 0) {
      unsigned char order[HEAD + 1];
      if (!read_all(port, order, sizeof order)) watched[2].fd = -1;
      else if (order[0] == SIGNAL && kill(child, order[HEAD]) < 0) perror("agent: kill");
    }
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) fail("agent: waitpid");
  frame[HEAD] = (unsigned char)(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
  send_frame(port, EXIT, frame, 1);
  /* The machine is stopped from outside once the code has arrived. */
  for (;;) pause();
}
