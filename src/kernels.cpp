// What the headers of kernels/ offer by themselves, for float and double.
#include <meristem/kernels/batch_norm.cuh>
#include <meristem/kernels/elementwise.cuh>
#include <meristem/kernels/grow_copy.cuh>
#include <meristem/kernels/random.cuh>
#include <meristem/kernels/reduce.cuh>

namespace meristem::kernels {

MERISTEM_BATCH_NORM_STATISTICS(, float)
MERISTEM_BATCH_NORM_STATISTICS(, double)
MERISTEM_ELEMENTWISE(, float)
MERISTEM_ELEMENTWISE(, double)
MERISTEM_GROW_COPY(, float)
MERISTEM_GROW_COPY(, double)
MERISTEM_RANDOM_FILL(, float)
MERISTEM_RANDOM_FILL(, double)
MERISTEM_REDUCTIONS(, float)
MERISTEM_REDUCTIONS(, const float)
MERISTEM_REDUCTIONS(, double)
MERISTEM_REDUCTIONS(, const double)

}  // namespace meristem::kernels
