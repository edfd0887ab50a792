// Prints which OpenBLAS a program that links with it loads, how it runs its threads, and from which files.
#include <cstdio>
#include <fstream>
#include <set>
#include <string>

extern "C" {
char* openblas_get_config();
int openblas_get_parallel();
int LAPACKE_get_nancheck();
}

int main() {
  static const char* const flavours[] = {"serial", "pthread", "OpenMP"};
  LAPACKE_get_nancheck();  // so that its libraries are loaded as well
  std::printf("%s, %s flavour;", openblas_get_config(), flavours[openblas_get_parallel()]);
  std::set<std::string> files;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const auto path = line.find('/');
    if (path == std::string::npos) continue;
    const std::string name = line.substr(path);
    if (name.find("blas") != std::string::npos || name.find("lapack") != std::string::npos) files.insert(name);
  }
  files.erase("/proc/self/maps");
  for (const std::string& file : files) {
    if (file.find(".so") != std::string::npos) std::printf(" %s", file.c_str());
  }
  std::printf("\n");
}
