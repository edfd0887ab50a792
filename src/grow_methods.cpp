// What the headers of grow/methods declare, for float and double.
#include <meristem/grow/methods/common_impl.hpp>
#include <meristem/grow/methods/copies_impl.hpp>
#include <meristem/grow/methods/features_impl.hpp>
#include <meristem/grow/methods/firefly_impl.hpp>
#include <meristem/grow/methods/gradmax_impl.hpp>
#include <meristem/grow/methods/methods_impl.hpp>
#include <meristem/grow/methods/nest_impl.hpp>
#include <meristem/grow/methods/north_impl.hpp>
#include <meristem/grow/methods/random_impl.hpp>
#include <meristem/grow/methods/senn_impl.hpp>
#include <meristem/grow/methods/tiny_impl.hpp>
