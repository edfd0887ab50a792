// Ctrl-C, SIGTERM and a terminal that is closed: the first asks the program to stop at the next safe place, the second
// stops it at once.
#pragma once

#include <csignal>
#include <string>

namespace cifar10 {

/// Thrown where a run stops because it was asked to.
struct Interrupted {
  std::string phase;
};

namespace interrupt {

inline volatile std::sig_atomic_t signals_seen = 0;

extern "C" inline void on_signal(int signal) {
  if (signals_seen != 0) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
  signals_seen = 1;
}

inline void watch() {
  struct sigaction action = {};
  action.sa_handler = on_signal;
  // Output that is being written goes on.
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  // Not under nohup.
  struct sigaction now = {};
  if (sigaction(SIGHUP, nullptr, &now) == 0 && now.sa_handler != SIG_IGN) sigaction(SIGHUP, &action, nullptr);
}

[[nodiscard]] inline bool wanted() { return signals_seen != 0; }

/// Throws Interrupted if the program was asked to stop.
inline void check(const char* phase) {
  if (wanted()) throw Interrupted{phase};
}

}  // namespace interrupt

}  // namespace cifar10
