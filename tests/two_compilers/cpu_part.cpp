#include "parts.hpp"

long long sum_on_cpu(std::int64_t n) { return meristem::two_compilers::sum(n); }
